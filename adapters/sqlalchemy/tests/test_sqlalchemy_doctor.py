"""The doctor on an audit trail: each check finds a broken database and passes a sound one."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters.sqlalchemy.tests.support import ASYNC, SYNC, Calls, Database, audit_event, url_of
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tests.examined import broken, sound

from sigra_workers import EVERY_ORGANIZATION, Audit, AuditScope, Workers
from sigra_workers.doctor import examine
from sigra_workers_sqlalchemy import AuditTrail, audit_events

pytestmark = pytest.mark.integration
AWAY = ("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql", "mysql+aiomysql")

_WIDEN = {
    "postgresql": "ALTER TABLE {table} ALTER organization_id TYPE text",
    "mariadb": "ALTER TABLE {table} MODIFY organization_id varchar(300) COLLATE utf8mb4_bin",
}


def workers_with(trail: AuditTrail) -> Workers[AuditScope]:
    return Workers(audit=Audit(trail))


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def engine_of(url: str) -> Engine | AsyncEngine:
    make = create_async_engine if any(url.startswith(f"{driver}:") for driver in ASYNC) else create_engine
    return make(url)


def test_a_table_as_it_should_be_is_sound_on_every_driver(calls: Calls) -> None:
    workers = workers_with(calls.trail)
    assert sound(workers, "audit.reachable") == (
        f"the audit trail's database answers ({calls.trail.engine.dialect.name})"
    )
    told = sound(workers, "audit.table")
    assert told.endswith("has its columns, its indexes and a unique event_id")
    calls.write(audit_event())  # on the host's event loop, with the connections that are there
    assert sound(workers, "audit.table")
    assert calls.count(organization=EVERY_ORGANIZATION) == 1


@pytest.mark.parametrize("driver", AWAY)
def test_a_database_that_is_away_is_a_problem(driver: str, tmp_path: Path) -> None:
    url = url_of(driver, tmp_path).set(port=1, password="hunter2").render_as_string(hide_password=False)
    workers = workers_with(AuditTrail(engine_of(url)))
    told = broken(workers, "audit.reachable")
    assert "does not answer (" in told
    assert "log raises, and log_safe loses its events" in told
    assert broken(workers, "audit.table", "unknown")
    assert "hunter2" not in repr([*examine(workers, ["audit"])])


@pytest.mark.parametrize("driver", AWAY)
def test_a_database_that_accepts_and_is_silent_holds_the_doctor_up_for_the_trails_time_out(
    driver: str, tmp_path: Path, silent: int
) -> None:
    url = url_of(driver, tmp_path).set(port=silent).render_as_string(hide_password=False)
    workers = workers_with(AuditTrail(engine_of(url), timeout=0.3))
    begun = time.monotonic()
    assert "does not answer within the trail's time-out" in broken(workers, "audit.reachable")
    assert broken(workers, "audit.table", "unknown")
    assert time.monotonic() - begun < 3


def test_a_table_that_is_not_there_is_a_problem(calls: Calls) -> None:
    trail = AuditTrail(calls.trail.engine, audit_events(MetaData(), "audit_absent"))
    told = broken(workers_with(trail), "audit.table")
    assert "there is no table 'audit_absent': no audit event is kept" in told
    assert "alembic upgrade head" in told


@pytest.fixture
def trail(database: Database) -> Iterator[AuditTrail]:
    """A trail whose table a test breaks."""
    found = AuditTrail(database.engine, database.table)
    yield found
    with database.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {database.name}"))


def rebuild(database: Database, table: Table) -> None:
    """Make the table anew, by another definition of it."""
    database.metadata.drop_all(database.engine)
    table.create(database.engine)


def copy_of(database: Database) -> Table:
    return audit_events(MetaData(), database.name)


def test_a_column_that_is_missing_is_a_problem(database: Database, trail: AuditTrail) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {database.name} DROP COLUMN attempt"))
    assert f"table {database.name!r} has no column attempt" in broken(workers_with(trail), "audit.table")


def test_event_ids_that_are_not_unique_are_a_problem(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.constraints = {kept for kept in table.constraints if "event_id" not in str(kept.name)}
    rebuild(database, table)
    told = broken(workers_with(trail), "audit.table")
    assert "has no unique event_id: a job that runs again writes its events again" in told


def change(database: Database, *statements: str) -> None:
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement.format(table=database.name)))


@pytest.mark.parametrize("database", ["postgresql+psycopg", "sqlite+pysqlite"], indirect=True)
def test_event_ids_that_are_unique_in_some_rows_are_not_unique(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.constraints = {kept for kept in table.constraints if "event_id" not in str(kept.name)}
    rebuild(database, table)
    change(database, "CREATE UNIQUE INDEX {table}_p ON {table} (event_id) WHERE attempt IS NULL")
    assert "has no unique event_id" in broken(workers_with(trail), "audit.table")
    change(database, "DROP INDEX {table}_p", "CREATE UNIQUE INDEX {table}_p ON {table} (event_id)")
    assert sound(workers_with(trail), "audit.table")


@pytest.mark.parametrize("database", ["mariadb+pymysql"], indirect=True)
def test_event_ids_that_are_unique_in_their_beginning_are_not_unique(
    database: Database, trail: AuditTrail
) -> None:
    drop = "ALTER TABLE {table} DROP INDEX uq_{table}_event_id"
    change(database, drop, "CREATE UNIQUE INDEX {table}_p ON {table} (event_id(8))")
    assert "has no unique event_id" in broken(workers_with(trail), "audit.table")


@pytest.mark.parametrize("database", ["mariadb+pymysql", "mysql+pymysql"], indirect=True)
@pytest.mark.parametrize("columns", ["organization_id, occurred_at", "action, target_id", "event_id(8)"])
def test_a_further_unique_index_that_swallows_events_is_a_problem(
    database: Database, trail: AuditTrail, columns: str
) -> None:
    change(database, f"CREATE UNIQUE INDEX {{table}}_x ON {{table}} ({columns})")
    told = broken(workers_with(trail), "audit.table")
    assert f"a further unique index, {database.name}_x: an event that it has such a row of is lost" in told
    for n in (1, 2):
        trail.write(audit_event(event_id=f"12345678-{n}"))
    assert len(database.rows()) == 1
    change(database, "DROP INDEX {table}_x ON {table}", f"CREATE INDEX {{table}}_x ON {{table}} ({columns})")
    assert sound(workers_with(trail), "audit.table")


@pytest.mark.parametrize("columns", ["organization_id, event_id", "id, action"])
@pytest.mark.parametrize("database", SYNC, indirect=True)
def test_a_further_unique_index_that_no_two_events_share_is_sound(
    database: Database, trail: AuditTrail, columns: str
) -> None:
    change(database, f"CREATE UNIQUE INDEX {{table}}_x ON {{table}} ({columns})")
    assert sound(workers_with(trail), "audit.table")


def test_a_column_of_the_hosts_that_no_event_has_is_a_problem(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.append_column(Column("region", String(20), nullable=False))
    rebuild(database, table)
    told = broken(workers_with(trail), "audit.table")
    assert f"table {database.name!r} wants region, which no audit event has: no audit event is kept" in told
    assert "give region a default, or let it be NULL" in told


@pytest.mark.parametrize(
    "region",
    [
        Column("region", String(20)),
        Column("region", String(20), nullable=False, server_default="eu"),
        Column("region", Integer, Computed("schema_version + 1", persisted=True)),
    ],
)
def test_a_column_of_the_hosts_that_fills_itself_is_sound(
    database: Database, trail: AuditTrail, region: Column[Any]
) -> None:
    table = copy_of(database)
    table.append_column(region._copy())
    rebuild(database, table)
    assert sound(workers_with(trail), "audit.table")
    trail.write(audit_event())


def test_a_column_that_the_hosts_own_table_fills_is_sound(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.append_column(Column("region", String(20), nullable=False, default="eu"))
    rebuild(database, table)
    own = AuditTrail(database.engine, table)
    assert sound(workers_with(own), "audit.table")
    own.write(audit_event())


def test_a_column_that_must_not_be_null_is_a_problem(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.c.organization_id.nullable = False
    rebuild(database, table)
    told = broken(workers_with(trail), "audit.table")
    assert "wants organization_id of each audit event: one without it is not kept" in told


def test_a_column_that_is_shorter_is_a_problem_where_it_is_kept_to(
    database: Database, trail: AuditTrail
) -> None:
    table = copy_of(database)
    table.c.organization_id.type = String(8)
    rebuild(database, table)
    if database.kind == "sqlite":
        assert sound(workers_with(trail), "audit.table")
        trail.write(audit_event(organization_id="northwind-0001"))
        return
    told = broken(workers_with(trail), "audit.table")
    assert "has a short organization_id (of 8 characters, not 255): an audit event with a longer one" in told
    change(database, _WIDEN[database.kind])
    assert sound(workers_with(trail), "audit.table")


@pytest.mark.parametrize("database", ["mariadb+pymysql"], indirect=True)
def test_a_mariadb_that_cuts_ids_is_a_problem(database: Database, trail: AuditTrail) -> None:
    engine = create_engine(database.url, connect_args={"init_command": "SET SESSION sql_mode = ''"})
    lax = workers_with(AuditTrail(engine, database.table))
    assert sound(lax, "audit.table")
    change(
        database,
        "ALTER TABLE {table} MODIFY organization_id varchar(8) COLLATE utf8mb4_bin, ADD x int NOT NULL",
    )
    told = broken(lax, "audit.table")
    assert "a longer one is cut, which makes it another's, for sql_mode is not strict" in told
    assert "STRICT_TRANS_TABLES" in told
    assert "wants x" not in told  # it gets a 0 there
    engine.dispose()


def test_an_id_that_nobody_counts_up_is_a_problem(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.c.id.autoincrement = False
    table.c.id.type = BigInteger()
    rebuild(database, table)
    told = broken(workers_with(trail), "audit.table")
    assert f"table {database.name!r} has an id that the database does not count up" in told


@pytest.mark.parametrize("database", ["postgresql+psycopg"], indirect=True)
def test_an_id_that_is_an_identity_is_sound(database: Database, trail: AuditTrail) -> None:
    drop = "ALTER TABLE {table} ALTER id DROP DEFAULT"
    change(database, drop, "ALTER TABLE {table} ALTER id ADD GENERATED ALWAYS AS IDENTITY")
    assert sound(workers_with(trail), "audit.table")


def test_an_index_that_is_missing_is_found(database: Database, trail: AuditTrail) -> None:
    table = copy_of(database)
    table.indexes = {kept for kept in table.indexes if "job_id" not in str(kept.name)}
    rebuild(database, table)
    told = broken(workers_with(trail), "audit.table", "warning")
    assert f"lacks ix_{database.name}_job_id: reading it gets slow" in told


@pytest.mark.parametrize("database", ["mariadb+pymysql"], indirect=True)
def test_a_table_that_takes_two_organizations_for_one_is_a_problem(
    database: Database, trail: AuditTrail
) -> None:
    with database.engine.begin() as connection:
        change = "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
        connection.execute(text(f"ALTER TABLE {database.name} {change}"))
    told = broken(workers_with(trail), "audit.table")
    assert "compares ids by utf8mb4_general_ci: organizations 'Acme' and 'acme' are one" in told
    assert "COLLATE utf8mb4_bin" in told
    with database.engine.begin() as connection:
        change = "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        connection.execute(text(f"ALTER TABLE {database.name} {change}"))
    assert sound(workers_with(trail), "audit.table")


@pytest.mark.parametrize("driver", ["sqlite+pysqlite", "sqlite+aiosqlite"])
def test_a_database_in_memory_is_that_of_the_trail(driver: str) -> None:
    engine = engine_of(f"{driver}://")
    trail = AuditTrail(engine)
    if isinstance(engine, AsyncEngine):
        asyncio.run(_create(engine, trail.table))
    else:
        trail.table.create(engine)
    assert sound(workers_with(trail), "audit.table")
    asyncio.run(engine.dispose()) if isinstance(engine, AsyncEngine) else engine.dispose()


async def _create(engine: AsyncEngine, table: Table) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(table.create)
