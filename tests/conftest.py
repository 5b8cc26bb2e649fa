"""Settings of the whole suite."""

import os
import sys
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files of slow tests: nothing waits for them at the end, where tests run side by side."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
