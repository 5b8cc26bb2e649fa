"""A host application with real worker processes, on real servers, and what a test reads back from them."""

import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

import pytest
from redis import Redis
from redis.exceptions import RedisError
from tests.losses.servers import free_port
from tests.queues.host import Host, StepArgs

from sigra_workers import JobRef

ROOT: Final = Path(__file__).parents[2]
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


def python_path(folder: Path) -> str:
    """Where worker processes find that folder's host application, and what all of these share."""
    return f"{folder}{os.pathsep}{ROOT}"


def reach_redis(url: str, variable: str) -> Any:
    """A client of that Redis, which answers; untyped, as its answers are unions."""
    connection = Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
    try:
        connection.ping()
    except RedisError as error:
        connection.close()
        pytest.fail(f"no Redis at {url} ({error}): run `make servers`, or set {variable}")
    return connection


@dataclass
class Process:
    """A process we started, its output in a file."""

    popen: "subprocess.Popen[bytes]"
    file: Path
    leads: bool = False
    """Whether it leads a session, which ends with it."""

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

    def ready(self, text: str, times: int = 1) -> None:
        """Wait until its log holds the text so often; fails the test with the log when it does not start."""
        end = time.monotonic() + SECONDS
        while self.log.count(text) < times:
            if not self.alive or time.monotonic() > end:
                pytest.fail(f"it did not start: {self.popen.args!r}\n{self.log}")
            time.sleep(0.02)

    def stop(self, seconds: float = SECONDS) -> int:
        """End it as a supervisor would; its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """kill -9, of all its session where it leads one."""
        if self.leads:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        else:
            self.popen.kill()
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
            popen = subprocess.Popen([*command, *self.options], stdout=output, stderr=subprocess.STDOUT)
        self.process = Process(popen, file)

        def answers() -> bool:
            with Redis.from_url(self.url) as connection, contextlib.suppress(RedisError):
                return bool(connection.ping())
            return False

        eventually(answers, f"a redis-server on port {self.port}")

    def client(self) -> Any:
        return Redis.from_url(self.url, socket_timeout=10)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts private Redis servers: ``redis_server("--maxmemory", "2mb")``."""
    servers: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        servers.append(RedisServer(free_port(), tmp_path, options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()


@dataclass(kw_only=True)
class QueueHarness:
    """A host application with queue names of its own, and what its worker processes wrote."""

    LEADS: ClassVar = False
    """Whether each process that is started leads a session."""
    folder: Path
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    processes: list[Process] = field(default_factory=list[Process])
    host: Host = field(init=False)

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
        """What a worker process finds in its environment; each queue has more."""
        return {
            **{key: value for key, value in os.environ.items() if key != "SIGRA_WORKERS"},
            "HOST_DIR": str(self.folder),
            "HOST_QUEUE": self.queue,
            "PYTHONUNBUFFERED": "1",
        }

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
                start_new_session=self.LEADS,
            )
        self.processes.append(Process(popen, file, self.LEADS))
        return self.processes[-1]

    def end(self) -> None:
        """Kill all that was started here, and print the logs."""
        for process in self.processes:
            process.kill()
            print(f"---- {' '.join(map(str, cast('list[str]', process.popen.args)))}\n{process.log}")

    # -- what worker processes wrote ---------------------------------------------------------------------

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


DELAYS: Final = [0.05 + 0.08 * n for n in range(24)]
LATER: Final = script("error:no", "snooze:1", "ok")
"""For ``host.later``: it fails once with a backoff of 1.25 s, then snoozes for a second."""


def check_lateness(
    harness: QueueHarness, refs: list[JobRef], at_most: float, record_property: Callable[[str, object], None]
) -> None:
    """No run of these jobs of `LATER` was early, and none so many seconds late."""
    late: dict[str, list[float]] = {"schedule_in": [], "backoff": [], "snooze": []}
    for ref in refs:
        first, second, third = (run["at"] for run in harness.runs(ref.id))
        assert ref.due_at is not None
        late["schedule_in"].append(first - ref.due_at.timestamp())
        late["backoff"].append(second - first - 1.25)
        late["snooze"].append(third - second - 1)
    for what, seconds in late.items():
        record_property(f"late, {what}", f"{min(seconds):.2f} to {max(seconds):.2f} s")
        print(f"late, {what}: {min(seconds):.2f} to {max(seconds):.2f} s")
        assert min(seconds) >= 0, what
        assert max(seconds) < at_most, what
