"""A Redis, `rq worker` processes, and what a test reads back from both."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job as RqJob
from rq.results import Result

from rq_host.jobs import Host, StepArgs, make_host
from sigra_workers import Payload
from sigra_workers_rq import wire

URL: Final = os.environ.get("SIGRA_TEST_REDIS_URL", "redis://127.0.0.1:6379/7")
HOST_FOLDER: Final = Path(__file__).parent / "host"
BOOT: Final = "rq_host.rq_lifecycle"
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
        pytest.fail(f"no Redis at {url} ({error}): run `make servers`, or set SIGRA_TEST_REDIS_URL")
    return connection


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


@dataclass
class Process:
    """A process we started, its output in a file."""

    popen: "subprocess.Popen[bytes]"
    file: Path

    @staticmethod
    def rq() -> str:
        """The command."""
        return str(Path(sys.executable).parent / "rq")

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
        """kill -9."""
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


@dataclass
class Harness:
    """A host application on a Redis of its own or a shared one, with queue names of its own."""

    url: str
    folder: Path
    connection: Any
    serializer: str = "json"
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    processes: list[Process] = field(default_factory=list[Process])
    host: Host = field(init=False)

    def __post_init__(self) -> None:
        settings = {"url": self.url, "serializer": self.serializer}
        self.host = make_host(settings, self.queue, [self.other_queue])

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
            "HOST_REDIS_URL": self.url,
            "HOST_QUEUE": self.queue,
            "HOST_SERIALIZER": self.serializer,
            "PYTHONPATH": str(HOST_FOLDER),
            "PYTHONUNBUFFERED": "1",
        }

    def worker(
        self,
        *options: str,
        boot: str | None = BOOT,
        queues: tuple[str, ...] | None = None,
        scheduler: bool = True,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> Process:
        """Start `rq worker` on our queue; returns once it listens, unless not `ready`."""
        command = [Process.rq(), "worker", "-u", self.url]
        command += ["--name", f"{self.prefix}-{len(self.processes)}"]
        command += ["-c", boot] if boot else []
        command += ["--serializer", self.serializer] if "--serializer" not in options else []
        command += ["--with-scheduler"] if scheduler else []
        process = self.run([*command, *options, *(queues or (self.queue,))], environment)
        if ready:
            end = time.monotonic() + SECONDS
            while "Listening on" not in process.log:
                if not process.alive or time.monotonic() > end:
                    pytest.fail(f"the rq worker did not start:\n{process.log}")
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
            )
        self.processes.append(Process(popen, file))
        return self.processes[-1]

    def work(self, *options: str, seconds: float = SECONDS, **more: Any) -> Process:
        """Run `rq worker --burst` until the queue is empty; what is scheduled stays."""
        process = self.worker("--burst", *options, scheduler=False, ready=False, **more)
        assert process.popen.wait(seconds) == 0, process.log
        return process

    def close(self) -> None:
        """Kill all that was started here, orphans too, print the logs, and leave nothing in Redis."""
        while ours := self._alive():  # again, for what was just being forked
            for pid in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.kill()
            print(f"---- {' '.join(map(str, cast('list[str]', process.popen.args)))}\n{process.log}")
        self.host.workers.close()
        with contextlib.suppress(RedisError):  # a test may have taken its server down
            self._sweep()
        self.connection.close()

    def _alive(self) -> list[int]:
        """The processes that were started here, known by their environment."""
        found: list[int] = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"HOST_DIR={self.folder}".encode() in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return [pid for pid in found if pid != os.getpid()]

    def _sweep(self) -> None:
        ours: set[str] = set()
        for key in self.connection.scan_iter("rq:job:*", count=1000, _type="hash"):
            origin = cast("bytes | None", self.connection.hget(key, "origin"))
            if (origin or b"").startswith(self.prefix.encode()):
                job_id = key.decode().removeprefix("rq:job:")
                self.connection.delete(key, f"rq:results:{job_id}", f"rq:executions:{job_id}")
                ours.add(job_id)
        for key in self.connection.scan_iter("sigra-workers:rq:run:*", count=1000):
            if key.decode().split(":")[3] in ours:
                self.connection.delete(key)
        for key in self.connection.scan_iter(f"*{self.prefix}*", count=1000):
            self.connection.delete(key)
            self.connection.srem("rq:workers", key)
        for queue in (self.queue, self.other_queue):
            self.connection.srem("rq:queues", f"rq:queue:{queue}")

    # -- what is in Redis ------------------------------------------------------------------------------

    def rq_queue(self, name: str | None = None) -> Queue:
        return Queue(name or self.queue, connection=self.connection, serializer=self.serializer)

    def job(self, job_id: str) -> RqJob:
        """The job as RQ has it now."""
        return RqJob.fetch(job_id, connection=self.connection, serializer=self.serializer)

    def status(self, job_id: str) -> str:
        return str(self.job(job_id).get_status(refresh=False).value)

    def payload(self, job_id: str) -> Payload:
        """Our payload as it lies in the job's meta now."""
        return Payload.parse(self.job(job_id).meta[wire.META_KEY])

    def results(self, job_id: str) -> list[Result]:
        """What RQ keeps of the runs that ended, oldest first."""
        return self.job(job_id).results()[::-1]

    def error(self, job_id: str) -> str:
        """The traceback that RQ keeps of a job that failed."""
        (*_, last) = self.results(job_id)
        return last.exc_string or ""

    def places(self, job_id: str, queue: str | None = None) -> set[str]:
        """Every list and registry of the queue that holds the job, by RQ's name of it."""
        here = self.rq_queue(queue)
        registries = {
            "started": here.started_job_registry,
            "finished": here.finished_job_registry,
            "failed": here.failed_job_registry,
            "scheduled": here.scheduled_job_registry,
            "deferred": here.deferred_job_registry,
            "canceled": here.canceled_job_registry,
        }
        places = {
            name for name, registry in registries.items() if job_id in registry.get_job_ids(cleanup=False)
        }
        return places | ({"queued"} if job_id in here.job_ids else set())

    def wait(self, job_id: str, *statuses: str, seconds: float = SECONDS) -> str:
        """Wait until the job has one of these of RQ's statuses ("finished" or "failed" if none is given)."""
        wanted = statuses or ("finished", "failed")
        eventually(
            lambda: self.status(job_id) in wanted, f"job {job_id} to be {' or '.join(wanted)}", seconds
        )
        return self.status(job_id)

    def wait_all(self, job_ids: list[str], seconds: float = SECONDS) -> None:
        """Wait until every job is finished or failed."""
        rest = list(job_ids)

        def done() -> bool:
            rest[:] = [job_id for job_id in rest if self.status(job_id) not in ("finished", "failed")]
            return not rest

        eventually(done, f"{len(job_ids)} jobs to end, such as {rest[:3]}", seconds)

    def record(self, job_id: str) -> str:
        """The key of the claim on the job."""
        return f"sigra-workers:rq:run:{job_id}"

    # -- what worker processes wrote ---------------------------------------------------------------------

    def runs(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """Each run of host code, or those of one job, in order."""
        return [run for run in self.lines("runs.jsonl") if job_id in (None, run["job"])]

    def audit(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """The audit trail, or that of one job."""
        return [event for event in self.lines("audit.jsonl") if job_id in (None, event["job_id"])]

    def lines(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextmanager
def harness(folder: Path, url: str = URL, serializer: str = "json") -> Generator[Harness]:
    """A harness for a block."""
    found = Harness(url, folder, reach(url), serializer)
    try:
        yield found
    finally:
        found.close()
