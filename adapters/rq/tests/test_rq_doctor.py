"""The doctor on RQ: each check finds a broken set-up and passes a sound one, on real servers."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from adapters.rq.tests.support import Harness, harness
from redis import Redis
from rq import Queue
from tests.examined import broken, look, passes, sound
from tests.losses.servers import free_port
from tests.queues.harness import RedisServer, eventually, script

from rq_host.jobs import make_host
from sigra_workers import Workers, checks
from sigra_workers.doctor import examine

pytestmark = pytest.mark.integration
Start = Callable[..., RedisServer]
TTLS = ("--worker-ttl", "20", "--maintenance-interval", "5", "--job-monitoring-interval", "5")
KEPT = ("--appendonly", "yes", "--appendfsync", "always")


def workers_at(url: str) -> Workers[Any]:
    return make_host({"url": url}).workers


def add(first: int, second: int) -> int:
    return first + second


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A worker process for each queue, as the README has them."""
    with harness(tmp_path_factory.mktemp("host")) as found:
        for queue in (found.queue, found.other_queue):
            found.worker(*TTLS, queues=(queue,), ready=False)
        for queue in (found.queue, found.other_queue):
            key = f"rq:scheduler-lock:{queue}"
            eventually(lambda key=key: found.connection.exists(key), "a scheduler")  # type: ignore[misc]
        eventually(lambda: passes(found.host.workers, "queues.consumed"), "both processes")
        yield found


@pytest.fixture(scope="module")
def muddled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """One worker process for both queues, without a scheduler, and with RQ's own time to live."""
    with harness(tmp_path_factory.mktemp("host")) as found:
        found.worker(queues=(found.queue, found.other_queue), scheduler=False)
        yield found


# -- Redis -----------------------------------------------------------------------------------------------


def test_a_redis_that_is_away_is_a_problem_and_the_other_checks_wait_for_it() -> None:
    workers = workers_at(f"redis://:secret@127.0.0.1:{free_port()}/0")
    told = broken(workers, "redis.reachable")
    assert "Redis does not answer (ConnectionError" in told
    rest = [one for one in examine(workers) if one.check.startswith(("redis", "queues", "rq.", "processes"))]
    assert {one.finding.status for one in rest[1:]} == {"unknown"}
    assert "secret" not in repr(rest)


def test_a_redis_that_does_not_answer_holds_the_doctor_up_once(
    redis_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = redis_server()
    monkeypatch.setattr(checks, "ROUND_TRIP", 0.5)
    with Redis.from_url(server.url) as patient:  # without a time-out of its own
        workers = make_host({"connection": patient}).workers
        server.process.popen.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        first, *others = examine(workers, ["redis", "queues", "rq"])
        assert time.monotonic() - begun < 5
    assert first.finding.what.startswith("Redis does not answer (TimeoutError")
    assert {one.finding.status for one in others} == {"unknown"}


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--appendonly", "no"), "problem", "redis-cli config set appendonly yes"),
        (("--appendonly", "yes", "--appendfsync", "no"), "warning", "half a minute"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "warning", "the last second"),
        (("--rename-command", "CONFIG", ""), "unknown", "Redis does not tell its appendonly"),
        (KEPT, "ok", "appendonly yes, appendfsync always"),
    ],
)
def test_persistence_is_that_of_the_server(
    redis_server: Start, options: tuple[str, ...], status: str, said: str
) -> None:
    workers = workers_at(redis_server(*options).url)
    if status == "ok":
        assert sound(workers, "redis.persistence") == said
    else:
        assert said in broken(workers, "redis.persistence", status)
    assert sound(workers, "redis.reachable") == "Redis answers"


def test_a_connection_of_the_hosts_is_looked_at_for_its_time_out(rq: Harness) -> None:
    for options in ({}, {"socket_timeout": 5}):
        with Redis.from_url(rq.url, **options) as connection:
            workers = make_host({"connection": connection}).workers
            if options:
                assert sound(workers, "redis.reachable") == "Redis answers"
            else:
                told = broken(workers, "redis.reachable", "warning")
                assert "enqueue waits without end -> Redis(..., socket_timeout=5)" in told


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"), "problem", "throws jobs away ->"),
        (("--maxmemory-policy", "volatile-ttl"), "warning", "once it has a maxmemory"),
        (("--rename-command", "CONFIG", ""), "unknown", "Redis does not tell its maxmemory-policy"),
        (("--maxmemory", "50mb"), "ok", "maxmemory-policy noeviction"),
    ],
)
def test_eviction_is_that_of_the_server(
    redis_server: Start, options: tuple[str, ...], status: str, said: str
) -> None:
    workers = workers_at(redis_server(*options).url)
    if status == "ok":
        assert sound(workers, "redis.eviction") == said
    else:
        assert said in broken(workers, "redis.eviction", status)


@pytest.mark.parametrize(("wrong_by", "said"), [(-90.0, "ahead of"), (90.0, "behind")])
def test_a_clock_that_is_not_that_of_redis_is_found(
    rq: Harness, monkeypatch: pytest.MonkeyPatch, wrong_by: float, said: str
) -> None:
    assert sound(rq.host.workers, "redis.clock")
    monkeypatch.setattr(checks, "time", SimpleNamespace(time=lambda: time.time() + wrong_by))
    told = broken(rq.host.workers, "redis.clock", "warning")
    assert f"90.0 s {said} this host's" in told
    assert "timedatectl set-ntp true" in told


# -- worker processes ------------------------------------------------------------------------------------


def test_a_queue_without_a_worker_process_is_found(rq: Harness) -> None:
    told = broken(rq.host.workers, "queues.consumed")
    for queue in (rq.queue, rq.other_queue):
        assert f"no live worker process consumes queue {queue!r}: its jobs wait" in told
        assert f"rq worker -c app.rq_lifecycle --serializer json --with-scheduler {queue}" in told
    for check in ("processes.versions", "rq.queues_per_worker"):
        assert "no live worker process tells" in broken(rq.host.workers, check, "unknown")


def test_a_worker_process_that_ended_consumes_nothing(rq: Harness) -> None:
    process = rq.worker(*TTLS, scheduler=False)
    assert f"queue {rq.queue!r}" not in broken(rq.host.workers, "queues.consumed")
    process.stop()
    assert f"queue {rq.queue!r}" in broken(rq.host.workers, "queues.consumed")


def test_each_queue_with_a_worker_process_of_its_own_is_sound(served: Harness) -> None:
    told = sound(served.host.workers, "queues.consumed")
    assert f"{served.queue} by 1, {served.other_queue} by 1" in told
    assert sound(served.host.workers, "rq.queues_per_worker")


def test_a_worker_process_of_several_queues_is_a_problem(muddled: Harness) -> None:
    told = broken(muddled.host.workers, "rq.queues_per_worker")
    assert f"serves {muddled.queue}, {muddled.other_queue}: a job it has just taken" in told


def test_a_queue_without_a_scheduler_is_a_problem_and_its_due_jobs_are_counted(muddled: Harness) -> None:
    muddled.host.sync.enqueue(script("ok"), schedule_in=1)
    eventually(lambda: "1 are due" in broken(muddled.host.workers, "rq.scheduler"), "the job to be due")
    assert f"for queue {muddled.other_queue!r}" in broken(muddled.host.workers, "rq.scheduler")


def test_a_scheduler_for_each_queue_is_sound(served: Harness) -> None:
    assert sound(served.host.workers, "rq.scheduler")


def test_a_long_worker_ttl_is_found_and_that_of_a_busy_process_is_unknown(muddled: Harness) -> None:
    workers = muddled.host.workers
    told = broken(workers, "rq.worker_ttl", "warning")
    assert re.search(r"has --worker-ttl 4[12]\d: when it dies", told)
    assert re.search(r"rq worker -c app\.rq_lifecycle .* --with-scheduler \S+ --worker-ttl 20 ", told)
    assert " ".join(TTLS) in told
    ref = muddled.host.sync.enqueue(script("hold:gate ok"))
    eventually(lambda: muddled.runs(ref.id), "the job to run")
    assert "RQ tells none" in broken(workers, "rq.worker_ttl", "unknown")
    (muddled.folder / "gate").touch()
    muddled.wait(ref.id)
    eventually(lambda: look(workers, "rq.worker_ttl")[0].status == "warning", "it to wait for jobs")


def test_a_short_worker_ttl_is_sound(served: Harness) -> None:
    told = sound(served.host.workers, "rq.worker_ttl")
    assert re.fullmatch(r"--worker-ttl: (19|2\d) s at most", told)


def test_processes_of_this_version_are_sound(served: Harness) -> None:
    assert sound(served.host.workers, "processes.versions").endswith(" what is installed here of rq")


def test_a_process_of_another_version_is_found(muddled: Harness) -> None:
    (key,) = [key for key in muddled.connection.smembers("rq:workers") if muddled.prefix.encode() in key]
    muddled.connection.hset(key, "version", "2.9.0")
    told = broken(muddled.host.workers, "processes.versions", "warning")
    assert f"process {muddled.processes[0].pid} on " in told
    assert "runs rq 2.9.0 (here " in told


# -- what lies in the queues -----------------------------------------------------------------------------


@pytest.mark.parametrize(("serializer", "other"), [("json", "pickle"), ("pickle", "json")])
def test_jobs_of_another_serializer_are_found_in_the_queue_and_not_run(
    tmp_path: Any, serializer: str, other: str
) -> None:
    with harness(tmp_path, serializer=serializer) as rq:
        rq.host.sync.enqueue(script("ok"))
        rq.host.later.enqueue(script("ok"), schedule_in=3600)
        assert (
            sound(rq.host.workers, "rq.serializer")
            == f"the 2 jobs looked at are {serializer}, as the settings say"
        )
        plain = Queue(rq.queue, connection=rq.connection, serializer=other)
        plain.enqueue("rq_host.trap.spring", 1, 2)
        told = broken(rq.host.workers, "rq.serializer")
        assert (
            f"1 of 3 jobs looked at in queue {rq.queue!r} are {other}, the settings say {serializer}" in told
        )
        assert f"rq worker --serializer {other} {rq.queue}" in told
        assert rq.lines("trap.jsonl") == []


def test_jobs_that_are_gone_or_not_compressed_are_no_obstacle(rq: Harness) -> None:
    rq.connection.rpush(f"rq:queue:{rq.queue}", "gone", f"{rq.prefix}-raw")
    rq.connection.hset(f"rq:job:{rq.prefix}-raw", "data", b"\x80\x05N.")
    assert "1 of 2 jobs looked at" in broken(rq.host.workers, "rq.serializer")


# -- as a whole ------------------------------------------------------------------------------------------


def test_the_doctor_changes_nothing_in_redis(private_rq: Harness) -> None:
    private_rq.host.sync.enqueue(script("ok"))
    private_rq.connection.sadd("rq:workers", "rq:worker:long-gone")  # which RQ's own listing would remove
    before = sorted(private_rq.connection.keys()), private_rq.connection.smembers("rq:workers")
    assert [*examine(private_rq.host.workers)]
    assert (sorted(private_rq.connection.keys()), private_rq.connection.smembers("rq:workers")) == before
