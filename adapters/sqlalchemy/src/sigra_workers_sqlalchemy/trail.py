"""`AuditTrail`: the sink that writes events to a database, and reads them back."""

import os
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from sigra_workers import AuditError, AuditEvent, Workers
from sigra_workers.checks import Check, Finding
from sigra_workers.loops import run
from sigra_workers_sqlalchemy import statements
from sigra_workers_sqlalchemy.bounded import Bounded, Overdue, Refused
from sigra_workers_sqlalchemy.checks import trail_checks
from sigra_workers_sqlalchemy.connect import engine_at
from sigra_workers_sqlalchemy.reader import Reader
from sigra_workers_sqlalchemy.table import row_of

TIMEOUT: Final = 2.0
"""Seconds that an event is waited for."""


class AuditTrail(Reader):
    """The audit trail in a database: a `TransactionalSink`, and an `AuditReader` with async twins.

    `engine` is the host's own, sync or async; `table` is `audit_events` of the host's metadata, by default
    one of that name. An event without a transaction is written in a short one of its own, and waited for up
    to `timeout` seconds: behind that it may still be written, and `AuditError` says so. However often an
    event comes, it is one row. Safe from many threads and after a fork.

    Raises `InvalidSettingsError` for a database that is none of PostgreSQL, MariaDB, MySQL and SQLite.
    """

    def __init__(
        self, engine: Engine | AsyncEngine, table: Table | None = None, *, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(engine, table)
        self.timeout: Final = timeout
        self._inserts: Final = {
            name: statements.insert_once(self.table, name) for name in statements.DIALECTS
        }
        self._bind: Final = {"clause": self.table}  # which of a session's databases the table is in
        self._bounded = Bounded(timeout)
        _trails.add(self)

    @classmethod
    def at(cls, url: str, table: Table | None = None, *, timeout: float = TIMEOUT) -> "AuditTrail":
        """One with an engine of its own, whose driver and database keep to the time-out as well.

        Opens nothing. Raises `InvalidSettingsError`, which does not show the URL.
        """
        trail = cls(engine_at(url, timeout), table, timeout=timeout)
        trail._owned = True
        return trail

    # -- in a transaction of its own ---------------------------------------------------------------------

    def write(self, event: AuditEvent, /) -> None:
        """Write one event; raises `AuditError` where it is not known to be kept."""
        if isinstance(self.engine, AsyncEngine):
            raise AuditError(event.action, ["sink"], "its engine is async: await alog or alog_safe")
        engine, row = self.engine, row_of(self.table, event)

        def insert() -> None:
            with engine.begin() as connection:
                connection.execute(self._inserts[connection.dialect.name], row)

        with self._told(event):
            # SQLite in memory has a database for each thread, or one connection for all of them.
            if isinstance(engine.pool, (SingletonThreadPool, StaticPool)):
                insert()
            else:
                self._bounded.call(lambda: _twice(insert))

    async def awrite(self, event: AuditEvent, /) -> None:
        """Async twin of `write`; a sync engine is used in a thread."""
        if isinstance(self.engine, Engine):
            await self._elsewhere(lambda: self.write(event))
            return
        engine, row = self.engine, row_of(self.table, event)

        async def insert() -> None:
            async with engine.begin() as connection:
                await connection.execute(self._inserts[connection.dialect.name], row)

        with self._told(event):
            await self._bounded.acall(lambda: _atwice(insert))

    # -- in the host's transaction -----------------------------------------------------------------------

    def write_in(self, event: AuditEvent, transaction: Any, /) -> None:
        """Write one event in the transaction of the host's `Session` or `Connection`, who commits it."""
        if not isinstance(transaction, (Session, scoped_session, Connection)):
            raise _refused(event, transaction, "a Session or Connection; one of asyncio is for alog")
        row = row_of(self.table, event)
        with self._told(event):
            connection = (
                transaction
                if isinstance(transaction, Connection)
                else transaction.connection(bind_arguments=self._bind)
            )
            connection.execute(self._inserts[connection.dialect.name], row)

    async def awrite_in(self, event: AuditEvent, transaction: Any, /) -> None:
        """Async twin of `write_in`, for an `AsyncSession` or `AsyncConnection`."""
        if not isinstance(transaction, (AsyncSession, async_scoped_session, AsyncConnection)):
            raise _refused(event, transaction, "an AsyncSession or AsyncConnection; a sync one is for log")
        row = row_of(self.table, event)
        with self._told(event):
            connection = (
                transaction
                if isinstance(transaction, AsyncConnection)
                else await transaction.connection(bind_arguments=self._bind)
            )
            await connection.execute(self._inserts[connection.dialect.name], row)

    # -- for the doctor ----------------------------------------------------------------------------------

    def checks(self, workers: Workers[Any], /) -> list[Check]:
        """What ``sigra-workers doctor`` looks for: the database, and the table in it."""
        return trail_checks(self.table, self._ask)

    def _ask(self, ask: Callable[[Connection], list[Finding]]) -> list[Finding]:
        """Ask with a connection, in the time that an event has."""
        engine = self.engine
        if isinstance(engine, AsyncEngine):
            return run(self._bounded.acall(lambda: _apart(engine, ask)))
        if isinstance(engine.pool, (SingletonThreadPool, StaticPool)):
            return self._read(ask)
        return self._bounded.call(lambda: self._read(ask))

    @contextmanager
    def _told(self, event: AuditEvent) -> Generator[None]:
        """What goes wrong as an `AuditError`, without the values of the event."""
        try:
            yield
        except Refused:
            problem = "refused at once, as the database does not answer"
            raise AuditError(event.action, ["sink"], problem) from None
        except Overdue:
            problem = f"the database did not answer within {self.timeout:g} s, it may still be written"
            raise AuditError(event.action, ["sink"], problem) from None
        except Exception as error:  # such as an OSError of asyncpg's
            raise AuditError(event.action, ["sink"], _kind(error)) from _bare(error)


async def _apart(engine: AsyncEngine, ask: Callable[[Connection], list[Finding]]) -> list[Finding]:
    """Ask on another event loop than the host's: no connection of the one is for the other."""
    if isinstance(engine.pool, StaticPool):
        async with engine.connect() as connection:
            return await connection.run_sync(ask)
    own = AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url))
    try:
        async with own.connect() as connection:
            return await connection.run_sync(ask)
    finally:
        await own.dispose()


def _refused(event: AuditEvent, transaction: object, expected: str) -> AuditError:
    found = type(transaction).__name__
    return AuditError(event.action, ["transaction"], f"it is of type {found}, expected {expected}")


def _twice(insert: Callable[[], None]) -> None:
    """Once more after what may pass: a connection that was dropped meanwhile, a deadlock. It is one row."""
    try:
        insert()
    except DBAPIError as error:
        if not _may_pass(error):
            raise
        insert()


async def _atwice(insert: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await insert()
    except DBAPIError as error:
        if not _may_pass(error):
            raise
        await insert()


def _may_pass(error: DBAPIError) -> bool:
    # SQLAlchemy has no class of its own for what asyncpg says of a deadlock.
    deadlock = getattr(error.orig, "sqlstate", None) in ("40001", "40P01")
    return error.connection_invalidated or deadlock or isinstance(error, OperationalError)


def _kind(error: Exception) -> str:
    """The driver's class and code for it; its text may quote the event."""
    found: Any = error
    if isinstance(error, StatementError) and error.orig is not None:
        found = error.orig.__cause__ or error.orig  # asyncpg's is behind SQLAlchemy's
    number = found.args[0] if found.args and isinstance(found.args[0], int) else None
    code = number or getattr(found, "sqlstate", None) or getattr(found, "sqlite_errorname", None)
    return f"{type(found).__name__} {code}" if code else type(found).__name__


def _bare(error: Exception) -> Exception | None:
    """The error without what was to be written and where: no parameters, nothing of what the driver says."""
    if not isinstance(error, SQLAlchemyError):
        return None if isinstance(error, OSError) else error
    if isinstance(error, StatementError):
        error.hide_parameters = True
        error.args = (f"({type(error.orig).__module__}.{type(error.orig).__qualname__})", *error.args[1:])
    error.__cause__ = None  # the driver's own, with all its text, is in `orig`
    error.__suppress_context__ = True
    return error


# -- after a fork ----------------------------------------------------------------------------------------

_trails: Final[weakref.WeakSet[AuditTrail]] = weakref.WeakSet()


def _after_fork() -> None:
    """The connections are the parent's, and no thread came along."""
    for trail in _trails:
        engine = trail.engine.sync_engine if isinstance(trail.engine, AsyncEngine) else trail.engine
        engine.dispose(close=False)
        trail._bounded = Bounded(trail.timeout)  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_after_fork)
