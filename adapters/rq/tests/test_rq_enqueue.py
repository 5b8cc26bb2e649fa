"""The sending side, against a real Redis."""

import asyncio
import json
import math
import os
import signal
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from adapters.rq.tests.support import URL, Harness
from redis import Redis
from tests.queues.harness import eventually, script

from rq_host.jobs import make_host
from sigra_workers import (
    DuplicateJobError,
    EnqueueError,
    InvalidOptionError,
    InvalidSettingsError,
    Workers,
)
from sigra_workers_rq import RqAdapter

pytestmark = pytest.mark.integration


def scheduled_at(rq: Harness, job_id: str) -> float:
    at: float = rq.rq_queue().scheduled_job_registry.get_scheduled_time(job_id).timestamp()
    return at


# -- when ----------------------------------------------------------------------------------------------


def test_schedule_in_counts_from_sending(rq: Harness) -> None:
    job = rq.host.sync.new(script("ok"), schedule_in=timedelta(seconds=60.5))
    time.sleep(0.2)
    before = time.time()
    ref = rq.host.workers.enqueue(job)
    after = time.time()
    assert ref.due_at is not None
    assert before + 60.5 <= ref.due_at.timestamp() <= after + 60.5
    assert rq.payload(ref.id).due_at == pytest.approx(ref.due_at.timestamp(), abs=1e-5)
    assert rq.places(ref.id) == {"scheduled"}
    assert scheduled_at(rq, ref.id) == math.ceil(ref.due_at.timestamp())


def test_schedule_at_is_the_first_full_second_that_is_not_early(rq: Harness) -> None:
    at = datetime(2100, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    ref = rq.host.sync.enqueue(script("ok"), schedule_at=at)
    assert ref.due_at == at
    assert scheduled_at(rq, ref.id) == at.timestamp() + 0.75


def test_a_schedule_in_the_past_runs_at_once(rq: Harness) -> None:
    refs = [
        rq.host.sync.enqueue(script("ok"), schedule_at=datetime.now(UTC) - timedelta(days=400)),
        rq.host.sync.enqueue(script("ok"), schedule_in=0),
    ]
    rq.worker()
    for ref in refs:
        assert rq.wait(ref.id) == "finished"


# -- where ---------------------------------------------------------------------------------------------


def test_a_job_goes_to_the_queue_it_names(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("snooze:1", "ok"), queue=rq.other_queue)
    assert rq.places(ref.id, rq.other_queue) == {"queued"}
    assert rq.places(ref.id) == set()
    rq.worker(queues=(rq.other_queue,))
    rq.wait(ref.id, "finished")
    assert rq.places(ref.id, rq.other_queue) == {"finished"}
    assert [event["queue"] for event in rq.audit(ref.id)] == [rq.other_queue] * 2


def test_a_job_enqueues_others_from_sync_and_async_workers(rq: Harness) -> None:
    refs = [handle.enqueue(script("enqueue")) for handle in rq.host.handles.values()]
    rq.work()
    for ref in refs:
        child = cast("str", rq.job(ref.id).return_value())
        assert rq.status(child) == "finished"
        assert [event["organization_id"] for event in rq.audit(child)] == ["org-1"]


# -- ids of the host -----------------------------------------------------------------------------------


def queued(rq: Harness) -> None:
    rq.host.sync.enqueue(script("ok:first"), job_id=f"{rq.prefix}-id")


def scheduled(rq: Harness) -> None:
    rq.host.sync.enqueue(script("ok:first"), job_id=f"{rq.prefix}-id", schedule_in=900)


def snoozed(rq: Harness) -> None:
    rq.host.sync.enqueue(script("snooze:900"), job_id=f"{rq.prefix}-id")
    rq.work()


def running(rq: Harness) -> None:
    rq.host.sync.enqueue(script("sleep:30"), job_id=f"{rq.prefix}-id")
    rq.worker()
    rq.wait(f"{rq.prefix}-id", "started")


def finished_and_kept(rq: Harness) -> None:
    rq.host.sync.enqueue(script("ok:first"), job_id=f"{rq.prefix}-id")
    rq.work()


def dead(rq: Harness) -> None:
    rq.host.sync.enqueue(script("cancel:legal hold"), job_id=f"{rq.prefix}-id")
    rq.work()


STATES = [queued, scheduled, snoozed, running, finished_and_kept, dead]


@pytest.mark.parametrize("again", [{}, {"schedule_in": 60}], ids=["at once", "scheduled"])
@pytest.mark.parametrize("state", STATES, ids=[state.__name__ for state in STATES])
def test_a_second_job_of_an_id_is_refused(
    rq: Harness, state: Callable[[Harness], None], again: dict[str, Any]
) -> None:
    state(rq)
    job_id = f"{rq.prefix}-id"
    before, places = rq.payload(job_id), rq.places(job_id)
    with pytest.raises(DuplicateJobError) as caught:
        rq.host.sync.enqueue(script("ok:second"), job_id=job_id, **cast("Any", again))
    assert (caught.value.accepted, caught.value.rejected, caught.value.unknown) == ((), (job_id,), ())
    assert (rq.payload(job_id), rq.places(job_id)) == (before, places)


def test_an_id_is_free_again_once_its_result_is_gone(rq: Harness) -> None:
    job_id = f"{rq.prefix}-id"
    rq.host.sync.enqueue(script("ok"), job_id=job_id, native={"result_ttl": 0})
    rq.work()
    rq.host.sync.enqueue(script("ok:second"), job_id=job_id)
    rq.work()
    assert rq.job(job_id).return_value() == "second"


def test_a_batch_reports_its_duplicates_and_sends_the_rest(rq: Harness) -> None:
    queued(rq)
    jobs = [rq.host.sync.new(script("ok"), job_id=f"{rq.prefix}-{name}") for name in ("id", "new", "new")]
    jobs.append(rq.host.sync.new(script("ok")))
    with pytest.raises(DuplicateJobError) as caught:
        rq.host.workers.enqueue_many(jobs)
    assert caught.value.accepted == (jobs[1].id, jobs[3].id)
    assert caught.value.rejected == (jobs[0].id, jobs[2].id)
    assert rq.rq_queue().job_ids == [jobs[0].id, jobs[1].id, jobs[3].id]


def test_a_batch_may_skip_its_duplicates(rq: Harness) -> None:
    queued(rq)
    jobs = [rq.host.sync.new(script("ok"), job_id=f"{rq.prefix}-{name}") for name in ("id", "new")]
    refs = rq.host.workers.enqueue_many(jobs, on_duplicate="skip")
    assert [(ref.id, ref.duplicate) for ref in refs] == [(jobs[0].id, True), (jobs[1].id, False)]
    assert rq.payload(jobs[0].id).args["steps"] == ["ok:first"]


# -- many at once --------------------------------------------------------------------------------------


def calls(connection: Any, command: str) -> int:
    stats = connection.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_a_batch_over_queues_and_times_is_one_transaction(private_rq: Harness) -> None:
    rq = private_rq
    jobs = [
        rq.host.handles[("sync", "async")[n % 2]].new(
            script("ok", n=n),
            queue=(rq.queue, rq.other_queue)[n % 3 == 0],
            **cast("Any", {"schedule_in": 60 + n} if n % 5 == 0 else {}),
        )
        for n in range(60)
    ]
    given = [rq.host.sync.new(script("ok"), job_id=f"{rq.prefix}-{n}") for n in range(3)]
    mixed = [*jobs[:30], given[0], *jobs[30:], *given[1:]]
    rq.connection.config_resetstat()
    refs = rq.host.workers.enqueue_many(mixed)

    assert [ref.id for ref in refs] == [job.id for job in mixed]
    # RQ itself notes the queue of an id it checks in a transaction of its own.
    assert calls(rq.connection, "exec") == 1 + len(given)
    for n, job in enumerate(jobs):
        queue = rq.other_queue if n % 3 == 0 else rq.queue
        assert rq.places(job.id, queue) == ({"scheduled"} if n % 5 == 0 else {"queued"})
        assert rq.payload(job.id).args["n"] == n
    at_once = [job.id for n, job in enumerate(jobs) if n % 3 and n % 5]
    assert [job_id for job_id in rq.rq_queue().job_ids if job_id in at_once] == at_once
    assert {*rq.rq_queue().job_ids} == {*at_once, *(job.id for job in given)}


def test_jobs_beside_a_queue_that_redis_refuses_are_not_called_rejected(rq: Harness) -> None:
    rq.connection.set(f"rq:queue:{rq.other_queue}", "the host's")
    here = rq.host.sync.new(script("ok"))
    there = rq.host.sync.new(script("ok"), queue=rq.other_queue)
    with pytest.raises(EnqueueError) as caught:
        rq.host.workers.enqueue_many([here, there])
    assert {*caught.value.unknown} == {here.id, there.id}
    assert rq.places(here.id) == {"queued"}  # and so it runs
    with pytest.raises(EnqueueError) as caught:
        rq.host.workers.enqueue(there)
    assert caught.value.rejected == (there.id,)
    rq.connection.delete(f"rq:queue:{rq.other_queue}")


def test_more_than_a_batch_arrives_whole_and_in_order(rq: Harness) -> None:
    refs = rq.host.workers.enqueue_many(rq.host.sync.new(script("ok", n=n)) for n in range(1_201))
    assert rq.rq_queue().job_ids == [ref.id for ref in refs]
    assert len({ref.id for ref in refs}) == 1_201


def test_a_job_of_a_batch_is_stored_like_one_that_is_sent_alone(rq: Harness) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"timeout": 7.5},
        {"max_attempts": 9},
        {"native": {"result_ttl": 77}},
        {"native": {"failure_ttl": 99}},
        {"native": {"at_front": True}},
    ]

    def new(n: int) -> Any:
        return rq.host.sync.new(script("ok", n=n, organization_id=f"org-{n}"), **kinds[n % len(kinds)])

    def stored(job_id: str) -> tuple[dict[bytes, bytes], dict[str, Any]]:
        fields = rq.connection.hgetall(f"rq:job:{job_id}")
        del fields[b"created_at"], fields[b"enqueued_at"], fields[b"meta"]
        fields[b"description"] = fields[b"description"].replace(job_id.encode(), b"")
        payload = json.loads(rq.payload(job_id).dump())
        del payload["id"], payload["enqueued_at"]
        return fields, payload

    batch, alone = ([new(n) for n in range(3 * len(kinds))] for _ in range(2))
    rq.host.workers.enqueue_many(batch)
    in_front = [job.id for job in reversed(batch) if job.native.get("at_front")]
    assert rq.rq_queue().job_ids == in_front + [job.id for job in batch if job.id not in in_front]
    for job, other in zip(batch, alone, strict=True):
        rq.host.workers.enqueue(other)
        assert stored(job.id) == stored(other.id)


# -- from an event loop --------------------------------------------------------------------------------


async def heartbeat(gaps: list[float]) -> None:
    """How long the loop was away, again and again."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        gaps.append(time.perf_counter() - before - 0.01)


def test_aenqueue_never_blocks_the_event_loop(private_rq: Harness, redis_server: Any) -> None:
    rq = private_rq
    pid = int(rq.connection.info("server")["process_id"])

    async def main() -> tuple[list[str], float, list[float]]:
        await rq.host.sync.aenqueue(script("ok"))  # imports and connections
        gaps: list[float] = []
        beat = asyncio.create_task(heartbeat(gaps))
        os.kill(pid, signal.SIGSTOP)
        try:
            begun = time.perf_counter()
            sending = [asyncio.create_task(rq.host.sync.aenqueue(script("ok"))) for _ in range(8)]
            sending.append(asyncio.create_task(rq.host.asynchronous.aenqueue(script("ok"), schedule_in=60)))
            await asyncio.sleep(1)
            assert not any(task.done() for task in sending)
        finally:
            os.kill(pid, signal.SIGCONT)
        ids = [(await task).id for task in sending]
        beat.cancel()
        return ids, time.perf_counter() - begun, gaps

    ids, took, gaps = asyncio.run(main())
    assert took >= 1
    assert len(gaps) > 20
    assert max(gaps) < 0.5
    assert {rq.status(job_id) for job_id in ids} == {"queued", "scheduled"}


def test_enqueue_inside_a_running_loop_is_one_blocking_call(rq: Harness) -> None:
    async def main() -> str:
        return rq.host.sync.enqueue(script("ok")).id

    assert rq.places(asyncio.run(main())) == {"queued"}


def test_aenqueue_many_tells_what_enqueue_many_does(rq: Harness) -> None:
    queued(rq)
    jobs = [rq.host.sync.new(script("ok"), job_id=f"{rq.prefix}-{name}") for name in ("new", "id")]
    with pytest.raises(DuplicateJobError) as caught:
        asyncio.run(rq.host.workers.aenqueue_many(jobs))
    assert (caught.value.accepted, caught.value.rejected) == ((jobs[0].id,), (jobs[1].id,))


# -- what RQ shows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"schedule_in": 60}, {"job_id": "given"}], ids=["at once", "scheduled", "given id"]
)
def test_the_description_shows_worker_id_and_organization_alone(rq: Harness, options: dict[str, Any]) -> None:
    given = {key: f"{rq.prefix}-{value}" if key == "job_id" else value for key, value in options.items()}
    args = script("ok", organization_id="org-9", actor_id="bob", token="s3cret")
    ref = rq.host.sync.enqueue(args, **cast("Any", given))
    job = rq.job(ref.id)
    assert job.description == f"steps.sync {ref.id} organization='org-9'"
    assert (job.func_name, job.args, job.kwargs) == ("sigra_workers_rq.dispatch", [], {})


# -- options of RQ -------------------------------------------------------------------------------------


def test_at_front_goes_before_the_others(rq: Harness) -> None:
    first = rq.host.sync.enqueue(script("ok"))
    front = rq.host.sync.enqueue(script("ok"), native={"at_front": True})
    given = rq.host.sync.enqueue(script("ok"), native={"at_front": True}, job_id=f"{rq.prefix}-id")
    assert rq.rq_queue().job_ids == [given.id, front.id, first.id]


def test_at_front_holds_for_a_scheduled_job(rq: Harness) -> None:
    late = rq.host.sync.enqueue(script("ok"), native={"at_front": True}, schedule_in=0.5)
    rest = [rq.host.sync.enqueue(script("sleep:1")) for _ in range(6)]
    rq.worker()
    rq.wait(late.id, "finished")
    assert rq.status(rest[-1].id) == "queued"


def test_result_ttl_is_how_long_a_result_is_kept(rq: Harness) -> None:
    kept = rq.host.sync.enqueue(script("snooze:1", "ok:done"), native={"result_ttl": 77})
    gone = rq.host.sync.enqueue(script("ok:done"), native={"result_ttl": 0})
    rq.worker()
    rq.wait(kept.id, "finished")
    assert 60 < rq.connection.ttl(rq.job(kept.id).key) <= 77
    assert not rq.connection.exists(f"rq:job:{gone.id}")


def test_failure_ttl_is_how_long_a_dead_job_is_kept(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("cancel:no"), native={"failure_ttl": 3_600})
    rq.work()
    assert 3_500 < rq.connection.ttl(rq.job(ref.id).key) <= 3_600


@pytest.mark.parametrize(
    ("native", "problem"),
    [
        ({"ttl": 60}, "RQ has no 'ttl' here, known are ['at_front', 'failure_ttl', 'result_ttl']"),
        ({"depends_on": ["other"]}, "RQ has no 'depends_on' here"),
        ({"at_front": 1}, "'at_front' is of type int, expected bool"),
        ({"result_ttl": "60"}, "'result_ttl' is of type str, expected int"),
        ({"failure_ttl": True}, "'failure_ttl' is of type bool, expected int"),
    ],
    ids=["unknown", "dependencies", "int for bool", "str for int", "bool for int"],
)
def test_other_native_options_are_refused_before_sending(
    rq: Harness, native: dict[str, object], problem: str
) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        rq.host.sync.new(script("ok"), native=native)
    assert caught.value.option == "native"
    assert problem in caught.value.problem


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "it takes either 'url' or 'connection'"),
        ({"url": URL, "connection": None}, "it takes either 'url' or 'connection'"),
        ({"url": URL, "prefix": "x"}, "there is no setting ['prefix']"),
        ({"url": 6379}, "setting 'url' is of type int, expected str"),
        ({"url": "localhost:6379"}, "setting 'url' is no Redis URL"),
        ({"url": "redis://localhost:port/0"}, "setting 'url' is no Redis URL"),
        ({"url": URL, "serializer": "yaml"}, "setting 'serializer' is none of ('json', 'pickle')"),
        ({"url": URL, "serializer": ["json"]}, "setting 'serializer' is none of ('json', 'pickle')"),
        ({"connection": "redis"}, "setting 'connection' is of type str, expected redis.Redis"),
        ({"connection": Redis.from_url(URL, decode_responses=True)}, "decode_responses=False"),
    ],
    ids=[
        "neither",
        "both",
        "unknown",
        "url of a wrong type",
        "url without a scheme",
        "url without a port",
        "unknown serializer",
        "serializer of a wrong type",
        "connection of a wrong type",
        "connection that decodes",
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        _ = Workers(adapter="rq", settings=settings).adapter
    assert caught.value.subject == "adapter 'rq'"
    assert problem in str(caught.value)


@pytest.mark.parametrize("url", ["rediss//user:s3cret@host", "redis://user:s3cret#more@host"])
def test_a_refused_url_is_not_in_the_error(url: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        _ = Workers(adapter="rq", settings={"url": url}).adapter
    shown = traceback.format_exception(caught.value)
    assert "s3cret" not in "".join(line for line in shown if "Workers(" not in line)


def test_the_hosts_own_connection_is_used_and_not_closed(rq: Harness) -> None:
    with Redis.from_url(URL, client_name=f"{rq.prefix}-client") as connection:
        host = make_host({"connection": connection}, rq.queue)
        with host.workers:
            ref = host.sync.enqueue(script("ok"))
            assert cast("RqAdapter", host.workers.adapter).connection is connection
        (link,) = [c for c in rq.connection.client_list() if c["name"] == f"{rq.prefix}-client"]
        assert link["cmd"] == "exec"
        assert connection.ping()
        (still,) = [c for c in rq.connection.client_list() if c["name"] == f"{rq.prefix}-client"]
        assert still["id"] == link["id"]
    assert rq.status(ref.id) == "queued"


def test_what_the_adapter_opened_is_closed_and_opened_again(rq: Harness) -> None:
    url = f"{rq.url}?client_name={rq.prefix}-own"
    host = make_host({"url": url}, rq.queue)

    def links() -> int:
        return sum(c["name"] == f"{rq.prefix}-own" for c in rq.connection.client_list())

    assert links() == 0
    host.sync.enqueue(script("ok"))
    assert links() == 1
    host.workers.close()
    eventually(lambda: links() == 0, "Redis to see it closed")
    host.sync.enqueue(script("ok"))
    host.workers.close()
    assert len(rq.rq_queue().job_ids) == 2


def test_pickle_is_a_setting_for_processes_that_read_it(rq: Harness) -> None:
    rq.serializer = "pickle"
    host = make_host({"url": rq.url, "serializer": "pickle"}, rq.queue)
    with host.workers:
        ref = host.sync.enqueue(script("error:no", "ok:done"))
    rq.work()
    assert rq.job(ref.id).return_value() == "done"
    assert rq.payload(ref.id).attempt == 2
