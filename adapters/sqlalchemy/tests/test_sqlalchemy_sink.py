"""The sink: one row however often an event comes, in a transaction of its own or in the host's."""

import asyncio
import inspect
import subprocess
import sys
import traceback
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from adapters.sqlalchemy.tests.support import (
    ASYNC,
    DRIVERS,
    PATIENCE,
    SYNC,
    Calls,
    Database,
    audit_event,
    calls_on,
    database_for,
    open_engine,
    url_of,
)
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, func, insert, select, text
from sqlalchemy.event import listen, remove
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from sigra_workers import (
    Audit,
    AuditError,
    AuditEvent,
    InvalidOptionError,
    InvalidSettingsError,
    LoggingSink,
    MemorySink,
)
from sigra_workers_sqlalchemy import AuditTrail, audit_events
from sigra_workers_sqlalchemy.connect import engine_at

T = TypeVar("T")
SECRET = "s3cr3t"
NOWHERE = f"ann:{SECRET}@127.0.0.1:1/{SECRET}"
"""Of a server that does not answer."""


def told(error: BaseException) -> str:
    """All that a log may show of an error."""
    return "".join(traceback.format_exception(error))


def new_organization() -> str:
    """For tests that share a table."""
    return f"org-{uuid.uuid4()}"


# -- one row -------------------------------------------------------------------------------------------


def test_an_event_is_one_row_however_often_it_comes(shared_calls: Calls) -> None:
    organization = new_organization()
    first, other = (audit_event(n, organization_id=organization) for n in range(2))
    again = audit_event(9, organization_id=organization, event_id=first.event_id)
    shared_calls.write(first, first, other, again, first, other)
    assert shared_calls.query(organization=organization).events == [other, first]


@pytest.mark.parametrize("shared_calls", SYNC, indirect=True)
def test_an_event_is_one_row_where_many_threads_write_it_at_once(shared_calls: Calls) -> None:
    organization = new_organization()
    events = [audit_event(n, organization_id=organization) for n in range(8)]
    with ThreadPoolExecutor(12) as pool:
        for done in [pool.submit(shared_calls.trail.write, event) for event in events * 6]:
            done.result()
    assert shared_calls.stream(organization=organization) == events


@pytest.mark.parametrize("shared_calls", ASYNC, indirect=True)
def test_an_event_is_one_row_where_many_tasks_write_it_at_once(shared_calls: Calls) -> None:
    organization = new_organization()
    events = [audit_event(n, organization_id=organization) for n in range(8)]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for event in events * 6:
                group.create_task(shared_calls.trail.awrite(event))

    shared_calls.run(main())
    assert shared_calls.stream(organization=organization) == events


def test_the_same_call_in_a_job_that_runs_again_is_one_row(shared_calls: Calls) -> None:
    audit, organization = Audit(shared_calls.trail), new_organization()
    for _ in range(3):
        if shared_calls.database.is_async:
            call = audit.alog_safe("invoice.sent", None, organization_id=organization, event_key="1")
            shared_calls.run(call)
        else:
            audit.log_safe("invoice.sent", None, organization_id=organization, event_key="1")
    assert shared_calls.count(organization=organization) == 1


def test_an_event_is_written_whatever_isolation_the_engine_has(tmp_path: Path) -> None:
    with database_for("postgresql+psycopg", tmp_path) as database:
        for level in ("AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ"):
            engine = open_engine(database.engine.url, isolation_level=level)
            event = audit_event()
            AuditTrail(engine, database.table, timeout=PATIENCE).write(event)
            AuditTrail(engine, database.table, timeout=PATIENCE).write(event)
            engine.dispose()
        assert len(database.rows()) == 3


# -- in a transaction of the host's ----------------------------------------------------------------------


async def maybe(value: Any) -> Any:
    """What a call returns, sync or async."""
    return await value if inspect.isawaitable(value) else value


@dataclass
class Transaction:
    """One of the host's, sync or async, which is called alike."""

    calls: Calls
    given: Any

    async def write(self, *events: AuditEvent) -> None:
        for event in events:
            if self.calls.database.is_async:
                await self.calls.trail.awrite_in(event, self.given)
            else:
                self.calls.trail.write_in(event, self.given)

    async def work(self, key: int) -> None:
        """The host's own row."""
        await maybe(self.given.execute(insert(WORK[self.calls.database.name]).values(key=key)))

    async def commit(self) -> None:
        await maybe(self.given.commit())

    async def rollback(self) -> None:
        await maybe(self.given.rollback())

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[Any]:
        """One that the block may roll back."""
        savepoint = self.given.begin_nested()
        if self.calls.database.is_async:
            async with savepoint:
                yield savepoint
        else:
            with savepoint:
                yield savepoint


WORK: dict[str, Table] = {}
"""The host's own table, by the name of the audit table beside it."""


def open_session(engine: Any) -> Any:
    return AsyncSession(engine) if isinstance(engine, AsyncEngine) else Session(engine)


def open_scoped_session(engine: Any) -> Any:
    if isinstance(engine, AsyncEngine):
        return async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    return scoped_session(sessionmaker(engine))


def open_connection(engine: Any) -> Any:
    return engine.connect()


@dataclass
class Host:
    """A host application with a way of its own to open transactions."""

    calls: Calls
    open: Callable[[Any], Any]

    def run(self, body: Callable[[Transaction], Coroutine[Any, Any, T]]) -> T:
        """Run it with a transaction, which is closed as it is left."""

        async def main() -> T:
            given = self.open(self.calls.trail.engine)
            given = await given if inspect.isawaitable(given) else given
            try:
                return await body(Transaction(self.calls, given))
            finally:
                await maybe(given.close())

        return self.calls.run(main())

    def worked(self, key: int) -> bool:
        """Whether the host's row of that key is committed."""
        work = WORK[self.calls.database.name]
        with self.calls.database.engine.connect() as connection:
            where = select(func.count()).select_from(work).where(work.c.key == key)
            return connection.execute(where).scalar_one() == 1


@pytest.fixture(scope="module", params=[open_session, open_scoped_session, open_connection])
def host(request: pytest.FixtureRequest, shared_calls: Calls) -> Host:
    """Hosts with each kind of transaction, on each driver."""
    database = shared_calls.database
    if database.name not in WORK:
        work = Table(f"{database.name}_work", database.metadata, Column("key", Integer, primary_key=True))
        work.create(database.engine)
        WORK[database.name] = work
    return Host(shared_calls, request.param)


@pytest.fixture
def key() -> int:
    """Of a row of the host's, its own in each test."""
    return uuid.uuid4().int % 2**31


def test_an_event_is_kept_where_the_work_is_committed_and_not_seen_before(host: Host, key: int) -> None:
    organization = new_organization()

    async def body(transaction: Transaction) -> None:
        await transaction.work(key)
        await transaction.write(audit_event(organization_id=organization))
        assert organization not in [event.organization_id for event in host.calls.database.events]
        await transaction.commit()

    host.run(body)
    assert host.worked(key)
    assert host.calls.count(organization=organization) == 1


def test_an_event_is_gone_where_the_work_is_rolled_back(host: Host, key: int) -> None:
    organization = new_organization()

    async def body(transaction: Transaction) -> None:
        await transaction.write(audit_event(organization_id=organization))
        await transaction.work(key)
        await transaction.rollback()

    host.run(body)
    assert not host.worked(key)
    assert host.calls.count(organization=organization) == 0


def test_an_event_is_gone_where_the_host_forgets_to_commit(host: Host) -> None:
    organization = new_organization()

    async def body(transaction: Transaction) -> None:
        await transaction.write(audit_event(organization_id=organization))

    host.run(body)
    assert host.calls.count(organization=organization) == 0


def test_a_transaction_goes_on_behind_events_that_were_there_already(host: Host, key: int) -> None:
    organization = new_organization()
    old, new = (audit_event(n, organization_id=organization) for n in range(2))
    host.calls.write(old)

    async def body(transaction: Transaction) -> None:
        await transaction.write(old, new, new, old)
        await transaction.work(key)
        await transaction.write(new, old)
        await transaction.commit()

    host.run(body)
    assert host.worked(key)
    assert host.calls.stream(organization=organization) == [old, new]


def test_an_event_shares_the_fate_of_the_savepoint_that_it_is_written_in(host: Host, key: int) -> None:
    organization = new_organization()
    before, lost, deep, after = (audit_event(n, organization_id=organization) for n in range(4))

    async def body(transaction: Transaction) -> None:
        await transaction.write(before)
        async with transaction.savepoint() as savepoint:
            await transaction.write(lost, before)
            await maybe(savepoint.rollback())
        async with transaction.savepoint():
            await transaction.work(key)
            async with transaction.savepoint():
                await transaction.write(deep)
        async with transaction.savepoint() as savepoint:
            await transaction.write(deep, before)  # what is there already stays
            await maybe(savepoint.rollback())
        await transaction.write(after)
        await transaction.commit()

    host.run(body)
    assert host.worked(key)
    assert host.calls.stream(organization=organization) == [before, deep, after]


@contextmanager
def watched(engine: Engine | AsyncEngine) -> Generator[list[str]]:
    """What happens to transactions of the engine, errors included, other than their begin."""
    seen: list[str] = []
    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    names = ["commit", "rollback", "savepoint", "rollback_savepoint", "release_savepoint", "handle_error"]
    listeners = {name: partial(_note, seen, name) for name in names}
    for name, listener in listeners.items():
        listen(target, name, listener, named=True)
    yield seen
    for name, listener in listeners.items():
        remove(target, name, listener)


def _note(seen: list[str], name: str, **_: Any) -> None:
    seen.append(name)


def test_the_sink_neither_commits_nor_rolls_back_nor_learns_from_errors(host: Host) -> None:
    event = audit_event(organization_id=new_organization())

    async def body(transaction: Transaction) -> list[str]:
        with watched(host.calls.trail.engine) as seen:
            await transaction.write(event, event)
        await transaction.rollback()
        return seen

    assert host.run(body) == []


@pytest.mark.parametrize("shared_calls", ASYNC, indirect=True)
def test_sync_code_inside_of_an_async_session_writes_in_it(shared_calls: Calls) -> None:
    audit, organization = Audit(shared_calls.trail), new_organization()

    def sync(session: Session) -> None:
        audit.log("account.closed", None, transaction=session, organization_id=organization)

    async def main() -> None:
        async with AsyncSession(cast("AsyncEngine", shared_calls.trail.engine)) as session:
            await session.run_sync(sync)
            assert shared_calls.database.events == before
            await session.commit()

    before = shared_calls.database.events
    shared_calls.run(main())
    assert shared_calls.count(organization=organization) == 1


def test_log_and_alog_write_in_the_transaction_that_they_are_given(shared_calls: Calls) -> None:
    audit, organization = Audit(shared_calls.trail), new_organization()

    async def main() -> None:
        given = open_session(shared_calls.trail.engine)
        if isinstance(given, AsyncSession):
            await audit.alog("account.closed", None, transaction=given, organization_id=organization)
        else:
            audit.log("account.closed", None, transaction=given, organization_id=organization)
        await maybe(given.rollback())
        await maybe(given.close())

    shared_calls.run(main())
    assert shared_calls.count(organization=organization) == 0


def test_a_session_with_several_databases_writes_where_the_table_is(tmp_path: Path) -> None:
    with (
        database_for("postgresql+psycopg", tmp_path) as trail_database,
        database_for("sqlite+pysqlite", tmp_path) as host_database,
    ):
        work = Table("work", host_database.metadata, Column("key", Integer, primary_key=True))
        work.create(host_database.engine)
        trail = AuditTrail(trail_database.engine, trail_database.table)
        binds: Any = {work: host_database.engine, trail_database.table: trail_database.engine}
        with Session(binds=binds) as session:
            session.execute(insert(work).values(key=1))
            trail.write_in(audit_event(), session)
            session.rollback()
            session.execute(insert(work).values(key=2))
            trail.write_in(audit_event(1), session)
            session.commit()
        assert trail_database.targets == ["a1"]
        with host_database.engine.connect() as connection:
            assert connection.execute(select(work.c.key)).scalars().all() == [2]


def test_a_transaction_may_be_of_another_engine_than_the_trail_has(tmp_path: Path) -> None:
    with database_for("postgresql+asyncpg", tmp_path) as database, calls_on(database) as calls:
        with Session(database.engine) as session:
            calls.trail.write_in(audit_event(), session)
            session.commit()
        assert database.targets == ["a0"]


# -- what is no transaction ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memory() -> Iterator[Engine]:
    """An SQLite in memory."""
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("kind", ["Engine", "sessionmaker", "AsyncSession", "AsyncConnection", "str", "bool"])
def test_log_refuses_what_is_no_sync_transaction_and_says_what_is(memory: Engine, kind: str) -> None:
    others = create_async_engine("sqlite+aiosqlite://")
    given: dict[str, object] = {
        "Engine": memory,
        "sessionmaker": sessionmaker(memory),
        "AsyncSession": AsyncSession(others),
        "AsyncConnection": others.connect(),
        "str": SECRET,
        "bool": True,
    }
    with pytest.raises(AuditError) as caught:
        Audit(AuditTrail(memory)).log("account.closed", None, transaction=given[kind])
    assert str(caught.value) == (
        "audit event 'account.closed' was not written, transaction: "
        f"it is of type {kind}, expected a Session or Connection; one of asyncio is for alog"
    )


@pytest.mark.parametrize("kind", ["AsyncEngine", "Engine", "Session", "Connection", "async_sessionmaker"])
def test_alog_refuses_what_is_no_async_transaction_and_says_what_is(memory: Engine, kind: str) -> None:
    others = create_async_engine("sqlite+aiosqlite://")
    with memory.connect() as connection:
        given: dict[str, object] = {
            "AsyncEngine": others,
            "Engine": memory,
            "Session": Session(memory),
            "Connection": connection,
            "async_sessionmaker": async_sessionmaker(others),
        }
        call = Audit(AuditTrail(others)).alog("account.closed", None, transaction=given[kind])
        with pytest.raises(AuditError) as caught:
            asyncio.run(call)
    assert str(caught.value) == (
        "audit event 'account.closed' was not written, transaction: "
        f"it is of type {kind}, expected an AsyncSession or AsyncConnection; a sync one is for log"
    )


def test_a_sync_call_is_refused_on_an_async_engine_and_told_what_to_do() -> None:
    trail = AuditTrail(create_async_engine("sqlite+aiosqlite://"))
    with pytest.raises(AuditError, match="await alog or alog_safe") as caught:
        Audit(trail).log("account.closed", None)
    assert caught.value.fields == ("sink",)
    failures: list[tuple[str, ...]] = []
    audit = Audit(trail)
    audit.on_failure(lambda action, fields, error: failures.append(fields))
    audit.log_safe("account.closed", None)
    assert failures == [("sink",)]


def test_a_memory_sink_keeps_the_event_of_any_transaction() -> None:
    sink = MemorySink()
    event = Audit(sink).log("account.closed", None, transaction=object())
    other = asyncio.run(Audit(sink).alog("account.opened", None, transaction=object()))
    assert sink.events == [event, other]


def test_a_logging_sink_writes_in_no_transaction() -> None:
    with pytest.raises(AuditError, match="a LoggingSink can't write in one") as caught:
        Audit(LoggingSink()).log("account.closed", None, transaction=object())
    assert caught.value.fields == ("transaction",)
    with pytest.raises(AuditError, match="expected a TransactionalSink"):
        asyncio.run(Audit(LoggingSink()).alog("account.closed", None, transaction=object()))


# -- engines ---------------------------------------------------------------------------------------------


def test_async_calls_on_a_sync_engine_work_in_a_thread(database: Database) -> None:
    trail = AuditTrail(database.engine, database.table, timeout=PATIENCE)

    async def main() -> None:
        await trail.awrite(audit_event())
        assert (await trail.aquery(organization="org-1")).events == database.events
        assert await trail.acount(organization="org-1") == 1

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"poolclass": StaticPool}], ids=["a thread each", "shared"])
def test_an_sqlite_in_memory_holds_a_trail(options: dict[str, Any]) -> None:
    engine = create_engine("sqlite://", **options)
    trail = AuditTrail(engine)
    trail.table.metadata.create_all(engine)
    event, other = audit_event(), audit_event(1)
    trail.write(event)

    async def main() -> None:
        await trail.awrite(other)
        await trail.awrite(event)
        assert await trail.acount(organization="org-1") == 2

    asyncio.run(main())
    assert trail.query(organization="org-1").events == [other, event]
    engine.dispose()


def test_an_sqlite_in_memory_holds_a_trail_for_asyncio() -> None:
    async def main() -> None:
        trail = AuditTrail.at("sqlite+aiosqlite://")
        assert isinstance(trail.engine, AsyncEngine)
        async with trail.engine.begin() as connection:
            await connection.run_sync(trail.table.metadata.create_all)
        event = audit_event()
        await trail.awrite(event)
        await trail.awrite(event)
        assert (await trail.aquery(organization="org-1")).events == [event]
        await trail.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_trail_at_a_url_opens_what_it_needs_and_closes_it(driver: str, tmp_path: Path) -> None:
    with database_for(driver, tmp_path) as database:
        trail = AuditTrail.at(database.url, database.table, timeout=PATIENCE)
        engine = trail.engine
        calls = Calls(database, asyncio.Runner(), trail)
        for n in range(2):  # it opens again
            calls.write(audit_event(n))
            assert pool_of(engine).checkedin() == 1
            calls.run(trail.aclose()) if database.is_async else trail.close()
            assert pool_of(engine).checkedin() == 0
        assert database.targets == ["a0", "a1"]
        calls.close()


def pool_of(engine: Engine | AsyncEngine) -> Any:
    return (engine.sync_engine if isinstance(engine, AsyncEngine) else engine).pool


def test_aclose_closes_a_sync_engine_too(tmp_path: Path) -> None:
    with database_for("sqlite+pysqlite", tmp_path) as database:
        trail = AuditTrail.at(database.url, database.table, timeout=PATIENCE)
        trail.write(audit_event())
        asyncio.run(trail.aclose())
        assert pool_of(trail.engine).checkedin() == 0


def test_an_async_engine_is_not_closed_by_sync_code(tmp_path: Path) -> None:
    trail = AuditTrail.at(url_of("sqlite+aiosqlite", tmp_path).render_as_string())
    with pytest.raises(InvalidOptionError, match="await aclose"):
        trail.close()


def test_an_engine_of_the_hosts_is_left_open(shared_calls: Calls) -> None:
    shared_calls.write(audit_event())
    before = pool_of(shared_calls.trail.engine).checkedin()
    shared_calls.trail.close()
    shared_calls.run(shared_calls.trail.aclose())
    assert pool_of(shared_calls.trail.engine).checkedin() == before >= 1


def test_a_table_of_the_usual_name_is_taken_where_none_is_given(memory: Engine) -> None:
    trail = AuditTrail(memory)
    assert (trail.table.name, trail.table.schema) == ("audit_events", None)
    assert [*trail.table.columns.keys()] == [*audit_events(MetaData()).columns.keys()]


def test_the_options_in_a_url_of_postgresql_stay_beside_the_time_out(tmp_path: Path) -> None:
    url = url_of("postgresql+psycopg", tmp_path).update_query_dict(
        {"options": "-c search_path=elsewhere -c lock_timeout=123ms"}
    )
    engine = cast("Engine", engine_at(url.render_as_string(hide_password=False), 7.5))
    with engine.connect() as connection:
        names = ("search_path", "lock_timeout", "statement_timeout")
        found = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    engine.dispose()
    assert found == ["elsewhere", "123ms", "7500ms"]


@pytest.mark.parametrize("name", ["psycopg_async", "psycopg"])
def test_psycopg_serves_async_code_too(name: str, tmp_path: Path) -> None:
    with database_for("postgresql+psycopg", tmp_path) as database:
        url = database.engine.url.set(drivername=f"postgresql+{name}").render_as_string(hide_password=False)

        async def main() -> None:
            engine = create_async_engine(url, poolclass=NullPool)
            trails = [AuditTrail(engine, database.table, timeout=PATIENCE)]
            trails += (
                [AuditTrail.at(url, database.table, timeout=PATIENCE)] if name == "psycopg_async" else []
            )
            for trail in trails:
                await trail.awrite(audit_event())
                await trail.aclose()

        asyncio.run(main())
        assert database.targets == ["a0"] * (2 if name == "psycopg_async" else 1)


# -- what is no database of ours -------------------------------------------------------------------------


class Driver:
    """A driver that is never asked."""

    paramstyle = "pyformat"
    version = "1.0"
    Error = Exception


def test_a_database_of_another_kind_is_refused_by_name() -> None:
    engine = create_engine(f"mssql+pymssql://{NOWHERE}", module=Driver())
    with pytest.raises(
        InvalidSettingsError, match="it is for postgresql, mariadb, mysql, sqlite, not for 'mssql'"
    ):
        AuditTrail(engine)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"postgresql+nodriver://{NOWHERE}", "can't be read: NoSuchModuleError"),
        (f"nodatabase://{NOWHERE}", "can't be read: NoSuchModuleError"),
        (f"{SECRET} is no URL", "can't be read: ArgumentError"),
        ("", "can't be read: ArgumentError"),
        (f"postgresql+psycopg://ann:{SECRET}@host:{SECRET}/db", "can't be read: "),
        (f"mysql+mysqldb://{NOWHERE}", "driver is not installed: MySQLdb"),
        (f"oracle+oracledb://{NOWHERE}", "driver is not installed: oracledb"),
    ],
)
def test_a_url_that_does_not_work_is_refused_without_being_shown(url: str, problem: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        AuditTrail.at(url)
    assert problem in str(caught.value)
    assert SECRET not in told(caught.value)


@pytest.mark.parametrize(
    "driver", ["postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql", "mysql+aiomysql"]
)
def test_an_error_never_shows_the_url_of_a_server_that_is_away(driver: str) -> None:
    trail = AuditTrail.at(f"{driver}://{NOWHERE}")
    with pytest.raises(AuditError) as caught:
        asyncio.run(trail.awrite(audit_event()))
    assert caught.value.fields == ("sink",)
    assert SECRET not in told(caught.value)
    assert "127.0.0.1" not in told(caught.value)


@pytest.mark.parametrize("driver", ["sqlite+pysqlite", "sqlite+aiosqlite"])
def test_an_error_never_shows_the_path_of_a_file_that_is_away(driver: str) -> None:
    trail = AuditTrail.at(f"{driver}:////nowhere/{SECRET}/{SECRET}.db")

    async def main() -> None:
        with pytest.raises(AuditError) as caught:
            await trail.awrite(audit_event())
        assert SECRET not in told(caught.value)
        await asyncio.sleep(0.2)  # aiosqlite's thread tells the loop of its end behind the error (core.py)

    asyncio.run(main())


def test_an_error_never_shows_a_value_of_the_event(shared_calls: Calls) -> None:
    database = shared_calls.database
    missing = audit_events(MetaData(), f"{database.name}_missing")
    trail = AuditTrail(shared_calls.trail.engine, missing)
    event = audit_event(target_id=SECRET, metadata={"note": SECRET}, actor_id=SECRET)
    with pytest.raises(AuditError) as caught:
        Calls(database, shared_calls.runner, trail).write(event)
    assert caught.value.fields == ("sink",)
    assert SECRET not in told(caught.value)


# -- connections that are gone ---------------------------------------------------------------------------

WHO_AM_I = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}


@pytest.mark.parametrize("shared_calls", [*SYNC[:2], *ASYNC[:2]], indirect=True)
def test_pooled_connections_that_the_server_dropped_cost_no_event(shared_calls: Calls) -> None:
    database, organization = shared_calls.database, new_organization()
    fill = asyncio_pool if database.is_async else thread_pool
    numbers = fill(shared_calls, WHO_AM_I[database.kind])
    assert len({*numbers}) == 3
    with database.engine.connect() as connection:
        for number in numbers:
            connection.execute(text(KILL[database.kind].format(number)))
    events = [audit_event(n, organization_id=organization) for n in range(4)]
    shared_calls.write(*events)
    assert shared_calls.stream(organization=organization) == events


def thread_pool(calls: Calls, who: str) -> list[int]:
    """Leave three connections in the pool; their numbers on the server."""
    connections = [cast("Engine", calls.trail.engine).connect() for _ in range(3)]
    numbers = [int(connection.execute(text(who)).scalar_one()) for connection in connections]
    for connection in connections:
        connection.close()
    return numbers


def asyncio_pool(calls: Calls, who: str) -> list[int]:
    """The same, async."""

    async def main() -> list[int]:
        connections = [await cast("AsyncEngine", calls.trail.engine).connect() for _ in range(3)]
        numbers = [int((await connection.execute(text(who))).scalar_one()) for connection in connections]
        for connection in connections:
            await connection.close()
        return numbers

    return calls.run(main())


FORK = """
import asyncio, os, sys
from sqlalchemy import MetaData, text
from adapters.sqlalchemy.tests.support import audit_event
from sigra_workers_sqlalchemy import AuditTrail, audit_events

url, name, who = sys.argv[1:]
trail = AuditTrail.at(url, audit_events(MetaData(), name), timeout=30)
is_async = hasattr(trail.engine, "sync_engine")
seen = []

async def number_of():
    async with trail.engine.connect() as connection:
        return (await connection.execute(text(who))).scalar_one()

def number():
    if is_async:
        return runner.run(number_of())
    with trail.engine.connect() as connection:
        return connection.execute(text(who)).scalar_one()

def write(n):
    runner.run(trail.awrite(audit_event(n))) if is_async else trail.write(audit_event(n))

runner = asyncio.Runner()
write(0)
parents = number()
child = os.fork()
if child == 0:
    runner = asyncio.Runner()
    write(1)
    assert not parents or number() != parents, "the child has the parent's connection"
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
write(2)
assert number() == parents, "the parent lost its connection"
"""


@pytest.mark.parametrize("driver", [*SYNC, ASYNC[0]])
def test_after_a_fork_the_child_has_connections_of_its_own_and_the_parent_keeps_its(
    driver: str, tmp_path: Path
) -> None:
    with database_for(driver, tmp_path) as database:
        who = WHO_AM_I.get(database.kind, "SELECT ''")
        command = [sys.executable, "-c", FORK, database.url, database.name, who]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        assert sorted(database.targets) == ["a0", "a1", "a2"]
