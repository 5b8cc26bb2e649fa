"""Servers of the tests' own, to kill and to start anew on the same port and data."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pika
from redis import Redis
from tests.losses.processes import kill_session

SECONDS: Final = 240.0
"""How long a server may take to answer, many of them starting side by side."""
RABBITMQ_URL: Final = os.environ.get("SIGRA_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672")
"""The one that other tests share, with queues of their own."""
_any: Final = random.SystemRandom()  # pytest-randomly seeds the other one anew for each test
_given: Final[set[int]] = set()


def free_port() -> int:
    """Below those that the kernel gives to clients: none takes it while the server is away."""
    while True:
        port = _any.randrange(20_000, 32_000)
        if port in _given:  # its server may be down for now
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def delete_queue(queue: str) -> None:
    """Delete a queue of Dramatiq's on that RabbitMQ, with its delayed and its dead messages."""
    with pika.BlockingConnection(pika.URLParameters(RABBITMQ_URL)) as connection:
        for name in (queue, f"{queue}.DQ", f"{queue}.XQ"):
            connection.channel().queue_delete(name)


class Server(ABC):
    """One server, its data in `folder`."""

    scheme: str
    hello: bytes
    """What it is greeted with, and answers."""
    greets: bytes

    def __init__(self, folder: Path) -> None:
        self.port: Final = free_port()
        self.folder: Final = folder
        folder.mkdir()

    @property
    @abstractmethod
    def url(self) -> str:
        """What a client is given."""

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """Its command line."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What it finds in its environment."""
        return os.environ

    def start(self) -> None:
        """Start it, again on its data; returns once it answers."""
        with (self.folder / "output.log").open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                start_new_session=True,
            )
        end = time.monotonic() + SECONDS
        while not self._answers():
            if self._popen.poll() is not None or time.monotonic() > end:
                log = (self.folder / "output.log").read_text(errors="replace")
                raise RuntimeError(f"{self.command[0]} did not start on port {self.port}:\n{log[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        kill_session(self._popen.pid)
        self._popen.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(self.hello)
                return connection.recv(100).startswith(self.greets)
        except OSError:
            return False


class RedisServer(Server):
    """A Redis that keeps what it was given."""

    hello, greets = b"PING\r\n", b"+PONG"
    options: Final = ("--appendonly", "yes", "--appendfsync", "always")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """A redis-py client of it."""
        return Redis.from_url(self.url, socket_timeout=10)

    @property
    def command(self) -> list[str]:
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", "")
        return ["redis-server", *where, *self.options]


class RabbitServer(Server):
    """A RabbitMQ node that gives up a delivery after 20 s without an acknowledgement, not 30 minutes."""

    hello, greets = b"AMQP\0\0\x09\x01", b"\1"
    options: Final = "-rabbit consumer_timeout 20000 -rabbit channel_tick_interval 5000"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        # Debian's command on PATH is for root and one user alone; this is what it calls.
        debian = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        return [shutil.which(debian) or "rabbitmq-server"]

    @property
    def environment(self) -> Mapping[str, str]:
        folder = str(self.folder)
        (self.folder / "plugins").write_text("[].")
        return {
            **os.environ,
            "HOME": folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"sigra-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none {self.options}",
        }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._dist = free_port()
