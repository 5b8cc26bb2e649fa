"""What dies in mid-job loses nothing: worker processes and Redis itself, killed; SIGTERM."""

import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from adapters.arq.tests.support import Harness, harness
from tests.queues.harness import RedisServer, eventually, script

pytestmark = [pytest.mark.integration, pytest.mark.slow]
KINDS: Final = ("sync", "async")
LEASE: Final = 10.0
"""Seconds that arq's key of a running job outlives its process."""


def test_jobs_of_a_killed_process_run_again_with_the_crash_counted(
    arq: Harness, record_property: Any
) -> None:
    refs = [handle.enqueue(script("hold:never ok", "ok:done")) for handle in arq.host.handles.values()]
    worker = arq.worker()
    eventually(lambda: len(arq.runs()) == 2, "the jobs to run")
    time.sleep(LEASE / 2)  # its keys have been renewed by then
    worker.kill()
    killed = time.time()
    arq.worker()
    for ref in refs:
        arq.wait(ref.id, "finished")
        assert arq.turns(ref.id) == [(1, 0), (2, 0)]
    back = [arq.runs(ref.id)[-1]["at"] - killed for ref in refs]
    record_property("back after", f"{min(back):.1f} to {max(back):.1f} s")
    print(f"back after {min(back):.1f} to {max(back):.1f} s")
    assert max(back) < LEASE + 5


def test_a_job_that_kills_its_process_each_time_is_dead_after_its_attempts(arq: Harness) -> None:
    ref = arq.host.sync.enqueue(script("kill"), max_attempts=2)
    for _ in range(2):
        assert arq.worker().popen.wait(40) == -9
    arq.worker()
    arq.wait(ref.id, "failed", seconds=40)
    assert arq.turns(ref.id) == [(1, 0), (2, 0)]
    (job,) = arq.host.workers.dead(ids=[ref.id])
    assert job.reason.startswith("crashed")
    assert job.attempts == 2


ENDINGS: Final = {
    "ok:done": "finished",
    "error:no": "waiting",
    "snooze:900": "waiting",
    "cancel:no": "failed",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_outlives_a_redis_that_dies_meanwhile(
    arq: Harness, redis_server: Callable[..., RedisServer], kind: str, tmp_path: Any
) -> None:
    server = redis_server("--appendonly", "yes", "--appendfsync", "always")
    (tmp_path / "private").mkdir()
    with harness(tmp_path / "private", server.url) as found:
        refs = {
            step: found.host.handles[kind].enqueue(script(f"hold:go {step}"), backoff=900) for step in ENDINGS
        }
        worker = found.worker()
        eventually(lambda: len(found.runs()) == len(refs), "all jobs to run")
        server.process.kill()
        (found.folder / "go").touch()
        worker.logged("waits for Redis: ")
        time.sleep(1)  # for arq to see it too
        server.start()
        assert worker.popen.wait(30) == 1  # for its supervisor to start it anew
        found.worker()
        for step, ref in refs.items():
            found.wait(ref.id, ENDINGS[step])
        assert found.turns(refs["ok:done"].id) == [(1, 0)]  # the decisions were kept, nothing ran again
        assert len(found.runs()) == len(refs)
        assert found.payload(refs["error:no"].id).attempt == 2
        assert found.payload(refs["snooze:900"].id).snoozes == 1
        assert [job.id for job in found.host.workers.dead()] == [refs["cancel:no"].id]


def test_a_process_ends_on_sigterm_though_redis_refuses_its_decisions(
    redis_server: Callable[..., RedisServer], tmp_path: Any
) -> None:
    server = redis_server()
    (tmp_path / "private").mkdir()
    with harness(tmp_path / "private", server.url) as found:
        refs = [handle.enqueue(script("hold:go ok:done")) for handle in found.host.handles.values()]
        worker = found.worker(job_completion_wait=1)
        eventually(lambda: len(found.runs()) == 2, "the jobs to run")
        found.connection.config_set("maxmemory", 1)
        (found.folder / "go").touch()
        worker.logged("waits for Redis: OutOfMemoryError")
        worker.popen.terminate()
        worker.popen.wait(15)
        found.connection.config_set("maxmemory", 0)
        found.worker()
        for ref in refs:
            found.wait(ref.id, "finished")
            assert found.turns(ref.id) == [(1, 0), (2, 0)]


def test_a_process_waits_for_its_jobs_on_sigterm(arq: Harness) -> None:
    refs = [handle.enqueue(script("hold:go ok:done")) for handle in arq.host.handles.values()]
    worker = arq.worker()
    eventually(lambda: len(arq.runs()) == 2, "the jobs to run")
    worker.popen.terminate()
    worker.logged("2 to be completed")
    (arq.folder / "go").touch()
    assert worker.popen.wait(30) in (0, 1)
    for ref in refs:
        assert arq.status(ref.id) == "finished"
        assert arq.turns(ref.id) == [(1, 0)]


def test_jobs_cut_off_by_sigterm_run_again_at_once_with_the_crash_counted(arq: Harness) -> None:
    refs = {kind: arq.host.handles[kind].enqueue(script("sleep:2", "ok:done")) for kind in KINDS}
    worker = arq.worker(job_completion_wait=0)
    eventually(lambda: len(arq.runs()) == 2, "the jobs to run")
    worker.popen.terminate()
    worker.popen.wait(30)
    stopped = time.time()
    arq.worker()
    for ref in refs.values():
        arq.wait(ref.id, "finished")
        assert arq.turns(ref.id) == [(1, 0), (2, 0)]
        assert arq.runs(ref.id)[-1]["at"] - stopped < LEASE - 2
    sync_ended = arq.runs(refs["sync"].id)[0]["at"] + 2
    assert stopped >= sync_ended  # a body in a thread is waited for: no two runs at once
