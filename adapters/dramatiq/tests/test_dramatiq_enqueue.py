"""The sending side, against a real Redis and RabbitMQ."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from adapters.dramatiq.tests.support import RABBITMQ_URL, REDIS_URL, SETTINGS, Harness, Proxy, harness
from dramatiq import Broker, Message
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import dq_name, xq_name
from dramatiq.middleware import Middleware
from pika.exceptions import ChannelClosedByBroker
from redis import Redis
from redis.exceptions import ResponseError
from tests.losses.servers import RabbitServer, free_port
from tests.queues.harness import RedisServer, eventually, script
from tests.queues.host import Host, StepArgs

from dramatiq_host.jobs import make_host
from sigra_workers import (
    Again,
    AuditScope,
    Delivery,
    DuplicateJobError,
    EnqueueError,
    InvalidOptionError,
    InvalidSettingsError,
    Ok,
    Payload,
    Workers,
    dispatch,
)
from sigra_workers_dramatiq import DramatiqAdapter, wire

pytestmark = pytest.mark.integration


@pytest.fixture(params=SETTINGS)
def any_queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """The host on the shared servers, in each way."""
    with harness(tmp_path, request.param) as found:
        yield found


# -- when ----------------------------------------------------------------------------------------------


def test_schedule_in_counts_from_sending(queue: Harness) -> None:
    job = queue.host.sync.new(script("ok"), schedule_in=timedelta(seconds=60.5))
    time.sleep(0.2)
    before = time.time()
    ref = queue.host.workers.enqueue(job)
    assert ref.due_at is not None
    assert before + 60.5 <= ref.due_at.timestamp() <= time.time() + 60.5
    assert queue.parked_until(ref.id) == pytest.approx(ref.due_at.timestamp(), abs=1e-5)
    assert queue.waiting() == []


def test_without_a_store_a_scheduled_job_is_delayed_by_dramatiq(storeless: Harness) -> None:
    ref = storeless.host.sync.enqueue(script("ok"), schedule_in=60.5)
    (message,) = storeless.messages(kind=dq_name)
    assert ref.due_at is not None
    assert 0 <= message.options["eta"] - ref.due_at.timestamp() * 1_000 < 1.01


def test_a_schedule_in_the_past_runs_at_once(any_queue: Harness) -> None:
    refs = [
        any_queue.host.sync.enqueue(script("ok"), schedule_at=datetime.now(UTC) - timedelta(days=400)),
        any_queue.host.sync.enqueue(script("ok"), schedule_in=0),
    ]
    assert any_queue.waiting() == [ref.id for ref in refs]
    any_queue.worker()
    any_queue.wait(*(ref.id for ref in refs))


def test_a_job_that_reaches_the_queue_early_waits_for_its_time(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("ok"), schedule_in=2.5)
    (ticket,) = queue.parked(ref.id)
    queue.connection.zadd(f"{queue.store_prefix}:parked:at", {ticket: 0})  # as an operator can do by hand
    queue.worker()
    queue.wait(ref.id)
    (run,) = queue.runs(ref.id)
    assert ref.due_at is not None
    assert run["at"] >= ref.due_at.timestamp()
    assert run["attempt"] == 1


def test_the_longest_snooze_keeps_its_time(queue: Harness) -> None:
    seconds = 366 * 86_400
    before = time.time()
    ref = queue.host.sync.enqueue(script(f"snooze:{seconds}"))
    queue.worker()
    eventually(lambda: queue.parked(ref.id), "the job to be parked")
    assert before + seconds <= queue.parked_until(ref.id) <= time.time() + seconds
    for key in ("parked", "parked:at"):
        assert queue.connection.ttl(f"{queue.store_prefix}:{key}") == -1  # nothing may drop it meanwhile


def test_long_delays_hold_nobody_up(queue: Harness) -> None:
    jobs = [queue.host.sync.new(script("ok"), schedule_in=3_600) for _ in range(1_000)]
    queue.host.workers.enqueue_many(jobs)
    environment = {"dramatiq_delay_queue_prefetch": "10"}
    queue.worker(environment=environment)
    ref = queue.host.sync.enqueue(script("ok"), schedule_in=1)
    queue.wait(ref.id)
    assert ref.due_at is not None
    assert queue.runs(ref.id)[0]["at"] - ref.due_at.timestamp() < 5


# -- where ---------------------------------------------------------------------------------------------


def test_a_job_goes_to_the_queue_it_names(any_queue: Harness) -> None:
    ref = any_queue.host.sync.enqueue(script("snooze:1", "ok"), queue=any_queue.other_queue)
    assert any_queue.waiting(any_queue.other_queue) == [ref.id]
    assert any_queue.waiting() == []
    any_queue.worker("--queues", any_queue.other_queue)
    any_queue.wait(ref.id)
    assert [event["queue"] for event in any_queue.audit(ref.id)] == [any_queue.other_queue] * 2


def test_a_job_enqueues_others_from_sync_and_async_workers(any_queue: Harness) -> None:
    refs = [handle.enqueue(script("enqueue")) for handle in any_queue.host.handles.values()]
    any_queue.worker()
    eventually(lambda: len(any_queue.lines("finished.jsonl")) == 4, "four jobs to end")
    children = [run for run in any_queue.runs() if run["job"] not in {ref.id for ref in refs}]
    assert [(run["step"], run["organization"]) for run in children] == [("ok", "org-1")] * 2


def test_a_queue_that_rabbitmq_does_not_have_swallows_no_job(storeless: Harness) -> None:
    first = storeless.host.sync.enqueue(script("ok"))
    channel = storeless.channel()
    for name in (storeless.queue, dq_name(storeless.queue), xq_name(storeless.queue)):
        channel.queue_delete(name)
    jobs = [storeless.host.sync.new(script("ok")) for _ in range(3)]
    jobs += [storeless.host.sync.new(script("ok"), queue=storeless.other_queue)]
    storeless.host.workers.enqueue_many(jobs)
    assert storeless.waiting() == [job.id for job in jobs[:3]]
    assert storeless.waiting(storeless.other_queue) == [jobs[3].id]
    assert first.id not in storeless.waiting()
    assert storeless.channel().queue_declare(xq_name(storeless.queue), passive=True)


def test_a_queue_that_rabbitmq_has_otherwise_refuses_the_jobs(storeless: Harness) -> None:
    channel = storeless.channel()
    channel.queue_declare(storeless.queue, durable=False)
    with pytest.raises(EnqueueError) as caught:
        storeless.host.sync.enqueue(script("ok"))
    assert len(caught.value.rejected) == 1
    assert "PRECONDITION_FAILED" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("jobs.DQ", "ends as Dramatiq's own queues do"),
        ("jobs.XQ", "ends as Dramatiq's own queues do"),
        ("arq:queue", "holds a colon"),
    ],
)
def test_a_queue_that_dramatiq_can_not_have_is_refused(name: str, why: str) -> None:
    host = make_host({"url": REDIS_URL}, name)
    with pytest.raises(EnqueueError) as caught:
        host.sync.enqueue(script("ok"))
    assert why in str(caught.value.__cause__)


# -- ids of the host -----------------------------------------------------------------------------------


def queued(queue: Harness) -> None:
    queue.host.sync.enqueue(script("ok:first"), job_id=f"{queue.prefix}-id")


def scheduled(queue: Harness) -> None:
    queue.host.sync.enqueue(script("ok:first"), job_id=f"{queue.prefix}-id", schedule_in=900)


def snoozed(queue: Harness) -> None:
    queue.host.sync.enqueue(script("snooze:900"), job_id=f"{queue.prefix}-id")
    queue.worker()
    eventually(lambda: queue.parked(f"{queue.prefix}-id"), "the job to be snoozed")


def running(queue: Harness) -> None:
    queue.host.sync.enqueue(script("sleep:30"), job_id=f"{queue.prefix}-id")
    queue.worker()
    eventually(queue.runs, "the job to run")


def dead(queue: Harness) -> None:
    queue.host.sync.enqueue(script("cancel:legal hold"), job_id=f"{queue.prefix}-id")
    queue.worker()
    eventually(queue.dead, "the job to die")


STATES = [queued, scheduled, snoozed, running, dead]


@pytest.mark.parametrize("state", STATES, ids=[state.__name__ for state in STATES])
def test_a_second_job_of_an_id_is_refused(queue: Harness, state: Callable[[Harness], None]) -> None:
    state(queue)
    job_id = f"{queue.prefix}-id"
    runs = len(queue.runs())
    options: list[dict[str, Any]] = [{}, {"schedule_in": 60}]
    for again in options:
        with pytest.raises(DuplicateJobError) as caught:
            queue.host.sync.enqueue(script("ok:second"), job_id=job_id, **cast("Any", again))
        assert (caught.value.accepted, caught.value.rejected, caught.value.unknown) == ((), (job_id,), ())
    assert len(queue.runs()) == runs


def test_an_id_is_free_again_once_its_job_completed(queue: Harness) -> None:
    job_id = f"{queue.prefix}-id"
    queue.host.sync.enqueue(script("ok"), job_id=job_id)
    queue.worker()
    queue.wait(job_id)
    eventually(lambda: queue.record(job_id)["owner"] == "", "the end to be written")
    queue.host.sync.enqueue(script("ok"), job_id=job_id)
    eventually(lambda: len(queue.decisions(job_id)) == 2, "the second job")


def test_a_batch_reports_its_duplicates_and_sends_the_rest(queue: Harness) -> None:
    queued(queue)
    jobs = [
        queue.host.sync.new(script("ok"), job_id=f"{queue.prefix}-{name}") for name in ("id", "new", "new")
    ]
    jobs.append(queue.host.sync.new(script("ok")))
    with pytest.raises(DuplicateJobError) as caught:
        queue.host.workers.enqueue_many(jobs)
    assert caught.value.accepted == (jobs[1].id, jobs[3].id)
    assert caught.value.rejected == (jobs[0].id, jobs[2].id)
    skipped = queue.host.workers.enqueue_many(jobs[:1], on_duplicate="skip")
    assert [(ref.id, ref.duplicate) for ref in skipped] == [(jobs[0].id, True)]
    queue.worker()
    queue.wait(jobs[0].id, jobs[1].id, jobs[3].id)
    assert len(queue.runs()) == 3


def test_without_a_store_an_id_of_the_hosts_is_refused_before_sending(storeless: Harness) -> None:
    with pytest.raises(InvalidOptionError, match="give the setting 'store', a Redis"):
        storeless.host.sync.new(script("ok"), job_id="mine")


# -- many at once --------------------------------------------------------------------------------------


def test_a_batch_over_queues_and_times_is_one_transaction(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    with harness(tmp_path, "redis", url=redis_server().url) as queue:
        jobs = [
            queue.host.handles[("sync", "async")[n % 2]].new(
                script("ok", n=n),
                queue=(queue.queue, queue.other_queue)[n % 3 == 0],
                **cast("Any", {"schedule_in": 60 + n} if n % 5 == 0 else {}),
            )
            for n in range(60)
        ]
        given = [queue.host.sync.new(script("ok"), job_id=f"{queue.prefix}-{n}") for n in range(3)]
        mixed = [*jobs[:30], given[0], *jobs[30:], *given[1:]]
        queue.connection.config_resetstat()
        refs = queue.host.workers.enqueue_many(mixed)
        assert [ref.id for ref in refs] == [job.id for job in mixed]
        assert queue.connection.info("commandstats")["cmdstat_exec"]["calls"] == 1
        assert {payload.id for payload in queue.parked(None).values()} == {job.id for job in jobs[::5]}
        at_once = [job for n, job in enumerate(jobs) if n % 5]
        first = [job.id for job in mixed if job.queue == queue.queue and (job in at_once or job in given)]
        assert queue.waiting() == first
        assert queue.waiting(queue.other_queue) == [
            job.id for job in at_once if job.queue == queue.other_queue
        ]


def test_a_batch_on_rabbitmq_is_one_transaction(tmp_path: Path, proxy: Proxy) -> None:
    with harness(tmp_path, "storeless", url=proxied(proxy)) as queue:
        answers: list[int] = []
        for count in (2, 500):  # the first declares the queue
            queue.host.workers.enqueue_many([queue.host.sync.new(script("ok")) for _ in range(count)])
            answers.append(proxy.answers)
        assert answers[1] == answers[0] + 1  # tx.commit-ok
        assert len(queue.waiting()) == 502


def test_more_than_a_batch_arrives_whole_and_in_order(any_queue: Harness) -> None:
    handle = any_queue.host.sync
    refs = any_queue.host.workers.enqueue_many(handle.new(script("ok", n=n)) for n in range(1_201))
    assert any_queue.waiting() == [ref.id for ref in refs]
    assert len({ref.id for ref in refs}) == 1_201


def test_a_batch_of_large_jobs_arrives_whole(storeless: Harness) -> None:
    jobs = [storeless.host.sync.new(script("ok", pad="x" * 200_000)) for _ in range(30)]
    storeless.host.workers.enqueue_many(jobs)
    assert storeless.waiting() == [job.id for job in jobs]


def test_rabbitmq_has_written_what_it_has_answered(storeless: Harness) -> None:
    storeless.host.sync.enqueue(script("ok"))
    channel = storeless.channel()
    _, properties, _ = channel.basic_get(storeless.queue)
    assert properties.delivery_mode == 2
    channel.close()


def test_rabbitmq_that_is_killed_amid_a_burst_has_lost_nothing_it_answered(tmp_path: Path) -> None:
    server = RabbitServer(tmp_path / "rabbitmq")
    server.start()
    accepted: list[str] = []

    def burst(host: Host) -> None:
        while True:
            try:
                refs = host.workers.enqueue_many([host.sync.new(script("ok")) for _ in range(50)])
            except EnqueueError:
                return
            accepted.extend(ref.id for ref in refs)

    try:
        with harness(tmp_path, "storeless", url=server.url) as queue, ThreadPoolExecutor(2) as senders:
            sending = [senders.submit(burst, queue.host) for _ in range(2)]
            eventually(lambda: len(accepted) > 2_000, "a burst")
            server.kill()
            for sender in sending:
                sender.result(30)
            server.start()
            assert {*accepted} <= {*queue.waiting()}
    finally:
        server.kill()


# -- servers that are away ------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    found = Proxy(urlsplit(RABBITMQ_URL).port or 5672)
    yield found
    found.open()


def proxied(proxy: Proxy) -> str:
    """The URL of RabbitMQ by that way."""
    parts = urlsplit(RABBITMQ_URL)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_without_a_server_nothing_was_sent(scheme: str) -> None:
    host = make_host({"url": f"{scheme}://127.0.0.1:{free_port()}"})
    jobs = [host.sync.new(script("ok")) for _ in range(3)]
    with pytest.raises(EnqueueError) as caught:
        host.workers.enqueue_many(jobs)
    assert (caught.value.accepted, caught.value.unknown) == ((), ())
    assert caught.value.rejected == tuple(job.id for job in jobs)
    assert "s3cret" not in str(caught.value.__cause__)


def test_a_store_that_is_away_refuses_what_needs_it(tmp_path: Path) -> None:
    with harness(tmp_path, "storeless") as queue:
        host = make_host({**queue.settings, "store": f"redis://127.0.0.1:{free_port()}"}, queue.queue)
        jobs = [host.sync.new(script("ok")), host.sync.new(script("ok"), schedule_in=60)]
        with pytest.raises(EnqueueError) as caught:
            host.workers.enqueue_many(jobs)
        assert (caught.value.accepted, caught.value.rejected) == ((jobs[0].id,), (jobs[1].id,))
        host.workers.close()


def test_redis_that_does_not_answer_leaves_jobs_unknown(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    server = redis_server()
    with harness(tmp_path, "redis", url=server.url) as queue:
        queue.host.sync.enqueue(script("ok"))
        os.kill(server.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        try:
            with pytest.raises(EnqueueError) as caught:
                queue.host.sync.enqueue(script("ok"))
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        assert 4 < time.monotonic() - begun < 12
        assert len(caught.value.unknown) == 1


def test_rabbitmq_that_does_not_answer_leaves_jobs_unknown(tmp_path: Path, proxy: Proxy) -> None:
    with harness(tmp_path, "storeless", url=proxied(proxy)) as queue:
        queue.host.sync.enqueue(script("ok"))
        proxy.stall()
        begun = time.monotonic()
        with pytest.raises(EnqueueError) as caught:
            queue.host.sync.enqueue(script("ok"))
        assert 4 < time.monotonic() - begun < 14
        assert len(caught.value.unknown) == 1
        proxy.open()
        queue.host.sync.enqueue(script("ok"))


def test_a_lost_connection_is_made_anew(tmp_path: Path, proxy: Proxy) -> None:
    with harness(tmp_path, "storeless", url=proxied(proxy)) as queue:
        for _ in range(3):
            queue.host.sync.enqueue(script("ok"))
            proxy.cut()
            time.sleep(0.2)
        assert len(queue.waiting()) == 3


def test_a_full_redis_refuses_the_batch_and_tells_no_args(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    with harness(tmp_path, "redis", url=redis_server().url) as queue:
        queue.connection.config_set("maxmemory", 1)
        jobs = [queue.host.sync.new(script("ok", token="s3cret")) for _ in range(2)]
        jobs.append(queue.host.sync.new(script("ok", token="s3cret"), job_id=f"{queue.prefix}-id"))
        with pytest.raises(EnqueueError) as caught:
            queue.host.workers.enqueue_many(jobs)
        assert caught.value.rejected == tuple(job.id for job in jobs)
        assert "maxmemory" in str(caught.value.__cause__)
        assert "s3cret" not in f"{caught.value.__cause__!r}"
        assert queue.waiting() == []


# -- what goes wrong for one is not the others' ----------------------------------------------------------


def settled(queue: Harness) -> int:
    """How many messages are there, once what is under way has come."""
    found, before = queue.ready(), -1
    while found != before:
        time.sleep(0.2)
        found, before = queue.ready(), found
    return found


# A time-out may come while an object's finalizer runs, which tells of it and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_time_out_amid_sending_leaves_nothing_for_the_next_batch(storeless: Harness) -> None:
    host = storeless.host
    host.sync.enqueue(script("ok"))

    def flood(scope: AuditScope, args: StepArgs) -> Ok:
        while True:
            host.workers.enqueue_many([host.sync.new(script("ok", pad="x" * 2_000)) for _ in range(100)])

    host.later.implement(flood)
    for n in range(10):
        job = host.later.new(script("ok"), timeout=0.1 + n / 50)
        outcome = dispatch(host.workers, Delivery(job.payload(0).dump()))
        assert isinstance(outcome, Again)
        before = settled(storeless)
        host.sync.enqueue(script("ok"))
        assert settled(storeless) == before + 1


class OneEach(RabbitmqBroker):
    """A host's, whose queues have room for one job."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {"x-max-length": 1, "x-overflow": "reject-publish"}


def test_a_queue_that_has_no_room_refuses_the_job(on_rabbitmq: Harness) -> None:
    broker = OneEach(url=RABBITMQ_URL, confirm_delivery=True)
    host = make_host({"broker": broker}, on_rabbitmq.queue)
    first = host.sync.enqueue(script("ok"))
    with pytest.raises(EnqueueError) as caught:
        host.sync.enqueue(script("ok"))
    assert len(caught.value.rejected) == 1
    with pytest.raises(EnqueueError) as caught:
        host.workers.enqueue_many([host.sync.new(script("ok")) for _ in range(2)])
    assert len(caught.value.unknown) == 2
    assert on_rabbitmq.waiting() == [first.id]
    host.workers.close()
    broker.close()


class Stamps(Middleware):
    """A host's, which puts something into the options of some messages that their encoder refuses."""

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:
        if Payload.parse(message.options[wire.OPTION]).args.get("n") == 1:
            message.options["sent_at"] = datetime.now(UTC)


def test_a_message_that_cannot_be_encoded_is_refused_alone(any_queue: Harness) -> None:
    host = any_queue.host
    any_queue.adapter.broker.add_middleware(Stamps())
    jobs = [host.sync.new(script("ok", n=n)) for n in range(3)]
    with pytest.raises(EnqueueError) as caught:
        host.workers.enqueue_many(jobs)
    assert (caught.value.accepted, caught.value.rejected) == ((jobs[0].id, jobs[2].id), (jobs[1].id,))
    host.sync.enqueue(script("ok", n=3))
    assert len(any_queue.waiting()) == 3


def spoil(queue: Harness, name: str) -> Callable[[], object]:
    """Have the broker refuse what is sent to that queue; call to mend it."""
    if queue.on_redis:
        queue.connection.set(f"dramatiq:{name}", "the host's")
        return lambda: queue.connection.delete(f"dramatiq:{name}")
    channel = queue.channel()
    channel.queue_declare(name, durable=False)
    return lambda: queue.channel().queue_delete(name)


def test_a_queue_that_the_broker_refuses_keeps_no_job_of_another(queue: Harness) -> None:
    mend = spoil(queue, queue.other_queue)
    names = (queue.queue, queue.other_queue, queue.queue)
    jobs = [queue.host.sync.new(script("ok"), queue=name) for name in names]
    with pytest.raises(EnqueueError) as caught:
        queue.host.workers.enqueue_many(jobs)
    assert (caught.value.accepted, caught.value.rejected) == ((jobs[0].id, jobs[2].id), (jobs[1].id,))
    assert queue.waiting() == [jobs[0].id, jobs[2].id]
    mend()


def test_a_queue_that_is_a_key_of_the_hosts_keeps_nothing_of_a_job(tmp_path: Path) -> None:
    with harness(tmp_path, "redis") as queue:
        mend = spoil(queue, queue.queue)
        with pytest.raises(EnqueueError) as caught:
            queue.host.sync.enqueue(script("ok", token="s3cret"))
        assert len(caught.value.rejected) == 1
        assert "s3cret" not in f"{caught.value.__cause__!r}"
        assert not queue.connection.exists(f"dramatiq:{queue.queue}.msgs")
        mend()


def test_parked_jobs_wait_for_their_own_queue_alone(queue: Harness) -> None:
    mend = spoil(queue, queue.other_queue)
    refs = [
        queue.host.sync.enqueue(script("ok"), queue=name, schedule_in=60)
        for name in (queue.other_queue, queue.queue)
    ]

    def move() -> None:
        for ref in refs:
            for ticket in queue.parked(ref.id):
                queue.connection.zadd(f"{queue.store_prefix}:parked:at", {ticket: 1})
        while queue.adapter.move():
            pass

    with pytest.raises((ResponseError, ChannelClosedByBroker)):
        move()
    assert queue.waiting() == [refs[1].id]
    assert [*queue.parked(refs[0].id)] != []
    assert [*queue.parked(refs[1].id)] == []
    if queue.on_redis:
        assert not queue.connection.exists(f"dramatiq:{queue.other_queue}.msgs")
    mend()
    move()
    assert queue.waiting(queue.other_queue) == [refs[0].id]
    assert [*queue.parked(refs[0].id)] == []


# -- from event loops, threads and forks ---------------------------------------------------------------


async def heartbeat(gaps: list[float]) -> None:
    """How long the loop was away, again and again."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        gaps.append(time.perf_counter() - before - 0.01)


def test_aenqueue_never_blocks_the_event_loop(tmp_path: Path, proxy: Proxy) -> None:
    async def main(queue: Harness) -> tuple[list[str], list[float]]:
        await queue.host.sync.aenqueue(script("ok"))  # imports and connections
        gaps: list[float] = []
        beat = asyncio.create_task(heartbeat(gaps))
        proxy.stall()
        sending = [asyncio.create_task(queue.host.sync.aenqueue(script("ok"))) for _ in range(8)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in sending)
        proxy.open()
        ids = [(await task).id for task in sending]
        beat.cancel()
        return ids, gaps

    with harness(tmp_path, "storeless", url=proxied(proxy)) as queue:
        ids, gaps = asyncio.run(main(queue))
        assert len(gaps) > 20
        assert max(gaps) < 0.5
        assert {*ids} < {*queue.waiting()}


def test_enqueue_inside_a_running_loop_is_one_blocking_call(any_queue: Harness) -> None:
    async def main() -> str:
        return any_queue.host.sync.enqueue(script("ok")).id

    job_id = asyncio.run(main())
    assert any_queue.waiting() == [job_id]


def test_a_forked_process_sends_on_connections_of_its_own(any_queue: Harness) -> None:
    any_queue.host.sync.enqueue(script("ok"))
    fork = multiprocessing.get_context("fork")

    def send() -> None:
        any_queue.host.sync.enqueue(script("ok"))
        any_queue.host.workers.close()

    children = [fork.Process(target=send) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    any_queue.host.sync.enqueue(script("ok"))
    assert len(any_queue.waiting()) == 4


# -- options of Dramatiq ---------------------------------------------------------------------------------


def test_broker_priority_holds_over_retries(on_rabbitmq: Harness) -> None:
    broker = RabbitmqBroker(url=RABBITMQ_URL, max_priority=5, confirm_delivery=True)
    # A store of its own: whoever moves what is due moves it all, and this broker declares queues its own way.
    store = f"{REDIS_URL.rpartition('/')[0]}/12"
    host = make_host({"broker": broker, "store": store}, on_rabbitmq.queue)
    refs = [
        host.sync.enqueue(script("ok"), native={"broker_priority": priority}, job_id=job_id)
        for priority, job_id in ((1, f"{on_rabbitmq.prefix}-low"), (4, f"{on_rabbitmq.prefix}-high"))
    ]
    adapter = DramatiqAdapter.of(host.workers)
    while adapter.move():
        pass
    assert on_rabbitmq.waiting() == [refs[1].id, refs[0].id]
    (_, low) = on_rabbitmq.messages()
    assert low.options["broker_priority"] == 1
    assert on_rabbitmq.payload(low).meta == {"dramatiq": {"broker_priority": 1}}
    host.workers.close()
    broker.close()
    with Redis.from_url(store) as client:
        client.flushdb()


@pytest.mark.parametrize(
    ("way", "native", "problem"),
    [
        ("redis", {"broker_priority": 1}, "Dramatiq has no 'broker_priority' here"),
        ("rabbitmq", {"max_retries": 3}, "Dramatiq has no 'max_retries' here, known is 'broker_priority'"),
        ("rabbitmq", {"broker_priority": 256}, "expected to be an int, 0 to 255"),
        ("rabbitmq", {"broker_priority": True}, "expected to be an int, 0 to 255"),
    ],
    ids=["priority on Redis", "unknown", "too high", "bool for int"],
)
def test_other_native_options_are_refused_before_sending(
    way: str, native: dict[str, object], problem: str
) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        make_host(SETTINGS[way]).sync.new(script("ok"), native=native)
    assert caught.value.option == "native"
    assert problem in caught.value.problem


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "it takes either 'broker' or 'url'"),
        ({"url": REDIS_URL, "broker": None}, "it takes either 'broker' or 'url'"),
        ({"url": REDIS_URL, "prefix": "x"}, "there is no setting ['prefix']"),
        ({"url": 6379}, "setting 'url' is of type int, expected str"),
        ({"url": "localhost:6379"}, "setting 'url' is none of a Redis or RabbitMQ"),
        ({"url": "amqp://localhost:port"}, "setting 'url' is none of a Redis or RabbitMQ"),
        ({"url": REDIS_URL, "store": REDIS_URL}, "setting 'store' is for RabbitMQ"),
        ({"url": RABBITMQ_URL, "store": 6379}, "setting 'store' is of type int"),
        ({"url": RABBITMQ_URL, "store": "localhost"}, "setting 'store' is no Redis URL"),
        ({"url": REDIS_URL, "consumer_timeout": 60}, "setting 'consumer_timeout' is RabbitMQ's"),
        ({"url": RABBITMQ_URL, "consumer_timeout": True}, "setting 'consumer_timeout' is of type bool"),
        ({"url": RABBITMQ_URL, "consumer_timeout": 0}, "setting 'consumer_timeout' is expected to be"),
        ({"broker": "redis"}, "setting 'broker' is of type str, expected RedisBroker or RabbitmqBroker"),
        ({"broker": StubBroker()}, "setting 'broker' is of type StubBroker"),
    ],
    ids=[
        "neither",
        "both",
        "unknown",
        "url of a wrong type",
        "url without a scheme",
        "url without a port",
        "store beside Redis",
        "store of a wrong type",
        "store without a scheme",
        "consumer_timeout beside Redis",
        "consumer_timeout of a wrong type",
        "consumer_timeout of nothing",
        "broker of a wrong type",
        "broker of a wrong kind",
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        _ = Workers(adapter="dramatiq", settings=settings).adapter
    assert caught.value.subject == "adapter 'dramatiq'"
    assert problem in str(caught.value)


@pytest.mark.parametrize("url", ["rediss//user:s3cret@host", "amqp://user:s3cret@host:port"])
def test_a_refused_url_is_not_in_the_error(url: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        _ = Workers(adapter="dramatiq", settings={"url": url}).adapter
    assert "s3cret" not in f"{caught.value}"


@pytest.mark.parametrize(
    ("way", "more"),
    [
        ("redis", {"dead_jobs", "unique_ids"}),
        ("rabbitmq", {"dead_jobs", "unique_ids"}),
        ("storeless", set[str]()),
    ],
)
def test_what_it_can_do_depends_on_the_settings(way: str, more: set[str]) -> None:
    found = make_host(SETTINGS[way]).workers.adapter.capabilities
    assert found == {"bulk", "durable", "stops_sync"} | more


def test_the_hosts_own_connections_are_used_and_not_closed(on_redis: Harness) -> None:
    with Redis.from_url(REDIS_URL, client_name=f"{on_redis.prefix}-client") as client:
        make: Any = RedisBroker
        broker: Any = make(client=client, namespace=f"{on_redis.prefix}-space")
        host = make_host({"broker": broker}, on_redis.queue)
        with host.workers:
            ref = host.sync.enqueue(script("ok"))
            assert DramatiqAdapter.of(host.workers).broker is broker
        (link,) = [c for c in on_redis.connection.client_list() if c["name"] == f"{on_redis.prefix}-client"]
        assert client.ping()
        (still,) = [c for c in on_redis.connection.client_list() if c["name"] == f"{on_redis.prefix}-client"]
        assert still["id"] == link["id"]
        (message_id,) = on_redis.connection.lrange(f"{on_redis.prefix}-space:{on_redis.queue}", 0, -1)
        assert message_id.decode().startswith(ref.id)


def test_what_the_adapter_opened_is_closed_and_opened_again(on_redis: Harness) -> None:
    host = make_host({"url": f"{REDIS_URL}?client_name={on_redis.prefix}-own"}, on_redis.queue)

    def links() -> int:
        return sum(c["name"] == f"{on_redis.prefix}-own" for c in on_redis.connection.client_list())

    _ = host.workers.adapter
    assert links() == 0
    host.sync.enqueue(script("ok"))
    assert links() == 1
    host.workers.close()
    eventually(lambda: links() == 0, "Redis to see it closed")
    host.sync.enqueue(script("ok"))
    host.workers.close()
    assert len(on_redis.waiting()) == 2


def test_what_the_adapter_opened_to_rabbitmq_is_closed_and_opened_again(tmp_path: Path, proxy: Proxy) -> None:
    with harness(tmp_path, "storeless", url=proxied(proxy)) as queue:
        before = proxy.count
        host = make_host({"url": proxied(proxy)}, queue.queue)
        _ = host.workers.adapter
        assert proxy.count == before
        host.sync.enqueue(script("ok"))
        assert proxy.count == before + 1
        host.workers.close()
        eventually(lambda: proxy.count == before, "RabbitMQ to see it closed")
        host.sync.enqueue(script("ok"))
        host.workers.close()
        assert len(queue.waiting()) == 2
