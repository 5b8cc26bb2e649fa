"""The worker process beside what is the host's own: plain functions, cron jobs, hooks, time-outs, aborts."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from adapters.arq.tests.support import Harness, harness, plain_job
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.jobs import Job
from tests.queues.harness import Process, eventually, script

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def process(shared_arq: Harness) -> Process:
    """A process that has functions and cron jobs of the host's."""
    return shared_arq.worker(boot="arq_host.arq_lifecycle_plain")


async def pool(arq: Harness) -> ArqRedis:
    return await create_pool(RedisSettings.from_dsn(arq.url), default_queue_name=arq.queue)


def call(arq: Harness, function: str, *args: object) -> Any:
    """Have arq run a plain function; what it returns or raises."""

    async def main() -> Any:
        async with await pool(arq) as found:
            job = await found.enqueue_job(function, *args)
            assert job is not None
            return await job.result(timeout=20, poll_delay=0.05)

    return asyncio.run(main())


def test_plain_functions_run_beside_ours_with_their_args_and_values(
    shared_arq: Harness, process: Process
) -> None:
    ours = shared_arq.host.sync.enqueue(script("error:no", "ok:done"))
    assert shared_arq.wait(ours.id) == "finished"
    assert call(shared_arq, "add", 2, 3) == 5
    assert {"sum": 5, "tries": 1, "job": None} in shared_arq.lines("plain.jsonl")
    assert ":add(2, 3)" in process.log  # arq's own logging of them is as it was


def test_what_a_plain_function_raises_is_arqs_failure(shared_arq: Harness, process: Process) -> None:
    with pytest.raises(RuntimeError, match="plain failure"):
        call(shared_arq, "arq_host.plain.fail")


@pytest.mark.parametrize(("function", "limit"), [("sleep", 0.4), ("sleep_by_default", 0.8)])
def test_the_time_outs_of_plain_functions_are_kept(
    shared_arq: Harness, process: Process, function: str, limit: float
) -> None:
    assert call(shared_arq, function, 0.01) == "slept"
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        call(shared_arq, function, 60)
    assert limit <= time.monotonic() - begun < limit + 3


def test_our_jobs_know_no_time_out_of_arq(shared_arq: Harness, process: Process) -> None:
    ref = shared_arq.host.asynchronous.enqueue(script("sleep:1.6", "error:again"))
    assert shared_arq.wait(ref.id) == "finished"
    assert shared_arq.turns(ref.id) == [(1, 0)]


def test_cron_jobs_run_once_for_each_time_and_on_startup_ran_before(
    shared_arq: Harness, process: Process
) -> None:
    eventually(lambda: len(shared_arq.lines("cron.jsonl")) >= 3, "three ticks")
    ticks = shared_arq.lines("cron.jsonl")
    assert len({tick["job"] for tick in ticks}) == len(ticks)
    assert {tick["started"] for tick in ticks} == {"by the host"}


def test_arqs_own_tools_see_our_jobs(shared_arq: Harness, process: Process) -> None:
    ref = shared_arq.host.asynchronous.enqueue(script("snooze:1", "ok:done"))

    async def main() -> tuple[Any, Any]:
        async with await pool(shared_arq) as found:
            job = Job(ref.id, found, _queue_name=shared_arq.queue)
            value = await job.result(timeout=20, poll_delay=0.05)  # over the snooze
            later = shared_arq.host.sync.enqueue(script("ok"), schedule_in=900)
            return value, [each.function for each in await found.queued_jobs() if each.job_id == later.id]

    assert asyncio.run(main()) == ("done", ["sigra_workers_arq.dispatch"])


def test_the_health_check_of_the_command_knows_the_process(shared_arq: Harness, process: Process) -> None:
    environment = {"HOST_OPTIONS": "{}"}
    check = shared_arq.worker(
        "--check", boot="arq_host.arq_lifecycle_plain", ready=False, environment=environment
    )
    assert check.popen.wait(30) == 0
    assert "Health check successful" in check.log


def test_a_queue_is_served_by_its_own_process_alone(arq: Harness) -> None:
    ours, other = (
        arq.host.sync.enqueue(script("ok")),
        arq.host.sync.enqueue(script("ok"), queue=arq.other_queue),
    )
    arq.worker()
    arq.wait(ours.id)
    assert arq.status(other.id) == "queued"


# -- arq's key of a running job --------------------------------------------------------------------------


def test_the_key_of_a_running_job_is_short_and_renewed_while_it_runs(arq: Harness) -> None:
    refs = [handle.enqueue(script("hold:go ok")) for handle in arq.host.handles.values()]
    arq.worker()
    for ref in refs:
        arq.wait(ref.id, "running")
    lives: list[list[Any]] = []
    for _ in range(10):
        time.sleep(0.5)
        lives.append([arq.connection.pttl(f"arq:in-progress:{ref.id}") for ref in refs])
    for values in zip(*lives, strict=True):
        assert all(6_000 < value <= 10_000 for value in values), values
        assert any(later > earlier for earlier, later in pairwise(values))
    (arq.folder / "go").touch()
    for ref in refs:
        arq.wait(ref.id, "finished")


def test_a_plain_function_is_held_for_as_long_as_arq_would_hold_it(
    shared_arq: Harness, process: Process
) -> None:
    arq, job_id = shared_arq, f"{shared_arq.prefix}-held"
    arq.connection.set(f"arq:job:{job_id}", plain_job("sleep_by_default", 60))
    arq.connection.zadd(arq.queue, {job_id: int(time.time() * 1_000)})
    arq.wait(job_id, "running")
    left: Any = eventually(lambda: arq.connection.pttl(f"arq:in-progress:{job_id}"), "its key")
    assert 9_000 < left <= 10_800
    arq.wait(job_id, "failed")


def test_an_aborted_job_is_gone_as_arq_means_it(arq: Harness) -> None:
    ref = arq.host.asynchronous.enqueue(script("sleep:60"))
    arq.worker(allow_abort_jobs=True)
    eventually(lambda: arq.runs(ref.id), "the job to run")

    async def main() -> bool:
        async with await pool(arq) as found:
            return await Job(ref.id, found, _queue_name=arq.queue).abort(timeout=20, poll_delay=0.05)

    assert asyncio.run(main())
    assert arq.status(ref.id) == "failed"
    assert arq.host.workers.dead(ids=[ref.id]) == []
    assert arq.turns(ref.id) == [(1, 0)]


def test_a_host_with_json_serializers_runs_plain_functions_too(tmp_path: Any) -> None:
    with harness(tmp_path, serializer="json") as arq:
        arq.worker(boot="arq_host.arq_lifecycle_plain")
        job_id = f"{arq.prefix}-plain"
        job: dict[str, Any] = {"t": None, "f": "add", "a": [2, 3], "k": {}, "et": int(time.time() * 1_000)}
        arq.connection.set(f"arq:job:{job_id}", arq.adapter.codec.dumps(job))
        arq.connection.zadd(arq.queue, {job_id: job["et"]})
        arq.wait(job_id, "finished")
        result = arq.result(job_id)
        assert result is not None
        assert result.result == 5
