"""Fixtures: the project on SQLite and on PostgreSQL. They fail, rather than skip, without a server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.django_project.support import Django, postgres, project


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with the project's tables, to be copied."""
    with project(tmp_path_factory.mktemp("django"), None) as found:
        found.manage("migrate", "-v0")
        return found.folder / "db.sqlite3"


@pytest.fixture
def django(tmp_path: Path, migrated_file: Path) -> Iterator[Django]:
    """The project on SQLite, its tables made."""
    shutil.copy(migrated_file, tmp_path)
    with project(tmp_path, None) as found:
        yield found


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL database with the project's tables, to be copied."""
    with postgres() as name, project(tmp_path_factory.mktemp("django"), name) as found:
        found.manage("migrate", "-v0")
        yield name


@pytest.fixture
def django_on_postgres(tmp_path: Path, migrated: str) -> Iterator[Django]:
    """The project on a PostgreSQL database of its own."""
    with postgres(migrated) as name, project(tmp_path, name) as found:
        yield found
