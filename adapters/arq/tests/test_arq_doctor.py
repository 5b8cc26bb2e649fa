"""The doctor on arq: each check finds a broken set-up and passes a sound one, on real servers."""

import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from adapters.arq.tests.support import Harness, harness
from tests.examined import broken, passes, sound
from tests.losses.servers import free_port
from tests.queues.harness import Process, RedisServer, eventually, script

from arq_host.jobs import make_host
from sigra_workers import checks, store
from sigra_workers.checks import versions
from sigra_workers.doctor import examine

pytestmark = pytest.mark.integration
HERE = versions("sigra-workers-arq", "arq")
TOLD = {
    "versions": HERE,
    "our_tries": 2**31,
    "our_timeout": None,
    "max_tries": 5,
    "job_timeout": None,
    "job_completion_wait": 25,
    "retry_jobs": True,
    "poll_delay": 0.5,
}
"""What a process tells, nothing else."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A worker process for each queue, as the README has them."""
    with harness(tmp_path_factory.mktemp("host")) as found:
        found.worker(ready=False)
        found.worker(boot="arq_host.arq_lifecycle_other", ready=False)
        eventually(lambda: passes(found.host.workers, "queues.consumed"), "both processes")
        yield found


def edited(arq: Harness, **edits: Any) -> Process:
    """A worker process whose settings were changed behind `boot`."""
    process = arq.worker(boot="arq_host.arq_lifecycle_edited", environment={"HOST_EDITS": json.dumps(edits)})
    eventually(lambda: pids(arq), "the process to tell of itself")
    return process


def pids(arq: Harness) -> list[int]:
    """The live processes that announced themselves on our queue."""
    return [process.pid for process in arq.adapter.store.processes() if arq.queue in process.queues]


def heard_of(arq: Harness) -> float:
    """When the process of our queue last announced itself."""
    (at,) = (process.at for process in arq.adapter.store.processes() if arq.queue in process.queues)
    return at


def announce(arq: Harness, **facts: Any) -> None:
    """A process of another host."""
    command = arq.adapter.store.announce(f"{arq.prefix} 1", [arq.queue, arq.other_queue], {**TOLD, **facts})
    arq.connection.eval(*command)


@pytest.fixture
def told_of(private_arq: Harness) -> Harness:
    """A Redis of its own, as announcements outlive a test in a shared one."""
    return private_arq


# -- Redis -----------------------------------------------------------------------------------------------


def test_a_redis_that_is_away_is_a_problem_and_the_other_checks_wait_for_it() -> None:
    workers = make_host({"url": f"redis://:secret@127.0.0.1:{free_port()}/0"}).workers
    assert "Redis does not answer (ConnectionError" in broken(workers, "redis.reachable")
    rest = [one for one in examine(workers) if one.check.startswith(("redis", "queues", "arq", "processes"))]
    assert {one.finding.status for one in rest[1:]} == {"unknown"}
    assert "secret" not in repr(rest)


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        ("redis.persistence", ("--appendonly", "no"), ("--appendonly", "yes", "--appendfsync", "always")),
        (
            "redis.eviction",
            ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"),
            ("--maxmemory", "50mb"),
        ),
    ],
)
def test_redis_is_looked_at(
    redis_server: Callable[..., RedisServer], check: str, bad: tuple[str, ...], good: tuple[str, ...]
) -> None:
    assert broken(make_host({"url": redis_server(*bad).url}).workers, check)
    workers = make_host({"url": redis_server(*good).url}).workers
    assert sound(workers, check)
    assert sound(workers, "redis.reachable")


def test_a_clock_that_is_not_that_of_redis_is_found(arq: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sound(arq.host.workers, "redis.clock")
    monkeypatch.setattr(checks, "time", SimpleNamespace(time=lambda: time.time() + 90))
    assert "90.0 s behind this host's" in broken(arq.host.workers, "redis.clock", "warning")


# -- worker processes ------------------------------------------------------------------------------------


def test_a_queue_without_a_worker_process_is_found(arq: Harness) -> None:
    told = broken(arq.host.workers, "queues.consumed")
    for queue in (arq.queue, arq.other_queue):
        assert f"no live worker process consumes queue {queue!r}: its jobs wait" in told
        assert f'arq app.arq_lifecycle.WorkerSettings, with boot("app.jobs:workers", queue="{queue}")' in told
    ours = ("arq.max_tries", "arq.completion_wait", "arq.timeouts", "arq.poll_delay")
    for check in ("processes.versions", "processes.clock", *ours):
        assert "no live worker process tells" in broken(arq.host.workers, check, "unknown")


def test_worker_processes_as_the_readme_has_them_are_sound(served: Harness) -> None:
    workers = served.host.workers
    assert f"{served.queue} by 1, {served.other_queue} by 1" in sound(workers, "queues.consumed")
    assert sound(workers, "processes.versions")
    assert sound(workers, "processes.clock")
    assert (
        sound(workers, "arq.max_tries")
        == "max_tries is no limit for our jobs, and 5 for functions of your own"
    )
    assert sound(workers, "arq.completion_wait") == "job_completion_wait is 25 s"
    assert "job_timeout is none for our jobs, and 300 s for functions" in sound(workers, "arq.timeouts")
    assert sound(workers, "arq.poll_delay") == "poll_delay is 0.05 s"
    found = [process for process in served.adapter.store.processes() if served.queue in process.queues]
    assert [{*process.facts} for process in found] == [{*TOLD}]


def test_a_worker_process_that_ended_consumes_nothing(arq: Harness) -> None:
    process = arq.worker()
    assert eventually(lambda: pids(arq), "the process to tell of itself") == [process.pid]
    process.stop()
    assert pids(arq) == []
    assert f"queue {arq.queue!r}" in broken(arq.host.workers, "queues.consumed")


def test_a_plain_arq_process_on_a_queue_of_ours_is_a_problem(arq: Harness) -> None:
    arq.worker(boot="arq_host.arq_without_boot")
    told = eventually(
        lambda: (
            "without `boot`" in broken(arq.host.workers, "queues.consumed")
            and broken(arq.host.workers, "queues.consumed")
        ),
        "arq's health check",
    )
    assert f"on queue {arq.queue!r}: it drops our jobs" in str(told)


def test_settings_changed_behind_boot_are_found_in_the_live_process(arq: Harness) -> None:
    process = edited(arq, tries=5, job_timeout=60, job_completion_wait=0, poll_delay=20, announced=0.2)
    workers = arq.host.workers
    told = broken(workers, "arq.max_tries")
    assert f"process {process.pid} on " in told
    assert "starts a job at most 5 times: then arq drops it" in told
    assert "job_timeout=60 behind `boot`: arq drops a job that takes longer" in broken(
        workers, "arq.timeouts"
    )
    told = broken(workers, "arq.completion_wait")
    assert "job_completion_wait=0: each stop costs its jobs an attempt" in told
    assert "boot(..., job_completion_wait=25)" in told
    assert "begins up to 20 s late" in broken(workers, "arq.poll_delay", "warning")
    at = heard_of(arq)
    eventually(lambda: heard_of(arq) > at, "it to tell again")


def test_a_process_that_does_not_retry_is_found(arq: Harness) -> None:
    edited(arq, retry_jobs=False)
    assert "has retry_jobs=False: arq drops a job" in broken(arq.host.workers, "arq.max_tries")


def test_a_process_without_our_function_is_found(arq: Harness) -> None:
    edited(arq, functions=["arq_host.plain.add"])
    assert "starts a job at most 0 times" in broken(arq.host.workers, "arq.max_tries")


def test_a_process_of_another_version_is_found(told_of: Harness) -> None:
    announce(told_of)
    assert sound(told_of.host.workers, "processes.versions")
    announce(told_of, versions={**HERE, "arq": "0.27.0"})
    told = broken(told_of.host.workers, "processes.versions", "warning")
    assert f"runs arq 0.27.0 (here {HERE['arq']})" in told


def test_a_process_with_another_clock_is_found(told_of: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(told_of)
    assert sound(told_of.host.workers, "processes.clock")
    with monkeypatch.context() as patch:
        patch.setattr(store, "time", SimpleNamespace(time=lambda: time.time() + 90))
        announce(told_of)
    assert "90.0 s ahead of that of Redis" in broken(told_of.host.workers, "processes.clock", "warning")


def test_a_job_runs_though_redis_refuses_what_its_process_announces(told_of: Harness) -> None:
    allowed = ("~arq:*", "~sigra-workers:arq:run:*", "~sigra-workers:arq:id:*", f"~{told_of.prefix}*")
    told_of.connection.execute_command("ACL", "SETUSER", "default", "resetkeys", *allowed)
    process = told_of.worker()
    ref = told_of.host.sync.enqueue(script("ok"))
    assert told_of.wait(ref.id) == "finished"
    assert process.stop() == 0
    told_of.connection.execute_command("ACL", "SETUSER", "default", "allkeys")
    assert pids(told_of) == []


def test_the_doctor_changes_nothing_in_redis(private_arq: Harness) -> None:
    private_arq.host.sync.enqueue(script("ok"))
    before = sorted(private_arq.connection.keys())
    assert [*examine(private_arq.host.workers)]
    assert sorted(private_arq.connection.keys()) == before
