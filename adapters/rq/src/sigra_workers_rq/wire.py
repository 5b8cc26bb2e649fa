"""How a job lies in RQ: one function, the payload as one string in the job's meta, crashes in retries_left.

RQ logs and hands to error trackers a job's args and description, but not its meta.
"""

import math
from typing import TYPE_CHECKING, Any, Final, cast

from sigra_workers import InvalidPayloadError, Payload

if TYPE_CHECKING:
    from rq.job import Job

FUNCTION: Final = "sigra_workers_rq.dispatch"
META_KEY: Final = "sigra"
TIMEOUT_MARGIN: Final = 30
"""Seconds from the job's own time-out to RQ's, which only backs it up."""
SETTLED: Final = 1_000_000_000
"""retries_left of a job that completed: written in one transaction with its end, it marks later copies.

Where that transaction fails RQ takes the run for a failure, and with attempts left has it run again: that
copy is then dropped.
"""


def budget(payload: Payload) -> int:
    """What retries_left is when a job is sent: one delivery more than its attempts, to end a poison job."""
    return payload.max_attempts - payload.attempt + 1


def crashes(job: "Job", text: object) -> int:
    """How often a process died under the job since it was sent: each took one off retries_left."""
    try:
        whole = budget(Payload.parse(text))
    except InvalidPayloadError:
        return 0
    return 0 if job.retries_left is None else max(0, whole - job.retries_left)


def description(payload: Payload) -> str:
    """What RQ shows of a job: worker, id and organization, never args."""
    return f"{payload.worker} {payload.id} organization={payload.organization_id!r}"


def timeout(payload: Payload) -> int:
    """RQ's own time-out in whole seconds, beyond the job's; -1 is none."""
    return -1 if payload.timeout is None else math.ceil(payload.timeout) + TIMEOUT_MARGIN


def text(job: "Job") -> object:
    """The payload of a job in RQ, or what is there instead of it."""
    found = cast("object", job.meta)  # whatever was stored, in a job made by hand
    return cast("dict[str, object]", found).get(META_KEY) if isinstance(found, dict) else None


def meta(payload: Payload) -> dict[str, Any]:
    """The meta of a job in RQ."""
    return {META_KEY: payload.dump()}


def is_settled(job: "Job") -> bool:
    """Whether the job completed before; RQ may have taken a few off the mark since."""
    return job.retries_left is not None and job.retries_left > SETTLED // 2
