"""The queues: servers, settings, the commands that their READMEs give, and what they hold of a queue."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pika
from rq import Queue
from tests.losses.servers import RedisServer, Server

GRACE: Final = 2
"""Seconds that a worker process is told to give its jobs when it is to stop, where it can be told."""


@dataclass
class Place:
    """One queue on servers of its own."""

    broker: Server
    redis: RedisServer
    """The broker itself, or the store beside it."""
    queue: str
    settings: Mapping[str, Any]


AS_IN_READMES: Final = {
    "tests.losses.boot_rq": "app.rq_lifecycle",
    "tests.losses.boot_arq": "app.arq_lifecycle",
    "tests.losses.boot_dramatiq": "app.dramatiq_app",
}
"""Our boot files, and what the READMEs call a host's."""


@dataclass(frozen=True)
class BackEnd:
    """One queue library on one broker."""

    name: str
    title: str
    adapter: str
    command: Callable[[str, Place], list[str]]
    """The command line of one worker process, from the folder of commands and the place."""
    left: Callable[[Place], int]
    """How many jobs the queue still holds that would run: waiting, due later, or running."""
    bound: float
    """Seconds within which a job that nobody runs any more is run again."""
    graceful: Callable[[int], list[str]] = lambda _: []
    """Options that give running jobs so many seconds to end."""
    jobs_at_a_time: int = 20
    rabbit: bool = False

    def run(self, place: Place) -> list[str]:
        """The command line of one worker process."""
        return self.command(str(Path(sys.executable).parent), place)

    def documented(self) -> str:
        """The command line as the page and the README have it."""
        nowhere = Place(cast("Any", None), cast("Any", None), "lifecycle", {})
        command = " ".join(self.command("", nowhere)).removeprefix("/")
        for ours, theirs in AS_IN_READMES.items():
            command = command.replace(ours, theirs)
        return command


def _rq(folder: str, place: Place) -> list[str]:
    options = "--serializer json --with-scheduler --worker-ttl 20 --maintenance-interval 5"
    options += " --job-monitoring-interval 5"
    return [f"{folder}/rq", "worker", "-c", "tests.losses.boot_rq", *options.split(), place.queue]


def _rq_left(place: Place) -> int:
    with place.redis.client() as connection:
        queue = Queue(place.queue, connection=connection, serializer="json")
        registries = (queue.started_job_registry, queue.scheduled_job_registry)
        return queue.count + sum(len(registry.get_job_ids(cleanup=False)) for registry in registries)


def _arq(folder: str, place: Place) -> list[str]:
    return [f"{folder}/arq", "tests.losses.boot_arq.WorkerSettings"]


def _arq_left(place: Place) -> int:
    with place.redis.client() as connection:
        return int(connection.zcard(place.queue))


def _dramatiq(folder: str, place: Place) -> list[str]:
    options = "--processes 1 --threads 20 --worker-shutdown-timeout 25000 --worker-fork-timeout 5000"
    return [f"{folder}/dramatiq", "tests.losses.boot_dramatiq", *options.split()]


def _parked(connection: Any) -> int:
    return sum(int(connection.zcard(key)) for key in connection.scan_iter("sigra-workers*:parked:at"))


def _dramatiq_redis_left(place: Place) -> int:
    with place.redis.client() as connection:
        names = (place.queue, f"{place.queue}.DQ")
        waiting = sum(int(connection.llen(f"dramatiq:{name}")) for name in names)
        taken = sum(
            int(connection.scard(key))
            for name in names
            for key in connection.scan_iter(f"dramatiq:__acks__.*.{name}")
        )
        return waiting + taken + _parked(connection)


def _dramatiq_rabbitmq_left(place: Place) -> int:
    with pika.BlockingConnection(pika.URLParameters(place.broker.url)) as connection:
        channel = connection.channel()
        waiting = 0
        for name in (place.queue, f"{place.queue}.DQ"):
            waiting += channel.queue_declare(name, passive=True).method.message_count
    with place.redis.client() as client:
        return waiting + _parked(client)


BACK_ENDS: Final = {
    back_end.name: back_end
    for back_end in (
        BackEnd("rq", "RQ", "rq", _rq, _rq_left, bound=110, jobs_at_a_time=1),
        BackEnd(
            "dramatiq-redis",
            "Dramatiq on Redis",
            "dramatiq",
            _dramatiq,
            _dramatiq_redis_left,
            bound=110,
            graceful=lambda seconds: ["--worker-shutdown-timeout", str(seconds * 1_000)],
        ),
        BackEnd(
            "dramatiq-rabbitmq",
            "Dramatiq on RabbitMQ, with a store",
            "dramatiq",
            _dramatiq,
            _dramatiq_rabbitmq_left,
            bound=60,
            graceful=lambda seconds: ["--worker-shutdown-timeout", str(seconds * 1_000)],
            rabbit=True,
        ),
        BackEnd("arq", "arq", "arq", _arq, _arq_left, bound=60),
    )
}
