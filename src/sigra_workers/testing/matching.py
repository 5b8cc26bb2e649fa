"""What a test looks for: jobs that wait and events that were logged, and why one of them does not fit."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Never, TypeAlias, cast, get_args, get_origin
from uuid import UUID

from typing_extensions import NoExtraItems, ReadOnly, TypedDict

from sigra_workers.args import Id, OrganizationArgs, TenantArgs, wire_id
from sigra_workers.errors import InvalidOptionError, UnknownQueueError, refuse_unknown
from sigra_workers.events import AuditEvent, AuditOutcome
from sigra_workers.handles import WorkerHandle
from sigra_workers.jobs import Payload, Seconds, check_id
from sigra_workers.testing.performing import check_handle
from sigra_workers.trail import EVERY_ORGANIZATION, check_audit_filters
from sigra_workers.workers import Workers

NEAR: Final = timedelta(seconds=1)
"""How far a due time may be from the one that is asked for."""

AnyId: TypeAlias = Id | UUID | None
HandleOrName: TypeAlias = WorkerHandle[Any, Any, Any] | str
Wanted: TypeAlias = dict[str, Any]
"""Filters that are checked and as a job or event would have them."""


class JobFilters(TypedDict, total=False):
    """Which jobs; all that are given have to fit."""

    args: ReadOnly[Mapping[str, Any]]
    """Args that are there with these values, at any depth; the job may have more."""
    organization_id: ReadOnly[AnyId]
    real_actor: ReadOnly[AnyId]
    """Who really acts: the admin under impersonation."""
    effective_user: ReadOnly[AnyId]
    """The account that the job acts as."""
    queue: ReadOnly[str]
    job_id: ReadOnly[str]
    due_at: ReadOnly[datetime]
    """Due then, give or take a second; with a time zone."""
    due_in: ReadOnly[Seconds | timedelta]
    """Due so long after now, by the clock of the test, give or take a second; 0 is at once."""


class EventFilters(TypedDict, total=False):
    """Which audit events; all that are given have to fit."""

    action: ReadOnly[str]
    """An action such as ``"account.closed"``, or with a dot at its end all below: ``"account."``."""
    organization_id: ReadOnly[AnyId]
    real_actor: ReadOnly[AnyId]
    """Who really acted: the event's `actor_id`."""
    effective_user: ReadOnly[AnyId]
    outcome: ReadOnly[AuditOutcome]
    target_type: ReadOnly[str | None]
    target_id: ReadOnly[AnyId]
    metadata: ReadOnly[Mapping[str, Any]]
    """Metadata that is there with these values, at any depth; the event may have more."""
    job_id: ReadOnly[str | None]
    """None is an event from outside of a job."""
    worker: ReadOnly[HandleOrName | None]


# -- what is asked for -----------------------------------------------------------------------------------


def wanted_job(workers: Workers[Any], worker: HandleOrName | None, filters: JobFilters) -> Wanted:
    """Checked filters; raises `InvalidOptionError` for one that no job of these workers can ever fit."""
    refuse_unknown(filters, JobFilters)
    handle = None if worker is None else _handle(workers, worker)
    wanted: Wanted = {} if handle is None else {"worker": handle.name}
    wanted |= {name: _checked(workers, name, value) for name, value in filters.items()}
    if handle is not None and "args" in wanted:
        _check_keys(handle, wanted["args"])
    if "job_id" in wanted:
        check_id(wanted["job_id"])  # None is a filter of events alone
    if "queue" in wanted and wanted["queue"] not in workers.queues:
        raise UnknownQueueError(wanted["queue"], workers.queues)
    return wanted


def wanted_event(workers: Workers[Any], filters: EventFilters) -> Wanted:
    """Checked filters; raises `InvalidOptionError` for one that no event can ever fit."""
    refuse_unknown(filters, EventFilters)
    return {name: _checked(workers, name, value) for name, value in filters.items()}


def _handle(workers: Workers[Any], worker: object) -> WorkerHandle[Any, Any, Any]:
    """A worker by its handle, name or alias; one that nobody declared would fit nothing."""
    if not isinstance(worker, str):
        return check_handle(workers, worker)
    handle = workers.find(worker)
    if handle is None:
        known = sorted(handle.name for handle in workers.handles)
        raise InvalidOptionError("worker", f"there is no worker {worker!r}, known are {known}")
    return handle


def _check_keys(handle: WorkerHandle[Any, Any, Any], args: Mapping[str, Any]) -> None:
    """Refuse a key that the worker's TypedDict lacks; where it names none of its own, all may be there."""
    form: Any = get_origin(handle.args_type) or handle.args_type
    extra = getattr(form, "__extra_items__", NoExtraItems)
    if form in (TenantArgs, OrganizationArgs) or extra not in (NoExtraItems, Never):
        return
    known = form.__required_keys__ | form.__optional_keys__
    for key in args:
        if key not in known:
            problem = f"{form.__qualname__} has no key {key!r}, known are {sorted(known)}"
            raise InvalidOptionError("args", problem)


def _checked(workers: Workers[Any], name: str, value: Any) -> Any:
    match name:
        case "args" | "metadata":
            return _json(name, value)
        case "organization_id" | "real_actor" | "effective_user" | "target_id":
            return _of_type(name, wire_id(value), "an id or None", str, int, type(None))
        case "due_at":
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise InvalidOptionError(name, f"expected a datetime with a time zone, got {value!r}")
            return value.astimezone(UTC)
        case "due_in":
            seconds = value.total_seconds() if isinstance(value, timedelta) else value
            if not 0 <= _of_type(name, seconds, "seconds or a timedelta", int, float) < 1e9:
                raise InvalidOptionError(name, f"expected seconds or a timedelta from 0 on, got {value!r}")
            return timedelta(seconds=seconds)
        case "worker":
            return None if value is None else _handle(workers, value).name
        case "job_id":
            return None if value is None else check_id(value)
        case "outcome":
            if value not in get_args(AuditOutcome):
                raise InvalidOptionError(name, f"expected 'success' or 'failure', got {value!r}")
            return value
        case "action":
            action: str = _of_type(name, value, "a str", str)
            check_audit_filters({"organization": EVERY_ORGANIZATION, "action": action})
            return action
        case "queue":
            return _of_type(name, value, "a str", str)
        case _:
            return _of_type(name, value, "a str or None", str, type(None))


def _of_type(name: str, value: Any, expected: str, *types: type) -> Any:
    if not isinstance(value, types) or isinstance(value, bool):
        raise InvalidOptionError(name, f"expected {expected}, got {value!r}")
    return value


def _json(name: str, value: object) -> Any:
    """The value as JSON holds it, as a job or event has no others."""
    if not isinstance(value, Mapping):
        raise InvalidOptionError(name, f"expected a mapping, got {value!r}")
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOptionError(name, f"expected JSON values, as no other can be there: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError(f"a {type(value).__name__} is none")


# -- what is there ---------------------------------------------------------------------------------------


def job_facts(workers: Workers[Any], payload: Payload, now: float) -> dict[str, Any]:
    """A job by the names of `JobFilters`, and its worker."""
    args = payload.args
    admin = args.get("impersonating_from")
    due_at = payload.enqueued_at if payload.due_at is None else payload.due_at
    return {
        "worker": _current(workers, payload.worker),
        "args": args,
        "organization_id": args.get("organization_id"),
        "real_actor": args.get("actor_id") if admin is None else admin,
        "effective_user": args.get("actor_id"),
        "queue": payload.queue,
        "job_id": payload.id,
        "due_at": datetime.fromtimestamp(due_at, UTC),
        "due_in": timedelta(seconds=max(0.0, due_at - now)),
    }


def event_facts(workers: Workers[Any], event: AuditEvent) -> dict[str, Any]:
    """An event by the names of `EventFilters`."""
    facts = {name: getattr(event, name, None) for name in EventFilters.__annotations__}
    return {
        **facts,
        "real_actor": event.actor_id,
        "effective_user": event.effective_user_id,
        "worker": None if event.worker is None else _current(workers, event.worker),
    }


def _current(workers: Workers[Any], name: str) -> str:
    """The name of a worker that may have had another one."""
    handle = workers.find(name)
    return name if handle is None else handle.name


def misfits(facts: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """What of the facts does not fit, a text each."""
    return [problem for name, value in wanted.items() for problem in _differences(name, facts[name], value)]


def _differences(name: str, found: Any, wanted: Any) -> list[str]:
    if name in ("due_at", "due_in"):
        fits = abs(found - wanted) <= NEAR
        return [] if fits else [f"{name} is {shown(name, found)}, expected {shown(name, wanted)}"]
    if name in ("args", "metadata"):
        return _missing(name, found, wanted)
    if name == "action" and wanted.endswith(".") and found.startswith(wanted):
        return []
    return [] if _is_same(found, wanted) else [_differs(name, found, wanted)]


def _missing(path: str, found: Any, wanted: Any) -> list[str]:
    """What of `wanted` is not in `found`, by its path."""
    if isinstance(found, Mapping) and isinstance(wanted, dict):
        there = cast("Mapping[str, object]", found)
        problems = list[str]()
        for key, value in cast("dict[str, object]", wanted).items():
            inner = f"{path}[{key!r}]"
            if key in there:
                problems += _missing(inner, there[key], value)
            else:
                problems.append(f"{inner} is absent, expected {value!r}")
        return problems
    if isinstance(found, list) and isinstance(wanted, list):
        items, others = cast("list[object]", found), cast("list[object]", wanted)
        if len(items) == len(others):
            pairs = enumerate(zip(items, others, strict=True))
            return [problem for n, (one, other) in pairs for problem in _missing(f"{path}[{n}]", one, other)]
    same = _is_same(cast("object", found), cast("object", wanted))
    return [] if same else [_differs(path, cast("object", found), cast("object", wanted))]


def _is_same(found: object, wanted: object) -> bool:
    """Equal, and 1 is not True."""
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def _differs(path: str, found: object, wanted: object) -> str:
    return f"{path} is {found!r}, expected {wanted!r}"


def shown(name: str, value: Any) -> str:
    """A filter's value, or what is there, in a text."""
    match name:
        case "due_at":
            return cast("datetime", value).isoformat()
        case "due_in":
            return f"{cast('timedelta', value).total_seconds():g} s"
        case _:
            return repr(value)
