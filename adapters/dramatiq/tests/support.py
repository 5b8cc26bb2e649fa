"""A Redis, a RabbitMQ, `dramatiq` worker processes, and what a test reads back from them."""

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pika
import pytest
from dramatiq import Message
from dramatiq.common import dq_name, xq_name
from pika.exceptions import AMQPError, ChannelClosedByBroker
from redis.exceptions import RedisError
from tests.queues.harness import SECONDS, Process, QueueHarness, eventually, python_path, reach_redis

from dramatiq_host.jobs import make_host
from sigra_workers import DeadJob, Payload
from sigra_workers_dramatiq import DramatiqAdapter, wire

REDIS_URL: Final = os.environ.get("SIGRA_TEST_DRAMATIQ_REDIS_URL", "redis://127.0.0.1:6379/9")
RABBITMQ_URL: Final = os.environ.get("SIGRA_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672")
SETTINGS: Final[dict[str, dict[str, str]]] = {
    "redis": {"url": REDIS_URL},
    "rabbitmq": {"url": RABBITMQ_URL, "store": REDIS_URL},
    "storeless": {"url": RABBITMQ_URL},
}
"""The ways to run it."""
STORED: Final = ("redis", "rabbitmq")
HOST_FOLDER: Final = Path(__file__).parent / "host"
PYTHONPATH: Final = python_path(HOST_FOLDER)
BOOT: Final = "dramatiq_host.dramatiq_app"


def reach(url: str) -> Any:
    """A client of that Redis, which answers."""
    return reach_redis(url, "SIGRA_TEST_DRAMATIQ_REDIS_URL")


def reach_rabbitmq(url: str) -> Any:
    """A connection to that RabbitMQ."""
    try:
        return pika.BlockingConnection(pika.URLParameters(url))
    except (AMQPError, OSError) as error:
        pytest.fail(
            f"no RabbitMQ ({type(error).__name__}): run `make servers`, or set SIGRA_TEST_RABBITMQ_URL"
        )


class Proxy:
    """A way to a server that can be cut, closed and stalled."""

    def __init__(self, port: int) -> None:
        self.answers = 0
        """How often the server sent something."""
        self.count = 0
        """How many connections there are."""
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._open, self._flows = True, threading.Event()
        self._flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections; new ones are let through, unless it was closed."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def close(self) -> None:
        """Cut, and refuse new connections until `open`."""
        self._open = False
        self.cut()

    def open(self) -> None:
        """Let connections and bytes through."""
        self._open = True
        self._flows.set()

    def stall(self) -> None:
        """Accept everything and answer nothing until `open`."""
        self._flows.clear()

    def _accept(self) -> None:
        while True:
            here = self._listener.accept()[0]
            if not self._open:
                here.close()
                continue
            there = socket.create_connection(("127.0.0.1", self._target))
            self._links += [here, there]
            threading.Thread(target=self._serve, args=(here, there), daemon=True).start()

    def _serve(self, here: socket.socket, there: socket.socket) -> None:
        self.count += 1
        answers = threading.Thread(target=self._copy, args=(there, here, 1), daemon=True)
        answers.start()
        self._copy(here, there, 0)
        answers.join()
        self.count -= 1
        here.close()
        there.close()

    def _copy(self, source: socket.socket, sink: socket.socket, answers: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                self.answers += answers
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass(kw_only=True)
class Harness(QueueHarness):
    """A host application on servers of its own or shared ones, with queue names of its own."""

    LEADS = True
    way: str
    settings: dict[str, str]

    def __post_init__(self) -> None:
        self.connection = reach(self.redis_url)
        self.rabbitmq = None if self.on_redis else reach_rabbitmq(self.settings["url"])
        self.host = make_host(self.settings, self.queue, [self.other_queue])

    @property
    def on_redis(self) -> bool:
        return self.settings["url"].startswith("redis")

    @property
    def redis_url(self) -> str:
        return self.settings["url"] if self.on_redis else self.settings.get("store", REDIS_URL)

    @property
    def adapter(self) -> DramatiqAdapter:
        return DramatiqAdapter.of(self.host.workers)

    # -- processes -------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process finds in its environment."""
        return {
            **super().environment,
            "HOST_SETTINGS": json.dumps(self.settings),
            "HOST_REDIS_URL": self.redis_url,
            "HOST_QUEUES": self.other_queue,
            "PYTHONPATH": PYTHONPATH,
            "dramatiq_restart_delay": "500",  # milliseconds until a consumer that lost its server looks again
        }

    def worker(
        self,
        *options: str,
        boot: str = BOOT,
        processes: int = 1,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> Process:
        """Start `dramatiq`; returns once it is ready, unless not `ready`."""
        command = [str(Path(sys.executable).parent / "dramatiq"), boot, "--processes", str(processes)]
        process = self.run([*command, *options], environment)
        if ready:
            process.ready("ready for action", processes)
        return process

    def close(self) -> None:
        """Kill all that was started here, print the logs, and leave nothing in the servers."""
        self.end()
        with contextlib.suppress(RedisError):  # a test may have taken its server down
            self._sweep()
        self.host.workers.close()
        self.connection.close()
        if self.rabbitmq is not None:
            with contextlib.suppress(AMQPError):
                self.rabbitmq.close()

    def _sweep(self) -> None:
        if "store" in self.settings or self.on_redis:
            self.host.workers.purge([job.id for job in self.dead()])
        for key in self.connection.scan_iter(f"*{self.prefix}*", count=1000):
            self.connection.delete(key)
        for run in self.runs():
            for key in self.connection.scan_iter(f"sigra-workers:*:run:{run['job']}", count=1000):
                self.connection.delete(key)
        for ticket, payload in self.parked(None).items():
            if payload.queue in (self.queue, self.other_queue):
                self.connection.zrem(f"{self.store_prefix}:parked:at", ticket)
                self.connection.hdel(f"{self.store_prefix}:parked", ticket)
        if self.rabbitmq is not None:
            for queue in (self.queue, self.other_queue):
                for name in (queue, dq_name(queue), xq_name(queue)):
                    self.channel().queue_delete(name)

    # -- what is in the servers ------------------------------------------------------------------------

    @property
    def store_prefix(self) -> str:
        return "sigra-workers:dramatiq" if self.on_redis else "sigra-workers:rabbitmq:/"

    def channel(self) -> Any:
        """A fresh channel, on a connection that answers."""
        assert self.rabbitmq is not None
        try:
            return self.rabbitmq.channel()
        except AMQPError:
            self.rabbitmq = reach_rabbitmq(self.settings["url"])
            return self.rabbitmq.channel()

    def messages(self, queue: str | None = None, kind: Callable[[str], str] = str) -> list[Message[Any]]:
        """What waits in a queue, in order, or in its delayed (`dq_name`) or dead (`xq_name`) twin."""
        name = kind(queue or self.queue)
        if self.on_redis:
            data = self.connection.hgetall(f"dramatiq:{name}.msgs")
            if kind is xq_name:
                return [Message.decode(text) for text in data.values()]
            waiting = self.connection.lrange(f"dramatiq:{name}", 0, -1)
            return [Message.decode(data[message_id]) for message_id in waiting]
        found: list[Message[Any]] = []
        channel = self.channel()
        with contextlib.suppress(ChannelClosedByBroker):  # it is not there
            while (delivery := channel.basic_get(name))[0] is not None:
                found.append(Message.decode(delivery[2]))
        if channel.is_open:
            channel.close()  # which gives them back
        return found

    def ready(self) -> int:
        """How many messages RabbitMQ has in the queue."""
        return int(self.channel().queue_declare(self.queue, passive=True).method.message_count)

    def waiting(self, queue: str | None = None) -> list[str]:
        """The ids of the jobs that wait in a queue, in order."""
        return [message.message_id for message in self.messages(queue)]

    def payload(self, message: Message[Any]) -> Payload:
        return Payload.parse(message.options[wire.OPTION])

    def parked(self, job_id: str | None) -> dict[str, Payload]:
        """The job's parked payloads by ticket, or those of all jobs."""
        found = self.connection.hgetall(f"{self.store_prefix}:parked")
        payloads = {ticket.decode(): Payload.parse(text.decode()) for ticket, text in found.items()}
        return {ticket: payload for ticket, payload in payloads.items() if job_id in (None, payload.id)}

    def parked_until(self, job_id: str) -> float:
        """When the parked job is due."""
        (ticket,) = self.parked(job_id)
        return float(self.connection.zscore(f"{self.store_prefix}:parked:at", ticket))

    def record(self, job_id: str) -> dict[str, str]:
        """What the store remembers of the job."""
        found = self.connection.hgetall(f"{self.store_prefix}:run:{job_id}")
        return {key.decode(): value.decode() for key, value in found.items()}

    def dead(self, **filters: Any) -> list[DeadJob]:
        """The dead jobs of this test: the servers are shared."""
        return [job for job in self.host.workers.dead(**filters) if (job.queue or "").startswith(self.prefix)]

    def dead_letters(self) -> list[str]:
        """The ids of the jobs in Dramatiq's dead-letter queue."""
        return [message.message_id for message in self.messages(kind=xq_name)]

    def redeliver(self) -> None:
        """Have Redis give what dead processes left to others at once, as it does after a minute."""
        if self.on_redis:
            for name in (self.queue, dq_name(self.queue)):
                for key in self.connection.scan_iter(f"dramatiq:__acks__.*.{name}", count=1000):
                    worker = key.decode().removeprefix("dramatiq:__acks__.").removesuffix(f".{name}")
                    self.connection.zadd("dramatiq:__heartbeats__", {worker: 0})

    # -- what worker processes wrote ---------------------------------------------------------------------

    def decisions(self, job_id: str) -> list[str | None]:
        """The decision of each run, as the hook was told."""
        return [line["decision"] for line in self.lines("finished.jsonl") if line["job"] == job_id]

    def ended(self, job_id: str) -> bool:
        """Whether the job is done or dead."""
        return bool({*self.decisions(job_id)} & {"complete", "cancel", "dead"}) or any(
            line["job"] == job_id for line in self.lines("dead.jsonl")
        )

    def wait(self, *job_ids: str, seconds: float = SECONDS) -> None:
        """Wait until these jobs are done or dead, by their hooks."""
        rest = list(job_ids)

        def done() -> bool:
            rest[:] = [job_id for job_id in rest if not self.ended(job_id)]
            return not rest

        eventually(done, f"{len(job_ids)} jobs to end, such as {rest[:3]}", seconds)


@contextmanager
def harness(folder: Path, way: str, **settings: str) -> Generator[Harness]:
    """A harness for a block."""
    found = Harness(way=way, settings={**SETTINGS[way], **settings}, folder=folder)
    try:
        yield found
    finally:
        found.close()
