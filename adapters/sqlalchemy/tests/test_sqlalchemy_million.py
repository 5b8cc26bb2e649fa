"""A trail of a million events: a page costs the same wherever it is, and memory stays flat."""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from adapters.sqlalchemy.tests.support import PATIENCE, Database, database_for
from sqlalchemy import Connection, UniqueConstraint, text
from sqlalchemy.event import listen, remove
from sqlalchemy.schema import AddConstraint, DropConstraint

from sigra_workers import EVERY_ORGANIZATION
from sigra_workers_sqlalchemy import AuditTrail
from sigra_workers_sqlalchemy.statements import Position

pytestmark = pytest.mark.slow

MILLION = 1_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
SERIES = {
    "postgresql": "SELECT n FROM generate_series(1, {}) AS series (n)",
    "mariadb": "SELECT seq AS n FROM seq_1_to_{}",
    "sqlite": "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {})"
    " SELECT n FROM series",
}
SECONDS_LATER = {
    "postgresql": "timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second'",
    "mariadb": "timestamp '2026-01-01 00:00:00' + INTERVAL n SECOND",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', n || ' seconds')",
}
TEXT = {"postgresql": "text", "mariadb": "char", "sqlite": "text"}


def fill(database: Database, count: int) -> None:
    """The n-th event happened n seconds behind the start: of one of 40 organizations, or none in 2 %.

    One in 100 is of a job, of one of 200.
    """
    name, kind = database.name, database.kind
    number = f"CAST({{}} AS {TEXT[kind]})"
    actor = concat(kind, "'user-'", number.format("n % 39"))
    organization = concat(kind, "'org-'", number.format("n % 40"))
    job = concat(kind, "'job-'", number.format("n % 20000"))
    events = text(f"""
        INSERT INTO {name}
            (event_id, occurred_at, action, outcome, actor_id, actor_type, organization_id, target_type,
             target_id, metadata, job_id, schema_version)
        SELECT {number.format("n")}, {SECONDS_LATER[kind]}, 'account.closed', 'success',
            CASE WHEN n % 50 = 1 THEN NULL ELSE {actor} END, 'user',
            CASE WHEN n % 50 = 0 THEN NULL ELSE {organization} END, 'account',
            {number.format("n")}, '{{"plan": "pro", "seats": 5}}',
            CASE WHEN n % 100 = 7 THEN {job} END, 1
        FROM ({SERIES[kind].format(count)}) AS numbers
    """)
    if kind != "postgresql":
        with database.engine.begin() as connection:
            connection.execute(events)
            connection.exec_driver_sql(f"ANALYZE {'TABLE ' if kind == 'mariadb' else ''}{name}").close()
        return
    with database.engine.begin() as connection:
        fast(connection, database)
        connection.execute(events)
        built(connection, database)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {name}")


def concat(kind: str, *parts: str) -> str:
    return f"CONCAT({', '.join(parts)})" if kind == "mariadb" else " || ".join(parts)


def fast(connection: Connection, database: Database) -> None:
    """Without indexes and log, until they are built at once."""
    connection.exec_driver_sql(f"ALTER TABLE {database.name} SET UNLOGGED")
    connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '256MB'")
    for index in database.table.indexes:
        index.drop(connection)
    connection.execute(DropConstraint(unique(database)))
    connection.exec_driver_sql(f"ALTER TABLE {database.name} DROP CONSTRAINT {database.name}_pkey")


def built(connection: Connection, database: Database) -> None:
    for index in database.table.indexes:
        index.create(connection)
    connection.execute(AddConstraint(unique(database)))
    connection.exec_driver_sql(f"ALTER TABLE {database.name} ADD PRIMARY KEY (id)")


def unique(database: Database) -> UniqueConstraint:
    (found,) = [one for one in database.table.constraints if isinstance(one, UniqueConstraint)]
    return found


def explained(database: Database, explain: str, **query: Any) -> list[dict[str, Any]]:
    """What the database says of how it finds a page."""
    asked: list[tuple[str, Any]] = []

    def note(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    listen(database.engine, "before_cursor_execute", note)
    AuditTrail(database.engine, database.table, timeout=PATIENCE).query(**query)
    remove(database.engine, "before_cursor_execute", note)
    statement, parameters = asked[0]
    with database.engine.connect() as connection:
        return [
            dict(row) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters).mappings()
        ]


def cursor_at(way: str, n: int) -> str:
    """The cursor of a page beside the n-th event, whose number in the table it is too."""
    micros = (START + timedelta(seconds=n) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return Position(micros, n).cursor(way)


QUERIES: dict[str, tuple[dict[str, Any], str]] = {
    "an organization": ({"organization": "org-1"}, "organization_id_occurred_at"),
    "no organization": ({"organization": None}, "organization_id_occurred_at"),
    "an actor": ({"organization": EVERY_ORGANIZATION, "real_actor": "user-1"}, "actor_id_occurred_at"),
    "no actor": ({"organization": EVERY_ORGANIZATION, "real_actor": None}, "actor_id_occurred_at"),
    "all": ({"organization": EVERY_ORGANIZATION}, "occurred_at"),
}
"""Filters, and the index that finds what fits."""
PAGES = {
    "an organization": (4, MILLION - 20_000 * 40),
    "no organization": (3, MILLION - 15_000 * 50),
    "an actor": (4, MILLION - 20_000 * 39),
    "no actor": (3, MILLION - 15_000 * 50),
    "all": (100, MILLION - 500_000),
}
"""How many events a page has, and which event is about where the 5,000th page is."""
JOB: dict[str, Any] = {"organization": EVERY_ORGANIZATION, "job": "job-107"}
"""A job that has few events: they are sorted where they are found."""


# -- pages ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A million events in PostgreSQL."""
    with database_for("postgresql+psycopg", tmp_path_factory.mktemp("million")) as database:
        fill(database, MILLION)
        yield database


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", []) for node in nodes(inner))]


@pytest.mark.parametrize("about", QUERIES)
def test_the_first_page_of_a_million_events_and_the_5000th_cost_the_same(
    million: Database, about: str
) -> None:
    (filters, index), (limit, deep) = QUERIES[about], PAGES[about]
    buffers: list[int] = []
    for cursor in (None, cursor_at("o", deep), cursor_at("n", deep)):
        (row,) = explained(
            million, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)", limit=limit, cursor=cursor, **filters
        )
        plan = row["QUERY PLAN"][0]["Plan"]
        assert [node["Node Type"] for node in nodes(plan)] == ["Limit", "Index Scan"]
        assert nodes(plan)[1]["Index Name"] == f"ix_{million.name}_{index}"
        assert plan["Actual Rows"] == limit + 1
        buffers.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    assert max(buffers) <= min(buffers) + 3
    assert max(buffers) <= limit + 10


def test_the_events_of_a_job_are_found_by_its_index_among_a_million(million: Database) -> None:
    (row,) = explained(million, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)", limit=100, **JOB)
    plan = row["QUERY PLAN"][0]["Plan"]
    indexes = [node["Index Name"] for node in nodes(plan) if "Index Name" in node]
    assert indexes == [f"ix_{million.name}_job_id"]
    assert plan["Actual Rows"] == 50
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 50 + 10


@pytest.mark.parametrize("driver", ["mariadb+pymysql", "sqlite+pysqlite"])
def test_a_page_is_found_by_its_index_and_never_sorted(driver: str, tmp_path: Path) -> None:
    count = 100_000
    with database_for(driver, tmp_path) as database:
        fill(database, count)
        for (filters, index), way in itertools.product(QUERIES.values(), ("", "o", "n")):
            query: Any = {"limit": 20, "cursor": cursor_at(way, count // 2) if way else None, **filters}
            if database.kind == "mariadb":
                (row,) = explained(database, "EXPLAIN", **query)
                assert row["key"] == f"ix_{database.name}_{index}", (query, row)
                assert not way or row["type"] == "range", (query, row)  # entered at the cursor
                assert not re.search("filesort|temporary", row["Extra"]), (query, row)
            else:
                (row,) = explained(database, "EXPLAIN QUERY PLAN", **query)  # a sort would be a second one
                assert f"USING INDEX ix_{database.name}_{index}" in row["detail"], (query, row)
                entered = {"": "", "o": "occurred_at<?)", "n": "occurred_at>?)"}[way]
                assert row["detail"].endswith(entered), (query, row)
        found = explained(database, "EXPLAIN" if database.kind == "mariadb" else "EXPLAIN QUERY PLAN", **JOB)
        named = found[0].get("key") or found[0]["detail"]
        assert re.search(rf"\bix_{database.name}_job_id\b", named), found


# -- all of them ---------------------------------------------------------------------------------------


MEASURED = """
import sys
from pathlib import Path
from sigra_workers.cli import main

code = main(sys.argv[1:])
(most,) = [line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM:")]
print(most)
sys.exit(code)
"""
"""The command; it prints the most KiB that it took. The kernel adds what its parent took, for `os.wait4`."""


def exported(database: Database, folder: Path, *options: str) -> tuple[int, int]:
    """How many events the command exports, and the most memory it took, in KiB."""
    file = folder / f"export{len([*folder.iterdir()])}.jsonl"
    command = ["audit", "export", database.url, "--table", database.name, "--output", str(file), *options]
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    with file.open() as lines:
        count = sum(1 for _ in lines)
    return count, int(ran.stdout)


def test_an_export_takes_no_more_memory_for_many_events_than_for_few(
    million: Database, tmp_path: Path
) -> None:
    trail = AuditTrail(million.engine, million.table, timeout=PATIENCE)
    hours = [START + timedelta(hours=n) for n in (1, 11)]
    (few, little), (many, much) = (exported(million, tmp_path, "--until", at.isoformat()) for at in hours)
    assert [few, many] == [trail.count(organization=EVERY_ORGANIZATION, until=at) for at in hours]
    assert many - few > 35_000
    assert much < little + 2_048  # 60 bytes of each would be more


def test_many_events_are_purged_in_batches(million: Database) -> None:
    trail = AuditTrail(million.engine, million.table, timeout=PATIENCE)
    gone = trail.purge(organization="org-7", before=START + timedelta(days=30))
    assert gone == MILLION // 40
    assert trail.count(organization="org-7") == 0
    assert trail.count(organization="org-8") == MILLION // 40
