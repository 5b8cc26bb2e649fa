"""A database of PostgreSQL, empty, for the tests of a file."""

import os
from collections.abc import Generator

import psycopg
import pytest

SERVER = f"postgres@127.0.0.1:{os.environ.get('POSTGRES_PORT', '5432')}"


@pytest.fixture(scope="module")
def postgres_url(request: pytest.FixtureRequest) -> Generator[str]:
    """Its URL, for SQLAlchemy."""
    name = f"{request.path.stem}_{os.getpid()}"
    with psycopg.connect(f"postgresql://{SERVER}/test", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"postgresql+psycopg://{SERVER}/{name}"
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
