"""What is SQLite's here: the file, a fork, a lease that was lost."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sigra_workers import (
    DeadJobs,
    EnqueueError,
    InvalidOptionError,
    InvalidSettingsError,
    Payload,
    TenantArgs,
    WorkerHandle,
    Workers,
)
from sigra_workers_toy import ToyAdapter
from sigra_workers_toy.process import LEASE

T = TypeVar("T")

APP = """
import os
import time

from sigra_workers import Ok, Snooze, Workers, current_job

workers = Workers(adapter="toy", settings={"path": "jobs.sqlite"})


@workers.worker(name="slow", max_attempts=5)
def slow(scope, args):
    with open("pids", "a") as pids:
        print(os.getpid(), file=pids)
    time.sleep(args["seconds"])
    return Ok("done") if current_job().attempt == 1 else Snooze(3600)


KEYS = {"organization_id": "org-1", "actor_id": None, "seconds": 0}
"""


class SlowArgs(TenantArgs):
    seconds: float


Slow = WorkerHandle[Any, SlowArgs, Any]
Start = Callable[[], "subprocess.Popen[str]"]


def lasting(seconds: float) -> SlowArgs:
    """Args of a job that takes so long."""
    return {"organization_id": "org-1", "actor_id": None, "seconds": seconds}


@pytest.fixture
def workers(tmp_path: Path) -> Generator[Workers[Any]]:
    """A sender, on the file of the worker processes."""
    (tmp_path / "app.py").write_text(APP)
    with Workers[Any](adapter="toy", settings={"path": str(tmp_path / "jobs.sqlite")}) as workers:
        yield workers


@pytest.fixture
def slow(workers: Workers[Any]) -> Slow:
    """The handle of the worker."""
    return workers.declare("slow", SlowArgs)


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    """Starts a worker process, whose log is its stderr."""
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "sigra_workers_toy", "app:workers"]
        started.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def eventually(look: Callable[[], T], fits: Callable[[T], bool]) -> T:
    """What is seen as soon as it fits; fails the test when it does not in time."""
    end = time.monotonic() + 60
    while not fits(found := look()):
        assert time.monotonic() < end, f"last saw {found!r}"
        time.sleep(0.02)
    return found


def pids(folder: Path) -> list[int]:
    """The processes that began a job, in order."""
    file = folder / "pids"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def begun(folder: Path, runs: int) -> list[int]:
    """The same, once they are as many."""
    return eventually(lambda: pids(folder), lambda found: len(found) == runs)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Somebody else has the file to himself."""
    with closing(sqlite3.connect(folder / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def test_a_job_that_outlasts_its_lease_runs_once(
    tmp_path: Path, workers: Workers[Any], slow: Slow, start: Start
) -> None:
    job = slow.enqueue(lasting(LEASE + 2))
    start()
    begun(tmp_path, 1)
    start()
    result = eventually(lambda: ToyAdapter.of(workers).result(job.id), lambda found: found is not None)
    assert (result, len(pids(tmp_path))) == ("done", 1)


def test_a_process_that_could_not_renew_a_lease_does_not_run_the_job_twice(
    tmp_path: Path, workers: Workers[Any], slow: Slow, start: Start
) -> None:
    job = slow.enqueue(lasting(LEASE + 4))
    start()
    begun(tmp_path, 1)
    with locked(tmp_path):
        time.sleep(LEASE + 1.5)
    result = eventually(lambda: ToyAdapter.of(workers).result(job.id), lambda found: found is not None)
    assert (result, len(pids(tmp_path))) == ("done", 1)


def test_a_run_that_lost_its_lease_changes_nothing(
    tmp_path: Path, workers: Workers[Any], slow: Slow, start: Start
) -> None:
    job = slow.enqueue(lasting(1))
    first = start()
    begun(tmp_path, 1)
    first.send_signal(signal.SIGSTOP)
    second = start()
    assert begun(tmp_path, 2) == [first.pid, second.pid]
    second.terminate()
    assert second.wait(30) == 0  # its run ended first, by a snooze
    first.send_signal(signal.SIGCONT)
    first.terminate()
    _, log = first.communicate(timeout=30)
    assert f"job {job.id} went on without this run, whose decision is dropped" in log
    assert ToyAdapter.of(workers).result(job.id) is None
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as file:
        ((ready_at, payload),) = file.execute("SELECT ready_at, payload FROM jobs")
    assert ready_at > time.time() + 3_000
    assert (Payload.parse(payload).attempt, Payload.parse(payload).snoozes) == (2, 1)


FORK = """
import os
import threading
import time

from app import KEYS, slow, workers

begun = threading.Event()
hold = lambda db: begun.set() or time.sleep(1)
thread = threading.Thread(target=workers.adapter.database.transaction, args=[hold])
thread.start()
begun.wait()
child = os.fork()
slow.enqueue(KEYS)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
slow.enqueue(KEYS)
thread.join()
"""


def test_both_sides_send_after_a_fork_in_the_middle_of_a_transaction(tmp_path: Path, slow: Slow) -> None:
    subprocess.run([sys.executable, "-c", FORK], cwd=tmp_path, check=True, timeout=60)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as file:
        assert file.execute("SELECT count(*) FROM jobs").fetchone() == (3,)


def test_a_file_that_is_locked_for_long_rejects_jobs(tmp_path: Path, slow: Slow) -> None:
    slow.enqueue(lasting(0))
    job = slow.new(lasting(0))
    with locked(tmp_path), pytest.raises(EnqueueError) as caught:
        slow.sender.enqueue(job)
    assert (caught.value.rejected, caught.value.unknown) == ((job.id,), ())
    assert str(caught.value.__cause__) == "database is locked"


def test_its_dead_jobs_are_what_the_protocol_says(workers: Workers[Any]) -> None:
    shelf: DeadJobs = ToyAdapter.of(workers)  # for the type checkers
    assert ([*shelf.dead_jobs({})], [*shelf.resend([])], shelf.purge([])) == ([], [], 0)


def test_a_native_option_is_refused(slow: Slow) -> None:
    with pytest.raises(InvalidOptionError, match="the toy adapter has none"):
        slow.new(lasting(0), native={"priority": 1})


@pytest.mark.parametrize(
    "settings", [{}, {"path": ""}, {"path": ":memory:"}, {"path": 3}, {"path": "jobs.sqlite", "url": "x"}]
)
def test_settings_that_can_not_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError, match="one setting"):
        _ = Workers[Any](adapter="toy", settings=settings).adapter
