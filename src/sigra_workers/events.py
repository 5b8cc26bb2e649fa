"""Audit events: one line of the audit trail, and where it goes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from typing_extensions import TypeAliasType

from sigra_workers.args import Id
from sigra_workers.records import record

if TYPE_CHECKING:  # a recursive TypeAliasType is "partially unknown" to pyright where it is imported
    JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
else:  # and a recursive TypeAlias breaks get_type_hints() in every other module
    JSON = TypeAliasType("JSON", "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None")

AuditOutcome: TypeAlias = Literal["success", "failure"]
SCHEMA_VERSION: Final = 1


@record(frozen=True, slots=True, kw_only=True)
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
    event, from a job that ran again: keep one of them; it is safe from many threads; it answers within
    seconds, as the job waits for it. A sink may also have ``async def awrite(event)``, which the async
    methods of `Audit` then prefer, and be a `TransactionalSink`.
    """

    def write(self, event: AuditEvent, /) -> object:
        """Keep one event."""
        ...


class TransactionalSink(AuditSink, Protocol):
    """A sink that can write inside a transaction of the host's: kept if that commits, and gone if it doesn't.

    Laws: it neither commits nor rolls back; it raises where the event would not be kept. It may have
    ``async def awrite_in(event, transaction)`` for the transactions of async code.
    """

    def write_in(self, event: AuditEvent, transaction: Any, /) -> object:
        """Write one event in the transaction, such as a session of the host's database library."""
        ...


def event_dict(event: AuditEvent) -> dict[str, Any]:
    """An event as a dict of JSON values, times as ISO 8601 in UTC."""
    whole = {name: getattr(event, name) for name in AuditEvent.__dataclass_fields__}
    return {**whole, "occurred_at": event.occurred_at.astimezone(UTC).isoformat()}


def event_ecs(event: AuditEvent) -> dict[str, Any]:
    """An event in the field names of the Elastic Common Schema 8; what it has no name for is under ``sigra``.

    ECS holds ids as text: ``user`` is who really acted, ``user.effective`` the account it was done as.
    """
    job = {"id": event.job_id, "worker": event.worker, "queue": event.queue, "attempt": event.attempt}
    own = {
        "actor": {"type": event.actor_type},
        "target": _given(type=event.target_type, id=_ecs_id(event.target_id)),
        "job": _given(**job),
        "metadata": event.metadata,
        "schema_version": event.schema_version,
    }
    user = _given(id=_ecs_id(event.actor_id), effective=_given(id=_ecs_id(event.effective_user_id)))
    return {
        "@timestamp": event.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ecs": {"version": "8.11.0"},
        "event": {"kind": "event", "id": event.event_id, "action": event.action, "outcome": event.outcome},
        **_given(user=user, organization=_given(id=_ecs_id(event.organization_id))),
        "sigra": _given(**own),
    }


def _ecs_id(value: Id | None) -> str | None:
    return None if value is None else str(value)


def _given(**fields: Any) -> dict[str, Any]:
    """Without the fields that are None or empty: ECS leaves out what is not known."""
    return {name: value for name, value in fields.items() if value not in (None, {})}
