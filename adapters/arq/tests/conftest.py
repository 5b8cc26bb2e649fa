"""Fixtures: a Redis, and a host application with `arq` worker processes on it.

They fail, rather than skip, where there is no server. Each gives its tests queue names of their own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adapters.arq.tests.support import Harness, harness
from tests.queues.harness import RedisServer
from tests.queues.harness import redis_server as redis_server  # noqa: PLC0414


@pytest.fixture
def arq(tmp_path: Path) -> Iterator[Harness]:
    """The host on the shared Redis, for one test."""
    with harness(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared_arq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """The host on the shared Redis, for a table of tests that reads one run of it."""
    with harness(tmp_path_factory.mktemp("host")) as found:
        yield found


@pytest.fixture
def private_arq(tmp_path: Path, redis_server: Callable[..., RedisServer]) -> Iterator[Harness]:
    """The host on a Redis of its own."""
    with harness(tmp_path, redis_server().url) as found:
        yield found
