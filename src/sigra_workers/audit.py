"""The audit trail: one event shape and one facade, safe or required, in front of any sink."""

import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Final, Literal, TypeAlias, cast

from typing_extensions import TypedDict, Unpack

from sigra_workers.args import HostId, Id, wire_id
from sigra_workers.errors import AuditError, InvalidSettingsError, is_own, log
from sigra_workers.events import JSON, AuditEvent, AuditOutcome, AuditSink
from sigra_workers.jobs import CURRENT_RUN, Numbers
from sigra_workers.scopes import AuditOnly
from sigra_workers.sinks import LoggingSink

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
        "secret_key",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "otp",
        "totp",
    ]
)
"""Metadata keys that are refused at any depth, alone or as a part of a name such as `refresh_token`."""

_NAMESPACE: Final = bytes.fromhex("2a9f3c4e8f0b5d6e9c576b1d5c1f7a20")
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_IDS: Final = ("actor_id", "effective_user_id", "organization_id", "target_id")
_LOGGER: Final = "sigra_workers.audit"


class AuditFields(TypedDict, total=False):
    """What a caller may say of an event; each wins over what the scope or the job says."""

    outcome: AuditOutcome
    """"success" where none is given."""
    target_type: str | None
    target_id: HostId | None
    metadata: Mapping[str, JSON] | None
    """At most 8 KiB as JSON, without keys that may hold a secret."""
    event_key: str | None
    """Names the event itself: the same organization, action and key is one event, wherever it is logged."""
    actor_id: Id | None
    actor_type: Literal["user", "system"]
    effective_user_id: Id | None
    organization_id: Id | None
    occurred_at: datetime
    """With a time zone; now where none is given."""


_FIELDS: Final = AuditFields.__annotations__.keys()
_Problem: TypeAlias = tuple[tuple[str, ...], str] | None
"""The fields at fault, and what is wrong with them."""
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

    def log(
        self, action: str, scope: object, /, *, transaction: object = None, **fields: Unpack[AuditFields]
    ) -> AuditEvent:
        """Write an event, or raise: `AuditError` for a bad one, what the sink raises otherwise.

        `action` is a dotted name; `scope` is a request scope, a worker's scope or None. With `transaction`,
        such as a database session of the host's, the event is written in it and shares its fate: the sink
        has to be a `TransactionalSink`.
        """
        return self._log(action, scope, fields, transaction)

    def log_safe(self, action: str, scope: object, /, **fields: Unpack[AuditFields]) -> None:
        """`log` that never raises: what is not written goes to the log and the hook `sigra_audit_failed`.

        What cuts the job short, such as its time-out, passes; the event is told of too, as it may be lost.
        """
        try:
            self._log(action, scope, fields)
        except BaseException as error:
            self._failed(action, error)
            if not is_own(error):  # it is cut short
                raise

    async def alog(
        self, action: str, scope: object, /, *, transaction: object = None, **fields: Unpack[AuditFields]
    ) -> AuditEvent:
        """Async twin of `log`: a sink without `awrite` is called in a thread."""
        return await self._alog(action, scope, fields, transaction)

    async def alog_safe(self, action: str, scope: object, /, **fields: Unpack[AuditFields]) -> None:
        """Async twin of `log_safe`."""
        try:
            await self._alog(action, scope, fields)
        except BaseException as error:
            self._failed(action, error)
            if not is_own(error) or _is_cancelled(error):  # it is cut short
                raise

    def _log(self, action: str, scope: object, fields: AuditFields, transaction: object = None) -> AuditEvent:
        event, give_back = self._event(action, scope, fields)
        try:
            if transaction is None:
                self._sink.write(event)
            else:
                self._method("write_in", action)(event, transaction)
        except BaseException:
            give_back()
            raise
        return event

    async def _alog(
        self, action: str, scope: object, fields: AuditFields, transaction: object = None
    ) -> AuditEvent:
        event, give_back = self._event(action, scope, fields)
        try:
            if transaction is None:
                await self._awrite(event)
            elif hasattr(self._sink, "awrite_in"):
                await self._method("awrite_in", action)(event, transaction)
            else:  # here: a transaction belongs to one thread
                self._method("write_in", action)(event, transaction)
        except BaseException:
            give_back()
            raise
        return event

    async def _awrite(self, event: AuditEvent) -> None:
        awrite = cast("Callable[[AuditEvent], Awaitable[object]] | None", getattr(self._sink, "awrite", None))
        if awrite is not None:
            await awrite(event)
            return
        from sigra_workers.loops import in_thread  # asyncio is only imported where a loop runs

        await in_thread(self._sink.write, event)

    def _method(self, name: str, action: str) -> Callable[[AuditEvent, object], Any]:
        method = getattr(self._sink, name, None)
        if method is None:
            problem = f"a {type(self._sink).__name__} can't write in one, expected a TransactionalSink"
            raise AuditError(action, ["transaction"], problem)
        return cast("Callable[[AuditEvent, object], Any]", method)

    def _failed(self, action: object, error: BaseException) -> None:
        name = _name(action)
        ours = error if isinstance(error, AuditError) else AuditError(name, ["sink"], type(error).__name__)
        fields, why = ours.fields, ours.problem
        with suppress(Exception):  # a filter of the host's
            log(_LOGGER).error("audit event %s was not written: %s (%s)", name, ", ".join(fields), why)
        for listener in self._listeners:
            try:
                listener(name, fields, error)
            except BaseException as broken:
                if not is_own(broken):
                    raise
                log(_LOGGER).error("a listener to failed audit events raised %s", type(broken).__name__)

    def _event(self, action: str, scope: object, given: AuditFields) -> tuple[AuditEvent, Callable[[], None]]:
        """An event, and what to call where it is not written: the next equal one gets its id then."""
        found = cast("Mapping[str, Any]", given)
        ids = {name: wire_id(found[name]) for name in _IDS if name in found}
        problem = self._problem(action, given, ids)
        metadata = given.get("metadata")
        copied: Any = {}
        if problem is None and metadata is not None:
            copied, problem = self._copied(metadata)
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
        actor = ids.get("actor_id", actor)
        system = actor is None
        if system and run is not None and "actor_id" not in given:
            actor = run.system_actor
        outcome = given.get("outcome", "success")
        organization = ids.get("organization_id", organization)
        target_type, target_id = given.get("target_type"), ids.get("target_id")
        now = time.time if run is None else run.clock
        job = None if run is None else run.payload
        key = given.get("event_key")
        event_id, give_back = _event_id(action, outcome, organization, target_type, target_id, key)
        event = AuditEvent(
            event_id=event_id,
            occurred_at=given.get("occurred_at") or datetime.fromtimestamp(now(), UTC),
            action=action,
            outcome=outcome,
            actor_id=actor,
            actor_type=given.get("actor_type", "system" if system else "user"),
            effective_user_id=ids.get("effective_user_id", effective),
            organization_id=organization,
            target_type=target_type,
            target_id=target_id,
            metadata=copied,
            job_id=None if job is None else job.id,
            worker=None if job is None else job.worker,
            queue=None if job is None else job.queue,
            attempt=None if job is None else job.attempt,
        )
        return event, give_back

    def _problem(self, action: object, given: Mapping[str, object], ids: Mapping[Any, Id | None]) -> _Problem:
        """What is wrong with an event, but for its metadata."""
        if not isinstance(action, str) or _ACTION.fullmatch(action) is None:
            return ("action",), "expected a dotted name such as 'account.closed'"
        if action.startswith(self._reserved):
            return ("action",), "its prefix is reserved"
        if given.get("outcome", "success") not in ("success", "failure"):
            return ("outcome",), "expected 'success' or 'failure'"
        if not given.keys() <= _FIELDS:
            return tuple(sorted(given.keys() - _FIELDS)), "there is no such field"
        if given.get("event_key") == "":
            return ("event_key",), "expected a text that is not empty"
        wrong = [name for name, value in ids.items() if not _is_id(value)]
        if wrong:
            return tuple(wrong), "expected a str, an int, a UUID or None"
        at = given.get("occurred_at")
        if at is not None and (not isinstance(at, datetime) or at.tzinfo is None):
            return ("occurred_at",), "expected a datetime with a time zone"
        return None

    def _copied(self, metadata: object) -> tuple[object, _Problem]:
        """A copy of the metadata as JSON has it, or what is wrong with it."""
        try:
            text = _to_json(metadata)
            size = len(text.encode())
        except (TypeError, ValueError, RecursionError):
            return None, (("metadata",), "expected JSON")
        if size > MAX_METADATA_BYTES or not isinstance(metadata, Mapping):
            return None, (("metadata",), f"expected an object of at most {MAX_METADATA_BYTES} bytes as JSON")
        copied = json.loads(text)
        forbidden = sorted({key for key in _keys(copied) if self._is_forbidden(key)})
        if forbidden:
            return None, (tuple(f"metadata.{key}" for key in forbidden), "such a key may hold a secret")
        return copied, None

    def _is_forbidden(self, key: str) -> bool:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
        name = re.sub(r"[^a-z0-9]+", "_", name.lower())
        return self._secret.search(f"_{name}_") is not None

    @cached_property
    def _secret(self) -> re.Pattern[str]:
        # At the end of a longer word too, but for the short ones, that are the end of many.
        bad = [(re.escape(word).replace("_", "_?"), "_" if len(word) < 5 else "") for word in self._forbidden]
        return re.compile("|".join(rf"{before}{word}s?\d*_" for word, before in bad) or "(?!)")


def _is_cancelled(error: BaseException) -> bool:
    """Whether that is because this task is being cancelled, not something that it waits for."""
    import asyncio

    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _is_id(value: object) -> bool:
    return value is None or (isinstance(value, (str, int)) and not isinstance(value, bool))


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


_to_json: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=_plain).encode


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield key
            yield from _keys(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _keys(item)


def _id_of(scope: object, part: str) -> Id | None:
    """``scope.part.id`` by duck typing, keys of a mapping too; None where one is missing."""
    return wire_id(cast("Any", _part(_part(scope, part), "id")))


def _part(scope: object, name: str) -> object:
    if scope is None:
        return None
    if isinstance(scope, AuditOnly) or not isinstance(scope, Mapping):
        return getattr(scope, name, None)
    return cast("Mapping[str, object]", scope).get(name)


def _random_id() -> str:
    return _uuid(os.urandom(16), 4)


def _named_id(name: str) -> str:
    import hashlib  # slow to import: where a job writes an event

    return _uuid(hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest(), 5)


def _uuid(found: bytes, version: int) -> str:
    """The text of a UUID of so many bytes or more, without making an object for it."""
    digits, variant = found.hex(), "89ab"[found[8] >> 4 & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _event_id(
    action: str,
    outcome: str,
    organization: Id | None,
    target_type: str | None,
    target_id: Id | None,
    key: str | None,
) -> tuple[str, Callable[[], None]]:
    """Deterministic inside a job, so that a run that is repeated names its events again.

    With what gives the number of an equal event back.
    """
    run = CURRENT_RUN.get()
    if key is not None:
        return _named_id(json.dumps(["key", organization, action, key], default=str)), _nothing
    if run is None:
        return _random_id(), _nothing
    # An id of the host's may be used again when its job is over: then it is told by when it was enqueued.
    job = run.payload
    sent = run.info.enqueued_at.timestamp() if job.given_id else None
    turn = [job.id, sent, job.snoozes, job.resends]
    name = json.dumps([*turn, organization, action, outcome, target_type, target_id], default=str)
    numbers = run.events.get(name) or run.events.setdefault(name, Numbers())
    n = numbers.take()
    return _named_id(f"{name}{n}"), partial(numbers.give_back, n)


def _nothing() -> None:
    """Give nothing back."""
