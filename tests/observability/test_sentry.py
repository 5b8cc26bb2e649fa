"""Sentry with its integrations of all queues: a dead job is reported once, and nothing else of ours ever."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from tests.losses.back_ends import BACK_ENDS
from tests.observability.host import COLORS
from tests.observability.scenes import Play, Seen, seen_on
from tests.observability.stage import SECRET, Stage, script
from tests.observability.watchers import PAGE

from sigra_workers import DeadJobError, Outgoing

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]
LIVING: Final = ("ok", "error ok", "raise ok", "snooze ok")
DYING: Final = ("error error", "raise raise", "snooze raise error", "cancel", "nothing")
KILLED: Final = ("kill ok", "kill kill")
"""On RQ alone, which has a process for each job: elsewhere it takes a minute until they run again."""
KINDS: Final = {
    "error error": "JobFailedError",
    "raise raise": "ValueError",
    "snooze raise error": "JobFailedError",
    "cancel": "JobCancelledError",
    "nothing": "InvalidResultError",
    "kill kill": "JobCrashedError",
    "no organization": "MissingArgError",
    "unknown worker": "UnknownWorkerError",
}
"""What kills each job, as an exception."""
UNRUN: Final[Mapping[str, Mapping[str, Any]]] = {
    "unreadable": {"attempt": 0},
    "no organization": {"args_or_json": {"actor_id": "ann", "token": SECRET}},
    "unknown worker": {"worker": "steps.unknown", "meta": {"unknown_since": 0}},
}
"""What is wrong with jobs that die without a run."""


def scene(on: Stage) -> dict[str, str]:
    """Jobs of every ending; what they are to do, with the worker that was to do it."""
    host = on.sender()
    all_steps = (*LIVING, *DYING, *(KILLED if on.back_end.name == "rq" else ()))
    told = {
        host.handles[color].enqueue(script(*steps.split())).id: f"steps.{color}: {steps}"
        for color in COLORS
        for steps in all_steps
    }
    jobs = {job_id: what.partition(": ")[2].split() for job_id, what in told.items()}
    adapter = host.workers.adapter
    for what, changes in UNRUN.items():
        job = host.handles["sync"].new(script("ok"))
        job = replace(job, worker=changes.get("worker", job.worker))
        adapter.send([Outgoing(job, replace(job.payload(adapter.clock()), **changes))])
        told[job.id] = f"{job.worker}: {what}"
    dying = [what for what in told.values() if what.partition(": ")[2] in (*KINDS, "unreadable")]
    on.until_over(host, jobs, len(dying))
    host.workers.close()
    return told


def bare_scene(on: Stage) -> dict[str, str]:
    """A job that is retried, one that snoozes, and one that dies."""
    host = on.sender()
    told = {
        host.handles["sync"].enqueue(script(*steps.split())).id: steps
        for steps in ("raise ok", "snooze ok", "raise raise")
    }
    on.until_over(host, {job_id: steps.split() for job_id, steps in told.items()}, 1)
    host.workers.close()
    return told


@pytest.fixture(scope="module")
def seen(play: Play) -> Mapping[str, Seen]:
    """With Sentry as the page sets it up."""
    return play("reported", scene, ("sentry",))


@pytest.fixture(scope="module")
def seen_bare(play: Play) -> Mapping[str, Seen]:
    """With Sentry's integrations switched on, and no more."""
    return play("reported_bare", bare_scene, ("sentry",))


def events(seen: Seen) -> list[dict[str, Any]]:
    return [line["payload"] for line in seen.lines["sentry"] if line["type"] == "event"]


def kind(event: Mapping[str, Any]) -> str:
    """The type of the exception that is reported, or the text of the log."""
    if "exception" in event:
        return str(event["exception"]["values"][-1]["type"])
    return str(event["logentry"]["message"])


def by_us(seen: Seen) -> list[dict[str, Any]]:
    """What the plugin has reported."""
    return [event for event in events(seen) if "worker" in event.get("tags", {})]


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_each_dead_job_is_reported_once_and_nothing_else(seen: Mapping[str, Seen], back_end: str) -> None:
    found = seen_on(seen, back_end)
    steps = {job_id: what.partition(": ")[2] for job_id, what in found.jobs.items()}
    dead = {job_id: KINDS[what] for job_id, what in steps.items() if what in KINDS}
    reported = [(event["tags"]["job_id"], kind(event)) for event in by_us(found)]
    assert Counter(reported) == Counter(dead.items())


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_dead_job_is_reported_with_its_worker_and_organization(
    seen: Mapping[str, Seen], back_end: str
) -> None:
    found = seen_on(seen, back_end)
    for event in by_us(found):
        worker, _, what = found.jobs[event["tags"]["job_id"]].partition(": ")
        organization = "None" if what == "no organization" else "org-1"
        assert (event["tags"]["worker"], event["tags"]["organization_id"]) == (worker, organization)


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_dead_job_that_nobody_can_read_is_reported_once_too(
    seen: Mapping[str, Seen], back_end: str
) -> None:
    found = seen_on(seen, back_end)
    (job_id,) = (job_id for job_id, what in found.jobs.items() if what.endswith("unreadable"))
    (event,) = (event for event in events(found) if "worker" not in event.get("tags", {}))
    assert job_id in json.dumps(event.get("exception") or event["logentry"])


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_nothing_that_is_sent_to_sentry_holds_args(seen: Mapping[str, Seen], back_end: str) -> None:
    found = seen_on(seen, back_end)
    assert {line["type"] for line in found.lines["sentry"]} >= {"event", "transaction"}
    for line in found.lines["sentry"]:
        assert SECRET not in json.dumps(line)


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_what_was_raised_is_reported_with_its_place_in_the_hosts_code(
    seen: Mapping[str, Seen], back_end: str
) -> None:
    raised = [event for event in events(seen_on(seen, back_end)) if kind(event) == "ValueError"]
    assert len(raised) == len(COLORS)
    for event in raised:
        frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
        assert frames[-1]["module"] == "tests.observability.host"
        assert not any("vars" in frame for frame in frames)


@pytest.mark.parametrize("back_end", ["rq", "arq", "dramatiq-redis"])
def test_without_more_the_integrations_do_what_the_page_says(
    seen_bare: Mapping[str, Seen], back_end: str
) -> None:
    found = seen_on(seen_bare, back_end)
    (event,) = events(found)
    (died,) = (job_id for job_id, steps in found.jobs.items() if steps == "raise raise")
    rows = re.findall(r"^\| (RQ|arq|Dramatiq) \| (.*) \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    told = {queue.lower(): row for queue, *row in rows}[back_end.partition("-")[0]]
    assert told[0] == "not reported"
    if kind(event) == DeadJobError.__name__:
        assert told[1].startswith("once, as `DeadJobError`, without")
        assert told[2] == "local variables"
        assert SECRET in json.dumps(event["exception"])
        assert died in event["exception"]["values"][-1]["value"]
    else:
        assert told[1] == "once, as the line of our log, without a stack trace"
        assert told[2] == "the whole message"
        assert SECRET in json.dumps(event["contexts"]["dramatiq"])
        assert died in event["logentry"]["formatted"]
    assert "worker" not in event.get("tags", {})
