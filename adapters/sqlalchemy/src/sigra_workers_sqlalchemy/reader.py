"""Reading the table of audit events: pages, counts, whole exports; and deleting what is old."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Self, TypeVar, Unpack

from sqlalchemy import Connection, Engine, MetaData, RowMapping, Table
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from sigra_workers import (
    AuditEvent,
    AuditFilters,
    AuditPage,
    InvalidOptionError,
    InvalidSettingsError,
    OrganizationFilter,
)
from sigra_workers.loops import in_thread
from sigra_workers.trail import PAGE, check_audit_filters, check_limit
from sigra_workers_sqlalchemy import statements
from sigra_workers_sqlalchemy.table import audit_events, event_of

T = TypeVar("T")
BATCH: Final = 1_000
"""Events that are read or deleted at a time."""


class Reader:
    """The reading half of `AuditTrail`: an `AuditReader`, with async twins."""

    def __init__(self, engine: Engine | AsyncEngine, table: Table | None = None) -> None:
        if engine.dialect.name not in statements.DIALECTS:
            known = ", ".join(statements.DIALECTS)
            raise InvalidSettingsError("AuditTrail", f"it is for {known}, not for {engine.dialect.name!r}")
        self.engine: Final = engine
        self.table: Final = audit_events(MetaData()) if table is None else table
        self._owned = False

    @classmethod
    def owning(cls, engine: Engine | AsyncEngine, table: Table) -> Self:
        """One that closes the engine."""
        reader = cls(engine, table)
        reader._owned = True
        return reader

    def query(
        self, *, limit: int = PAGE, cursor: str | None = None, **filters: Unpack[AuditFilters]
    ) -> AuditPage:
        """A page of the events that fit: the latest, or those beside another page."""
        return self._read(self._page(filters, limit, cursor))

    async def aquery(
        self, *, limit: int = PAGE, cursor: str | None = None, **filters: Unpack[AuditFilters]
    ) -> AuditPage:
        """Async twin of `query`."""
        return await self._aread(self._page(filters, limit, cursor))

    def count(self, **filters: Unpack[AuditFilters]) -> int:
        """How many events fit."""
        return self._read(self._count(filters))

    async def acount(self, **filters: Unpack[AuditFilters]) -> int:
        """Async twin of `count`."""
        return await self._aread(self._count(filters))

    def stream(self, **filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        """All events that fit and happened by now, oldest first, in flat memory."""
        return self._events(_by_now(filters))

    def astream(self, **filters: Unpack[AuditFilters]) -> AsyncIterator[AuditEvent]:
        """Async twin of `stream`."""
        return self._aevents(_by_now(filters))

    def purge(self, *, organization: OrganizationFilter, before: datetime, batch: int = BATCH) -> int:
        """Delete the events that happened before then, each batch in a transaction; how many they were."""
        delete, deleted = self._delete(organization, before, batch), 0
        while gone := self._read(delete):
            deleted += gone
        return deleted

    async def apurge(self, *, organization: OrganizationFilter, before: datetime, batch: int = BATCH) -> int:
        """Async twin of `purge`."""
        delete, deleted = self._delete(organization, before, batch), 0
        while gone := await self._aread(delete):
            deleted += gone
        return deleted

    def close(self) -> None:
        """Close the connections of an engine of its own; a later call opens them again."""
        if self._owned:
            self._sync_engine("aclose").dispose()

    async def aclose(self) -> None:
        """Async twin of `close`."""
        if self._owned and isinstance(self.engine, AsyncEngine):
            await self.engine.dispose()
        elif self._owned:
            await in_thread(self.close)

    # -- the same for sync and async -------------------------------------------------------------------

    def _page(
        self, filters: AuditFilters, limit: int, cursor: str | None
    ) -> Callable[[Connection], AuditPage]:
        check_audit_filters(filters)
        position = statements.parse(cursor)
        size = check_limit(limit)
        return lambda connection: statements.page(connection, self.table, filters, size, position)

    def _count(self, filters: AuditFilters) -> Callable[[Connection], int]:
        check_audit_filters(filters)
        return lambda connection: statements.count(connection, self.table, filters)

    def _events(self, filters: AuditFilters) -> Iterator[AuditEvent]:
        position = None
        while rows := self._read(self._rows(filters, position)):
            yield from (event_of(row) for row in rows)
            position = statements.Position.of(rows[-1])

    async def _aevents(self, filters: AuditFilters) -> AsyncIterator[AuditEvent]:
        position = None
        while rows := await self._aread(self._rows(filters, position)):
            for row in rows:
                yield event_of(row)
            position = statements.Position.of(rows[-1])

    def _rows(
        self, filters: AuditFilters, position: statements.Position | None
    ) -> Callable[[Connection], Sequence[RowMapping]]:
        return lambda connection: statements.rows(
            connection, self.table, filters, BATCH, position, ascending=True
        )

    def _delete(
        self, organization: OrganizationFilter, before: datetime, batch: int
    ) -> Callable[[Connection], int]:
        filters = check_audit_filters({"organization": organization, "until": before})
        size = check_limit(batch)

        def delete(connection: Connection) -> int:
            gone = statements.delete_some(connection, self.table, filters, size)
            connection.commit()
            return gone

        return delete

    def _read(self, ask: Callable[[Connection], T]) -> T:
        with self._sync_engine("the async twin").connect() as connection:
            return ask(connection)

    async def _aread(self, ask: Callable[[Connection], T]) -> T:
        if isinstance(self.engine, Engine):
            return await self._elsewhere(lambda: self._read(ask))
        async with self.engine.connect() as connection:
            return await connection.run_sync(ask)

    async def _elsewhere(self, call: Callable[[], T]) -> T:
        """In a thread, but for SQLite in memory: it has a database for each, or one connection for one."""
        if isinstance(self._sync_engine("the async twin").pool, (SingletonThreadPool, StaticPool)):
            return call()
        return await in_thread(call)

    def _sync_engine(self, instead: str) -> Engine:
        if isinstance(self.engine, AsyncEngine):
            raise InvalidOptionError(
                "engine", f"it is an AsyncEngine: await {instead} of this method instead"
            )
        return self.engine


def _by_now(filters: AuditFilters) -> AuditFilters:
    """What comes while it is read could go on for ever."""
    check_audit_filters(filters)
    return filters if "until" in filters else {**filters, "until": datetime.now(UTC)}
