"""Settings of the whole suite."""

import sys
from typing import Any

from hypothesis import settings

settings.register_profile("calm", deadline=None)  # a busy machine is no failure
settings.load_profile("calm")


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
