"""The audit trail: one event shape and one facade, safe or required, in front of any sink."""

import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, cast

from typing_extensions import TypeAliasType, TypedDict, Unpack

from sigra_workers.args import Id, wire_id
from sigra_workers.errors import AuditError, InvalidSettingsError
from sigra_workers.jobs import CURRENT_RUN

if TYPE_CHECKING:  # a recursive TypeAliasType is "partially unknown" to pyright where it is imported
    JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
else:  # and a recursive TypeAlias breaks get_type_hints() in every other module
    JSON = TypeAliasType("JSON", "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None")

AuditOutcome: TypeAlias = Literal["success", "failure"]
SCHEMA_VERSION: Final = 1
MAX_METADATA_BYTES: Final = 8 * 1024
FORBIDDEN_KEYS: Final = frozenset(
    [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "access_key",
        "private_key",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "otp",
        "totp",
    ]
)
"""Metadata keys that are refused at any depth, alone or as a part of a name such as `refresh_token`."""

_NAMESPACE: Final = uuid.UUID("2a9f3c4e-8f0b-5d6e-9c57-6b1d5c1f7a20")
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_log = logging.getLogger("sigra_workers.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One line of the audit trail.

    `actor_id` is who really acted, `effective_user_id` the account it was done as: they differ under
    impersonation. `actor_type` is "system" where nobody acted. Job fields are None outside of a job.
    """

    event_id: str
    occurred_at: datetime
    action: str
    outcome: AuditOutcome
    actor_id: Id | None
    actor_type: Literal["user", "system"]
    effective_user_id: Id | None
    organization_id: Id | None
    target_type: str | None
    target_id: Id | None
    metadata: Mapping[str, JSON]
    job_id: str | None
    worker: str | None
    queue: str | None
    attempt: int | None
    schema_version: int = SCHEMA_VERSION


class AuditSink(Protocol):
    """Where events go.

    Laws: `write` raises where the event is not kept; a second event of the same `event_id` is the same
    event, from a job that ran again: keep one of them; it is safe from many threads. A sink may also
    have ``async def awrite(event)``, which the async methods of `Audit` then prefer.
    """

    def write(self, event: AuditEvent, /) -> object:
        """Keep one event."""
        ...


class AuditFields(TypedDict, total=False):
    """What a caller may say of an event; each wins over what the scope or the job says."""

    outcome: AuditOutcome
    """"success" where none is given."""
    target_type: str | None
    target_id: Id | uuid.UUID | None
    metadata: Mapping[str, JSON] | None
    """At most 8 KiB as JSON, without keys that may hold a secret."""
    event_key: str | None
    """Names the event itself: the same organization, action and key is one event, wherever it is logged."""
    actor_id: Id | None
    actor_type: Literal["user", "system"]
    effective_user_id: Id | None
    organization_id: Id | None
    occurred_at: datetime


FailureListener: TypeAlias = Callable[[str, tuple[str, ...], BaseException], object]
"""Told of each event that was not written: its action, the names of the fields at fault, and why."""


class Audit:
    """The facade that workers and request handlers log through; made once and handed around.

    `reserved` are action prefixes that callers may not use, such as ``"sigra."``.
    """

    def __init__(
        self,
        sink: AuditSink | None = None,
        *,
        reserved: Sequence[str] = (),
        forbidden_keys: frozenset[str] = FORBIDDEN_KEYS,
    ) -> None:
        self._sink: AuditSink = LoggingSink() if sink is None else _check_sink(sink)
        self._reserved = tuple(reserved)
        self._forbidden = frozenset(forbidden_keys)
        self._listeners: list[FailureListener] = []

    @property
    def sink(self) -> AuditSink:
        """Where events go now."""
        return self._sink

    @contextmanager
    def using(self, sink: AuditSink) -> Generator[None]:
        """Put another sink in place for a block, in every thread: for tests."""
        before, self._sink = self._sink, _check_sink(sink)
        try:
            yield
        finally:
            self._sink = before

    def on_failure(self, listener: FailureListener) -> None:
        """Call `listener` for each event that is not written; `Workers` joins the hook to it."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def log(self, action: str, scope: object, /, **fields: Unpack[AuditFields]) -> AuditEvent:
        """Write an event, or raise: `AuditError` for a bad one, what the sink raises otherwise.

        `action` is a dotted name; `scope` is a request scope, a worker's scope or None.
        """
        event = self._event(action, scope, fields)
        self._sink.write(event)
        return event

    def log_safe(self, action: str, scope: object, /, **fields: Unpack[AuditFields]) -> None:
        """`log` that never raises: what is not written goes to the `audit_failed` hook and the log."""
        try:
            self._sink.write(self._event(action, scope, fields))
        except (Exception, SystemExit, GeneratorExit) as error:  # that is the promise
            self._failed(action, error)

    async def alog(self, action: str, scope: object, /, **fields: Unpack[AuditFields]) -> AuditEvent:
        """Async twin of `log`: a sink without `awrite` is called in a thread."""
        event = self._event(action, scope, fields)
        await self._awrite(event)
        return event

    async def alog_safe(self, action: str, scope: object, /, **fields: Unpack[AuditFields]) -> None:
        """Async twin of `log_safe`."""
        try:
            await self._awrite(self._event(action, scope, fields))
        except (Exception, SystemExit, GeneratorExit) as error:  # that is the promise
            self._failed(action, error)

    async def _awrite(self, event: AuditEvent) -> None:
        awrite = cast("Callable[[AuditEvent], Awaitable[object]] | None", getattr(self._sink, "awrite", None))
        if awrite is not None:
            await awrite(event)
            return
        from sigra_workers.loops import in_thread  # asyncio is only imported where a loop runs

        await in_thread(self._sink.write, event)

    def _failed(self, action: object, error: BaseException) -> None:
        name = _name(action)
        ours = error if isinstance(error, AuditError) else AuditError(name, ["sink"], type(error).__name__)
        fields, why = ours.fields, ours.problem
        _log.error("audit event %s was not written: %s (%s)", name, ", ".join(fields), why)
        for listener in self._listeners:
            try:
                listener(name, fields, error)
            except (Exception, SystemExit, GeneratorExit) as broken:  # a listener changes nothing
                _log.error("a listener to failed audit events raised %s", type(broken).__name__)

    def _event(self, action: str, scope: object, given: AuditFields) -> AuditEvent:
        problem = self._problem(action, given)
        if problem is not None:
            raise AuditError(_name(action), *problem)
        run = CURRENT_RUN.get()
        try:
            effective = _id_of(scope, "user")
            actor = _id_of(scope, "impersonating_from")
            organization = _id_of(scope, "active_organization")
        except Exception as error:  # such as an ORM object that is detached from its session
            raise AuditError(action, ["scope"], "it raised while it was read") from error
        actor = effective if actor is None else actor
        actor = given.get("actor_id", actor)
        system = actor is None
        if system and run is not None and "actor_id" not in given:
            actor = run.system_actor
        outcome = given.get("outcome", "success")
        organization = given.get("organization_id", organization)
        target_type, target_id = given.get("target_type"), wire_id(given.get("target_id"))
        now = time.time if run is None else run.clock
        return AuditEvent(
            event_id=_event_id(action, outcome, organization, target_type, target_id, given.get("event_key")),
            occurred_at=given.get("occurred_at") or datetime.fromtimestamp(now(), UTC),
            action=action,
            outcome=outcome,
            actor_id=actor,
            actor_type=given.get("actor_type", "system" if system else "user"),
            effective_user_id=given.get("effective_user_id", effective),
            organization_id=organization,
            target_type=target_type,
            target_id=target_id,
            metadata=json.loads(json.dumps(given.get("metadata") or {}, default=_plain)),
            job_id=None if run is None else run.info.id,
            worker=None if run is None else run.info.worker,
            queue=None if run is None else run.info.queue,
            attempt=None if run is None else run.info.attempt,
        )

    def _problem(self, action: object, given: Mapping[str, object]) -> tuple[tuple[str, ...], str] | None:
        if not isinstance(action, str) or _ACTION.fullmatch(action) is None:
            return ("action",), "expected a dotted name such as 'account.closed'"
        if action.startswith(self._reserved):
            return ("action",), "its prefix is reserved"
        if given.get("outcome", "success") not in ("success", "failure"):
            return ("outcome",), "expected 'success' or 'failure'"
        unknown = sorted({*given} - {*AuditFields.__annotations__})
        if unknown:
            return tuple(unknown), "there is no such field"
        metadata = given.get("metadata")
        if metadata is None:
            return None
        try:
            size = len(json.dumps(metadata, allow_nan=False, ensure_ascii=False, default=_plain).encode())
        except (TypeError, ValueError, RecursionError):
            return ("metadata",), "expected JSON"
        if size > MAX_METADATA_BYTES or not isinstance(metadata, Mapping):
            return ("metadata",), f"expected an object of at most {MAX_METADATA_BYTES} bytes as JSON"
        forbidden = sorted({key for key in _keys(cast("object", metadata)) if self._is_forbidden(key)})
        if forbidden:
            return tuple(f"metadata.{key}" for key in forbidden), "such a key may hold a secret"
        return None

    def _is_forbidden(self, key: str) -> bool:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
        name = re.sub(r"[^a-z0-9]+", "_", name.lower())
        return any(
            f"_{bad}_" in f"_{name}_" or re.search(rf"_{bad}s?\d*$", f"_{name}") for bad in self._forbidden
        )


def _check_sink(sink: AuditSink) -> AuditSink:
    if isinstance(sink, type) or not callable(getattr(sink, "write", None)):
        raise InvalidSettingsError("Audit", f"{sink!r} is no sink, expected an object with write(event)")
    return sink


def _name(action: object) -> str:
    return action if isinstance(action, str) and _ACTION.fullmatch(action) else "<invalid>"


def _plain(value: object) -> object:
    """What json.dumps does not know of `JSON`: mappings of another kind than dict."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError(type(value).__name__)


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[object, object]", value).items():
            yield str(key)
            yield from _keys(item)
    elif isinstance(value, (list, tuple)):
        for item in cast("Sequence[object]", value):
            yield from _keys(item)


def _id_of(scope: object, part: str) -> Id | None:
    """``scope.part.id`` by duck typing, keys of a mapping too; None where one is missing."""
    for name in (part, "id"):
        if isinstance(scope, Mapping):
            scope = cast("Mapping[str, object]", scope).get(name)
        else:
            scope = getattr(scope, name, None)
    return wire_id(cast("Any", scope))


def _event_id(
    action: str,
    outcome: str,
    organization: Id | None,
    target_type: str | None,
    target_id: Id | None,
    key: str | None,
) -> str:
    """Deterministic inside a job, so that a run that is repeated names its events again."""
    run = CURRENT_RUN.get()
    if key is not None:
        return str(uuid.uuid5(_NAMESPACE, json.dumps(["key", organization, action, key], default=str)))
    if run is None:
        return str(uuid.uuid4())
    facts = [run.info.id, run.info.snoozes, run.resends, action, outcome, target_type, target_id]
    name = json.dumps(facts, default=str)
    run.events[name] = n = run.events.get(name, 0) + 1
    return str(uuid.uuid5(_NAMESPACE, f"{name}{n}"))


# -- sinks -----------------------------------------------------------------------------------------


class LoggingSink:
    """Writes each event as one INFO record, the fields in ``record.audit``."""

    def __init__(self, logger: logging.Logger | str = "sigra_workers.audit.trail") -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger

    def write(self, event: AuditEvent, /) -> None:
        """Log one event; raises `AuditError` where the logger would drop it."""
        if not self._logger.isEnabledFor(logging.INFO):
            problem = (
                f"logger {self._logger.name!r} drops INFO, as without logging.basicConfig(level=logging.INFO)"
            )
            raise AuditError(event.action, ["sink"], problem)
        self._logger.info(
            "%s %s actor=%s organization=%s job=%s",
            event.action,
            event.outcome,
            event.actor_id,
            event.organization_id,
            event.job_id,
            extra={"audit": event_dict(event)},
        )


@dataclass
class MemorySink:
    """Keeps events in the process, one an `event_id`, in order: for tests and the embedded adapter."""

    _events: dict[str, AuditEvent] = field(default_factory=dict[str, AuditEvent], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def events(self) -> list[AuditEvent]:
        """The events so far, oldest first."""
        with self._lock:
            return list(self._events.values())

    def write(self, event: AuditEvent, /) -> None:
        """Keep one event, or nothing where its id is kept already."""
        with self._lock:
            self._events.setdefault(event.event_id, replace(event))

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._events.clear()


def event_dict(event: AuditEvent) -> dict[str, Any]:
    """An event as a dict of JSON values, times as ISO 8601 in UTC."""
    whole = {name: getattr(event, name) for name in AuditEvent.__dataclass_fields__}
    return {**whole, "occurred_at": event.occurred_at.astimezone(UTC).isoformat()}
