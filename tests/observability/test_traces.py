"""Traces, metrics and logs of jobs over two processes: a sender, and a worker process that exports."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.observability.host import COLORS
from tests.observability.scenes import Play, Seen, seen_on
from tests.observability.stage import SECRET, Stage, script

from sigra_workers_opentelemetry import OpenTelemetry

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]
QUEUES: Final = ("rq", "arq", "dramatiq-redis", "dramatiq-rabbitmq")
DECISIONS: Final = {
    "ok": ["complete"],
    "error ok": ["retry", "complete"],
    "snooze snooze ok": ["snooze", "snooze", "complete"],
    "raise error": ["retry", "dead"],
    "cancel": ["cancel"],
}
"""Of the runs of each job."""


def scene(on: Stage) -> dict[str, str]:
    """Jobs that are sent in a traced process: the span that sent each, its worker, and what it is to do."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    host = on.sender(OpenTelemetry(tracer_provider=provider))
    told: dict[str, str] = {}
    jobs: dict[str, list[str]] = {}
    for color in COLORS:
        for steps in DECISIONS:
            ref = host.handles[color].enqueue(script(*steps.split()))
            (span,) = exporter.get_finished_spans()
            exporter.clear()
            told[ref.id] = f"{span_id(span):016x} steps.{color}: {steps}"
            jobs[ref.id] = steps.split()
    on.until_over(host, jobs, 2 * len(COLORS))
    host.workers.close()
    return told


def span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


@pytest.fixture(scope="module")
def seen(play: Play) -> Mapping[str, Seen]:
    return play("traced", scene, ("spans", "metrics", "logs"))


def spans(seen: Seen, name: str) -> list[dict[str, Any]]:
    """Those whose name begins so, in the order of their beginnings."""
    found = [span for span in seen.lines["spans"] if span["name"].startswith(name)]
    return sorted(found, key=lambda span: span["start_time"])


def counted(seen: Seen, metric: str) -> Counter[tuple[str, ...]]:
    """The sums of a counter, or counts of a histogram, by worker, and by decision if it has one."""
    resources = [resource for line in seen.lines["metrics"] for resource in line["resource_metrics"]]
    scopes = [scope for resource in resources for scope in resource["scope_metrics"]]
    metrics = [found for scope in scopes for found in scope["metrics"] if found["name"] == metric]
    sums: Counter[tuple[str, ...]] = Counter()
    for point in (point for found in metrics for point in found["data"]["data_points"]):
        facts = point["attributes"]
        key = tuple(facts[name] for name in ("sigra.worker", "sigra.decision") if name in facts)
        sums[key] += point["value"] if "value" in point else point["count"]
    return sums


@pytest.mark.parametrize("back_end", QUEUES)
def test_every_run_links_to_the_span_that_sent_its_job_from_another_process(
    seen: Mapping[str, Seen], back_end: str
) -> None:
    found = seen_on(seen, back_end)
    links: dict[str, set[str]] = {job_id: set() for job_id in found.jobs}
    for span in spans(found, "perform"):
        (link,) = span["links"]
        links[span["attributes"]["messaging.message.id"]].add(link["context"]["span_id"])
    assert links == {job_id: {f"0x{what.partition(' ')[0]}"} for job_id, what in found.jobs.items()}


@pytest.mark.parametrize("back_end", QUEUES)
def test_every_run_is_told_with_its_decision_in_order(seen: Mapping[str, Seen], back_end: str) -> None:
    found = seen_on(seen, back_end)
    decisions: dict[str, list[str]] = {job_id: [] for job_id in found.jobs}
    for span in spans(found, "perform"):
        facts = span["attributes"]
        decisions[facts["messaging.message.id"]].append(facts["sigra.decision"])
        assert facts["messaging.system"] == back_end.partition("-")[0]
        assert facts["sigra.organization"] == "org-1"
    assert decisions == {job_id: DECISIONS[what.partition(": ")[2]] for job_id, what in found.jobs.items()}


@pytest.mark.parametrize("back_end", QUEUES)
def test_spans_of_host_code_are_below_the_run_that_they_are_of(
    seen: Mapping[str, Seen], back_end: str
) -> None:
    found = seen_on(seen, back_end)
    runs = [span["context"]["span_id"] for span in spans(found, "perform")]
    assert sorted(span["parent_id"] for span in spans(found, "work")) == sorted(runs)


@pytest.mark.parametrize("back_end", QUEUES)
def test_metrics_count_every_run_of_every_process(seen: Mapping[str, Seen], back_end: str) -> None:
    found = seen_on(seen, back_end)
    decisions = Counter(decision for runs in DECISIONS.values() for decision in runs)
    workers = [f"steps.{color}" for color in COLORS]
    runs = {(worker, decision): number for worker in workers for decision, number in decisions.items()}
    assert counted(found, "sigra.runs") == runs
    assert counted(found, "messaging.process.duration") == runs
    assert counted(found, "sigra.snoozes") == {(worker,): 2 for worker in workers}
    assert counted(found, "sigra.dead") == {(worker,): 2 for worker in workers}
    assert counted(found, "sigra.queue_time") == {(worker,): decisions.total() for worker in workers}


@pytest.mark.parametrize("back_end", QUEUES)
def test_every_log_line_names_the_job_that_logged_it(seen: Mapping[str, Seen], back_end: str) -> None:
    found = seen_on(seen, back_end)
    told = Counter((line["job_id"], line["worker"], line["organization_id"]) for line in found.lines["logs"])
    expected = {}
    for job_id, what in found.jobs.items():
        worker, _, steps = what.partition(" ")[2].partition(": ")
        expected[job_id, worker, "org-1"] = len(steps.split())
    assert told == expected


@pytest.mark.parametrize("back_end", QUEUES)
def test_nothing_that_is_exported_or_logged_holds_args(seen: Mapping[str, Seen], back_end: str) -> None:
    lines = seen_on(seen, back_end).lines
    assert {name for name, found in lines.items() if found} == {"spans", "metrics", "logs"}
    assert SECRET not in json.dumps(lines)
