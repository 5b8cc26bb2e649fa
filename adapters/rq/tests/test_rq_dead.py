"""Dead jobs as RQ's failed registries hold them: listed, sent again, purged; by us and by `rq requeue`."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from adapters.rq.tests.support import HOST_FOLDER, RQ, Harness
from redis import Redis
from rq import Queue
from rq.job import JobStatus
from rq.results import Result
from rq.worker import SimpleWorker
from tests.losses.servers import free_port
from tests.queues.harness import RedisServer, script
from tests.queues.host import Host

from rq_host.jobs import make_host
from rq_host.plain import add
from sigra_workers import (
    Cancel,
    DeadJob,
    EnqueueError,
    InvalidPayloadError,
    JobRef,
    NotDeadError,
    Resend,
    Unknown,
)
from sigra_workers_rq import RqAdapter, process

pytestmark = pytest.mark.integration


COMMAND = str(Path(sys.executable).with_name("sigra-workers"))


@dataclass
class Dead:
    """A host whose jobs die in this process."""

    rq: Harness
    workers: Any

    @property
    def adapter(self) -> RqAdapter:
        return RqAdapter.of(self.workers)

    def all(self, **filters: Any) -> list[DeadJob]:
        """Those of this test: the server is shared."""
        return [job for job in self.workers.dead(**filters) if (job.queue or "").startswith(self.rq.prefix)]

    def work(self) -> None:
        """Run what is queued."""
        queues = [self.rq.rq_queue(), self.rq.rq_queue(self.rq.other_queue)]
        SimpleWorker(
            queues, name=f"{self.rq.prefix}-{time.time()}", connection=self.rq.connection, serializer="json"
        ).work(burst=True, logging_level="WARNING")

    def die(self, *steps: str, handle: str = "sync", **keys: Any) -> str:
        """The id of a job that died by these steps."""
        options = keys.pop("options", {})
        ref = self.rq.host.handles[handle].enqueue(script(*(steps or ("cancel:no",)), **keys), **options)
        self.work()
        assert self.rq.status(ref.id) == "failed"
        return ref.id


@pytest.fixture
def dead(rq: Harness, monkeypatch: pytest.MonkeyPatch) -> Dead:
    monkeypatch.setattr(process, "_bound", [rq.host.workers])
    monkeypatch.setenv("HOST_DIR", str(rq.folder))
    implement(rq.host)
    return Dead(rq, rq.host.workers)


def implement(host: Host) -> None:
    from rq_host.implementations import steps  # it belongs to worker processes

    def perform(scope: Any, args: Any) -> Any:
        return steps.step(args["steps"][0])

    for handle in host.handles.values():
        handle.implement(perform)


# -- listed --------------------------------------------------------------------------------------------


def test_a_dead_job_tells_all_that_is_known_of_it(dead: Dead) -> None:
    before = datetime.now(UTC)
    job_id = dead.die("error:store is full", options={"max_attempts": 2}, organization_id=7, token="secret")
    (job,) = dead.all(ids=[job_id])
    assert (job.id, job.worker, job.queue) == (job_id, "steps.sync", dead.rq.queue)
    assert (job.organization_id, job.reason) == (7, "store is full")
    assert (job.attempts, job.max_attempts, job.snoozes, job.resends) == (2, 2, 0, 0)
    assert before <= job.died_at <= datetime.now(UTC)
    assert "DeadJobError" in (job.traceback or "")
    assert job.args["token"] == "secret"
    assert "secret" not in repr(job)


def test_a_traceback_leads_to_the_line_that_raised(dead: Dead) -> None:
    job_id = dead.die("raise:boom", options={"max_attempts": 1})
    (job,) = dead.all(ids=[job_id])
    assert job.reason == "RuntimeError: boom"
    assert 'implementations.py", line ' in (job.traceback or "")


def test_filters_find_jobs_latest_first(dead: Dead) -> None:
    first = dead.die(organization_id="org-1")
    middle = datetime.now(UTC)
    second = dead.die(organization_id=1, handle="async")
    third = dead.die(organization_id=None, options={"queue": dead.rq.other_queue})

    def found(**filters: Any) -> list[str]:
        return [job.id for job in dead.all(**filters)]

    assert found() == [third, second, first]
    assert found(organization=1) == [second]
    assert found(organization="1") == []
    assert found(organization=None) == [third]
    assert found(worker="steps.async") == [second]
    assert found(since=middle) == [third, second]
    assert found(since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert found(ids=[first, third, "nobody"]) == [third, first]
    assert found(ids=[first, second], worker="steps.sync") == [first]
    assert [job.id for job in dead.workers.dead(ids=[first, second], limit=1)] == [second]


def test_pages_are_of_no_account(dead: Dead, monkeypatch: pytest.MonkeyPatch) -> None:
    from sigra_workers_rq import dead as module

    monkeypatch.setattr(module, "_PAGE", 2)
    ids = [dead.die() for _ in range(5)]
    assert [job.id for job in dead.all()] == ids[::-1]
    assert [job.id for job in dead.all(ids=ids)] == ids[::-1]


def test_the_adapter_lists_them_itself_async(dead: Dead) -> None:
    job_id = dead.die()

    async def first() -> tuple[list[DeadJob], list[JobRef], int]:
        found = await dead.workers.adead(ids=[job_id])
        return found, await dead.workers.aresend(found, by="ann"), await dead.workers.apurge(found)

    found, refs, purged = asyncio.run(first())
    assert [job.id for job in found] == [ref.id for ref in refs] == [job_id]
    assert purged == 0


def test_plain_jobs_and_broken_ones_of_others_are_left_alone(dead: Dead) -> None:
    connection, queue = dead.rq.connection, dead.rq.rq_queue()
    plain = queue.enqueue(add, "x", None)
    pickled = Queue(dead.rq.queue, connection=connection).enqueue(add, 1, None)
    dead.work()
    failed = queue.failed_job_registry
    connection.zadd(failed.key, {"gone": time.time() + 99, "half": time.time() + 99})
    connection.hset("rq:job:half", mapping={"status": "failed", "ended_at": "2026-01-01T00:00:00.000000Z"})
    try:
        ids = [plain.id, pickled.id, "gone", "half"]
        assert {*ids} <= {*failed.get_job_ids()}
        assert dead.all() == dead.workers.dead(ids=ids) == []
        assert dead.workers.purge(ids) == 0
        with pytest.raises(NotDeadError) as caught:
            dead.workers.resend(ids, by="ann")
        assert caught.value.missing == tuple(ids)
        assert {*ids} <= {*failed.get_job_ids()}
    finally:
        connection.delete("rq:job:half")


def test_a_job_that_rq_itself_failed_is_listed_with_its_reason_and_sent_again(dead: Dead) -> None:
    ref = dead.rq.host.sync.enqueue(script("ok:done"))
    job = dead.rq.job(ref.id)
    queue = dead.rq.rq_queue()
    queue.remove(job)
    with dead.rq.connection.pipeline() as pipeline:  # as when it is stopped by `send_stop_job_command`
        job.set_status(JobStatus.STOPPED, pipeline=pipeline)
        queue.failed_job_registry.add(job, exc_string="", pipeline=pipeline)
        Result.create_failure(job, 60, exc_string="stopped\nJob stopped by user\n", pipeline=pipeline)
        pipeline.execute()
    (found,) = dead.all(ids=[ref.id])
    assert (found.reason, found.attempts) == ("Job stopped by user", 1)
    dead.workers.resend(found, by="ann")
    dead.work()
    assert dead.rq.job(ref.id).return_value() == "done"


def test_a_job_that_rq_failed_without_a_word_says_so(dead: Dead) -> None:
    job_id = dead.die()
    dead.rq.connection.hset(f"rq:job:{job_id}", mapping={"meta": "{}", "ended_at": ""})
    dead.rq.connection.delete(f"rq:results:{job_id}")
    (found,) = dead.workers.dead(ids=[job_id])
    assert (found.reason, found.traceback, found.worker) == ("failed in RQ, without a reason", None, None)
    assert found.died_at.timestamp() > time.time() - 60


def test_what_does_not_lie_in_the_failed_registry_is_not_dead(dead: Dead) -> None:
    ref = dead.rq.host.sync.enqueue(script("ok"))
    assert dead.workers.dead(ids=[ref.id]) == []
    with pytest.raises(NotDeadError):
        dead.workers.resend(ref.id, by="ann")
    assert dead.workers.purge(ref.id) == 0
    assert dead.rq.places(ref.id) == {"queued"}


# -- sent again ----------------------------------------------------------------------------------------


def test_a_job_sent_again_has_its_id_args_and_actor_and_all_its_attempts(dead: Dead) -> None:
    job_id = dead.die("error:no", options={"max_attempts": 2}, actor_id="ann", token="t")
    before = dead.rq.payload(job_id)
    (ref,) = dead.workers.resend(job_id, by="operator")
    assert (ref.id, ref.queue) == (job_id, dead.rq.queue)
    assert dead.rq.places(job_id) == {"queued"}
    assert dead.rq.status(job_id) == "queued"
    assert dead.rq.connection.ttl(f"rq:job:{job_id}") == -1  # nothing may drop it meanwhile
    payload = dead.rq.payload(job_id)
    assert (payload.args, payload.attempt, payload.resends) == (before.args, 1, 1)
    assert payload.meta["resent"][0]["by"] == "operator"
    assert dead.rq.job(job_id).retries_left == 2

    dead.work()
    (again,) = dead.all(ids=[job_id])
    assert (again.attempts, again.resends, again.reason) == (2, 1, "no")


def test_a_job_sent_again_runs_on_a_real_worker_process(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("error:no", "error:no", "error:no"), max_attempts=1)
    rq.work()
    rq.host.workers.resend(ref.id, by="operator")
    rq.work()
    assert [run["attempt"] for run in rq.runs(ref.id)] == [1, 1]
    assert {run["actor"] for run in rq.runs(ref.id)} == {"ann"}  # never the operator
    assert len({event["event_id"] for event in rq.audit(ref.id)}) == 2


def test_jobs_are_sent_again_in_bulk_each_once_however_many_do_so(dead: Dead) -> None:
    for _ in range(6):
        dead.rq.host.sync.enqueue(script("cancel:no"))
    dead.work()
    found = dead.all()
    hosts = [make_host({"url": dead.rq.url}, dead.rq.queue) for _ in range(4)]

    def resend(host: Host) -> int:
        try:
            return len(host.workers.resend(found, by="operator"))
        except NotDeadError as error:
            return len(error.accepted)

    with ThreadPoolExecutor(4) as threads:
        sent = [*threads.map(resend, hosts)]
    for host in hosts:
        host.workers.close()
    assert sum(sent) == 6
    assert sorted(dead.rq.rq_queue().job_ids) == sorted(job.id for job in found)


def test_a_job_that_died_again_is_not_sent_as_it_was_found(dead: Dead) -> None:
    (found,) = dead.all(ids=[dead.die()])
    dead.workers.resend(found.id, by="first")
    dead.work()
    (receipt,) = dead.adapter.resend([Resend(found, found.again("second", time.time()))])
    assert type(receipt).__name__ == "Duplicate"
    assert dead.rq.places(found.id) == {"failed"}


def test_one_that_another_takes_meanwhile_is_seen_in_the_transaction(
    dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = dead.all(ids=[dead.die()])
    enqueue, between = Queue.enqueue_job, [lambda: dead.rq.host.workers.resend(found.id, by="first")]

    def slow(self: Queue, *args: Any, **more: Any) -> Any:
        if between:
            between.pop()()
        return enqueue(self, *args, **more)

    monkeypatch.setattr(Queue, "enqueue_job", slow)
    with pytest.raises(NotDeadError):
        make_host({"url": dead.rq.url}, dead.rq.queue).workers.resend(found.id, by="second")
    assert dead.rq.payload(found.id).meta["resent"][0]["by"] == "first"
    assert dead.rq.rq_queue().job_ids == [found.id]


@pytest.mark.parametrize("how", ["unreadable", "of another id"])
def test_a_payload_that_can_not_run_is_rejected_and_stays(dead: Dead, how: str) -> None:
    job_id = dead.die()
    other = json.dumps({"sigra": dead.rq.job(job_id).meta["sigra"].replace(job_id, "another")})
    dead.rq.connection.hset(f"rq:job:{job_id}", "meta", "{}" if how == "unreadable" else other)
    with pytest.raises(EnqueueError) as caught:
        dead.workers.resend(job_id, by="ann")
    assert caught.value.rejected == (job_id,)
    assert isinstance(caught.value.__cause__, InvalidPayloadError)
    assert dead.rq.places(job_id) == {"failed"}


def test_what_rq_requeues_is_a_resend_too_and_starts_its_grace_anew(dead: Dead) -> None:
    job_id = dead.die()
    payload = dead.rq.payload(job_id)
    meta = {"sigra": payload.again(None, meta={**payload.meta, "unknown_since": 1.0}).dump()}
    dead.rq.connection.hset(f"rq:job:{job_id}", "meta", json.dumps(meta))
    rq = [RQ, "requeue", "--queue", dead.rq.queue, "-u", dead.rq.url]
    subprocess.run([*rq, "--serializer", "json", job_id], check=True, capture_output=True, cwd=HOST_FOLDER)
    assert dead.rq.places(job_id) == {"queued"}
    dead.work()
    (found,) = dead.all(ids=[job_id])
    assert (found.resends, found.reason) == (1, "cancelled: no")
    noted = dead.rq.payload(job_id).meta
    assert [note["by"] for note in noted["resent"]] == ["rq"]
    assert "unknown_since" not in noted


# -- purged --------------------------------------------------------------------------------------------


def test_purging_deletes_the_dead_alone(dead: Dead) -> None:
    keep, drop = dead.die(organization_id=1), dead.die(organization_id=2)
    waits = dead.rq.host.sync.enqueue(script("ok")).id
    assert dead.workers.purge(dead.all(organization=2)) == 1
    assert dead.workers.purge([drop, waits]) == 0
    assert [job.id for job in dead.all()] == [keep]
    assert not dead.rq.connection.keys(f"*{drop}")
    assert dead.rq.places(waits) == {"queued"}


def test_of_many_that_purge_a_dead_job_one_does(dead: Dead) -> None:
    queue = dead.rq.rq_queue()
    ids = [dead.rq.host.sync.enqueue(script("ok")).id for _ in range(20)]
    for job_id in ids:
        queue.remove(job_id)
        job = dead.rq.job(job_id)
        job.set_status(JobStatus.FAILED)
        queue.failed_job_registry.add(job, ttl=60)
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(dead.workers.purge, [ids] * 6)) == 20
    assert dead.all() == []


def test_the_id_of_a_purged_job_is_free(dead: Dead) -> None:
    job_id = f"{dead.rq.prefix}-id"
    dead.die(options={"job_id": job_id})
    dead.workers.purge(job_id)
    assert dead.rq.host.sync.enqueue(script("ok:again"), job_id=job_id).id == job_id
    dead.work()
    assert dead.rq.job(job_id).return_value() == "again"


# -- Redis is away -------------------------------------------------------------------------------------


def outcomes(error: EnqueueError) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    return error.accepted, error.rejected, error.unknown


def test_without_redis_nothing_is_sent_again(
    redis_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = redis_server()
    host = make_host({"url": server.url})
    monkeypatch.setattr(process, "_bound", [host.workers])
    host.sync.implement(lambda scope, args: Cancel("no"))
    ids = [host.sync.enqueue(script()).id for _ in range(2)]
    with server.client() as connection, host.workers:
        worker = SimpleWorker(
            [Queue("default", connection=connection, serializer="json")],
            connection=connection,
            serializer="json",
        )
        worker.work(burst=True, logging_level="WARNING")
        jobs = [Resend(job, job.again("ann", 1.0)) for job in host.workers.dead(ids=ids)]
        adapter = RqAdapter.of(host.workers)

        enqueue = Queue.enqueue_job

        def then_die(self: Queue, *args: Any, **more: Any) -> Any:
            result = enqueue(self, *args, **more)
            server.process.kill()
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Queue, "enqueue_job", then_die)
            receipts = adapter.resend(jobs)
        assert isinstance(receipts[0], Unknown)  # it may have arrived
        assert [type(receipt).__name__ for receipt in adapter.resend(jobs)] == ["Rejected", "Rejected"]
        assert type(receipts[1]).__name__ == "Rejected"


def test_what_redis_refuses_is_rejected_without_a_word_of_the_payload(
    redis_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = redis_server()
    host = make_host({"url": server.url})
    monkeypatch.setattr(process, "_bound", [host.workers])
    host.sync.implement(lambda scope, args: Cancel("no"))
    ref = host.sync.enqueue(script(token="s3cret"))
    with server.client() as connection, host.workers:
        worker = SimpleWorker(
            [Queue("default", connection=connection, serializer="json")],
            connection=connection,
            serializer="json",
        )
        worker.work(burst=True, logging_level="WARNING")
        connection.config_set("maxmemory", 1)
        with pytest.raises(EnqueueError) as caught:
            host.workers.resend(ref.id, by="ann")
        assert outcomes(caught.value) == ((), (ref.id,), ())
        assert "s3cret" not in str(caught.value.__cause__)
        connection.config_set("maxmemory", 0)
        assert [job.id for job in host.workers.dead()] == [ref.id]


def test_listing_on_a_redis_that_is_away_raises_its_error() -> None:
    host = make_host({"url": f"redis://127.0.0.1:{free_port()}/0"})
    with pytest.raises(Exception, match="Connection refused"):
        host.workers.dead()
    assert isinstance(RqAdapter.of(host.workers).connection, Redis)


def test_the_command_line_lists_sends_again_and_purges(dead: Dead) -> None:
    job_id = dead.die("cancel:no")

    def run(action: str, *words: str) -> str:
        process = dead.rq.run([COMMAND, "dead", action, "rq_host.jobs:workers", *words])
        assert process.popen.wait(30) == 0, process.log
        return process.log

    assert job_id in [job["id"] for job in json.loads(run("list", "--json", "--limit", "100"))]
    assert "cancelled: no" in run("show", job_id)
    assert "1 dead job sent again" in run("resend", job_id, "--by", "ann")
    dead.work()
    assert "1 dead job purged" in run("purge", job_id)
    assert dead.all() == []
