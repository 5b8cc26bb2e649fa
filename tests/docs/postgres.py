"""A database on the real PostgreSQL, with a role that policies hold for."""

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

SERVER: Final = os.environ.get(
    "SIGRA_TEST_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:5432/test?connect_timeout=5"
)


@dataclass(frozen=True)
class Database:
    """A database and a role, both of this name."""

    name: str

    def url(self, *, role: str | None = None) -> str:
        """What SQLAlchemy opens it with: as its role, or another one."""
        parts = conninfo_to_dict(SERVER)
        where = f"{parts.get('host', '127.0.0.1')}:{parts.get('port', 5432)}"
        return f"postgresql+psycopg://{role or self.name}@{where}/{self.name}"

    def execute(self, statements: str) -> None:
        """As superuser."""
        with psycopg.connect(SERVER, dbname=self.name) as connection:
            connection.execute(statements.encode())


@contextmanager
def database() -> Generator[Database]:
    """One for a block."""
    found = Database(f"sigra_docs_{uuid.uuid4().hex[:10]}")
    name = Identifier(found.name)
    try:
        server = psycopg.connect(SERVER, autocommit=True)
    except psycopg.OperationalError as error:
        pytest.fail(f"no PostgreSQL at {SERVER} ({error}): run `make servers`")
    with server:
        server.execute(SQL("CREATE DATABASE {}").format(name))
        server.execute(SQL("CREATE ROLE {} LOGIN").format(name))
        try:
            yield found
        finally:
            server.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            server.execute(SQL("DROP ROLE {}").format(name))
