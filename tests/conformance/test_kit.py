"""The kit itself: what it says where something is missing, and how it treats worker processes."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.liars import LIARS, Liar
from tests.conformance.support import RULES, failures, memory

from sigra_workers import Capability, InvalidOptionError, InvalidSettingsError, Job
from sigra_workers.conformance import Harness
from sigra_workers.conformance.bench import Begun, Bench
from sigra_workers.conformance.harness import Tree, living
from sigra_workers.conformance.host import Setup
from sigra_workers.conformance.rule import rule

DERIVED = """
import pytest
from sigra_workers.conformance import AdapterConformance
from tests.conformance.liars import LIARS
from tests.conformance.support import memory

class TestNothing(AdapterConformance):
    pass

class TestLiar(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls):
        return memory(adapter="liar", plugins=[LIARS[6]({})])
"""


def numbered(*numbers: int) -> list[Any]:
    return [rule for rule in RULES if rule.number in numbers]


def tree(folder: Path, command: list[str]) -> Tree:
    """Worker processes of that command."""
    setup = Setup("memory", {}, str(folder), "t")
    return Tree(Harness(adapter="memory", command=command), setup, "main", folder)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for(file: Path) -> None:
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end, f"{file} is not there"
        time.sleep(0.01)


# -- what an author reads ----------------------------------------------------------------------------


def test_pytest_names_the_missing_fixture_and_the_broken_rule(tmp_path: Path) -> None:
    (tmp_path / "test_derived.py").write_text(DERIVED)
    alone = ("-p", "no:cacheprovider", "--confcutdir", str(tmp_path))  # no conftest.py above it
    command = [sys.executable, "-m", "pytest", "-q", *alone, "-k", "r06", str(tmp_path)]
    found = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=100
    )
    assert "TestNothing has no fixture 'harness'" in found.stdout
    assert "def harness(cls, tmp_path_factory):" in found.stdout
    (r06,) = numbered(6)
    assert f"the adapter breaks rule R06: {r06.statement}" in found.stdout
    assert "1 failed, " in found.stdout
    assert "1 error" in found.stdout


@pytest.mark.parametrize("given", [{}, {"command": ["worker"], "start": lambda workers: workers.close}])
def test_a_harness_has_either_worker_processes_or_a_start(given: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError, match=r"either 'command'.*or 'start'"):
        Harness(adapter="memory", **given)


def test_a_rule_without_a_number_or_a_statement_is_refused() -> None:
    def test_something(self: object, bench: Bench) -> Generator[None]:
        """A statement."""
        yield

    def test_r99_something(self: object, bench: Bench) -> Generator[None]:
        yield

    for body in (test_something, test_r99_something):
        with pytest.raises(TypeError, match="is no rule"):
            rule(body)


def test_a_rule_that_yields_twice_is_refused() -> None:
    begun = Begun(None for _ in range(2))
    with pytest.raises(RuntimeError, match="yields once"):
        begun.end()


def test_worker_processes_that_do_not_start_are_given_up() -> None:
    harness = Harness(adapter="memory", command=python("raise SystemExit('no such module')"))
    found = failures(harness, numbered(2))
    assert "the worker process ends again and again" in found[2]
    assert "no such module" in found[2]


@pytest.mark.parametrize(("number", "missing"), [(4, "unreachable_settings"), (8, "result")])
def test_a_part_of_the_harness_that_is_missing_is_named(number: int, missing: str) -> None:
    harness = memory(result=None) if number == 8 else Harness(adapter="memory", command=["sleep", "60"])
    found = failures(harness, numbered(number))
    assert f"Harness({missing}=...) is missing" in found[number]


def test_a_rule_that_finds_no_answer_to_lose_says_so() -> None:
    found = failures(memory(adapter="liar", plugins=[LIARS[41]({})]), numbered(43))
    assert "no answer was lost: what is sent shows no job ids" in found[43]


def test_a_worker_that_there_is_not_is_an_error() -> None:
    bench = Bench(memory())
    with pytest.raises(LookupError, match=r"kit\.nothing"):
        bench.new("def", "ok", worker="kit.nothing")
    bench.close()


# -- adapters that can do little ---------------------------------------------------------------------


class Modest(Liar):
    """Declares nothing, and refuses what it then can't do."""

    capabilities: Any = frozenset[Capability]()

    def check(self, job: Job) -> None:
        super().check(job)
        if job.given_id:
            raise InvalidOptionError("job_id", "this adapter can't tell whether an id is taken")


GATED = numbered(5, 8, 12, 18, 35, 36, 37, 38, 39, 41, 42)


def test_an_adapter_that_declares_nothing_passes() -> None:
    assert failures(memory(adapter="liar", plugins=[Modest({})]), GATED) == {}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (frozenset(["teleport"]), "capabilities that there are not"),
        (["results"], "the type of capabilities"),
        (frozenset(["dead_jobs"]), "methods that an adapter with 'dead_jobs' lacks"),
    ],
)
def test_capabilities_that_can_not_be_are_told(declared: Any, said: str) -> None:
    class Boasting(Modest):
        capabilities = declared
        purge: Any = None

    found = failures(memory(adapter="liar", plugins=[Boasting({})]), numbered(42))
    assert said in found[42]


# -- worker processes --------------------------------------------------------------------------------


def test_killing_worker_processes_leaves_none_of_their_session(tmp_path: Path) -> None:
    mark = tmp_path / "forked"
    code = f"import os, time; os.fork() or (os.setpgrp(), open({str(mark)!r}, 'w')); time.sleep(60)"
    processes = tree(tmp_path, python(code))
    processes.start()
    wait_for(mark)
    sessions = {process.pid for process in processes._running}
    assert len(living(sessions)) == 2
    processes.kill()
    assert living(sessions) == []
    processes.close()


def test_worker_processes_that_end_are_started_again(tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    code = f"import pathlib; pathlib.Path({str(once)!r}).exists() and pathlib.Path({str(again)!r}).touch()"
    processes = tree(tmp_path, python(f"{code}; pathlib.Path({str(once)!r}).touch()"))
    processes.start()
    wait_for(again)
    processes.close()


def test_worker_processes_that_ignore_sigterm_are_reported_and_killed(tmp_path: Path) -> None:
    mark = tmp_path / "deaf"
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    processes = tree(tmp_path, python(f"{code} open({str(mark)!r}, 'w'); time.sleep(60)"))
    processes.start()
    wait_for(mark)
    with pytest.raises(AssertionError, match=r"did not end 0\.5 s after SIGTERM"):
        processes.stop(0.5)
    assert living({process.pid for process in processes._running}) == []
    processes.close()


def test_processes_are_found_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ps = tmp_path / "ps"
    ps.write_text(f"#!/bin/sh\necho '{os.getpid()} R+'\necho '1 Z'\n")
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert living({os.getsid(0)}, proc=tmp_path) == [os.getpid()]


def test_the_rules_are_listed_with_their_statements() -> None:
    command = [sys.executable, "-m", "sigra_workers.conformance"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert listed.splitlines() == [f"R{rule.number:02}: {rule.statement}" for rule in RULES]
