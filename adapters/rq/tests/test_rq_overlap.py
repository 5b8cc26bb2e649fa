"""A job that is delivered twice: never two runs at once, and none after its end."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from adapters.rq.tests.support import Harness, eventually, script
from rq.job import Job as RqJob
from rq.queue import Queue
from rq.worker import SimpleWorker

from sigra_workers import Error, Ok, Snooze
from sigra_workers_rq import claims, process, wire

pytestmark = pytest.mark.integration
Perform = Callable[[Any, Any], Any]


@dataclass
class Here:
    """RQ's worker in this process, a step at a time: it takes a job from the queue, later it runs it."""

    rq: Harness
    worker: SimpleWorker

    def enqueue(self, perform: Perform, **options: Any) -> str:
        """Send a job that does that."""
        self.rq.host.sync.implement(perform)
        return self.rq.host.sync.enqueue(script(), **options).id

    def take(self) -> RqJob:
        """The next job of the queue, read from Redis now."""
        found = Queue.dequeue_any(
            [self.rq.rq_queue()], None, connection=self.rq.connection, serializer="json"
        )
        assert found is not None
        return found[0]

    def run(self, job: RqJob | None = None) -> None:
        self.worker.execute_job(job or self.take(), self.rq.rq_queue())

    def deliver_again(self, job_id: str) -> None:
        """Leave a copy in the queue, as an outage may."""
        self.rq.connection.rpush(self.rq.rq_queue().key, job_id)

    def claim(self, job_id: str, owner: str, milliseconds: int = 60_000) -> None:
        """Claim the job in another's name."""
        self.rq.connection.set(claims.KEY + job_id, owner, px=milliseconds)


@pytest.fixture
def here(rq: Harness, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(process, "_bound", [rq.host.workers])
    name = f"{rq.prefix}-here"
    return Here(rq, SimpleWorker([rq.rq_queue()], name=name, connection=rq.connection, serializer="json"))


def note(runs: list[int], result: object) -> object:
    """One more run, and how it ends."""
    runs.append(1)
    return result


def gone_pid() -> int:
    """The id of a process that is dead."""
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        popen.wait()
    return popen.pid


# -- on the real worker --------------------------------------------------------------------------------


def test_a_second_delivery_waits_while_the_job_runs_and_is_dropped_after_it(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("hold:gate ok:once", "ok:twice"))
    workers = [rq.worker(), rq.worker()]
    eventually(lambda: rq.runs(ref.id), "the job to run")

    rq.connection.rpush(rq.rq_queue().key, ref.id)
    eventually(
        lambda: any(f"job {ref.id} is still running" in worker.log for worker in workers), "a second run"
    )
    assert len(rq.runs(ref.id)) == 1
    eventually(lambda: rq.places(ref.id) >= {"started", "scheduled"}, "the copy to wait")

    (rq.folder / "gate").touch()
    rq.wait(ref.id, "finished")
    scheduled = rq.rq_queue().scheduled_job_registry
    rq.connection.zadd(scheduled.key, {ref.id: 0}, xx=True)  # it would wait for 15 s
    eventually(lambda: any(f"{ref.id} completed already" in worker.log for worker in workers), "its drop")
    rq.wait(ref.id, "finished")
    assert len(rq.runs(ref.id)) == 1
    assert rq.job(ref.id).return_value() == "once"
    assert rq.job(ref.id).retries_left == wire.SETTLED
    assert rq.places(ref.id) == {"finished"}


# -- a copy that RQ read before the job went on --------------------------------------------------------


def test_a_copy_read_before_the_job_completed_does_not_run_it(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok("once")))
    here.deliver_again(job_id)
    copy = here.take()
    here.run()
    here.run(copy)
    assert runs == [1]
    assert here.rq.job(job_id).return_value() == "once"
    assert here.rq.job(job_id).retries_left == wire.SETTLED


def test_a_copy_read_before_the_job_was_deleted_does_not_run_it(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok()))
    copy = here.take()
    here.rq.job(job_id).delete()
    here.run(copy)
    assert runs == []


def test_a_copy_read_before_the_job_failed_does_not_repeat_its_attempt(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Error("no")), backoff=60)
    here.deliver_again(job_id)
    copy = here.take()
    here.run()
    here.run(copy)  # attempt 2 is not due
    assert runs == [1]
    assert here.rq.payload(job_id).attempt == 2
    assert here.rq.places(job_id) == {"scheduled"}


def test_a_copy_of_a_dead_job_does_not_bring_it_back(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Error("no")), max_attempts=1)
    here.run()
    here.deliver_again(job_id)
    here.run()
    assert runs == [1]
    assert here.rq.places(job_id) == {"failed"}
    assert "is dead: no" in here.rq.error(job_id)
    assert here.rq.payload(job_id).resends == 0


def test_a_copy_that_waits_leaves_the_count_to_the_run_that_goes_on(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok())
    copy = here.take()
    here.claim(job_id, f"elsewhere {os.getpid()} x")
    here.rq.connection.hset(copy.key, "retries_left", wire.SETTLED)  # as the run that goes on ends just now
    here.run(copy)
    assert here.rq.places(job_id) == {"scheduled"}
    assert here.rq.job(job_id).retries_left == wire.SETTLED


def test_the_claim_lasts_until_the_decision_is_there(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = here.enqueue(lambda scope, args: Snooze(60))
    between: list[bool] = []
    handle = here.worker.handle_job_retry

    def look(*args: Any, **more: Any) -> None:
        between.append(bool(here.rq.connection.exists(claims.KEY + job_id)))
        handle(*args, **more)

    monkeypatch.setattr(here.worker, "handle_job_retry", look)
    here.run()
    assert between == [True]
    assert here.rq.places(job_id) == {"scheduled"}
    assert not here.rq.connection.exists(claims.KEY + job_id)


@pytest.mark.parametrize("result", [Ok("x"), Error("no"), Snooze(1), None], ids=repr)
def test_a_run_that_ended_leaves_no_claim(here: Here, result: object) -> None:
    job_id = here.enqueue(lambda scope, args: result)
    here.run()
    assert not here.rq.connection.exists(claims.KEY + job_id)


# -- whose claim it is ---------------------------------------------------------------------------------


def test_the_claim_of_a_dead_process_on_this_host_is_taken_over_at_once(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok("done"))
    here.claim(job_id, f"{claims._host()} {gone_pid()} x")
    here.run()
    assert here.rq.job(job_id).return_value() == "done"


def test_the_claim_of_a_live_process_on_this_host_is_respected(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok("done"))
    here.claim(job_id, f"{claims._host()} {os.getpid()} x")
    here.run()
    assert here.rq.places(job_id) == {"scheduled"}


def test_a_process_of_another_user_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not claims._is_dead(f"{claims._host()} {gone_pid()} x")


def test_a_system_without_process_namespaces_still_names_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", missing)
    assert claims._host() == f"{socket.gethostname()}/-"
    assert claims._is_dead(f"{claims._host()} {gone_pid()} x")


def test_the_claim_of_another_host_holds_until_it_expires(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok("done"))
    here.claim(job_id, f"{socket.gethostname()}/pid:[1] {gone_pid()} x", milliseconds=700)
    here.run()
    assert here.rq.places(job_id) == {"scheduled"}

    eventually(lambda: not here.rq.connection.exists(claims.KEY + job_id), "the claim to expire")
    here.deliver_again(job_id)
    here.run()
    assert here.rq.job(job_id).return_value() == "done"


def test_a_claim_is_renewed_while_its_block_runs(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SECONDS", 0.3)
    with claims.claim(here.rq.connection, here.rq.prefix) as token:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert here.rq.connection.get(claims.KEY + here.rq.prefix) == (token or "").encode()
            time.sleep(0.05)
    eventually(
        lambda: not here.rq.connection.exists(claims.KEY + here.rq.prefix), "it to end after the block"
    )


def test_a_claim_that_another_has_now_is_left_alone(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SECONDS", 0.3)
    connection, name = here.rq.connection, here.rq.prefix
    with claims.claim(connection, name) as token:
        here.claim(name, "elsewhere 1 x")
        time.sleep(0.3)  # it tries to renew its own
    assert token is not None
    claims.release(connection, name, token)
    claims._drop(connection, name, token.encode())
    assert connection.get(claims.KEY + name) == b"elsewhere 1 x"
    assert 50_000 < connection.pttl(claims.KEY + name) <= 60_000
    connection.delete(claims.KEY + name)
