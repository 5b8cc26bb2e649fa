"""The table in a host's migrations: what Alembic generates runs as it is, and then finds nothing to do."""

import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from adapters.sqlalchemy.tests.support import PATIENCE, SYNC, audit_event, open_engine, url_of
from alembic import command
from alembic.config import Config
from sqlalchemy import Boolean, Column, Engine, ForeignKey, Integer, MetaData, String, Table, inspect, text
from sqlalchemy.pool import NullPool

from sigra_workers_sqlalchemy import AuditTrail, audit_events

ENV = """
from alembic import context

project = context.config.attributes
with project["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=project["metadata"], **project["options"])
    with context.begin_transaction():
        context.run_migrations()
"""
CONVENTION = {
    "ix": "my_ix_%(column_0_N_label)s",
    "uq": "my_uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "my_ck_%(table_name)s_%(constraint_name)s",
    "fk": "my_fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "my_pk_%(table_name)s",
}
"""Names as hosts let SQLAlchemy make them."""


@contextmanager
def new_database(driver: str, folder: Path) -> Generator[Engine]:
    """A database without any table, for a block: Alembic looks at all there is."""
    url = url_of(driver, folder)
    if driver.startswith("sqlite"):
        engine = open_engine(url, poolclass=NullPool)
        yield engine
        engine.dispose()
        return
    name = f"alembic_{uuid.uuid4().hex[:10]}"
    server = open_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield open_engine(url.set(database=name), poolclass=NullPool)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))


@dataclass
class Project:
    """A host's Alembic project."""

    folder: Path
    engine: Engine
    metadata: MetaData
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the host's ``context.configure``."""
    config: Config = field(init=False)

    def __post_init__(self) -> None:
        scripts = self.folder / "alembic"
        self.config = Config(str(self.folder / "alembic.ini"))
        self.config.set_main_option("path_separator", "os")
        self.config.attributes.update(engine=self.engine, metadata=self.metadata, options=self.options)
        command.init(self.config, str(scripts), template="generic")
        self.config.set_main_option("script_location", str(scripts))
        (scripts / "env.py").write_text(ENV)

    def generate(self) -> str:
        """The migration that ``alembic revision --autogenerate`` writes."""
        script: Any = command.revision(self.config, autogenerate=True)
        return Path(script.path).read_text()

    def upgrade(self) -> None:
        command.upgrade(self.config, "head")

    def downgrade(self) -> None:
        command.downgrade(self.config, "base")

    @property
    def tables(self) -> set[str]:
        """Those in the database."""
        return {*inspect(self.engine).get_table_names()} - {"alembic_version"}


def is_empty(migration: str) -> bool:
    """Whether a migration does nothing."""
    return "op." not in migration and "pass" in migration


def holds_a_trail(engine: Engine, table: Table) -> None:
    """The table that was migrated does what the one does that SQLAlchemy creates."""
    trail = AuditTrail(engine, table, timeout=PATIENCE)
    one, other = (audit_event(attempt=n, actor_id=actor) for n, actor in enumerate(["ann", "Ann"]))
    for event in (one, other, one):
        trail.write(event)
    assert trail.query(organization="org-1").events == [other, one]
    assert trail.query(organization="org-1", real_actor="ann").events == [one]


@pytest.fixture(params=SYNC)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Each database, empty."""
    with new_database(request.param, tmp_path) as found:
        yield found


def migrated(project: Project, table: Table) -> str:
    """Run through all that a host does; the first migration."""
    migration = project.generate()
    project.upgrade()
    assert is_empty(project.generate())
    project.upgrade()
    holds_a_trail(project.engine, table)
    return migration


@pytest.mark.parametrize("engine", [*SYNC, "mysql+pymysql"], indirect=True)
def test_a_migration_of_the_table_alone_runs_both_ways_and_a_second_one_is_empty(
    engine: Engine, tmp_path: Path
) -> None:
    metadata = MetaData()
    project = Project(tmp_path, engine, metadata)
    migration = migrated(project, audit_events(metadata))
    assert migration.count("op.create_table(") == 1
    assert migration.count("op.create_index(") == 4
    assert "sigra" not in migration  # it runs without this distribution
    assert project.tables == {"audit_events"}
    project.downgrade()
    assert project.tables == set()


@pytest.mark.parametrize("engine", [*SYNC, "mysql+pymysql"], indirect=True)
def test_alembic_finds_nothing_to_do_where_the_table_was_created_without_it(
    engine: Engine, tmp_path: Path
) -> None:
    metadata = MetaData()
    audit_events(metadata)
    metadata.create_all(engine)
    assert is_empty(Project(tmp_path, engine, metadata, {"compare_type": True}).generate())


def test_a_migration_runs_with_every_comparison_and_in_batches(engine: Engine, tmp_path: Path) -> None:
    metadata = MetaData()
    options = {"compare_type": True, "compare_server_default": True, "render_as_batch": True}
    project = Project(tmp_path, engine, metadata, options)
    migrated(project, audit_events(metadata))
    project.downgrade()
    assert project.tables == set()


def test_a_migration_runs_beside_the_hosts_own_tables_and_names(engine: Engine, tmp_path: Path) -> None:
    metadata = MetaData(naming_convention=CONVENTION)
    account = Table(
        "account",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(50), unique=True, index=True),
        Column("closed", Boolean(name="closed", create_constraint=True)),
    )
    Table("plan", metadata, Column("id", Integer, ForeignKey(account.c.id), primary_key=True))
    project = Project(tmp_path, engine, metadata)
    project.generate()
    project.upgrade()
    table, other = (audit_events(metadata, name) for name in ("trail", "other_trail"))
    migration = migrated(project, table)
    assert "account" not in migration
    assert project.tables == {"account", "plan", "trail", "other_trail"}
    holds_a_trail(engine, other)
    command.downgrade(project.config, "-2")
    assert project.tables == {"account", "plan"}


def test_a_migration_runs_for_a_table_in_a_schema(tmp_path: Path) -> None:
    with new_database("postgresql+psycopg", tmp_path) as engine:
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA compliance"))
        metadata = MetaData()
        project = Project(tmp_path, engine, metadata, {"include_schemas": True, "compare_type": True})
        migrated(project, audit_events(metadata, schema="compliance"))
        assert inspect(engine).get_table_names("compliance") == ["audit_events"]
        project.downgrade()
        assert inspect(engine).get_table_names("compliance") == []


COMMANDS = """
import sys
from pathlib import Path
from alembic.config import main

url = sys.argv[1]
main(["init", "migrations"])
ini, env = Path("alembic.ini"), Path("migrations/env.py")
ini.write_text(ini.read_text().replace("driver://user:pass@localhost/dbname", url.replace("%", "%%")))
ours = "from models import metadata as target_metadata"
env.write_text(env.read_text().replace("target_metadata = None", ours))
for line in ["revision --autogenerate", "upgrade head", "check", "revision --autogenerate", "upgrade head"]:
    main(line.split())
"""


def test_the_command_of_alembic_in_a_new_project_needs_nothing_but_the_metadata(
    engine: Engine, tmp_path: Path
) -> None:
    models = """
        from sqlalchemy import MetaData
        from sigra_workers_sqlalchemy import audit_events
        metadata = MetaData()
        audit_events(metadata)
    """
    (tmp_path / "models.py").write_text("\n".join(map(str.strip, models.splitlines())))
    url = engine.url.render_as_string(hide_password=False)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMMANDS, url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "No new upgrade operations detected" in run.stdout
    first, second = sorted(
        (file.read_text() for file in (tmp_path / "migrations/versions").glob("*.py")), key=is_empty
    )
    assert "op.create_table('audit_events'" in first
    assert is_empty(second)
    holds_a_trail(engine, audit_events(MetaData()))
