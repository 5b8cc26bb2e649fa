"""The sending side, against a real Redis."""

import asyncio
import gc
import os
import signal
import time
import traceback
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest
from adapters.arq.tests.support import URL, Harness
from arq.connections import RedisSettings
from redis import Redis
from tests.queues.harness import eventually, script

from arq_host.jobs import make_host
from sigra_workers import (
    DuplicateJobError,
    EnqueueError,
    InvalidOptionError,
    InvalidSettingsError,
    Workers,
)
from sigra_workers_arq import ArqAdapter

pytestmark = pytest.mark.integration


# -- when ----------------------------------------------------------------------------------------------


def test_an_id_whose_job_redis_refused_is_free(arq: Harness) -> None:
    arq.connection.set(arq.queue, "a key of the host's")
    job = arq.host.sync.new(script("ok"), job_id=f"{arq.prefix}-id")
    with pytest.raises(EnqueueError) as caught:
        arq.host.workers.enqueue(job)
    assert caught.value.rejected == (job.id,)
    arq.connection.delete(arq.queue)
    assert arq.host.workers.enqueue(job).id == job.id


def test_schedule_in_counts_from_sending(arq: Harness) -> None:
    job = arq.host.sync.new(script("ok"), schedule_in=timedelta(seconds=60.5))
    time.sleep(0.2)
    before = time.time()
    ref = arq.host.workers.enqueue(job)
    after = time.time()
    assert ref.due_at is not None
    assert before + 60.5 <= ref.due_at.timestamp() <= after + 60.5
    assert arq.payload(ref.id).due_at == pytest.approx(ref.due_at.timestamp(), abs=1e-5)
    assert arq.score(ref.id) == pytest.approx(ref.due_at.timestamp(), abs=0.002)
    assert (arq.score(ref.id) or 0) >= ref.due_at.timestamp()


def test_schedule_at_is_the_first_millisecond_that_is_not_early(arq: Harness) -> None:
    at = datetime(2100, 1, 1, 12, 0, 0, 250_300, tzinfo=UTC)
    ref = arq.host.sync.enqueue(script("ok"), schedule_at=at)
    assert ref.due_at == at
    assert arq.score(ref.id) == datetime(2100, 1, 1, 12, 0, 0, 251_000, tzinfo=UTC).timestamp()


def test_a_schedule_in_the_past_runs_at_once(arq: Harness) -> None:
    refs = [
        arq.host.sync.enqueue(script("ok"), schedule_at=datetime.now(UTC) - timedelta(days=400)),
        arq.host.sync.enqueue(script("ok"), schedule_at=datetime(1970, 1, 1, tzinfo=UTC)),
        arq.host.sync.enqueue(script("ok"), schedule_in=0),
    ]
    arq.worker()
    for ref in refs:
        assert arq.wait(ref.id) == "finished"


# -- where ---------------------------------------------------------------------------------------------


def test_a_job_goes_to_the_queue_it_names(arq: Harness) -> None:
    ref = arq.host.sync.enqueue(script("snooze:1", "error:no", "ok"), queue=arq.other_queue)
    assert (arq.score(ref.id), arq.score(ref.id, arq.other_queue) is not None) == (None, True)
    arq.worker(boot="arq_host.arq_lifecycle_other")
    arq.wait(ref.id, "finished")
    assert [event["queue"] for event in arq.audit(ref.id)] == [arq.other_queue] * 3


def test_a_job_enqueues_others_from_sync_and_async_workers(arq: Harness) -> None:
    refs = [handle.enqueue(script("enqueue")) for handle in arq.host.handles.values()]
    arq.worker()
    for ref in refs:
        arq.wait(ref.id, "finished")
        result = arq.result(ref.id)
        assert result is not None
        assert arq.wait(result.result) == "finished"
        assert [event["organization_id"] for event in arq.audit(result.result)] == ["org-1"]


# -- ids of the host -----------------------------------------------------------------------------------

STATES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "queued": ("ok:first", {}),
    "waiting": ("ok:first", {"schedule_in": 900}),
    "snoozed": ("snooze:900", {}),
    "running": ("hold:go ok", {}),
    "finished": ("ok:first", {}),
    "dead": ("cancel:legal hold", {}),
    "dead, its result gone": ("cancel:legal hold", {}),
}


@pytest.mark.parametrize("again", [{}, {"schedule_in": 60}], ids=["at once", "scheduled"])
@pytest.mark.parametrize("state", STATES)
def test_a_second_job_of_an_id_is_refused(arq: Harness, state: str, again: dict[str, Any]) -> None:
    job_id, (step, options) = f"{arq.prefix}-id", STATES[state]
    arq.host.sync.enqueue(script(step), job_id=job_id, **options)
    if state not in ("queued", "waiting"):
        arq.worker()
        arq.wait(job_id, {"snoozed": "waiting"}.get(state, "failed" if "dead" in state else state))
    if state == "dead, its result gone":
        arq.connection.delete(f"arq:result:{job_id}")
    before = arq.connection.get(f"arq:job:{job_id}"), arq.score(job_id)
    with pytest.raises(DuplicateJobError) as caught:
        arq.host.sync.enqueue(script("ok:second"), job_id=job_id, **cast("Any", again))
    assert (caught.value.accepted, caught.value.rejected, caught.value.unknown) == ((), (job_id,), ())
    assert (arq.connection.get(f"arq:job:{job_id}"), arq.score(job_id)) == before


@pytest.mark.parametrize("end", ["ok:first", "cancel:legal hold"])
def test_an_id_is_free_again_once_nothing_is_kept_of_it(arq: Harness, end: str) -> None:
    job_id = f"{arq.prefix}-id"
    arq.worker(keep_result=0)
    arq.host.sync.enqueue(script(end), job_id=job_id)
    arq.wait(job_id, "gone")
    assert arq.host.workers.purge(job_id) == (end != "ok:first")
    assert arq.keys(job_id) == {f"sigra-workers:arq:run:{job_id}"}
    arq.host.sync.enqueue(script("ok:second"), job_id=job_id)
    eventually(lambda: len(arq.runs(job_id)) == 2, "the second job to run")


def test_a_batch_reports_its_duplicates_and_sends_the_rest(arq: Harness) -> None:
    arq.host.sync.enqueue(script("ok:first"), job_id=f"{arq.prefix}-id")
    jobs = [arq.host.sync.new(script("ok"), job_id=f"{arq.prefix}-{name}") for name in ("id", "new", "new")]
    jobs.append(arq.host.sync.new(script("ok")))
    with pytest.raises(DuplicateJobError) as caught:
        arq.host.workers.enqueue_many(jobs)
    assert caught.value.accepted == (jobs[1].id, jobs[3].id)
    assert caught.value.rejected == (jobs[0].id, jobs[2].id)
    assert queued(arq) == {jobs[0].id, jobs[1].id, jobs[3].id}


def test_a_batch_may_skip_its_duplicates(arq: Harness) -> None:
    arq.host.sync.enqueue(script("ok:first"), job_id=f"{arq.prefix}-id")
    jobs = [arq.host.sync.new(script("ok"), job_id=f"{arq.prefix}-{name}") for name in ("id", "new")]
    refs = arq.host.workers.enqueue_many(jobs, on_duplicate="skip")
    assert [(ref.id, ref.duplicate) for ref in refs] == [(jobs[0].id, True), (jobs[1].id, False)]
    assert arq.payload(jobs[0].id).args["steps"] == ["ok:first"]


# -- many at once --------------------------------------------------------------------------------------


def queued(arq: Harness, queue: str | None = None) -> set[str]:
    return {job_id.decode() for job_id in arq.connection.zrange(queue or arq.queue, 0, -1)}


def calls(connection: "Redis", command: str) -> int:
    stats: Any = connection.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_a_batch_over_queues_times_and_given_ids_is_one_transaction(private_arq: Harness) -> None:
    arq = private_arq
    jobs = [
        arq.host.handles[("sync", "async")[n % 2]].new(
            script("ok", n=n),
            queue=(arq.queue, arq.other_queue)[n % 3 == 0],
            **cast("Any", {"schedule_in": 60 + n} if n % 5 == 0 else {}),
            **cast("Any", {"job_id": f"{arq.prefix}-{n}"} if n % 4 == 0 else {}),
        )
        for n in range(60)
    ]
    arq.connection.config_resetstat()
    refs = arq.host.workers.enqueue_many(jobs)
    assert calls(arq.connection, "exec") == 1
    assert [ref.id for ref in refs] == [job.id for job in jobs]
    for n, job in enumerate(jobs):
        at = arq.score(job.id, arq.other_queue if n % 3 == 0 else arq.queue)
        assert at is not None
        assert (at > time.time() + 10) == (n % 5 == 0)
        assert arq.payload(job.id).args["n"] == n


def test_more_than_a_batch_arrives_whole(arq: Harness) -> None:
    refs = arq.host.workers.enqueue_many(arq.host.sync.new(script("ok", n=n)) for n in range(1_201))
    assert queued(arq) == {ref.id for ref in refs}
    assert len({ref.id for ref in refs}) == 1_201


# -- from an event loop --------------------------------------------------------------------------------


async def heartbeat(gaps: list[float]) -> None:
    """How long the loop was away, again and again."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        gaps.append(time.perf_counter() - before - 0.01)


def test_aenqueue_never_blocks_the_event_loop(private_arq: Harness) -> None:
    arq = private_arq
    info: Any = arq.connection.info("server")

    async def main() -> tuple[list[str], float, list[float]]:
        await arq.host.sync.aenqueue(script("ok"))  # imports and connections
        gaps: list[float] = []
        beat = asyncio.create_task(heartbeat(gaps))
        os.kill(int(info["process_id"]), signal.SIGSTOP)
        try:
            begun = time.perf_counter()
            sending = [asyncio.create_task(arq.host.sync.aenqueue(script("ok"))) for _ in range(8)]
            sending.append(asyncio.create_task(arq.host.asynchronous.aenqueue(script("ok"), schedule_in=60)))
            await asyncio.sleep(0.7)
            assert not any(task.done() for task in sending)
        finally:
            os.kill(int(info["process_id"]), signal.SIGCONT)
        ids = [(await task).id for task in sending]
        beat.cancel()
        return ids, time.perf_counter() - begun, gaps

    ids, took, gaps = asyncio.run(main())
    assert took >= 0.7
    assert len(gaps) > 20
    assert max(gaps) < 0.5
    assert {arq.status(job_id) for job_id in ids} == {"queued", "waiting"}


def test_aenqueue_leaves_nothing_open_in_the_loops_it_ran_in(arq: Harness) -> None:
    async def main() -> None:
        await asyncio.gather(*(arq.host.sync.aenqueue(script("ok")) for _ in range(3)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            asyncio.run(main())
        gc.collect()
    assert len(queued(arq)) == 60


def test_enqueue_inside_a_running_loop_is_one_blocking_call(arq: Harness) -> None:
    async def main() -> str:
        return arq.host.sync.enqueue(script("ok")).id

    assert arq.status(asyncio.run(main())) == "queued"


def test_aenqueue_many_tells_what_enqueue_many_does(arq: Harness) -> None:
    arq.host.sync.enqueue(script("ok:first"), job_id=f"{arq.prefix}-id")
    jobs = [arq.host.sync.new(script("ok"), job_id=f"{arq.prefix}-{name}") for name in ("new", "id")]
    with pytest.raises(DuplicateJobError) as caught:
        asyncio.run(arq.host.workers.aenqueue_many(jobs))
    assert (caught.value.accepted, caught.value.rejected) == ((jobs[0].id,), (jobs[1].id,))


def test_a_forked_child_sends_over_connections_of_its_own(arq: Harness) -> None:
    arq.host.sync.enqueue(script("ok"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        try:
            arq.host.workers.enqueue_many([arq.host.sync.new(script("ok")) for _ in range(50)])
            os._exit(0)
        finally:
            os._exit(1)
    arq.host.workers.enqueue_many([arq.host.sync.new(script("ok")) for _ in range(50)])
    assert os.waitpid(child, 0)[1] == 0
    assert len(queued(arq)) == 101


# -- options and settings ------------------------------------------------------------------------------


def test_native_options_are_refused_before_sending(arq: Harness) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        arq.host.sync.new(script("ok"), native={"_expires": 60})
    assert caught.value.option == "native"
    assert "arq has no options here, got ['_expires']" in caught.value.problem


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "it takes either 'url' or 'redis_settings'"),
        ({"url": URL, "redis_settings": None}, "it takes either 'url' or 'redis_settings'"),
        ({"url": URL, "prefix": "x"}, "there is no setting ['prefix']"),
        ({"url": 6379}, "setting 'url' is of type int, expected str"),
        ({"url": "localhost:6379"}, "setting 'url' is no Redis URL"),
        ({"url": "redis://localhost:port/0"}, "setting 'url' is no Redis URL"),
        ({"url": "redis://localhost/first"}, "setting 'url' is no Redis URL"),
        ({"url": f"{URL}?ssl_cert_reqs=none"}, "setting 'url' has options ['ssl_cert_reqs'], expected 'db'"),
        ({"redis_settings": "redis"}, "is of type str, expected arq.connections.RedisSettings"),
        ({"url": URL, "job_serializer": bytes}, "'job_serializer' and 'job_deserializer' together"),
        ({"url": URL, "job_serializer": "json", "job_deserializer": "json"}, "together, both callable"),
    ],
    ids=[
        "neither",
        "both",
        "unknown",
        "url of a wrong type",
        "url without a scheme",
        "url without a port",
        "url of no database",
        "url with options",
        "redis_settings of a wrong type",
        "one serializer alone",
        "serializers of a wrong type",
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        _ = Workers(adapter="arq", settings=settings).adapter
    assert caught.value.subject == "adapter 'arq'"
    assert problem in str(caught.value)


@pytest.mark.parametrize("url", ["rediss//user:s3cret@host", "redis://user:s3cret#more@host"])
def test_a_refused_url_is_not_in_the_error(url: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        _ = Workers(adapter="arq", settings={"url": url}).adapter
    shown = traceback.format_exception(caught.value)
    assert "s3cret" not in "".join(line for line in shown if "Workers(" not in line)


def test_the_parts_of_a_url_are_decoded() -> None:
    adapter = ArqAdapter({"url": "rediss://us%40er:p%2Fw@example.org:7000/3"})
    found = adapter.redis_settings
    assert (found.username, found.password, found.host, found.port) == ("us@er", "p/w", "example.org", 7000)
    assert (found.database, found.ssl) == (3, True)
    options: Any = adapter.connection.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("us@er", "p/w", 3)


def test_the_hosts_own_settings_are_used(arq: Harness) -> None:
    options: Any = arq.connection.connection_pool.connection_kwargs
    settings = RedisSettings(host=options["host"], port=options["port"], database=options["db"])
    host = make_host({"redis_settings": settings}, arq.queue)
    with host.workers:
        ref = host.sync.enqueue(script("ok"))
    assert arq.status(ref.id) == "queued"


def test_what_the_adapter_opened_is_closed_and_opened_again(private_arq: Harness) -> None:
    arq = private_arq
    host = make_host({"url": arq.url}, arq.queue)

    def links() -> int:
        return len(arq.connection.client_list())

    before = links()
    host.sync.enqueue(script("ok"))
    assert links() == before + 1
    host.workers.close()
    eventually(lambda: links() == before, "Redis to see it closed")
    host.sync.enqueue(script("ok"))
    host.workers.close()
    assert len(queued(arq)) == 2
