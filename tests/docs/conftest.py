"""Servers that the tests of several pages share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.losses.servers import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()
