"""Hosts under test, in every way that the kit can be called."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.testing.support import WAYS, Kit, Make, Way


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture
def make(way: Way) -> Iterator[Make]:
    """Makes a host under test, called in one way after the other."""
    with ExitStack() as stack:

        def made(body: Any, **options: Any) -> Kit:
            of_workers = {name: options.pop(name) for name in ("plugins", "scope_builder") if name in options}
            kit = Kit(stack, way, **of_workers)
            kit.worker(body, **options)
            return kit

        yield made


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes a host under test, called from here."""
    with ExitStack() as stack:

        def make(body: Any, **options: Any) -> Kit:
            kit = Kit(stack, WAYS[0])
            kit.worker(body, **options)
            return kit

        yield make
