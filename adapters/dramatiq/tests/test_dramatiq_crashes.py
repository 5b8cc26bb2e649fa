"""Worker processes and servers that die: nothing is lost, nor run twice at a time; crashes are counted."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from adapters.dramatiq.tests.support import RABBITMQ_URL, Harness, Proxy, harness
from redis import ConnectionPool, Redis
from redis.exceptions import ResponseError
from tests.interrupted import Interrupted, TimeUp
from tests.queues.harness import RedisServer, eventually, script

from sigra_workers_dramatiq import wire
from sigra_workers_dramatiq.link import ThreadClient

pytestmark = pytest.mark.integration
KINDS: Final = ("sync", "async")
AT_ONCE: Final = ("--worker-fork-timeout", "1000")
"""Have Dramatiq end soon where a process dies before it told that it began: else it waits for 30 s."""


def runs(queue: Harness, job_id: str) -> list[tuple[int, int]]:
    return [(run["attempt"], run["snoozes"]) for run in queue.runs(job_id)]


# -- worker processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_whose_process_was_killed_runs_again_with_its_args_and_counts_it(
    queue: Harness, kind: str
) -> None:
    args = script("hold:gate ok", "ok:done", token="kept", impersonating_from="admin")
    ref = queue.host.handles[kind].enqueue(args)
    process = queue.worker()
    eventually(lambda: queue.audit(ref.id), "the job to run")
    process.kill()
    queue.redeliver()
    queue.worker()
    queue.wait(ref.id)
    assert runs(queue, ref.id) == [(1, 0), (2, 0)]
    assert [event["actor_id"] for event in queue.audit(ref.id)] == ["admin", "admin"]
    assert queue.decisions(ref.id) == ["complete"]


def test_a_job_that_kills_its_process_each_time_is_dead_after_its_attempts(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("kill"))
    for _ in range(3):
        queue.worker(*AT_ONCE, ready=False).popen.wait(30)
        queue.redeliver()
    queue.worker()
    queue.wait(ref.id)
    assert runs(queue, ref.id) == [(1, 0), (2, 0), (3, 0)]
    (job,) = eventually(lambda: queue.dead(ids=[ref.id]), "the dead job")
    assert job.attempts == 3
    assert job.reason.startswith("crashed: the worker process died 3 times")


def test_crashes_are_counted_anew_after_a_decision(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("kill", "snooze:1", "kill", "ok"), max_attempts=4)
    for _ in range(2):
        queue.worker(*AT_ONCE, ready=False).popen.wait(30)
        queue.redeliver()
    queue.worker()
    queue.wait(ref.id)
    assert runs(queue, ref.id) == [(1, 0), (2, 0), (2, 1), (3, 1)]


def test_a_job_that_a_killed_process_had_taken_and_not_begun_loses_no_attempt(queue: Harness) -> None:
    first = queue.host.sync.enqueue(script("hold:gate ok", "ok"))
    second = queue.host.sync.enqueue(script("ok"))
    process = queue.worker("--threads", "1")
    eventually(lambda: queue.runs(first.id), "the first job to run")
    eventually(lambda: not queue.waiting(), "the second job to be taken")
    process.kill()
    queue.redeliver()
    queue.worker()
    queue.wait(first.id, second.id)
    assert runs(queue, first.id) == [(1, 0), (2, 0)]
    assert runs(queue, second.id) == [(1, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_lets_a_running_job_end(queue: Harness, kind: str) -> None:
    ref = queue.host.handles[kind].enqueue(script("hold:gate ok"))
    process = queue.worker()
    eventually(lambda: queue.runs(ref.id), "the job to run")
    process.popen.send_signal(signal.SIGTERM)
    process.logged("Stopping worker process")
    (queue.folder / "gate").touch()
    assert process.popen.wait(30) == 0
    assert queue.decisions(ref.id) == ["complete"]
    assert queue.record(ref.id)["owner"] == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_outlasts_the_shutdown_runs_again_and_counts_it(queue: Harness, kind: str) -> None:
    ref = queue.host.handles[kind].enqueue(script("hold:gate ok", "ok"))
    # Not less than the second for which a consumer waits for messages: two threads would use its connection.
    process = queue.worker("--worker-shutdown-timeout", "2000")
    eventually(lambda: queue.runs(ref.id), "the job to run")
    process.stop()
    queue.redeliver()
    queue.worker()
    queue.wait(ref.id)
    assert runs(queue, ref.id) == [(1, 0), (2, 0)]


def test_a_second_sigterm_ends_a_process_that_runs_an_async_job(queue: Harness) -> None:
    ref = queue.host.asynchronous.enqueue(script("hold:gate ok"))
    process = queue.worker()
    eventually(lambda: queue.runs(ref.id), "the job to run")
    process.popen.send_signal(signal.SIGTERM)
    process.logged("Stopping worker process")
    time.sleep(1.5)  # its main thread waits for the first signal once a second
    process.popen.send_signal(signal.SIGTERM)
    process.popen.wait(15)


# -- one run at a time -----------------------------------------------------------------------------------


def copy_of(queue: Harness, job_id: str) -> Any:
    """The message of a job that waits."""
    (message,) = (found for found in queue.messages() if found.message_id == job_id)
    return message


def test_a_copy_waits_while_the_job_runs_and_is_dropped_after_it(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("hold:gate ok", "ok"))
    copy = copy_of(queue, ref.id)
    workers = [queue.worker(), queue.worker()]
    eventually(lambda: queue.runs(ref.id), "the job to run")
    queue.adapter.broker.enqueue(copy)
    logs: Callable[[], str] = lambda: "".join(worker.log for worker in workers)  # noqa: E731
    for looks in range(1, 8):
        waits = f"job {ref.id} is still running in another process: it waits"
        eventually(lambda: logs().count(waits) == looks, "the copy to be looked at")  # noqa: B023
        time.sleep(0.2)  # for who sent it to forget it
        (ticket,) = eventually(lambda: queue.parked(ref.id), "the copy to be parked")
        if looks == 7:
            (queue.folder / "gate").touch()
            queue.wait(ref.id)
        queue.connection.zadd(f"{queue.store_prefix}:parked:at", {ticket: 0}, xx=True)  # it waits for 15 s
    eventually(lambda: f"job {ref.id} went on without this copy" in logs(), "its drop")
    assert runs(queue, ref.id) == [(1, 0)]


@pytest.mark.parametrize("steps", [["ok"], ["error:no", "ok"], ["snooze:1", "ok"], ["cancel:no"]])
def test_a_copy_of_an_earlier_turn_is_dropped(queue: Harness, steps: list[str]) -> None:
    ref = queue.host.sync.enqueue(script(*steps))
    copy = copy_of(queue, ref.id)
    process = queue.worker()
    queue.wait(ref.id)
    eventually(lambda: queue.record(ref.id)["owner"] == "", "the end to be written")
    before = runs(queue, ref.id)
    queue.adapter.broker.enqueue(copy)
    process.logged(f"job {ref.id} went on without this copy of it, which is dropped")
    assert runs(queue, ref.id) == before
    assert len(queue.decisions(ref.id)) == len(steps)


# -- Redis -----------------------------------------------------------------------------------------------


def test_a_message_is_acknowledged_once_with_the_end_of_its_run(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    with harness(tmp_path, "redis", url=redis_server().url) as queue:
        steps = [["ok"], ["snooze:1", "ok"], ["error:no", "ok"], ["cancel:no"]]
        refs = [queue.host.sync.enqueue(script(*some)) for some in steps]
        queue.worker()
        queue.wait(*(ref.id for ref in refs))
        eventually(lambda: not queue.connection.keys("dramatiq:__acks__*"), "the last to be acknowledged")
        time.sleep(0.5)  # for Dramatiq to do so, too
        assert queue.connection.info("commandstats")["cmdstat_srem"]["calls"] == sum(map(len, steps))
        assert not queue.connection.exists(f"dramatiq:{queue.queue}.msgs")
        assert queue.dead_letters() == [refs[3].id]


def test_a_message_that_was_given_to_another_process_is_left_to_it(on_redis: Harness) -> None:
    ref = on_redis.host.sync.enqueue(script("hold:gate ok"))
    process = on_redis.worker()
    eventually(lambda: on_redis.runs(ref.id), "the job to run")
    (acks,) = on_redis.connection.keys(f"dramatiq:__acks__.*.{on_redis.queue}")
    (message_id,) = on_redis.connection.smembers(acks)
    on_redis.connection.delete(acks)  # as another process does that has not heard of this one
    (on_redis.folder / "gate").touch()
    on_redis.wait(ref.id)
    eventually(lambda: on_redis.record(ref.id)["owner"] == "", "the end to be written")
    on_redis.connection.rpush(f"dramatiq:{on_redis.queue}", message_id)
    process.logged(f"job {ref.id} went on without this copy of it, which is dropped")
    assert on_redis.decisions(ref.id) == ["complete"]
    assert "None" not in process.log


def test_an_answer_that_is_late_is_not_taken_for_the_next(on_redis: Harness) -> None:
    pool: Any = ConnectionPool.from_url(on_redis.redis_url, connection_class=Interrupted)
    client = ThreadClient(Redis.from_pool(pool))
    assert client.eval("return 1", 0) == 1
    Interrupted.is_up = True
    with pytest.raises(TimeUp):
        client.eval("for i = 1, 3000000 do end return 2", 0)
    assert client.eval("return 3", 0) == 3
    with pytest.raises(ResponseError):
        client.eval("return redis.call('NOT')", 0)
    assert client.eval("return 4", 0) == 4


# -- RabbitMQ --------------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    found = Proxy(urlsplit(RABBITMQ_URL).port or 5672)
    yield found
    found.open()


def through(proxy: Proxy) -> str:
    """The URL of RabbitMQ by that way."""
    parts = urlsplit(RABBITMQ_URL)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()


@pytest.fixture
def cut(tmp_path: Path, proxy: Proxy) -> Iterator[Harness]:
    """The host on RabbitMQ, with a store, by a way that can be cut."""
    with harness(tmp_path, "rabbitmq", url=through(proxy)) as found:
        yield found


def test_a_job_that_outlived_its_connection_acknowledges_no_other_message(cut: Harness, proxy: Proxy) -> None:
    # It is the second message of its connection, and the other is the second of the next one.
    done = cut.host.sync.enqueue(script("ok"))
    process = cut.worker("--threads", "4")
    cut.wait(done.id)
    first = cut.host.sync.enqueue(script("hold:first ok"))
    eventually(lambda: cut.runs(first.id), "the first job to run")
    proxy.cut()
    process.logged(f"job {first.id} is still running in another process: it waits")
    second = cut.host.sync.enqueue(script("hold:second ok", "ok"))
    eventually(lambda: cut.runs(second.id), "the second job to run")
    (cut.folder / "first").touch()
    cut.wait(first.id)
    process.logged("not in known tags")
    process.kill()
    cut.worker()
    cut.wait(second.id)
    assert runs(cut, first.id) == [(1, 0)]
    assert runs(cut, second.id) == [(1, 0), (2, 0)]


@pytest.mark.parametrize("way", ["rabbitmq", "storeless"])
def test_every_decision_outlives_an_outage_of_rabbitmq(tmp_path: Path, proxy: Proxy, way: str) -> None:
    steps = {"ok": ["ok"], "error": ["error:no", "ok"], "snooze": ["snooze:1", "ok"], "dead": ["cancel:no"]}
    with harness(tmp_path, way, url=through(proxy)) as queue:
        refs = {
            name: queue.host.sync.enqueue(script(f"hold:gate {first}", *rest))
            for name, (first, *rest) in steps.items()
        }
        queue.worker()
        eventually(lambda: len(queue.runs()) == 4, "four jobs to run")
        proxy.close()
        (queue.folder / "gate").touch()
        eventually(lambda: len(queue.lines("finished.jsonl")) == 4, "four decisions")
        time.sleep(1)
        proxy.open()
        queue.wait(*(ref.id for ref in refs.values()))
        for name, ref in refs.items():
            found = runs(queue, ref.id)
            if way == "rabbitmq":
                assert len(found) == len(steps[name])
            assert found[-1] == {"error": (2, 0), "snooze": (1, 1)}.get(name, (1, 0))


# -- Redis -----------------------------------------------------------------------------------------------


def test_every_decision_outlives_an_outage_of_redis(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    steps = {"ok": ["ok"], "error": ["error:no", "ok"], "snooze": ["snooze:1", "ok"], "dead": ["cancel:no"]}
    server = redis_server("--appendonly", "yes", "--appendfsync", "always")
    with harness(tmp_path, "redis", url=server.url) as queue:
        refs = {
            (name, kind): queue.host.handles[kind].enqueue(script(f"hold:gate {first}", *rest))
            for name, (first, *rest) in steps.items()
            for kind in KINDS
        }
        piped, target = (queue.host.sync.new(script(step)).payload(1) for step in ("hold:gate ok", "ok"))
        options = {"pipe_target": wire.message(target).asdict()}
        queue.adapter.broker.enqueue(wire.message(piped).copy(options=options))
        process = queue.worker("--threads", "9")
        eventually(lambda: len(queue.runs()) == 9, "nine jobs to run")
        server.process.kill()
        (queue.folder / "gate").touch()
        eventually(lambda: len(queue.lines("finished.jsonl")) == 9, "nine decisions")
        time.sleep(1)
        server.start()
        queue.wait(*(ref.id for ref in refs.values()), target.id)
        for (name, _), ref in refs.items():
            end = {"error": [(1, 0), (2, 0)], "snooze": [(1, 0), (1, 1)]}.get(name, [(1, 0)])
            assert runs(queue, ref.id) == end
        assert {job.id for job in eventually(queue.dead, "the dead jobs")} == {
            refs["dead", kind].id for kind in KINDS
        }
        assert process.alive
        eventually(
            lambda: not queue.connection.keys("dramatiq:__acks__*"), "every message to be acknowledged"
        )


def test_a_store_that_is_away_holds_jobs_and_loses_none(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    server = redis_server("--appendonly", "yes", "--appendfsync", "always")
    with harness(tmp_path, "rabbitmq", store=server.url) as queue:
        held = queue.host.sync.enqueue(script("hold:gate error:no", "ok"))
        process = queue.worker()
        eventually(lambda: queue.runs(held.id), "the job to run")
        server.process.kill()
        waiting = queue.host.sync.enqueue(script("ok"))
        process.logged(f"job {waiting.id} is not begun")
        (queue.folder / "gate").touch()
        process.logged(f"what becomes of job {held.id} is not written")
        server.start()
        queue.wait(held.id, waiting.id)
        assert runs(queue, held.id) == [(1, 0), (2, 0)]
        assert runs(queue, waiting.id) == [(1, 0)]


def test_parked_jobs_of_a_killed_process_are_sent_by_another(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("snooze:2", "ok"))
    process = queue.worker()
    eventually(lambda: queue.parked(ref.id), "the job to be parked")
    process.kill()
    queue.worker()
    queue.wait(ref.id)
    assert runs(queue, ref.id) == [(1, 0), (1, 1)]
