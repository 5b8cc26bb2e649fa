"""Databases, each with a table of the test's own, and a trail that is called alike with any driver."""

import asyncio
import os
import uuid
from collections.abc import Coroutine, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest
from sqlalchemy import URL, Engine, MetaData, RowMapping, Table, create_engine, make_url, select
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from typing_extensions import Unpack

from sigra_workers import AuditEvent, AuditFilters, AuditPage, OrganizationFilter
from sigra_workers_sqlalchemy import AuditTrail, audit_events
from sigra_workers_sqlalchemy.table import event_of, row_of

T = TypeVar("T")
_POSTGRES: Final = f"postgresql://postgres@127.0.0.1:{os.environ.get('POSTGRES_PORT', '5432')}/test"
_MARIADB: Final = f"mariadb://root@127.0.0.1:{os.environ.get('MARIADB_PORT', '3306')}/test?charset=utf8mb4"
_SERVERS: Final = {
    "postgresql": ("SIGRA_TEST_POSTGRES_URL", _POSTGRES),
    "mariadb": ("SIGRA_TEST_MARIADB_URL", _MARIADB),
    "mysql": ("SIGRA_TEST_MARIADB_URL", _MARIADB),
}
"""For each dialect the variable that names a server, and the one that `make servers` starts."""

SYNC: Final = ("postgresql+psycopg", "mariadb+pymysql", "sqlite+pysqlite")
"""A driver for each database."""
ASYNC: Final = ("postgresql+asyncpg", "mysql+aiomysql", "sqlite+aiosqlite")
"""The same for asyncio, in that order. SQLAlchemy's dialects "mysql" and "mariadb" both know a MariaDB."""
DRIVERS: Final = (*SYNC, *ASYNC)
_TWIN: Final[dict[str, str]] = {**dict(zip(SYNC, ASYNC, strict=True)), **dict(zip(ASYNC, SYNC, strict=True))}
PATIENCE: Final = 30.0
"""Seconds that a trail of a test waits, where it is not about that: a busy machine is no failure."""
NOW: Final = datetime(2026, 3, 1, 12, 30, 15, 123456, UTC)
"""When the first event of a test happened."""


def audit_event(n: int = 0, **fields: Any) -> AuditEvent:
    """An event of organization org-1; the n-th is n seconds later. `fields` are in place of what is here."""
    facts: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "occurred_at": NOW + timedelta(seconds=n),
        "action": "account.closed",
        "outcome": "success",
        "actor_id": "ann",
        "actor_type": "user",
        "effective_user_id": "ann",
        "organization_id": "org-1",
        "target_type": "account",
        "target_id": f"a{n}",
        "metadata": {"n": n},
        "job_id": None,
        "worker": None,
        "queue": None,
        "attempt": None,
    }
    return AuditEvent(**{**facts, **fields})


def url_of(driver: str, folder: Path) -> URL:
    """The test database for the driver; SQLite's is a file in the folder."""
    dialect = driver.partition("+")[0]
    if dialect == "sqlite":
        return make_url(f"{driver}:///{folder / 'test.db'}")
    variable, usual = _SERVERS[dialect]
    return make_url(os.environ.get(variable, usual)).set(drivername=driver)


def open_engine(url: URL, **options: Any) -> Engine:
    """A sync engine; the test fails where nothing answers. It waits for a lock 10 s at most."""
    arguments: dict[str, Any] = {"timeout": 10}
    match url.get_backend_name():
        case "postgresql":
            arguments = {"options": "-c lock_timeout=10s", "connect_timeout": 5}
        case "mariadb" | "mysql":
            locks = "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10"
            arguments = {"init_command": locks, "connect_timeout": 5}
        case _:
            pass
    engine = create_engine(url, connect_args=arguments, **options)
    hasten(engine)
    try:
        engine.connect().close()
    except OperationalError as error:
        engine.dispose()
        variable = _SERVERS[url.get_backend_name()][0]
        pytest.fail(f"no database at {url} ({error.orig}): run `make servers`, or set {variable}")
    return engine


def pragma(connection: Any, setting: str) -> None:
    """Change a setting of SQLite."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def hasten(engine: Engine) -> None:
    """Let SQLite not wait for the disk: the servers of `make servers` don't either."""

    def on_connect(connection: Any, record: object) -> None:
        pragma(connection, "synchronous = OFF")

    if engine.dialect.name == "sqlite":
        listen(engine, "connect", on_connect)


@dataclass
class Database:
    """A database with an audit table of its own; `engine` is the test's, sync whatever the driver."""

    driver: str
    folder: Path
    metadata: MetaData = field(default_factory=MetaData)
    name: str = field(default_factory=lambda: f"audit_{uuid.uuid4().hex[:10]}")
    engine: Engine = field(init=False)
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        sync = _TWIN[self.driver] if self.is_async else self.driver
        self.engine = open_engine(url_of(sync, self.folder))
        self.table = audit_events(self.metadata, self.name)

    @property
    def kind(self) -> str:
        """ "postgresql", "mariadb" or "sqlite"."""
        return self.engine.dialect.name

    @property
    def is_async(self) -> bool:
        return self.driver in ASYNC

    @property
    def url(self) -> str:
        """With the driver of the test."""
        return url_of(self.driver, self.folder).render_as_string(hide_password=False)

    @property
    def async_url(self) -> str:
        """With the async driver of the same database."""
        driver = self.driver if self.is_async else _TWIN[self.driver]
        return url_of(driver, self.folder).render_as_string(hide_password=False)

    def new_engine(self, **options: Any) -> Engine | AsyncEngine:
        """A host's engine with the driver of the test; whoever takes it disposes of it."""
        engine = (create_async_engine if self.is_async else create_engine)(self.url, **options)
        hasten(engine.sync_engine if isinstance(engine, AsyncEngine) else engine)
        return engine

    def fill(self, events: Iterable[AuditEvent]) -> None:
        """Insert them as the sink would, many at once."""
        with self.engine.begin() as connection:
            connection.execute(self.table.insert(), [row_of(self.table, event) for event in events])

    def rows(self) -> list[RowMapping]:
        """What is committed in the table, in the order of its insertion."""
        with self.engine.connect() as connection:
            return [*connection.execute(select(self.table).order_by(self.table.c.id)).mappings()]

    @property
    def events(self) -> list[AuditEvent]:
        """The events that are committed, in the order of their insertion."""
        return [event_of(row) for row in self.rows()]

    @property
    def targets(self) -> list[Any]:
        """The target ids of those."""
        return [event.target_id for event in self.events]


@contextmanager
def database_for(driver: str, folder: Path) -> Generator[Database]:
    """A database for a block; all tables of its metadata are dropped at the end."""
    database = Database(driver, folder)
    try:
        database.metadata.create_all(database.engine)
        yield database
    finally:
        database.metadata.drop_all(database.engine)
        database.engine.dispose()


@dataclass
class Calls:
    """An `AuditTrail` on the host's engine, called with its async methods where the driver is async."""

    database: Database
    runner: "asyncio.Runner"
    trail: AuditTrail

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In the loop that the async engine belongs to."""
        return self.runner.run(coroutine)

    def write(self, *events: AuditEvent) -> None:
        for event in events:
            if self.database.is_async:
                self.run(self.trail.awrite(event))
            else:
                self.trail.write(event)

    def write_in(self, events: Iterable[AuditEvent]) -> None:
        """Write them in one transaction of the host's."""
        engine, trail = self.trail.engine, self.trail

        async def write() -> None:
            async with cast("AsyncEngine", engine).begin() as connection:
                for event in events:
                    await trail.awrite_in(event, connection)

        if isinstance(engine, AsyncEngine):
            self.run(write())
            return
        with engine.begin() as connection:
            for event in events:
                trail.write_in(event, connection)

    def query(
        self, *, limit: int = 100, cursor: str | None = None, **filters: Unpack[AuditFilters]
    ) -> AuditPage:
        if self.database.is_async:
            return self.run(self.trail.aquery(limit=limit, cursor=cursor, **filters))
        return self.trail.query(limit=limit, cursor=cursor, **filters)

    def count(self, **filters: Unpack[AuditFilters]) -> int:
        if self.database.is_async:
            return self.run(self.trail.acount(**filters))
        return self.trail.count(**filters)

    def stream(self, **filters: Unpack[AuditFilters]) -> list[AuditEvent]:
        async def collect() -> list[AuditEvent]:
            return [event async for event in self.trail.astream(**filters)]

        return self.run(collect()) if self.database.is_async else [*self.trail.stream(**filters)]

    def purge(self, *, organization: OrganizationFilter, before: datetime, batch: int = 1_000) -> int:
        if self.database.is_async:
            return self.run(self.trail.apurge(organization=organization, before=before, batch=batch))
        return self.trail.purge(organization=organization, before=before, batch=batch)

    def close(self) -> None:
        """Close the connections of the engine, and the loop."""
        if isinstance(self.trail.engine, AsyncEngine):
            self.run(self.trail.engine.dispose())
        else:
            self.trail.engine.dispose()
        self.runner.close()


@contextmanager
def calls_on(database: Database, **options: Any) -> Generator[Calls]:
    """A trail on an engine of the host's for a block; `options` are `AuditTrail`'s, patient if not told."""
    options = {"timeout": PATIENCE, **options}
    calls = Calls(database, asyncio.Runner(), AuditTrail(database.new_engine(), database.table, **options))
    try:
        yield calls
    finally:
        calls.close()
