"""A Redis, a RabbitMQ, `dramatiq` worker processes, and what a test reads back from them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pika
import pytest
from dramatiq import Message
from dramatiq.common import dq_name, xq_name
from pika.exceptions import AMQPError, ChannelClosedByBroker
from redis import Redis
from redis.exceptions import RedisError

from dramatiq_host.jobs import Host, StepArgs, make_host
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
BOOT: Final = "dramatiq_host.dramatiq_app"
SECONDS: Final = 30.0
"""How long anything may take that a test waits for."""
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """What `look` returns as soon as it is true; fails the test when it is not in time."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} s for {what}, last saw {found!r}")
        time.sleep(0.02)


def script(*steps: str, **keys: Any) -> StepArgs:
    """Args of a job that does these steps, for organization org-1 and actor ann unless told otherwise."""
    return cast("StepArgs", {"organization_id": "org-1", "actor_id": "ann", "steps": list(steps), **keys})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reach(url: str) -> Any:
    """A client of that Redis, which answers; untyped, as its answers are unions."""
    connection = Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
    try:
        connection.ping()
    except RedisError as error:
        connection.close()
        pytest.fail(f"no Redis at {url} ({error}): run `make servers`, or set SIGRA_TEST_DRAMATIQ_REDIS_URL")
    return connection


def reach_rabbitmq(url: str) -> Any:
    """A connection to that RabbitMQ."""
    try:
        return pika.BlockingConnection(pika.URLParameters(url))
    except (AMQPError, OSError) as error:
        pytest.fail(
            f"no RabbitMQ ({type(error).__name__}): run `make servers`, or set SIGRA_TEST_RABBITMQ_URL"
        )


@dataclass
class Process:
    """A process we started, in a session of its own, its output in a file."""

    popen: "subprocess.Popen[bytes]"
    file: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self.file.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def logged(self, text: str, seconds: float = SECONDS) -> None:
        """Wait until its log holds the text."""
        eventually(lambda: text in self.log, f"{text!r} in {self.file.name}", seconds)

    def stop(self, seconds: float = SECONDS) -> int:
        """End it as a supervisor would; its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """kill -9, its children too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass
class RedisServer:
    """A Redis of the test's own: to stall, to fill, to kill."""

    port: int
    folder: Path
    options: tuple[str, ...]
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, again on the same port and data; returns once it answers."""
        file = self.folder / f"redis-{self.port}.log"
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        with file.open("ab") as output:
            popen = subprocess.Popen(
                [*command, *self.options], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.process = Process(popen, file)

        def answers() -> bool:
            with Redis.from_url(self.url) as connection, contextlib.suppress(RedisError):
                return bool(connection.ping())
            return False

        eventually(answers, f"a redis-server on port {self.port}")


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


@dataclass
class Harness:
    """A host application on servers of its own or shared ones, with queue names of its own."""

    way: str
    settings: dict[str, str]
    folder: Path
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    processes: list[Process] = field(default_factory=list[Process])
    host: Host = field(init=False)

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

    @property
    def queue(self) -> str:
        """The queue that jobs go to."""
        return f"{self.prefix}-main"

    @property
    def other_queue(self) -> str:
        """A queue that jobs may be sent to."""
        return f"{self.prefix}-other"

    # -- processes -------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process finds in its environment."""
        return {
            **{key: value for key, value in os.environ.items() if key != "SIGRA_WORKERS"},
            "HOST_DIR": str(self.folder),
            "HOST_SETTINGS": json.dumps(self.settings),
            "HOST_REDIS_URL": self.redis_url,
            "HOST_QUEUE": self.queue,
            "HOST_QUEUES": self.other_queue,
            "PYTHONPATH": str(HOST_FOLDER),
            "PYTHONUNBUFFERED": "1",
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
            end = time.monotonic() + SECONDS
            while process.log.count("ready for action") < processes:
                if not process.alive or time.monotonic() > end:
                    pytest.fail(f"the dramatiq worker did not start:\n{process.log}")
                time.sleep(0.02)
        return process

    def run(self, command: list[str], environment: Mapping[str, str] | None = None) -> Process:
        """Start a command with our environment; it is killed at the end of the test."""
        file = self.folder / f"process-{len(self.processes)}.log"
        with file.open("wb") as output:
            popen = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                start_new_session=True,
            )
        self.processes.append(Process(popen, file))
        return self.processes[-1]

    def close(self) -> None:
        """Kill all that was started here, print the logs, and leave nothing in the servers."""
        for process in self.processes:
            process.kill()
            print(f"---- {' '.join(map(str, cast('list[str]', process.popen.args)))}\n{process.log}")
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

    def runs(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """Each run of host code, or those of one job, in order."""
        return [run for run in self.lines("runs.jsonl") if job_id in (None, run["job"])]

    def audit(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """The audit trail, or that of one job."""
        return [event for event in self.lines("audit.jsonl") if job_id in (None, event["job_id"])]

    def lines(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        whole = file.read_text().rpartition("\n")[0] if file.exists() else ""  # the last may be half written
        return [json.loads(line) for line in whole.splitlines()]


@contextmanager
def harness(folder: Path, way: str, **settings: str) -> Generator[Harness]:
    """A harness for a block."""
    found = Harness(way, {**SETTINGS[way], **settings}, folder)
    try:
        yield found
    finally:
        found.close()
