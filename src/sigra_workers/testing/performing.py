"""One job of a test: made up as if it had come from a queue, and what its run comes to."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Never, TypeAlias, cast

from typing_extensions import ReadOnly, TypedDict

from sigra_workers.dispatch import Running
from sigra_workers.errors import InvalidOptionError, JobCancelledError, JobTimeoutError, refuse_unknown
from sigra_workers.handles import WorkerHandle
from sigra_workers.host import Ended
from sigra_workers.jobs import JobOptions, Payload, Seconds, check_id
from sigra_workers.protocols import Again, ArgsT, Dead, Outcome
from sigra_workers.results import Cancel, Error, Ok, Result, Snooze
from sigra_workers.workers import Workers

ArgsOf: TypeAlias = ArgsT | tuple[Never, Callable[[], ArgsT]]
"""Args of the handle that is given before them; there is no such tuple. Where a parameter holds a callable,
mypy infers the others first (ArgInferSecondPassQuery in mypy/checkexpr.py): so a literal is a TypedDict."""


class RunFacts(TypedDict, total=False):
    """What a run is told of its job; what is not given is as on the first run of a fresh one."""

    attempt: ReadOnly[int]
    """From 1 to `max_attempts`."""
    max_attempts: ReadOnly[int]
    snoozes: ReadOnly[int]
    job_id: ReadOnly[str]
    """With the same one, a second run writes the same audit events: the trail has them once."""
    queue: ReadOnly[str]
    enqueued_at: ReadOnly[datetime]
    """With a time zone."""
    timeout: ReadOnly[Seconds]


def check_handle(workers: Workers[Any], handle: object) -> WorkerHandle[Any, Any, Any]:
    """A handle of these workers, or `InvalidOptionError`."""
    if not isinstance(handle, WorkerHandle):
        found = f"the class {handle.__qualname__}" if isinstance(handle, type) else type(handle).__name__
        raise InvalidOptionError("handle", f"expected what declare, register or worker returned, got {found}")
    ours = cast("Any", handle)
    if workers.find(ours.name) is not ours:
        problem = f"{ours.name!r} is of another Workers object than the one under test"
        raise InvalidOptionError("handle", problem)
    return cast("WorkerHandle[Any, Any, Any]", ours)


def faked(workers: Workers[Any], handle: object, args: Any, facts: RunFacts) -> Payload:
    """The job as a queue would deliver it; raises `InvalidArgsError`, `InvalidOptionError`."""
    refuse_unknown(facts, RunFacts)
    options = {name: value for name, value in facts.items() if name in ("max_attempts", "queue", "timeout")}
    job = workers.new(check_handle(workers, handle), args, cast("JobOptions", options))
    payload = job.payload(workers.adapter.clock())
    return replace(
        payload,
        id=check_id(facts.get("job_id", payload.id)),
        attempt=_check_count("attempt", facts.get("attempt", 1), 1, payload.max_attempts),
        snoozes=_check_count("snoozes", facts.get("snoozes", 0), 0, None),
        enqueued_at=_check_time(facts["enqueued_at"]) if "enqueued_at" in facts else payload.enqueued_at,
    )


def _check_count(option: str, value: object, least: int, most: int | None) -> int:
    if type(value) is not int or value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}, the max_attempts of the job"
        raise InvalidOptionError(option, f"expected {expected}, got {value!r}")
    return value


def _check_time(value: object) -> float:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidOptionError("enqueued_at", f"expected a datetime with a time zone, got {value!r}")
    return value.timestamp()


def result_of(begun: Running | Outcome, outcome: Outcome) -> Result[Any]:
    """What `perform` returned; what it raised, and what is no result, is raised."""
    ended = cast("Ended", begun.ended) if isinstance(begun, Running) else Ended()
    if ended.error is not None and not ended.timed_out:
        raise ended.error
    result: Any = ended.result
    if not ended.timed_out and isinstance(cast("object", result), (Ok, Error, Snooze, Cancel)):
        return cast("Result[Any]", result)
    error = cast("BaseException", cast("Again | Dead", outcome).error)
    late = error.__cause__ if isinstance(error, JobCancelledError) else None
    raise late if isinstance(late, JobTimeoutError) else error


def as_delivered(payload: object) -> object:
    """A payload made by hand, as a queue would deliver it: a mapping as JSON text."""
    return (
        json.dumps(dict(cast("Mapping[str, object]", payload))) if isinstance(payload, Mapping) else payload
    )
