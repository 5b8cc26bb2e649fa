"""Metrics of jobs: what is counted and measured, and by what."""

from typing import Any

import pytest
from adapters.opentelemetry.tests.support import Traced, endings
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes, exception_attributes
from opentelemetry.semconv.schemas import Schemas
from tests.support import KEYS, MODES, Mode, after

from sigra_workers import (
    Cancel,
    Duplicate,
    EnqueueError,
    Error,
    Ok,
    Receipt,
    Rejected,
    Sent,
    Snooze,
    TenantArgs,
    Unknown,
)
from sigra_workers_opentelemetry import OpenTelemetry, __version__, instruments, names, plugin

QUEUE = ("messaging.destination.name", "default")
SYSTEM = ("messaging.system", "memory")
WORKER = ("sigra.worker", "accounts.close")
JOB = (QUEUE, SYSTEM, WORKER)


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


def test_runs_are_counted_by_their_decision_worker_and_queue(mode: Mode) -> None:
    host = Traced(mode).worker(endings(Ok(), Ok(), Snooze(5), Error("no"), Cancel("no"), None))
    for _ in range(6):
        host.run()
    found = {(*JOB, ("sigra.decision", decision)): 1 for decision in ("snooze", "retry", "cancel", "dead")}
    expected = {**found, (*JOB, ("sigra.decision", "complete")): 2}
    assert host.points("sigra.runs") == {tuple(sorted(key)): value for key, value in expected.items()}


def test_a_run_that_was_stopped_from_outside_is_counted() -> None:
    host = Traced()

    def body(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.worker(body).run()
    assert host.points("sigra.runs") == {(QUEUE, SYSTEM, ("sigra.decision", "stopped"), WORKER): 1}


def test_snoozes_and_dead_jobs_are_counted_those_that_never_ran_too(mode: Mode) -> None:
    host = Traced(mode).worker(endings(Snooze(5), Snooze(5), Cancel("no"), None))
    for _ in range(4):
        host.run()
    host.run(crashes=99)
    assert host.points("sigra.snoozes") == {JOB: 2}
    assert host.points("sigra.dead") == {(QUEUE, WORKER): 3}


def test_the_duration_of_a_run_is_measured_in_seconds(mode: Mode) -> None:
    host = Traced(mode).worker(endings(Ok(), Error("no")))
    host.run()
    host.run()
    told = host.told.calls
    took = {facts["decision"]: facts["duration"] for name, facts in told if name == "finished"}
    perform = ("messaging.operation.name", "perform")
    failed = ("error.type", "sigra_workers.errors.JobFailedError")
    assert host.points("messaging.process.duration") == {
        (QUEUE, perform, SYSTEM, ("sigra.decision", "complete"), WORKER): took["complete"],
        (failed, QUEUE, perform, SYSTEM, ("sigra.decision", "retry"), WORKER): took["retry"],
    }


def test_the_time_in_the_queue_is_measured_from_when_the_job_was_due() -> None:
    host = Traced().worker(after(bool, Ok()))
    host.handle.enqueue(KEYS, schedule_in=100)
    host.clock.advance(107)
    host.queue.drain()
    assert host.points("sigra.queue_time") == {JOB: 7}


def test_jobs_that_are_sent_are_counted_by_what_became_of_them() -> None:
    host = Traced().worker(after(bool, Ok()))
    other = host.workers.declare("accounts.open", TenantArgs, queue="other")
    answers: list[Receipt] = [
        Sent(),
        Sent(),
        Rejected(OSError()),
        Unknown(TimeoutError()),
        Duplicate(),
        Sent(),
    ]
    host.queue.send = lambda _: answers  # type: ignore[method-assign]
    with pytest.raises(EnqueueError):
        host.workers.enqueue_many([host.handle.new(KEYS) for _ in range(5)] + [other.new(KEYS)])
    enqueue = ("messaging.operation.name", "enqueue")
    assert host.points("messaging.client.sent.messages") == {
        (QUEUE, enqueue, SYSTEM, WORKER): 2,
        (("error.type", "OSError"), QUEUE, enqueue, SYSTEM, WORKER): 1,
        (("error.type", "TimeoutError"), QUEUE, enqueue, SYSTEM, WORKER): 1,
        (("messaging.destination.name", "other"), enqueue, SYSTEM, ("sigra.worker", "accounts.open")): 1,
    }
    (attributes,) = host.points("messaging.client.operation.duration")
    assert attributes == (("error.type", "OSError"), enqueue, SYSTEM)


def test_no_metric_names_an_organization_a_job_or_args() -> None:
    host = Traced().worker(after(bool, Ok()))
    host.handle.enqueue({**KEYS, "token": "s3cr3t"}, job_id="job-1")
    host.queue.drain()
    data: Any = host.reader.get_metrics_data()
    for text in ("org-1", "job-1", "s3cr3t"):
        assert text not in data.to_json()


def test_metrics_name_the_organization_where_that_is_asked_for() -> None:
    host = Traced(options={"organization_metrics": True}).worker(endings(Snooze(1), Cancel("no")), backoff=1)
    host.workers.enqueue_many([host.handle.new({**KEYS, "organization_id": n}) for n in (5, None)])
    host.queue.drain()
    for metric in ("messaging.client.sent.messages", "sigra.queue_time", "sigra.runs"):
        organizations = sorted(str(dict(point).get("sigra.organization")) for point in host.points(metric))
        assert organizations == ["5", "None"], metric


def test_histograms_have_bounds_in_seconds() -> None:
    host = Traced().worker(after(bool, Ok()))
    host.handle.enqueue(KEYS)
    host.queue.drain()
    data: Any = host.reader.get_metrics_data()
    bounds = {
        metric.name: metric.data.data_points[0].explicit_bounds
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.unit == "s"
    }
    assert bounds == {
        "messaging.client.operation.duration": instruments.SHORT,
        "messaging.process.duration": instruments.LONG,
        "sigra.queue_time": instruments.LONG,
    }
    assert [*instruments.LONG] == sorted(instruments.LONG)


def test_what_is_named_as_in_the_conventions_is_there() -> None:
    theirs: set[Any] = set()
    for module in (messaging_attributes, messaging_metrics, error_attributes, exception_attributes):
        theirs |= {value for value in vars(module).values() if isinstance(value, str)}
    ours = {value for name, value in vars(names).items() if name.isupper() and name != "SCHEMA_URL"}
    assert {name for name in ours if not name.startswith("sigra.")} <= theirs
    assert names.SCHEMA_URL in {schema.value for schema in Schemas}


def test_the_plugin_names_its_own_version() -> None:
    assert plugin._LIBRARY[1] == __version__


def test_the_plugin_is_quiet_where_nothing_is_set_up() -> None:
    host = Traced()
    host.workers.plugins.add(OpenTelemetry(flush=1))
    host.worker(after(bool, Ok())).run()
