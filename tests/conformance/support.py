"""How the tests of the kit run it: on the embedded adapter, and rule by rule."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from sigra_workers import Workers
from sigra_workers.conformance import AdapterConformance, Harness, Rule
from sigra_workers.conformance.bench import Begun, Bench
from sigra_workers.memory import MemoryAdapter

RULES = AdapterConformance.rules()


def start(workers: Workers[Any]) -> Callable[[], object]:
    """Run jobs in a thread."""
    adapter = MemoryAdapter.of(workers)
    adapter.start()
    return adapter.stop


def result(workers: Workers[Any], job_id: str) -> object:
    """The value that the embedded adapter keeps."""
    return MemoryAdapter.of(workers).results.get(job_id)


def memory(**changes: Any) -> Harness:
    """The embedded adapter."""
    return replace(Harness(adapter="memory", start=start, patience=40.0, result=result), **changes)


def failures(harness: Harness, rules: Sequence[Rule]) -> dict[int, str]:
    """Check rules as the kit does; why each failed that did, by its number."""
    suite = AdapterConformance()
    found: dict[int, str] = {}
    with closing(Bench(harness)) as bench:
        for rule in rules:
            bench.begun[rule.body.__name__] = Begun(rule.body(suite, bench))
        for rule in rules:
            try:
                getattr(suite, rule.body.__name__)(bench)
            except (Exception, pytest.fail.Exception) as error:
                found[rule.number] = "\n".join([str(error), *getattr(error, "__notes__", [])])
    return found
