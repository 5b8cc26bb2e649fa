"""Settings of the whole suite."""

import importlib.metadata
import os
import sys
from functools import cache, cached_property
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("calm", deadline=None)  # a busy machine is no failure
settings.load_profile("calm")

# pytest-asyncio warns where it is not configured: a host that a test runs has it where that names it.
os.environ["PYTEST_ADDOPTS"] = "-p no:asyncio"


def take_coverages_lock_in_c() -> None:
    """Let no time-out come in between where coverage takes its lock.

    Its tracers do so in a method in Python, at every call (`Collector.lock_data` in coverage/collector.py):
    an interrupt in there leaves the lock taken for ever.
    """
    coverage = sys.modules.get("coverage")
    running: Any = coverage and coverage.Coverage.current()
    if running is not None and running._collector.data_lock is not None:
        lock = running._collector.data_lock
        for tracer in (running._collector, *running._collector.tracers):  # new tracers get the collector's
            tracer.lock_data, tracer.unlock_data = lock.acquire, lock.release


take_coverages_lock_in_c()


class Installed(importlib.metadata.PathDistribution):
    """A distribution whose entry points are read once."""

    @cached_property
    def entry_points(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # of a property
        return super().entry_points


def read_entry_points_once() -> None:
    """Thousands of tests make a `Workers`, which looks for its adapter among all that is installed."""
    distributions: Any = importlib.metadata.distributions

    @cache
    def found(*folders: tuple[str, int]) -> list[Installed]:
        return [Installed(distribution._path) for distribution in distributions()]

    def remembered(**which: Any) -> Any:
        if which:
            return distributions(**which)
        return found(*((name, os.stat(name).st_mtime_ns) for name in sys.path if os.path.isdir(name)))

    importlib.metadata.distributions = remembered


read_entry_points_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files of slow tests: nothing waits for them at the end, where tests run side by side."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
