"""Dead jobs: what is kept of a job that will not run again by itself, and how it is sent again."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias, cast

from typing_extensions import ReadOnly, TypedDict

from sigra_workers.args import Id
from sigra_workers.errors import InvalidOptionError, InvalidPayloadError
from sigra_workers.jobs import Payload
from sigra_workers.protocols import Receipt
from sigra_workers.records import record
from sigra_workers.trail import refuse_misfits

MAX_NOTED: Final = 10
"""How many of a job's resends its payload names, the latest."""


class DeadFilters(TypedDict, total=False):
    """Which dead jobs; all that are given have to fit."""

    ids: ReadOnly[Collection[str]]
    """Job ids."""
    organization: ReadOnly[Id | None]
    """The organization_id in the args; None is the jobs of no organization."""
    worker: ReadOnly[str]
    """The worker's name, as the job has it."""
    since: ReadOnly[datetime]
    """Died then or later; with a time zone."""
    limit: ReadOnly[int]
    """How many at most, the latest."""


@record(frozen=True, slots=True, kw_only=True)
class DeadJob:
    """A job that will not run again by itself. What its payload tells is None where that can't be read."""

    id: str
    worker: str | None
    queue: str | None
    organization_id: Id | None
    attempts: int | None
    """Attempts made since it was last sent."""
    max_attempts: int | None
    snoozes: int | None
    resends: int | None
    reason: str
    traceback: str | None = field(repr=False)
    died_at: datetime
    payload: str = field(repr=False)
    """The wire form as it last was."""

    @classmethod
    def of(cls, job_id: str, text: str, reason: str, traceback: str | None, died_at: float) -> "DeadJob":
        """What an adapter kept of a job; `died_at` in epoch seconds."""
        facts: dict[str, Any] = dict.fromkeys(_FACTS)
        try:
            payload = Payload.parse(text)
            facts = {fact: getattr(payload, name) for fact, name in _FACTS.items()}
        except InvalidPayloadError:
            pass
        at = datetime.fromtimestamp(died_at, UTC)
        return cls(id=job_id, reason=reason, traceback=traceback, died_at=at, payload=text, **facts)

    @property
    def args(self) -> dict[str, Any]:
        """A fresh copy of the job's args; raises `InvalidPayloadError` where the payload can't be read."""
        return Payload.parse(self.payload).args

    def again(self, by: str, now: float) -> Payload:
        """The payload that sends it again: same id, args and actor, attempts from 1, and by whom and when.

        Raises `InvalidPayloadError` where the payload can't be read.
        """
        payload = Payload.parse(self.payload)
        noted: object = payload.meta.get("resent")
        before = cast("list[object]", noted) if isinstance(noted, list) else []
        meta = {key: value for key, value in payload.meta.items() if key not in ("dead", "unknown_since")}
        meta["resent"] = [*before, {"by": by, "at": now}][-MAX_NOTED:]
        return payload.again(None, attempt=1, resends=payload.resends + 1, meta=meta)


_FACTS: Final = {
    "worker": "worker",
    "queue": "queue",
    "organization_id": "organization_id",
    "attempts": "attempt",
    "max_attempts": "max_attempts",
    "snoozes": "snoozes",
    "resends": "resends",
}


@record(frozen=True, slots=True)
class Resend:
    """A dead job as it was found, and the payload that sends it again."""

    dead: DeadJob
    payload: Payload


class DeadJobs(Protocol):
    """What an adapter that keeps dead jobs supplies beside `Adapter`.

    Laws: safe from many threads and processes; `resend` answers for each job, in order, and never raises;
    the others raise what the queue's own client does.
    """

    def dead_jobs(self, filters: DeadFilters, /) -> Iterable[DeadJob]:
        """The dead jobs that fit the filters, latest first."""
        ...

    def resend(self, jobs: Sequence[Resend], /) -> Sequence[Receipt]:
        """Take each job out of the dead ones and queue its payload, both or neither.

        `Duplicate` for one that is not dead any more, or died once more since it was found.
        """
        ...

    def purge(self, ids: Sequence[str], /) -> int:
        """Forget dead jobs for good; how many there were."""
        ...


DeadJobOrId: TypeAlias = DeadJob | str


def dead_ids(jobs: object) -> list[str]:
    """The ids of one dead job or of several, or `InvalidOptionError`; each once, in order."""
    one = isinstance(jobs, (str, DeadJob))
    if not one and not isinstance(jobs, Iterable):
        raise InvalidOptionError("jobs", f"expected job ids or dead jobs, got {type(jobs).__name__}")
    found: dict[str, None] = {}
    for job in [jobs] if one else cast("Iterable[object]", jobs):
        if not isinstance(job, (str, DeadJob)):
            raise InvalidOptionError("jobs", f"expected job ids or dead jobs, got {type(job).__name__}")
        found[job if isinstance(job, str) else job.id] = None
    return [*found]


def check_by(by: object) -> str:
    """Who sends a job again, or `InvalidOptionError`."""
    if not isinstance(by, str) or not by.strip() or len(by) > 200:
        raise InvalidOptionError("by", "expected the operator's name, 1 to 200 characters")
    return by


def check_filters(filters: DeadFilters) -> DeadFilters:
    """Filters that can be, or `InvalidOptionError`."""
    refuse_misfits(cast("dict[str, Any]", filters), DeadFilters, _fits_type)
    return filters


def _fits_type(name: str, value: Any) -> bool:
    match name:
        case "ids":
            return isinstance(value, Collection) and not isinstance(value, str)
        case "organization":
            return value is None or type(value) in (str, int)
        case "worker":
            return isinstance(value, str)
        case "since":
            return isinstance(value, datetime) and value.tzinfo is not None
        case _:
            return type(value) is int and value >= 0


def fits(job: DeadJob, filters: DeadFilters) -> bool:
    """Whether a dead job is one of those (`limit` is for the caller to count)."""
    return (
        ("ids" not in filters or job.id in filters["ids"])
        and ("organization" not in filters or _is(job, filters["organization"]))
        and ("worker" not in filters or job.worker == filters["worker"])
        and ("since" not in filters or job.died_at >= filters["since"])
    )


def _is(job: DeadJob, organization: Id | None) -> bool:
    """An organization_id of 1 is neither "1" nor True; a payload that can't be read is nobody's."""
    same = type(job.organization_id) is type(organization) and job.organization_id == organization
    return job.worker is not None and same
