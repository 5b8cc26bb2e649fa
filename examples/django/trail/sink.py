"""Where audit events go: a sink over Django's ORM."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db.backends.base.base import BaseDatabaseWrapper

from sigra_workers import AuditError, AuditEvent
from sigra_workers.checks import Check, Finding
from trail.models import AuditRow

AUDIT: Final = "audit"
"""The connection of events that stay, whatever becomes of the caller's transaction."""
IDS: Final = ("actor_id", "effective_user_id", "organization_id", "target_id")


class OrmTrail:
    """Keeps an event as a row, one for each `event_id`; a `TransactionalSink`."""

    def write(self, event: AuditEvent, /) -> None:
        """Keep it at once, by itself."""
        self._insert(event, AUDIT)

    async def awrite(self, event: AuditEvent, /) -> None:
        """The same in the thread where Django has the connections of this async code."""
        await sync_to_async(self.write)(event)

    def write_in(self, event: AuditEvent, transaction: BaseDatabaseWrapper, /) -> None:
        """Keep it if the `atomic` block of that connection commits."""
        if not transaction.in_atomic_block:
            raise AuditError(event.action, ["transaction"], "expected a connection inside of atomic()")
        self._insert(event, transaction.alias)

    def checks(self, workers: object, /) -> list[Check]:
        """For ``sigra-workers doctor``, which tells what raises."""
        return [Check("audit.table", self._read)]

    def _read(self) -> Iterable[Finding]:
        AuditRow.objects.using(AUDIT).first()
        yield Finding("ok", "the table of audit events is there")

    def _insert(self, event: AuditEvent, alias: str) -> None:
        row: dict[str, Any] = {field.name: getattr(event, field.name) for field in fields(event)}
        row |= {name: None if row[name] is None else str(row[name]) for name in IDS}
        AuditRow.objects.using(alias).bulk_create([AuditRow(**row)], ignore_conflicts=True)
