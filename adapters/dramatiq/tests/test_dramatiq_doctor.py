"""The doctor on Dramatiq: each check finds a broken set-up and passes a sound one, on real servers."""

import re
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from adapters.dramatiq.tests.support import RABBITMQ_URL, REDIS_URL, Harness, Proxy, harness
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from redis import Redis
from tests.examined import broken, look, passes, sound
from tests.losses.servers import free_port
from tests.queues.harness import RedisServer, eventually, script

from dramatiq_host.jobs import make_host
from sigra_workers import AuditScope, OrganizationArgs, Workers, checks, store
from sigra_workers.checks import versions
from sigra_workers.doctor import examine
from sigra_workers_dramatiq import checks as ours

pytestmark = pytest.mark.integration
Start = Callable[..., RedisServer]
HERE = versions("sigra-workers-dramatiq", "dramatiq")
TOLD = {
    "versions": HERE,
    "middleware": ["Retries", "TimeLimit"],
    "unset": [],
    "maintenance_chance": 1_000_000,
    "confirm_delivery": None,
}
"""What a process tells, nothing else."""
AWAY = "amqp://guest:secret@127.0.0.1:{}"


def workers_with(**settings: Any) -> Workers[AuditScope]:
    return make_host(settings).workers


def rabbitmq_without_confirms() -> Any:
    return RabbitmqBroker(url=RABBITMQ_URL)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A worker process as the README has it, on each broker with its store."""
    with harness(tmp_path_factory.mktemp("host"), request.param) as found:
        found.worker()
        eventually(lambda: pids(found), "the process to tell of itself")
        eventually(lambda: passes(found.host.workers, "queues.consumed"), "its consumers")
        yield found


@pytest.fixture
def private(tmp_path: Any, redis_server: Start) -> Iterator[Harness]:
    """The host on a Redis of its own."""
    with harness(tmp_path, "redis", url=redis_server().url) as found:
        yield found


def pids(queue: Harness) -> list[int]:
    """The live processes that announced themselves on our queue."""
    return [process.pid for process in store_of(queue).processes() if queue.queue in process.queues]


def heard_of(queue: Harness) -> float:
    """When the process of our queue last announced itself."""
    (at,) = (process.at for process in store_of(queue).processes() if queue.queue in process.queues)
    return at


def store_of(queue: Harness) -> store.Store:
    return store.Store(queue.connection, queue.store_prefix)


def announce(queue: Harness, **facts: Any) -> None:
    """A process of another host."""
    queues = [queue.queue, queue.other_queue]
    queue.connection.eval(*store_of(queue).announce(f"{queue.prefix} 1", queues, {**TOLD, **facts}))


# -- Redis -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["url", "store"])
def test_a_redis_that_is_away_is_a_problem_whatever_it_is_for(setting: str) -> None:
    away = f"redis://:secret@127.0.0.1:{free_port()}/0"
    settings = {"url": away} if setting == "url" else {"url": RABBITMQ_URL, "store": away}
    workers = workers_with(**settings)
    assert "Redis does not answer (ConnectionError" in broken(workers, "redis.reachable")
    waiting = [*examine(workers, ["redis.clock", "processes", "dramatiq"])]
    assert {one.finding.status for one in waiting} == {"unknown"}
    assert "secret" not in repr(waiting)


@pytest.mark.parametrize("setting", ["url", "store"])
@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        ("redis.persistence", ("--appendonly", "no"), ("--appendonly", "yes", "--appendfsync", "always")),
        ("redis.eviction", ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"), ()),
    ],
)
def test_redis_is_looked_at_whatever_it_is_for(
    redis_server: Start, setting: str, check: str, bad: tuple[str, ...], good: tuple[str, ...]
) -> None:
    rest = {} if setting == "url" else {"url": RABBITMQ_URL}
    assert broken(workers_with(**rest, **{setting: redis_server(*bad).url}), check)
    workers = workers_with(**rest, **{setting: redis_server(*good).url})
    assert sound(workers, check)
    assert sound(workers, "redis.reachable")


def test_a_clock_that_is_not_that_of_redis_is_found(queue: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sound(queue.host.workers, "redis.clock")
    monkeypatch.setattr(checks, "time", SimpleNamespace(time=lambda: time.time() + 90))
    assert "90.0 s behind this host's" in broken(queue.host.workers, "redis.clock", "warning")


# -- worker processes ------------------------------------------------------------------------------------


def test_a_queue_without_a_worker_process_is_found(queue: Harness) -> None:
    told = broken(queue.host.workers, "queues.consumed")
    for name in (queue.queue, queue.other_queue):
        assert f"no live worker process consumes queue {name!r}: its jobs wait" in told
        assert f"dramatiq app.dramatiq_app --processes 2, with no --queues that leaves out {name}" in told
    ours = "dramatiq.maintenance" if queue.on_redis else "rabbitmq.confirms"
    for check in ("processes.versions", "processes.clock", "dramatiq.middleware", ours):
        assert "no live worker process tells" in broken(queue.host.workers, check, "unknown")
        assert not any("live worker processes" in found.what for found in look(queue.host.workers, check))


def test_a_worker_process_as_the_readme_has_it_is_sound(served: Harness) -> None:
    workers = served.host.workers
    assert f"{served.queue} by 1, {served.other_queue} by 1" in sound(workers, "queues.consumed")
    ours = ("dramatiq.maintenance",) if served.on_redis else ("rabbitmq.confirms",)
    for check in ("processes.versions", "processes.clock", "dramatiq.middleware", *ours):
        assert "live worker processes" in sound(workers, check)
    assert served.on_redis or sound(workers, "rabbitmq.durable")
    found = [process for process in store_of(served).processes() if served.queue in process.queues]
    assert [{*process.facts} for process in found] == [{*TOLD}]


def test_a_queue_that_no_process_was_told_to_consume_is_found_and_one_that_ended_consumes_nothing(
    on_redis: Harness,
) -> None:
    process = on_redis.worker("--queues", on_redis.queue)
    eventually(lambda: pids(on_redis), "the process to tell of itself")
    told = broken(on_redis.host.workers, "queues.consumed")
    assert repr(on_redis.other_queue) in told
    assert repr(on_redis.queue) not in told
    process.stop()
    assert pids(on_redis) == []
    assert repr(on_redis.queue) in broken(on_redis.host.workers, "queues.consumed")


def test_a_process_of_another_version_is_found(private: Harness) -> None:
    announce(private, versions={**HERE, "dramatiq": "2.1.0"})
    told = broken(private.host.workers, "processes.versions", "warning")
    assert f"runs dramatiq 2.1.0 (here {HERE['dramatiq']})" in told


def test_a_process_with_another_clock_is_found(private: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "time", SimpleNamespace(time=lambda: time.time() - 90))
        announce(private)
    assert "90.0 s behind that of Redis" in broken(private.host.workers, "processes.clock", "warning")


def test_the_client_of_a_broker_of_the_hosts_is_looked_at_for_its_time_out() -> None:
    make: Any = RedisBroker
    told = broken(workers_with(broker=make(url=REDIS_URL)), "redis.reachable", "warning")
    assert "enqueue waits without end -> Redis(..., socket_timeout=5)" in told
    with Redis.from_url(REDIS_URL, socket_timeout=5) as client:
        assert sound(workers_with(broker=make(client=client)), "redis.reachable")


def test_a_job_runs_though_redis_refuses_what_its_process_announces(private: Harness) -> None:
    keys = [f"~sigra-workers:dramatiq:{kind}*" for kind in ("run", "id", "parked")]
    private.connection.execute_command("ACL", "SETUSER", "default", "resetkeys", "~dramatiq*", *keys)
    process = private.worker()
    ref = private.host.sync.enqueue(script("snooze:1", "ok"))
    private.wait(ref.id)
    assert process.stop() == 0
    private.connection.execute_command("ACL", "SETUSER", "default", "allkeys")
    assert pids(private) == []


# -- the broker and its middleware -----------------------------------------------------------------------


@pytest.mark.parametrize(("chance", "status"), [(1_000, "problem"), (100_000, "warning")])
def test_a_broker_that_seldom_looks_for_lost_jobs_is_found(chance: int, status: str) -> None:
    broker: Any = RedisBroker(url=REDIS_URL, maintenance_chance=chance)  # type: ignore[no-untyped-call]
    told = broken(workers_with(broker=broker), "dramatiq.maintenance", status)
    assert (
        f"the broker here has maintenance_chance={chance} of 1000000: jobs of a process that died wait"
        in told
    )
    assert "RedisBroker(..., maintenance_chance=1000000)" in told


def test_what_a_live_process_has_of_its_broker_is_found(on_redis: Harness) -> None:
    on_redis.worker(boot="dramatiq_host.dramatiq_app_late")
    (pid,) = eventually(lambda: pids(on_redis), "the process to tell of itself")
    told = broken(on_redis.host.workers, "dramatiq.maintenance")
    assert f"process {pid} on " in told
    assert " has maintenance_chance=1000 of 1000000" in told
    found = {one.status: one.what for one in look(on_redis.host.workers, "dramatiq.middleware")}
    assert " got middleware behind `boot`: its time_limit ends our jobs too" in found["problem"]
    assert " has no middleware Retries: plain actors that fail are done, their jobs lost" in found["warning"]
    at = heard_of(on_redis)
    eventually(lambda: heard_of(on_redis) > at, "it to tell again")


@pytest.mark.parametrize("name", ["Retries", "TimeLimit"])
def test_a_broker_without_what_plain_actors_need_is_found(name: str) -> None:
    broker: Any = RedisBroker(url=REDIS_URL)  # type: ignore[no-untyped-call]
    broker.middleware[:] = [found for found in broker.middleware if type(found).__name__ != name]
    told = broken(workers_with(broker=broker), "dramatiq.middleware", "warning")
    assert f"the broker here has no middleware {name}: plain actors" in told
    assert f"broker.add_middleware({name}())" in told


# -- RabbitMQ --------------------------------------------------------------------------------------------


def test_a_rabbitmq_that_is_away_is_a_problem_and_the_other_checks_wait_for_it() -> None:
    workers = workers_with(url=AWAY.format(free_port()), store=REDIS_URL)
    told = broken(workers, "rabbitmq.reachable")
    assert "RabbitMQ does not answer (AMQPConnectionError" in told
    assert "rabbitmq-diagnostics ping" in told
    waiting = [*examine(workers, ["queues.consumed", "rabbitmq.durable"])]
    assert {one.finding.status for one in waiting} == {"unknown"}
    assert "secret" not in told + repr(waiting)


def test_a_rabbitmq_that_does_not_answer_holds_the_doctor_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = Proxy(urlsplit(RABBITMQ_URL).port or 5672)
    workers = workers_with(url=f"amqp://guest:guest@127.0.0.1:{proxy.port}")
    assert sound(workers, "rabbitmq.reachable")
    proxy.stall()
    monkeypatch.setattr(ours, "ROUND_TRIP", 0.5)
    begun = time.monotonic()
    assert "RabbitMQ does not answer" in broken(workers, "rabbitmq.reachable")
    assert time.monotonic() - begun < 5
    proxy.open()


@pytest.mark.parametrize(
    ("options", "refused", "then"),
    [
        ({"durable": False}, "durable", "those in it go with RabbitMQ"),
        ({"durable": True}, "x-dead-letter-exchange", "none is taken from it"),
    ],
)
def test_a_queue_that_is_there_otherwise_is_a_problem(
    on_rabbitmq: Harness, options: dict[str, bool], refused: str, then: str
) -> None:
    assert sound(on_rabbitmq.host.workers, "rabbitmq.durable")  # there is none yet, and none is made
    on_rabbitmq.channel().queue_declare(on_rabbitmq.queue, **options)
    told = broken(on_rabbitmq.host.workers, "rabbitmq.durable")
    assert (
        f"queue {on_rabbitmq.queue!r} is there with another {refused}: no job can be sent to it, and {then}"
        in told
    )
    assert f"rabbitmqctl delete_queue {on_rabbitmq.queue}" in told


@pytest.mark.parametrize(("settings", "status"), [({"store": REDIS_URL}, "warning"), ({}, "problem")])
def test_a_broker_without_confirms_is_found(settings: dict[str, str], status: str) -> None:
    workers = workers_with(broker=rabbitmq_without_confirms(), **settings)
    assert "RabbitmqBroker(..., confirm_delivery=True)" in broken(workers, "rabbitmq.confirms", status)


def test_without_a_store_nobody_tells_of_confirms_but_the_broker_here() -> None:
    assert sound(workers_with(url=RABBITMQ_URL), "rabbitmq.confirms") == "confirm_delivery is True, here"


def test_a_live_process_without_confirms_is_found(on_rabbitmq: Harness) -> None:
    announce(on_rabbitmq, confirm_delivery=False)
    told = broken(on_rabbitmq.host.workers, "rabbitmq.confirms", "warning")
    assert re.match(r"process \d+ on \S+ publishes without confirms: ", told)
    announce(on_rabbitmq, confirm_delivery=True)
    assert sound(on_rabbitmq.host.workers, "rabbitmq.confirms")


@pytest.mark.parametrize(("settings", "status"), [({"store": REDIS_URL}, "warning"), ({}, "problem")])
@pytest.mark.parametrize(("options", "said"), [({}, "none"), ({"timeout": 7_200}, "7200 s")])
def test_a_job_that_may_run_for_longer_than_rabbitmq_waits_is_found(
    settings: dict[str, str], status: str, options: dict[str, Any], said: str
) -> None:
    workers = Workers[AuditScope](adapter="dramatiq", settings={"url": RABBITMQ_URL, **settings})
    workers.declare("short", OrganizationArgs, timeout=60)
    assert sound(workers, "rabbitmq.consumer_timeout")
    workers.declare("long", OrganizationArgs, **options)
    told = broken(workers, "rabbitmq.consumer_timeout", status)
    assert f"long ({said})" in told
    assert "short" not in told
    assert "runs for 1800 s" in told
    assert "declare(..., timeout=1500)" in told
    assert "consumer_timeout = 36000000 (ms) in rabbitmq.conf" in told
    assert "settings={..., 'consumer_timeout': 36000}" in told


def test_a_rabbitmq_that_waits_for_longer_by_the_settings_is_sound() -> None:
    def with_(consumer_timeout: float) -> Workers[AuditScope]:
        settings = {"url": RABBITMQ_URL, "consumer_timeout": consumer_timeout}
        workers = Workers[AuditScope](adapter="dramatiq", settings=settings)
        workers.declare("long", OrganizationArgs, timeout=7_200)
        return workers

    assert "below the 36000 s of RabbitMQ" in sound(with_(36_000), "rabbitmq.consumer_timeout")
    told = broken(with_(1_800), "rabbitmq.consumer_timeout")
    assert re.findall(r"'consumer_timeout': (\d+)", told) == ["36000"]
    assert "declare(..., timeout=500)" in broken(with_(600), "rabbitmq.consumer_timeout")
    workers = with_(36_000)
    workers.declare("endless", OrganizationArgs)
    assert "endless (none)" in broken(workers, "rabbitmq.consumer_timeout")


def test_rabbitmq_without_a_store_is_found_and_its_consumers_are_seen_all_the_same(
    storeless: Harness,
) -> None:
    assert repr(storeless.queue) in broken(storeless.host.workers, "queues.consumed")
    assert "settings={'url': ..., 'store':" in broken(storeless.host.workers, "rabbitmq.store", "warning")
    storeless.worker()
    eventually(lambda: passes(storeless.host.workers, "queues.consumed"), "its consumers")
    names = {one.check for one in examine(storeless.host.workers)}
    assert not {name for name in names if name.startswith(("redis", "processes"))}


def test_rabbitmq_with_a_store_is_sound(on_rabbitmq: Harness) -> None:
    assert sound(on_rabbitmq.host.workers, "rabbitmq.store")
    assert sound(on_rabbitmq.host.workers, "rabbitmq.reachable")


def test_the_doctor_changes_nothing(private: Harness, on_rabbitmq: Harness) -> None:
    private.host.sync.enqueue(script("ok"))
    before = sorted(private.connection.keys())
    assert [*examine(private.host.workers)]
    assert sorted(private.connection.keys()) == before
    assert [*examine(on_rabbitmq.host.workers)]
    assert not on_rabbitmq.messages()
    assert "no live worker process" in broken(on_rabbitmq.host.workers, "queues.consumed")
