"""What a failed assertion says: what was asked for, and what is there instead, the nearest first."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sigra_workers.events import AuditEvent
from sigra_workers.jobs import Payload
from sigra_workers.testing.matching import Wanted, event_facts, job_facts, misfits, shown
from sigra_workers.testing.queue import HeldQueue
from sigra_workers.testing.runs import JobRun
from sigra_workers.workers import Workers

SHOWN: Final = 10
"""How many jobs, runs or events a failure shows of each."""
WIDE: Final = 1_000
"""How many characters of a line a failure shows."""


def no_job(workers: Workers[Any], wanted: Wanted, queue: HeldQueue) -> str:
    """No job waits that fits: which do, and which ran."""
    now = queue.clock()
    waiting = [
        (_job(payload, now), misfits(job_facts(workers, payload, now), wanted)) for payload in queue.waiting
    ]
    lasting = {name: value for name, value in wanted.items() if not name.startswith("due_")}
    runs = [(_run(run), _run_misfits(workers, run, lasting)) for run in reversed(queue.runs)]
    hint = "a job that fits ran already: look for it before drain(), and not in run_inline()"
    return "\n".join(
        [
            f"no job waits with {asked(wanted)}",
            *_nearest("waiting, nearest first:", waiting, "no job waits at all"),
            *_nearest("ran already, nearest first:", runs, "none ran in this test"),
            *([hint] if any(not problems for _, problems in runs) else []),
        ]
    )


def some_jobs(wanted: Wanted, found: Sequence[Payload], now: float) -> str:
    """Jobs wait that should not."""
    count = "1 job waits" if len(found) == 1 else f"{len(found)} jobs wait"
    return _found(f"{count} with {asked(wanted)}", [_job(payload, now) for payload in found])


def no_event(
    workers: Workers[Any], wanted: Wanted, events: Sequence[AuditEvent], refused: Sequence[str]
) -> str:
    """No event was logged that fits: which were, and which could not be."""
    logged = [(_event(event), misfits(event_facts(workers, event), wanted)) for event in reversed(events)]
    return "\n".join(
        [
            f"no audit event was logged with {asked(wanted)}",
            *_nearest("logged, nearest first:", logged, "no audit event was logged at all"),
            *(["could not be written:", *(f"  {line}" for line in refused)] if refused else []),
        ]
    )


def some_events(wanted: Wanted, found: Sequence[AuditEvent]) -> str:
    """Events were logged that should not have been."""
    count = "1 audit event was" if len(found) == 1 else f"{len(found)} audit events were"
    return _found(f"{count} logged with {asked(wanted)}", [_event(event) for event in found])


def asked(wanted: Wanted) -> str:
    """The filters in words."""
    return ", ".join(f"{name}={shown(name, value)}" for name, value in wanted.items()) or "anything"


def _found(what: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{what}, expected none:", *_cut([f"  {line}"] for line in lines)])


def _nearest(title: str, found: Sequence[tuple[str, Sequence[str]]], nothing: str) -> list[str]:
    """A line each, with what of it does not fit; those of another worker come last."""
    ranked = sorted(found, key=lambda one: (any(why.startswith("worker is") for why in one[1]), len(one[1])))
    blocks = ([f"  {line}", *(f"      {why}" for why in problems)] for line, problems in ranked)
    return [title, *_cut(blocks)] if found else [nothing]


def _cut(blocks: Iterable[list[str]]) -> list[str]:
    whole = [*blocks]
    lines = [line for block in whole[:SHOWN] for line in block]
    short = [line if len(line) <= WIDE else f"{line[:WIDE]} ..." for line in lines]
    more = len(whole) - SHOWN
    return [*short, *([f"  and {more} more"] if more > 0 else [])]


def _job(payload: Payload, now: float) -> str:
    wait = 0.0 if payload.due_at is None else payload.due_at - now
    due = f"due in {wait:g} s" if wait > 0 else "due"
    tries = f", attempt {payload.attempt} of {payload.max_attempts}" if payload.attempt > 1 else ""
    snoozes = f", snoozes {payload.snoozes}" if payload.snoozes else ""
    return f"{payload.worker} on {payload.queue}, {due}{tries}{snoozes} (job {payload.id}): {payload.args!r}"


def _run(run: JobRun) -> str:
    error = "" if run.error is None else f", {type(run.error).__name__}: {run.error}".partition("\n")[0]
    if run.payload is None:
        return f"a payload that can't be read: {run.ending}{error}"
    payload = run.payload
    return f"{payload.worker}: {run.ending}{error} (job {payload.id}): {payload.args!r}"


def _run_misfits(workers: Workers[Any], run: JobRun, wanted: Wanted) -> list[str]:
    if run.payload is None:
        return ["it can't be read"]
    return misfits(job_facts(workers, run.payload, 0.0), wanted)


def _event(event: AuditEvent) -> str:
    target = "" if event.target_type is None else f" on {event.target_type} {event.target_id!r}"
    user = "" if event.effective_user_id == event.actor_id else f" as {event.effective_user_id!r}"
    job = "" if event.job_id is None else f", worker={event.worker!r} (job {event.job_id})"
    who = f"real_actor={event.actor_id!r}{user}, organization_id={event.organization_id!r}"
    return f"{event.action} {event.outcome}{target}: {who}{job}, metadata={dict(event.metadata)!r}"
