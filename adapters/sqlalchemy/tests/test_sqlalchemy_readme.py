"""The README's code and commands, and those of the page on jobs after a commit, as they stand there."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.sqlalchemy.tests.support import SYNC, Database, audit_event, database_for, url_of
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from tests.docs.blocks import path, texts

from sigra_workers import AuditFilters
from sigra_workers.cli import main
from sigra_workers.trail import MAX_PAGE, PAGE
from sigra_workers_sqlalchemy import AuditTrail, audit_events, trail
from sigra_workers_sqlalchemy.bounded import AGAIN, STUCK
from sigra_workers_sqlalchemy.connect import _time_outs
from sigra_workers_sqlalchemy.reader import BATCH
from sigra_workers_sqlalchemy.table import FIRST_YEAR, LAST_YEAR, MAX_LEVELS

PAGE_OF_README: Final = "adapters/sqlalchemy/README.md"
README: Final = path(PAGE_OF_README).read_text()
PYTHON: Final = texts(PAGE_OF_README, "python")
(COMMANDS,) = texts(PAGE_OF_README, "console", having="$ sigra-workers")
(SQL,) = texts(PAGE_OF_README, "sql")
AFTER_COMMIT: Final = [
    text
    for text in texts("how-to/after-commit.md", "python")
    if "django" not in text and "TestCase" not in text  # those are tests/test_django.py's
]


FILES: Final = {m[1]: block for block in PYTHON if (m := re.match(r"# (\S+\.py)", block))}
ENGINES: Final = [block for block in PYTHON if "engine = create_engine(" in block]
CODE: Final = [block for block in PYTHON if block not in (*FILES.values(), *ENGINES)]

MODELS: Final = """
import os

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DATABASE_URL = os.environ["DATABASE_URL"]


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="open")
"""

BEFORE: Final = """
import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sigra_workers import (
    EVERY_ORGANIZATION,
    EnqueueError,
    Job,
    OrganizationArgs,
    event_dict,
    organization_args,
)
from sigra_workers.memory import MemoryAdapter
from sigra_workers_sqlalchemy import enqueue_after_commit
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app.audit import audit, table, trail
from app.jobs import workers
from app.models import DATABASE_URL, Account, Base


class CloseAccountArgs(OrganizationArgs):
    account_id: str


close_account = workers.declare("accounts.close", CloseAccountArgs)
who = organization_args(organization_id="northwind", actor_id="ann")
args = CloseAccountArgs(**who, account_id="acc_2")
user, organization = (SimpleNamespace(id=name) for name in ("ann", "northwind"))
scope: Any = SimpleNamespace(user=user, active_organization=organization, impersonating_from=None)
request = SimpleNamespace(scope=scope)
queue = MemoryAdapter.of(workers)
engine = create_engine(DATABASE_URL)
async_engine = create_async_engine(DATABASE_URL.replace("sqlite://", "sqlite+aiosqlite://"))
Base.metadata.create_all(engine)


def accounts() -> dict[str, str]:
    with Session(engine) as session:
        return {account.id: account.state for account in session.scalars(select(Account))}


def sent() -> list[str]:
    found = [payload.args["account_id"] for payload in queue.payloads]
    queue.clear()
    return found


"""

README_CHECKS: Final = {
    "class AuditRow": """
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

with engine.connect() as connection:
    assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
with Session(engine) as session, session.begin():
    for n in range(120):
        at = datetime.now(UTC) - timedelta(days=n % 3)
        audit.log("account.viewed", scope, occurred_at=at, transaction=session)
event = audit.log("account.viewed", None, metadata={"n": 1})
with Session(engine) as session:
    (row,) = session.scalars(select(AuditRow).where(table.c.event_id == event.event_id))
    assert row.metadata_ == {"n": 1}
trail.purge(organization=None, before=datetime.max.replace(tzinfo=UTC))
""",
    "audit.log_safe(": """
assert accounts() == {"acc_1": "closed"}
assert [event.action for event in trail.query(organization="northwind").events[:2]] == [
    "account.closed",
    "account.viewed",
]
""",
    "async def close": """
async def main() -> None:
    await close("acc_9")
    await audit.alog("account.viewed", scope, target_id="acc_9")
    await async_engine.dispose()


asyncio.run(main())
assert accounts()["acc_9"] == "closed"
assert len(trail.query(organization="northwind", target_id="acc_9").events) == 2
""",
    "while page.older": """
assert page.newer is not None
assert len(trail.query(organization="northwind").events) == 100
assert trail.count(organization="northwind") == 124
""",
    "failures = trail.count": """
assert failures == 0
with open("northwind.jsonl") as lines:
    assert [json.loads(line)["event_id"] for line in lines] == [
        event.event_id for event in reversed(trail.query(organization="northwind", limit=1_000).events)
    ]
assert operators_see.events == []
""",
    "trail.purge(organization=EVERY": """
assert trail.count(organization=EVERY_ORGANIZATION) == 124
audit.log("account.viewed", scope, organization_id="acme")
audit.log("account.viewed", scope, occurred_at=datetime.now(UTC) - timedelta(days=800))
assert trail.purge(organization=EVERY_ORGANIZATION, before=datetime.now(UTC) - 2 * year) == 1
assert trail.purge(organization="acme", before=datetime.max.replace(tzinfo=UTC)) == 1
""",
    "enqueue_after_commit(": """
assert accounts()["acc_2"] == "closing"
assert sent() == ["acc_2"]
trail.close()
engine.dispose()
""",
}
"""For each block, by a part of it, what is to be true behind it."""

PAGE_CHECKS: Final = {
    "# committed, and then sent": """
assert sent() == ["acc_1"]
assert accounts() == {"acc_1": "closing"}
""",
    "async def close": """
async def main() -> None:
    await close("acc_6")
    await async_engine.dispose()


asyncio.run(main())
assert sent() == ["acc_6"]
not_taken: list[Job[CloseAccountArgs]] = []
later: Callable[[list[Job[CloseAccountArgs]]], object] = not_taken.extend
taken = close_account.enqueue(CloseAccountArgs(**who, account_id="acc_3"), job_id="close-acc_3")
""",
    "not_sent = ": """
assert accounts() == {"acc_1": "closing", "acc_2": "closing", "acc_3": "closing", "acc_6": "closing"}
assert not_taken == []
assert sent() == ["acc_3", "acc_2", "acc_3"]
""",
    "def send_what_was_lost": """
for _ in range(2):
    with Session(engine) as session:
        send_what_was_lost(session)
assert sorted(sent()) == ["acc_1", "acc_2", "acc_3", "acc_6"]
engine.dispose()
""",
}


def program(code: list[str], checks: dict[str, str]) -> str:
    """The blocks as one program, each followed by its check; every block has one."""
    parts = [BEFORE]
    for block in code:
        (check,) = [check for part, check in checks.items() if part in block]
        parts += [block, check]
    return "\n".join(parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application of the README's files, and a program for each page."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    for name, source in {"app/models.py": MODELS, **FILES}.items():
        (tmp_path / name).write_text(source)
    (tmp_path / "readme.py").write_text(program(CODE, README_CHECKS))
    (tmp_path / "after_commit.py").write_text(program(AFTER_COMMIT, PAGE_CHECKS))
    return tmp_path


def run(folder: Path, name: str) -> None:
    """A program of the folder, whose database is a file there."""
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{folder / 'app.db'}"}
    command = [sys.executable, "-W", "error", name]
    ran = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


# -- code ------------------------------------------------------------------------------------------------


def test_the_readmes_code_does_what_it_says(folder: Path) -> None:
    run(folder, "readme.py")


def test_the_code_of_the_page_on_jobs_after_a_commit_does_what_it_says(folder: Path) -> None:
    run(folder, "after_commit.py")


def test_the_readmes_commands_read_the_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with database_for("sqlite+pysqlite", tmp_path) as database:
        monkeypatch.setenv("SIGRA_AUDIT_URL", database.url)
        kept = AuditTrail(database.engine, audit_events(database.metadata))
        kept.table.create(database.engine)
        kept.write(audit_event(organization_id="northwind", target_id="acc_1", occurred_at=datetime.now(UTC)))
        kept.write(audit_event(organization_id="acme"))
        commands = re.findall(r"^\$ sigra-workers (.*)", COMMANDS, re.MULTILINE)
        assert [command.split()[1] for command in commands] == ["list", "list", "tail", "export"]
        for command in commands:
            words = shlex.split(command)
            assert main([word for word in words if word != "--follow"]) == 0  # that one never ends
            shown = capsys.readouterr().out
            assert ("northwind" in shown) is ("export" not in words)
            assert "acme" not in shown
    assert Path("northwind.jsonl").read_text().count("\n") == 1


# -- engines ---------------------------------------------------------------------------------------------


@pytest.fixture(params=SYNC)
def advised(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Database, Engine]]:
    """A database, and the engine that the README has for it."""
    with database_for(request.param, tmp_path) as database:
        (block,) = [block for block in ENGINES if database.kind in block]

        def create(url: str, **options: Any) -> Engine:
            ours, named = database.engine.url, make_url(url).set(database=database.engine.url.database)
            if ours.host is not None:
                named = named.set(username=ours.username, host=ours.host, port=ours.port)
            return create_engine(named, **options)

        names: dict[str, Any] = {"create_engine": create}
        exec(block, names)
        yield database, names["engine"]
        names["engine"].dispose()


@pytest.mark.integration
def test_an_engine_as_the_readme_has_it_holds_the_trail(advised: tuple[Database, Engine]) -> None:
    database, engine = advised
    AuditTrail(engine, database.table).write(audit_event())
    assert len(database.events) == 1
    waits: dict[str, Any] = {
        "postgresql": "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'",
        "mariadb": "SELECT @@innodb_lock_wait_timeout * 1000",
        "sqlite": "PRAGMA busy_timeout",
    }
    with engine.connect() as connection:
        assert connection.execute(text(waits[database.kind])).scalar_one() == 2_000
    assert engine.hide_parameters


@pytest.mark.parametrize(
    ("url", "row"),
    [
        ("postgresql+psycopg://host/db", "psycopg, psycopg2"),
        ("postgresql+psycopg2://host/db", "psycopg, psycopg2"),
        ("postgresql+asyncpg://host/db", "asyncpg"),
        ("mariadb+pymysql://host/db", "PyMySQL, mysqlclient"),
        ("mysql+mysqldb://host/db", "PyMySQL, mysqlclient"),
        ("mysql+aiomysql://host/db", "aiomysql, asyncmy"),
        ("mysql+asyncmy://host/db", "aiomysql, asyncmy"),
        ("sqlite:///file.db", "sqlite3, aiosqlite"),
        ("sqlite+aiosqlite:///file.db", "sqlite3, aiosqlite"),
    ],
)
def test_the_table_of_time_outs_has_what_each_driver_is_told(url: str, row: str) -> None:
    (told,) = re.findall(rf"^\| {row} \| (.*) \|$", README, re.MULTILINE)
    given = _time_outs(make_url(url), 2.0)
    found = {*given} - {"options", "server_settings", "init_command"}
    for inner in ("statement_timeout", "innodb_lock_wait_timeout"):
        found |= {inner} if inner in str(given) else set()
    assert {*re.findall(r"`(\w+)`", told)} == found


# -- tables and numbers ------------------------------------------------------------------------------------


def test_the_table_of_filters_has_every_filter() -> None:
    table = README.split("| filter |")[1].split("\n\n")[0]
    found = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE)))
    assert found == [*AuditFilters.__annotations__]


@pytest.mark.parametrize(
    ("row", "column", "types"),
    [
        ("`event_id`", "event_id", ["varchar(36)"] * 3),
        ("`occurred_at`", "occurred_at", ["timestamp with time zone", "datetime(6)", "datetime"]),
        ("ids, `target_type`", "organization_id", ["varchar(255)"] * 3),
        ("ids, `target_type`", "target_type", ["varchar(255)"] * 3),
        ("`action`", "action", ["varchar(255)"] * 3),
        ("`metadata`", "metadata", ["json"] * 3),
        ("`job_id`, `worker`, `queue`", "job_id", ["varchar(128)"] * 3),
        ("`attempt`, `schema_version`", "attempt", ["integer"] * 3),
        ("`attempt`, `schema_version`", "schema_version", ["smallint"] * 3),
    ],
)
def test_the_table_of_columns_has_the_types_of_each_database(row: str, column: str, types: list[str]) -> None:
    table = audit_events(MetaData())
    dialects = [make_url(f"{driver}://").get_dialect()() for driver in SYNC]
    assert [table.c[column].type.compile(dialect).lower() for dialect in dialects] == types
    told_of_all = README.split("| column |")[1].split("\n\n")[0]
    (cells,) = re.findall(rf"^\| {re.escape(row)} \|(.*)", told_of_all, re.MULTILINE)
    told = cells.split("|")
    assert f"`{types[0]}`" in told[0]
    assert f"`{types[1]}`" in told[1] or "the same" in told[1]


def test_the_numbers_are_those_of_the_code() -> None:
    assert (trail.TIMEOUT, STUCK, AGAIN) == (2, 8, 10)
    assert (PAGE, MAX_PAGE, BATCH) == (100, 10_000, 1_000)
    assert (MAX_LEVELS, FIRST_YEAR, LAST_YEAR) == (31, 1000, 9998)
    for told in ("2\nwhere none is given", "When 8 calls", "after 10 s", "up to 10,000 of them, 100 where"):
        assert told in README
    for told in ("batches of 1,000", "more than 31 levels", "years before 1000 or after 9998"):
        assert told in README


# -- in SQL ------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_the_readmes_sql_finds_what_it_says(database: Database) -> None:
    kept = AuditTrail(database.engine, database.table)
    kept.write(audit_event(1, organization_id="northwind", target_id="northwinds"))
    kept.write(audit_event(2, organization_id="Northwind", target_id="another's"))
    kept.write(audit_event(3, target_id=5))
    kept.write(audit_event(4, target_id="5"))
    kept.write(audit_event(5, target_id="impersonated", actor_id="admin"))
    found: list[list[int]] = []
    with database.engine.connect() as connection:
        for statement in SQL.replace("audit_events", database.name).split(";\n")[:4]:
            rows = connection.execute(text(statement)).mappings().all()
            found.append(
                [n for n, event in enumerate(database.events, 1) for row in rows if same(event, row)]
            )
    assert found == [[1], [3], [4], [5]]


def same(event: Any, row: Any) -> bool:
    """Whether a row, with a time as its driver gives it, is of the event: no two have the same second."""
    return f":{event.occurred_at.second:02}." in str(row["occurred_at"])


@pytest.mark.integration
def test_on_postgresql_the_application_needs_the_rights_that_the_readme_says(tmp_path: Path) -> None:
    role = f"app_{uuid.uuid4().hex[:10]}"
    with database_for("postgresql+psycopg", tmp_path) as database:
        rights = f"""
            CREATE ROLE {role};
            GRANT INSERT, SELECT ON {database.name} TO {role};
            GRANT USAGE ON SEQUENCE {database.name}_id_seq TO {role};
        """
        options = {"options": f"-c role={role}"}
        with database.engine.begin() as connection:
            connection.execute(text(textwrap.dedent(rights)))
        engine = create_engine(url_of("postgresql+psycopg", tmp_path), connect_args=options)
        try:
            kept, event = AuditTrail(engine, database.table), audit_event()
            kept.write(event)
            kept.write(event)
            assert kept.query(organization="org-1").events == [event]
            with pytest.raises(ProgrammingError):
                kept.purge(organization="org-1", before=event.occurred_at.replace(year=2030))
        finally:
            engine.dispose()
            with database.engine.begin() as connection:
                connection.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))
