"""Fixtures: Redis, RabbitMQ, and a host application with `dramatiq` processes on them.

They fail, rather than skip, where there is no server. Each gives its tests queue names of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from adapters.dramatiq.tests.support import SETTINGS, STORED, Harness, harness
from tests.queues.harness import redis_server as redis_server  # noqa: PLC0414


@pytest.fixture(params=STORED)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """The host on the shared servers, for one test, on each broker with its store."""
    with harness(tmp_path, request.param) as found:
        yield found


@pytest.fixture(scope="module", params=SETTINGS)
def shared_queue(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    """The host on the shared servers in each way, for a table of tests that reads one run of it."""
    with harness(tmp_path_factory.mktemp("host"), request.param) as found:
        yield found


@pytest.fixture
def on_redis(tmp_path: Path) -> Iterator[Harness]:
    """The host on the shared Redis alone."""
    with harness(tmp_path, "redis") as found:
        yield found


@pytest.fixture
def on_rabbitmq(tmp_path: Path) -> Iterator[Harness]:
    """The host on the shared RabbitMQ, with a store."""
    with harness(tmp_path, "rabbitmq") as found:
        yield found


@pytest.fixture
def storeless(tmp_path: Path) -> Iterator[Harness]:
    """The host on the shared RabbitMQ, without a store."""
    with harness(tmp_path, "storeless") as found:
        yield found
