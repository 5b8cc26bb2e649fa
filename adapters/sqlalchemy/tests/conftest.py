"""Fixtures: databases, and trails in them. They fail, rather than skip, where there is no server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from adapters.sqlalchemy.tests.support import DRIVERS, SYNC, Calls, Database, calls_on, database_for
from hypothesis import settings

settings.register_profile("calm", deadline=None)  # a busy machine is no failure
settings.load_profile("calm")


@pytest.fixture(params=SYNC)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each database once, with a sync driver and an empty audit table."""
    with database_for(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=DRIVERS)
def calls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Calls]:
    """A trail on an empty table, with each driver, sync and async."""
    with database_for(request.param, tmp_path) as found, calls_on(found) as trail:
        yield trail


@pytest.fixture(scope="module", params=SYNC)
def shared_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """Each database once for a whole module."""
    with database_for(request.param, tmp_path_factory.mktemp("database")) as found:
        yield found


@pytest.fixture(scope="module", params=DRIVERS)
def shared_calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """A trail with each driver for a whole module, as property tests need it."""
    with database_for(request.param, tmp_path_factory.mktemp("database")) as found, calls_on(found) as trail:
        yield trail
