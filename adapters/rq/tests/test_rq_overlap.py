"""A job that is delivered twice: never two runs at once, and none after its end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from adapters.rq.tests.support import Harness
from rq.job import Job as RqJob
from rq.queue import Queue
from rq.worker import SimpleWorker
from tests.queues.harness import eventually, script

from sigra_workers import Error, Ok, Snooze
from sigra_workers.store import Store, turn
from sigra_workers_rq import process, wire

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

    def claim(self, job_id: str, owner: str, seconds: float = 60) -> None:
        """Claim the job in another's name."""
        alone = wire.alone(self.rq.payload(job_id))
        lapses = {"until": time.time() + seconds, "doubted": owner if seconds < 60 else ""}
        fields = {"turn": turn(alone), "owner": owner, "starts": 1, **lapses}
        self.rq.connection.hset(self.rq.record(job_id), mapping=fields)

    def owner(self, job_id: str) -> bytes | None:
        """Who claims the job."""
        found: bytes | None = self.rq.connection.hget(self.rq.record(job_id), "owner")
        return found


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
    assert here.rq.status(job_id) == "finished"
    assert [result.type.name for result in here.rq.results(job_id)] == ["SUCCESSFUL"]
    assert 400 < here.rq.connection.ttl(copy.key) <= 500


def test_a_job_that_ended_and_was_requeued_without_its_mark_runs_anew(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Error("no")), max_attempts=1)
    before = here.rq.job(job_id).meta
    here.run()
    lost = here.rq.job(job_id)
    lost.meta = before  # as RQ may, that writes what it read earlier
    lost.save()
    lost.requeue()
    here.run()  # sends it again
    here.run()
    assert runs == [1, 1]
    assert here.rq.payload(job_id).resends == 1


def test_a_copy_read_before_the_job_was_deleted_does_not_run_it(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok()))
    copy = here.take()
    here.rq.job(job_id).delete()
    here.run(copy)
    assert runs == []
    assert not here.rq.connection.exists(f"rq:job:{job_id}")


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


def test_a_job_that_is_sent_again_while_it_runs_waits_for_that_run_and_is_dropped_after_it(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []

    def perform(scope: Any, args: Any) -> Any:
        note(runs, None)
        here.rq.host.workers.enqueue(job)  # as a sender does that was told unknown
        here.run()
        assert f"job {job.id} is still running" in caplog.text
        return Ok("once")

    here.rq.host.sync.implement(perform)
    job = here.rq.host.sync.new(script())
    here.rq.host.workers.enqueue(job)
    here.run()
    assert here.rq.places(job.id) >= {"finished", "scheduled"}
    here.deliver_again(job.id)  # it would wait for 15 s
    here.run()
    assert runs == [1]
    assert here.rq.status(job.id) == "finished"
    assert here.rq.job(job.id).return_value() == "once"


@pytest.mark.parametrize(("result", "ended"), [(Ok(), "finished"), (Error("no"), "failed")], ids=str)
def test_a_job_that_is_sent_again_after_its_end_stays_as_it_ended(
    here: Here, result: object, ended: str
) -> None:
    runs: list[int] = []

    def perform(scope: Any, args: Any) -> Any:
        return note(runs, result)

    here.rq.host.sync.implement(perform)
    job = here.rq.host.sync.new(script(), max_attempts=1)
    for _ in range(2):
        here.rq.host.workers.enqueue(job)
        here.run()
        assert runs == [1]
        assert here.rq.status(job.id) == ended


def test_an_id_that_is_used_anew_while_its_job_runs_waits_and_runs_after_it(here: Here) -> None:
    runs: list[int] = []
    job_id = f"{here.rq.prefix}-id"

    def perform(scope: Any, args: Any) -> Any:
        if note(runs, len(runs)) == 0:
            here.rq.job(job_id).delete()
            here.rq.host.sync.enqueue(script(), job_id=job_id)
            here.run()
            assert runs == [1]
        return Ok()

    here.enqueue(perform, job_id=job_id)
    here.run()
    here.deliver_again(job_id)  # it would wait for 15 s
    here.run()
    assert runs == [1, 1]


@pytest.mark.parametrize("readable", [True, False], ids=["readable", "unreadable"])
def test_a_copy_of_a_dead_job_leaves_it_as_it_is(
    here: Here, caplog: pytest.LogCaptureFixture, readable: bool
) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Error("no")), max_attempts=1)
    if not readable:
        here.rq.connection.hset(f"rq:job:{job_id}", "meta", "{}")
    here.run()
    here.deliver_again(job_id)
    caplog.clear()
    here.run()
    assert len(runs) == readable
    assert here.rq.places(job_id) == {"failed"}
    assert here.rq.status(job_id) == "failed"
    assert [result.type.name for result in here.rq.results(job_id)] == ["FAILED"]
    assert here.rq.connection.ttl(f"rq:job:{job_id}") > 364 * 86_400
    assert f"job {job_id} is dead: this copy of it is dropped" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]  # reported once


def test_a_copy_of_a_job_that_is_dead_for_ever_leaves_it_so(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Error("no"), max_attempts=1, native={"failure_ttl": -1})
    here.run()
    here.deliver_again(job_id)
    here.run()
    assert here.rq.connection.ttl(f"rq:job:{job_id}") == -1


def test_a_copy_that_waits_leaves_the_count_to_the_run_that_goes_on(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok())
    copy = here.take()
    here.claim(job_id, f"elsewhere {os.getpid()} x")
    here.rq.connection.hset(copy.key, "retries_left", 99)  # as the run that goes on ends just now
    here.run(copy)
    assert here.rq.places(job_id) == {"scheduled"}
    assert here.rq.job(job_id).retries_left == 99


def test_the_claim_lasts_until_the_decision_is_there(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = here.enqueue(lambda scope, args: Snooze(60))
    between: list[bool] = []
    handle = here.worker.handle_job_retry

    def look(*args: Any, **more: Any) -> None:
        between.append(bool(here.owner(job_id)))
        handle(*args, **more)

    monkeypatch.setattr(here.worker, "handle_job_retry", look)
    here.run()
    assert between == [True]
    assert here.rq.places(job_id) == {"scheduled"}
    assert here.owner(job_id) is None


@pytest.mark.parametrize("result", [Ok("x"), Error("no"), Snooze(1), None], ids=repr)
def test_a_run_that_ended_leaves_no_claim(here: Here, result: object) -> None:
    job_id = here.enqueue(lambda scope, args: result)
    here.run()
    assert not here.rq.connection.exists(here.rq.record(job_id))


@pytest.mark.parametrize("options", [{"result_ttl": 0}, {"failure_ttl": 0}], ids=str)
def test_a_run_that_leaves_nothing_behind_leaves_no_claim(here: Here, options: dict[str, int]) -> None:
    result = Ok() if "result_ttl" in options else Error("no")
    job_id = here.enqueue(lambda scope, args: result, max_attempts=1, native=options)
    record = here.rq.record(job_id)
    here.run()
    assert not here.rq.connection.exists(f"rq:job:{job_id}")
    assert not here.rq.connection.exists(record)


# -- whose claim it is ---------------------------------------------------------------------------------


def test_a_run_whose_process_died_is_taken_over_at_once(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok("done"))
    host, *_ = Store.token().split()
    here.claim(job_id, f"{host} {gone_pid()} x")
    here.run()
    assert here.rq.job(job_id).return_value() == "done"


def test_the_claim_of_another_host_holds_until_it_expires(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok("done"))
    here.claim(job_id, f"elsewhere {gone_pid()} x", seconds=0.7)
    here.run()
    assert here.rq.places(job_id) == {"scheduled"}

    time.sleep(0.7)
    here.deliver_again(job_id)
    here.run()
    assert here.rq.job(job_id).return_value() == "done"


def test_a_job_that_is_sent_again_by_a_clock_that_is_behind_runs(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok()), job_id=f"{here.rq.prefix}-id")
    here.run()
    here.rq.job(job_id).delete()
    adapter: Any = here.rq.host.workers.adapter
    adapter.clock = lambda: time.time() - 600
    here.rq.host.sync.enqueue(script(), job_id=job_id)
    here.run()
    assert runs == [1, 1]


def test_a_job_that_was_seen_being_begun_is_not_taken_for_stuck_later(here: Here) -> None:
    job_id = here.enqueue(lambda scope, args: Ok("done"))
    intermediate = here.rq.rq_queue().intermediate_queue
    job = here.take()
    intermediate.cleanup(here.worker, here.rq.rq_queue())
    assert intermediate.get_first_seen(job_id)
    here.run(job)
    assert intermediate.get_first_seen(job_id) is None


def test_a_run_that_is_interrupted_lets_the_next_begin_at_once(here: Here) -> None:
    def interrupted(scope: Any, args: Any) -> Any:
        raise KeyboardInterrupt

    job_id = here.enqueue(interrupted)
    here.run()
    assert here.owner(job_id) is None
    assert here.rq.places(job_id) == {"queued"}
