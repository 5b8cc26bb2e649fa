"""Jobs: what `handle.new` makes, what travels (wire form, version 1), and what a worker sees of its own."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import field, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from math import isfinite
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, cast

from typing_extensions import ReadOnly, TypedDict, TypeVar

from sigra_workers.args import Id, TenantArgs, to_json
from sigra_workers.errors import InvalidOptionError, InvalidPayloadError, PayloadVersionError
from sigra_workers.records import record

WIRE_VERSION: Final = 1
CARRIED: Final = "carried"
"""Where a payload's meta has what plugins gave it along."""
GIVEN: Final = "given_id"
"""In a payload's meta: the host chose its id, though it looks like one of `new_id`."""
MAX_DELAY: Final = 366 * 86_400.0
"""The longest delay or backoff, in seconds: a leap year."""

Seconds: TypeAlias = int | float
Backoff: TypeAlias = Seconds | Sequence[Seconds]
"""Seconds before the next attempt: one number, or one for each attempt, the last repeating."""

OnDuplicate: TypeAlias = Literal["raise", "skip"]
"""What `enqueue_many` does with a job whose id the queue has."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ArgsT_co = TypeVar("_ArgsT_co", bound=TenantArgs, covariant=True, default=TenantArgs)


class JobOptions(TypedDict, total=False):
    """Options of one job; each wins over the worker's own."""

    queue: ReadOnly[str]
    """One of the queues that handles declare, or `Workers(queues=...)`."""
    max_attempts: ReadOnly[int]
    """Runs in all, the first included, at least 1."""
    backoff: ReadOnly[Backoff]
    """Seconds before the next attempt."""
    timeout: ReadOnly[Seconds]
    """Seconds that one run may take."""
    schedule_in: ReadOnly[Seconds | timedelta]
    """Run it no earlier than so many seconds after it is enqueued."""
    schedule_at: ReadOnly[datetime]
    """Run it no earlier than then; with a time zone."""
    job_id: ReadOnly[str]
    """``[A-Za-z0-9_-]{1,128}``: a second job of that id is a `DuplicateJobError`."""
    native: ReadOnly[Mapping[str, object]]
    """Options of the queue library itself, checked by the adapter."""


class JobSender(Protocol):
    """What sends jobs: the `Workers` object that made them."""

    def enqueue_many(
        self, jobs: "Iterable[Job[Any]]", /, *, on_duplicate: OnDuplicate = "raise"
    ) -> "list[JobRef]":
        """Send jobs; raises `EnqueueError`."""
        ...

    async def aenqueue_many(
        self, jobs: "Iterable[Job[Any]]", /, *, on_duplicate: OnDuplicate = "raise"
    ) -> "list[JobRef]":
        """Async twin of `enqueue_many`."""
        ...


@record(frozen=True, slots=True, kw_only=True)
class Job(Generic[_ArgsT_co]):
    """A checked job that was not sent yet; immutable, as its args are kept as JSON text."""

    id: str
    worker: str
    queue: str
    max_attempts: int
    backoff: Backoff | None
    timeout: float | None
    schedule_in: float | None
    schedule_at: float | None
    given_id: bool
    """Whether the host chose the id: only such ids are checked for duplicates."""
    native: Mapping[str, object] = field(repr=False)
    args_json: str = field(repr=False)
    sender: JobSender | None = field(default=None, repr=False, compare=False)
    """What made it and can send it; not pickled along."""

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, ({f.name: getattr(self, f.name) for f in fields(self)} | {"sender": None},)

    @property
    def args(self) -> _ArgsT_co:
        """A fresh copy of the args."""
        return cast("_ArgsT_co", json.loads(self.args_json))

    def payload(self, now: float) -> "Payload":
        """The job as it travels when it is sent at `now`, in epoch seconds."""
        due_at = self.schedule_at if self.schedule_in is None else now + self.schedule_in
        meta: dict[str, Any] = {GIVEN: True} if self.given_id and is_new_id(self.id) else {}
        return Payload(
            id=self.id,
            worker=self.worker,
            queue=self.queue,
            args_or_json=self.args_json,
            max_attempts=self.max_attempts,
            backoff=self.backoff,
            timeout=self.timeout,
            enqueued_at=now,
            due_at=due_at,
            meta=meta,
        )


def _unpickled(state: dict[str, Any]) -> Job[Any]:
    return Job(**state)


@record(frozen=True, slots=True)
class JobRef:
    """A job that the queue has taken. `due_at` is when it may run; None is at once.

    `duplicate` is True for a job that ``enqueue_many(on_duplicate="skip")`` left out.
    """

    id: str
    worker: str
    queue: str
    due_at: datetime | None = None
    duplicate: bool = False


@record(frozen=True, slots=True)
class JobInfo:
    """The running job, as workers, arounds and hooks see it. `attempt` counts from 1."""

    id: str
    worker: str
    queue: str
    attempt: int
    max_attempts: int
    snoozes: int
    enqueued_at: datetime


class Numbers:
    """Numbers from 1 for what is alike, in any thread; one that was given back is the next."""

    __slots__ = ("_back", "_fresh")

    def __init__(self) -> None:
        self._fresh = count(1)
        self._back: list[int] = []

    def take(self) -> int:
        """The next number."""
        if self._back:
            from heapq import heappop

            with suppress(IndexError):  # another thread has just taken it
                return heappop(self._back)
        return next(self._fresh)

    def give_back(self, number: int) -> None:
        """What it was taken for did not come to be."""
        from heapq import heappush

        heappush(self._back, number)


class Run:
    """One run of a job: what it is, and what the audit trail needs to name its events again on a re-run."""

    __slots__ = ("_info", "clock", "events", "organization_id", "payload", "system_actor")

    def __init__(self, payload: "Payload", system_actor: str | None, clock: Callable[[], float]) -> None:
        self.payload = payload
        self.organization_id = payload.organization_id  # host code may change the args it is given
        self.system_actor = system_actor
        self.clock = clock
        self.events: dict[str, Numbers] = {}
        self._info: JobInfo | None = None

    @property
    def info(self) -> JobInfo:
        """What host code sees of it; made when somebody asks."""
        found = self._info
        if found is None:
            found = self._info = self.payload.info()
        return found


CURRENT_RUN: Final[ContextVar[Run | None]] = ContextVar("sigra_workers_run", default=None)


def current_job() -> JobInfo | None:
    """The job that runs here, in this thread or task; None outside of one."""
    run = CURRENT_RUN.get()
    return None if run is None else run.info


# -- the wire form -----------------------------------------------------------------------------------

_ABSENT: Final = object()
_OPTIONAL_NUMBER: Final = (int, float, type(None))
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "id": (str,),
    "worker": (str,),
    "queue": (str,),
    "args": (dict,),
    "attempt": (int,),
    "max_attempts": (int,),
    "snoozes": (int,),
    "resends": (int,),
    "backoff": (int, float, list, type(None)),
    "timeout": _OPTIONAL_NUMBER,
    "enqueued_at": (int, float),
    "due_at": _OPTIONAL_NUMBER,
    "meta": (dict,),
}


@record(frozen=True, slots=True, kw_only=True)
class Payload:
    """One job on the wire, version 1: a JSON object, sent as one string whatever the library's serializer.

    Times are epoch seconds. `attempt` is the number of the next run, from 1; `due_at` None is at once.
    Fields that this version does not know are kept in `unknown` and passed on.
    """

    id: str
    worker: str
    queue: str
    args_or_json: dict[str, Any] | str = field(repr=False)
    """The args, or their JSON text: a job on its way out has been checked and is not read again."""
    attempt: int = 1
    max_attempts: int
    snoozes: int = 0
    resends: int = 0
    backoff: Backoff | None = None
    timeout: float | None = None
    enqueued_at: float
    due_at: float | None = None
    meta: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    unknown: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __eq__(self, other: object) -> bool:
        """Whether it says the same: args are equal to their text."""
        if not isinstance(other, Payload):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in (*_KINDS, "unknown"))

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # its args may change

    @property
    def args(self) -> dict[str, Any]:
        """The args; of a job on its way out a fresh copy."""
        found = self.args_or_json
        return cast("dict[str, Any]", json.loads(found)) if isinstance(found, str) else found

    @property
    def organization_id(self) -> Id | None:
        """For logs and hooks: None too where args made by hand hold something else than an id."""
        found: object = self.args.get("organization_id")
        return found if isinstance(found, (str, int)) else None

    @property
    def given_id(self) -> bool:
        """Whether the host chose the id, and so may use it again for another job when this one is over."""
        return GIVEN in self.meta or not is_new_id(self.id)

    @property
    def since(self) -> float:
        """When it could have run, in epoch seconds: when it was due, or else when it was last sent."""
        if self.due_at is not None:
            return self.due_at
        try:
            at: object = self.meta["resent"][-1]["at"]
        except (KeyError, IndexError, TypeError):  # it never was sent again, or was made by hand
            return self.enqueued_at
        return at if isinstance(at, (int, float)) else self.enqueued_at

    @property
    def carried(self) -> dict[str, str]:
        """What plugins gave it along; nothing of what else may be there in one made by hand."""
        found: object = self.meta.get(CARRIED)
        entries = cast("dict[str, object]", found).items() if isinstance(found, dict) else ()
        return {name: value for name, value in entries if isinstance(value, str)}

    def carrying(self, meta: Mapping[str, str]) -> "Payload":
        """The payload with what plugins give it along."""
        return replace(self, meta={**self.meta, CARRIED: dict(meta)})

    def dump(self) -> str:
        """The payload as JSON text, ASCII only."""
        args, unknown = self.args_or_json, self.unknown
        return (
            f'{{"v":{WIRE_VERSION},"id":{_json(self.id)},"worker":{_json(self.worker)},'
            f'"queue":{_json(self.queue)},"attempt":{self.attempt},"max_attempts":{self.max_attempts},'
            f'"snoozes":{self.snoozes},"resends":{self.resends},"backoff":{_json(self.backoff)},'
            f'"timeout":{_json(self.timeout)},"enqueued_at":{_json(self.enqueued_at)},'
            f'"due_at":{_json(self.due_at)},"meta":{_json(self.meta)},'
            f"{to_json(unknown)[1:-1] + ',' if unknown else ''}"
            f'"args":{args if isinstance(args, str) else to_json(args)}}}'
        )

    @classmethod
    def parse(cls, text: object, /) -> "Payload":
        """Read a payload; raises `InvalidPayloadError`, for a newer version `PayloadVersionError`."""
        if not isinstance(text, str):
            raise InvalidPayloadError(f"it is of type {type(text).__name__}, expected one JSON string")
        try:
            whole: Any = _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            raise InvalidPayloadError("it is not JSON") from error
        if not isinstance(whole, dict):
            raise InvalidPayloadError(f"it is a JSON {type(whole).__name__}, expected an object")
        found = cast("dict[str, Any]", whole)
        version: Any = found.pop("v", None)
        if isinstance(version, int) and version > WIRE_VERSION:
            raise PayloadVersionError(version, WIRE_VERSION)
        if type(version) is not int or version != WIRE_VERSION:
            raise InvalidPayloadError(
                f"field 'v' is of type {type(version).__name__}, expected {WIRE_VERSION}"
            )
        known: dict[str, Any] = {}
        for name, kinds in _KINDS.items():
            value = known[name] = found.pop(name, _ABSENT)
            if type(value) not in kinds:  # from JSON there are no subclasses, and a bool is no int
                if value is _ABSENT:
                    raise InvalidPayloadError(f"field {name!r} is missing")
                kind = type(value).__name__
                raise InvalidPayloadError(f"field {name!r} is of type {kind}, expected {kinds[0].__name__}")
        try:
            check_id(known["id"])
            _check_counts(known)
            if known["backoff"] is not None:
                known["backoff"] = check_backoff(known["backoff"])
        except ValueError as error:
            raise InvalidPayloadError(str(error)) from error
        known["args_or_json"], known["unknown"] = known.pop("args"), found
        return cls(**known)

    def info(self) -> JobInfo:
        """What host code sees of this run."""
        return JobInfo(
            self.id,
            self.worker,
            self.queue,
            self.attempt,
            self.max_attempts,
            self.snoozes,
            datetime.fromtimestamp(self.enqueued_at, UTC),
        )

    def ref(self, *, duplicate: bool = False) -> JobRef:
        """What the sender sees of it."""
        due_at = None if self.due_at is None else datetime.fromtimestamp(self.due_at, UTC)
        return JobRef(self.id, self.worker, self.queue, due_at, duplicate)

    def again(self, due_at: float | None, **changes: Any) -> "Payload":
        """The payload of the next run."""
        return replace(self, due_at=due_at, **changes)


assert {*_KINDS} == {f.name for f in fields(Payload)} - {"args_or_json", "unknown"} | {"args"}  # noqa: S101  # one list of fields, told twice


def _json(value: object) -> str:
    """A field of the wire form, as `to_json` writes it; what most jobs have takes no encoder."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float) and isfinite(value):
        return float.__repr__(value)
    return "{}" if value == {} else to_json(value)


_quoted: Final = json.encoder.encode_basestring_ascii
"""A text as JSON, as the encoder itself writes it."""


def _finite(text: str) -> float:
    """A number that JSON can also write: not NaN, nor one that is too big for a float."""
    value = float(text)
    if not isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _check_counts(known: Mapping[str, Any]) -> None:
    for name, least in (("attempt", 1), ("max_attempts", 1), ("snoozes", 0), ("resends", 0)):
        if known[name] < least:
            raise ValueError(f"field {name!r} is {known[name]}, expected at least {least}")
    for name in ("timeout", "due_at", "enqueued_at"):
        value = known[name]
        if value is not None and not 0 <= value < _MAX_TIME:
            raise ValueError(f"field {name!r} is out of range")


_DECODER: Final = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)
_MAX_TIME: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


# -- options ---------------------------------------------------------------------------------------


def new_id() -> str:
    """A fresh job id."""
    return os.urandom(16).hex()


def is_new_id(job_id: str) -> bool:
    """Whether an id is, or looks like, one of `new_id`, which are never used again."""
    return len(job_id) == 32 and not job_id.strip("0123456789abcdef")


def check_id(value: object) -> str:
    """A job id, or `InvalidOptionError`."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise InvalidOptionError("job_id", "expected 1 to 128 letters, digits, underscores or dashes")
    return value


def check_native(value: object) -> dict[str, object]:
    """Options of the queue library, or `InvalidOptionError`."""
    if not isinstance(value, Mapping):
        raise InvalidOptionError("native", f"expected a mapping of names, got {type(value).__name__}")
    return dict(cast("Mapping[str, object]", value))


def check_attempts(value: object) -> int:
    """A number of attempts, or `InvalidOptionError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise InvalidOptionError("max_attempts", f"expected an int from 1 to 10000, got {value!r}")
    return value


def check_seconds(option: str, value: object, *, least: float = 0) -> float:
    """A number of seconds up to a year, or `InvalidOptionError`."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidOptionError(option, f"expected a number of seconds, got {type(value).__name__}")
    if not least <= value <= MAX_DELAY:  # NaN is in no range
        raise InvalidOptionError(option, f"expected {least:g} to {MAX_DELAY:.0f} seconds, got {value!r:.20}")
    return value


def check_timeout(value: object) -> float:
    """A time-out in seconds, or `InvalidOptionError`."""
    return check_seconds("timeout", value, least=0.001)


def check_backoff(value: object) -> Backoff:
    """A backoff that can travel: a number of seconds or a sequence of them, or `InvalidOptionError`."""
    if isinstance(value, (int, float, timedelta)):
        return check_seconds("backoff", value)
    kind = type(value).__name__
    items = cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else ()
    if not items:
        raise InvalidOptionError("backoff", f"expected a number of seconds or a sequence of them, got {kind}")
    return tuple(check_seconds("backoff", item) for item in items)


def check_due(options: JobOptions) -> tuple[float | None, float | None]:
    """`schedule_in` in seconds and `schedule_at` in epoch seconds, at most one of them."""
    if "schedule_in" in options and "schedule_at" in options:
        raise InvalidOptionError("schedule_at", "given together with schedule_in, expected one of them")
    if "schedule_in" in options:
        return check_seconds("schedule_in", options["schedule_in"]), None
    if "schedule_at" not in options:
        return None, None
    at = cast("object", options["schedule_at"])
    if not isinstance(at, datetime) or at.tzinfo is None:
        found = "one without" if isinstance(at, datetime) else type(at).__name__
        raise InvalidOptionError("schedule_at", f"expected a datetime with a time zone, got {found}")
    if not 0 <= at.timestamp() < _MAX_TIME:
        raise InvalidOptionError("schedule_at", f"expected a time from 1970 to 9998, got {at.isoformat()}")
    return None, at.timestamp()
