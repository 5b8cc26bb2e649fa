"""How a job lies in RQ: one function, the payload as one string in the job's meta, crashes in retries_left.

RQ logs and hands to error trackers a job's args and description, but not its meta.
"""

import math
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import RedisError, ResponseError
from rq.exceptions import DuplicateJobError

from sigra_workers import (
    DeadJob,
    Duplicate,
    InvalidPayloadError,
    Payload,
    Receipt,
    Rejected,
    Sent,
    Unknown,
)
from sigra_workers.transact import bare

if TYPE_CHECKING:
    from collections.abc import Callable

    from rq.job import Job

FUNCTION: Final = "sigra_workers_rq.dispatch"
META_KEY: Final = "sigra"
DEAD: Final = "dead"
"""Where the payload's own meta has the reason of a dead job."""
ENDED: Final = "sigra_ended"
"""Which life of a job ended last: a field of RQ's own record of it, and gone with that."""
TIMEOUT_MARGIN: Final = 30
"""Seconds from the job's own time-out to RQ's, which only backs it up."""


def budget(payload: Payload) -> int:
    """What retries_left is when a job is sent: one delivery more than its attempts, to end a poison job."""
    return payload.max_attempts - payload.attempt + 1


def crashes(job: "Job", payload: Payload) -> int:
    """How often a process died under the job since it was sent: each took one off retries_left."""
    return 0 if job.retries_left is None else max(0, budget(payload) - job.retries_left)


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


def payload(job: "Job") -> Payload:
    """The payload of a job in RQ; raises `InvalidPayloadError`, also for one that is another job's."""
    found = Payload.parse(text(job))
    if found.id != job.id:
        raise InvalidPayloadError("its id is another than RQ's own record of it says")
    return found


def reopened(payload: Payload, now: float) -> Payload:
    """The payload that sends a job again which ended, and which RQ's own requeue brought back."""
    return DeadJob.of(payload.id, payload.dump(), "", None, now).again("rq", now)


def alone(payload: Payload) -> Payload:
    """What a run claims: the job in any turn, as RQ has one record of it, and a new sending writes that."""
    return payload.again(None, enqueued_at=0.0, resends=0, attempt=1, snoozes=0)


def life(payload: Payload) -> str:
    """The job from its (re)sending to its end; without an id of the host's it is one, however often sent."""
    sent = repr(payload.enqueued_at) if payload.given_id else ""
    return f"{sent}/{payload.resends}"


def meta(payload: Payload) -> dict[str, Any]:
    """The meta of a job in RQ."""
    return {META_KEY: payload.dump()}


def answer(send: "Callable[[], object]") -> Receipt:
    """What became of jobs in one transaction with Redis, once it is reached."""
    try:
        send()
    except DuplicateJobError:
        return Duplicate()
    except ResponseError as error:
        return Rejected(bare(error))
    except (RedisError, OSError) as error:
        return Unknown(error)
    return Sent()
