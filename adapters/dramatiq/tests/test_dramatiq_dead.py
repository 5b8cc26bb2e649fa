"""Dead jobs: listed, sent again, purged, on both brokers by the store."""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from adapters.dramatiq.tests.support import Harness
from tests.losses.servers import free_port
from tests.queues.harness import eventually, script

from dramatiq_host.jobs import make_host
from sigra_workers import DeadJob, NotDeadError, NotSupportedError, Rejected, Resend
from sigra_workers_dramatiq import DramatiqAdapter

pytestmark = pytest.mark.integration


def die(queue: Harness, *steps: str, **keys: Any) -> DeadJob:
    """A job that died by these steps."""
    ref = queue.host.sync.enqueue(script(*steps, **keys))
    if not queue.processes:
        queue.worker()
    (job,) = eventually(lambda: queue.dead(ids=[ref.id]), "the dead job")
    return job


def test_a_dead_job_tells_all_that_is_known_of_it(queue: Harness) -> None:
    job = die(queue, "snooze:1", "raise:boom", organization_id=7, token="secret")
    assert (job.worker, job.queue, job.organization_id) == ("steps.sync", queue.queue, 7)
    assert (job.attempts, job.max_attempts, job.snoozes, job.resends) == (3, 3, 1, 0)
    assert job.reason == "RuntimeError: boom"
    assert 'implementations.py", line ' in (job.traceback or "")
    assert job.args["token"] == "secret"
    assert "secret" not in repr(job)


def test_a_job_sent_again_begins_anew_with_its_id_args_and_actor(queue: Harness) -> None:
    job = die(queue, "snooze:1", "cancel:no", "ok", token="kept")
    (ref,) = queue.host.workers.resend(job, by="ann")
    assert ref.id == job.id
    eventually(lambda: len(queue.runs(job.id)) == 3, "the second life")
    (again,) = eventually(lambda: queue.dead(ids=[job.id]), "its second death")
    assert (again.attempts, again.snoozes, again.resends) == (1, 1, 1)
    assert (again.args, again.args["actor_id"]) == (job.args, "ann")
    events = [event["event_id"] for event in queue.audit(job.id)]
    assert len({*events}) == 3  # what it does again is new in the audit trail


def test_many_operators_send_a_job_again_once(queue: Harness) -> None:
    job = die(queue, "cancel:no")
    queue.processes[-1].stop()

    def resend(number: int) -> bool:
        host = make_host(queue.settings, queue.queue)
        try:
            host.workers.resend(job, by=f"operator {number}")
        except NotDeadError:
            return False
        finally:
            host.workers.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(resend, range(8))) == 1
    queue.worker()
    eventually(lambda: len(queue.runs(job.id)) == 2, "the second run")
    eventually(queue.dead, "its second death")
    assert len(queue.runs(job.id)) == 2


def test_a_purged_job_is_gone_and_its_id_is_free(queue: Harness) -> None:
    job_id = f"{queue.prefix}-id"
    queue.host.sync.enqueue(script("cancel:no"), job_id=job_id)
    queue.worker()
    eventually(queue.dead, "the dead job")
    assert queue.host.workers.purge(job_id) == 1
    assert queue.dead() == []
    queue.host.sync.enqueue(script("ok"), job_id=job_id)
    eventually(lambda: "complete" in queue.decisions(job_id), "the next job of the id")


def test_the_command_line_lists_sends_again_and_purges(queue: Harness) -> None:
    job = die(queue, "cancel:no")
    command = str(Path(sys.executable).with_name("sigra-workers"))

    def dead(action: str, *words: str) -> str:
        process = queue.run([command, "dead", action, "dramatiq_host.jobs:workers", *words])
        assert process.popen.wait(30) == 0, process.log
        return process.log

    assert job.id in [found["id"] for found in json.loads(dead("list", "--json", "--limit", "100"))]
    assert "cancelled: no" in dead("show", job.id)
    assert "1 dead job sent again" in dead("resend", job.id, "--by", "ann")
    eventually(lambda: queue.dead(ids=[job.id]), "its second death")
    assert "1 dead job purged" in dead("purge", job.id)
    assert queue.dead(ids=[job.id]) == []


def test_the_async_twins_do_the_same(queue: Harness) -> None:
    job = die(queue, "cancel:no", "ok")

    async def main() -> int:
        workers = queue.host.workers
        assert [found.id for found in await workers.adead(ids=[job.id])] == [job.id]
        await workers.aresend(job, by="ann")
        return await workers.apurge(job.id)

    assert asyncio.run(main()) == 0


def test_a_store_that_is_away_sends_nothing_again(queue: Harness) -> None:
    job = die(queue, "cancel:no")
    nowhere = f"redis://127.0.0.1:{free_port()}"
    settings = {"url": nowhere} if queue.on_redis else {**queue.settings, "store": nowhere}
    adapter = DramatiqAdapter.of(make_host(settings, queue.queue).workers)
    (receipt,) = adapter.resend([Resend(job, job.again("ann", 0))])
    assert isinstance(receipt, Rejected)
    assert len(queue.dead()) == 1


def test_without_a_store_there_are_none(storeless: Harness) -> None:
    with pytest.raises(NotSupportedError):
        storeless.host.workers.dead()
    with pytest.raises(NotSupportedError):
        storeless.adapter.purge(["x"])
