"""A Redis, `arq` worker processes, and what a test reads back from both."""

import contextlib
import json
import os
import pickle
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
from arq.jobs import JobResult, deserialize_result
from redis import Redis
from redis.exceptions import RedisError

from arq_host.jobs import SERIALIZERS, Host, StepArgs, make_host
from sigra_workers import Payload
from sigra_workers_arq import ArqAdapter, wire

URL: Final = os.environ.get("SIGRA_TEST_ARQ_REDIS_URL", "redis://127.0.0.1:6379/8")
HOST_FOLDER: Final = Path(__file__).parent / "host"
BOOT: Final = "arq_host.arq_lifecycle"
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
    """A client of that Redis, which answers."""
    connection = Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
    try:
        connection.ping()
    except RedisError as error:
        connection.close()
        pytest.fail(f"no Redis at {url} ({error}): run `make servers`, or set SIGRA_TEST_ARQ_REDIS_URL")
    return connection


@dataclass
class Process:
    """A process we started, its output in a file."""

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
    """A `redis.Redis`, whose types say that it might be an async one."""
    serializer: str = "pickle"
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    processes: list[Process] = field(default_factory=list[Process])
    host: Host = field(init=False)

    def __post_init__(self) -> None:
        settings = {"url": self.url, **SERIALIZERS[self.serializer]}
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
            "HOST_OTHER_QUEUE": self.other_queue,
            "HOST_SERIALIZER": self.serializer,
            "PYTHONPATH": str(HOST_FOLDER),
            "PYTHONUNBUFFERED": "1",
        }

    def worker(
        self,
        *flags: str,
        boot: str = BOOT,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
        **options: Any,
    ) -> Process:
        """Start `arq`, with those flags, and options for its boot file; returns once it polls, if `ready`."""
        command = [str(Path(sys.executable).parent / "arq"), *flags, f"{boot}.WorkerSettings"]
        process = self.run(command, {"HOST_OPTIONS": json.dumps(options), **(environment or {})})
        if ready:
            end = time.monotonic() + SECONDS
            while "redis_version=" not in process.log:
                if not process.alive or time.monotonic() > end:
                    pytest.fail(f"the arq worker did not start:\n{process.log}")
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

    def close(self) -> None:
        """Kill all that was started here, print the logs, and leave nothing in Redis."""
        for process in self.processes:
            process.kill()
            print(f"---- {' '.join(map(str, cast('list[str]', process.popen.args)))}\n{process.log}")
        with contextlib.suppress(RedisError):  # a test may have taken its server down
            self._sweep()
        self.host.workers.close()
        self.connection.close()

    def _sweep(self) -> None:
        found: set[str] = {run["job"] for run in self.runs()}
        for queue in (self.queue, self.other_queue):
            found |= {job_id.decode() for job_id in self.connection.zrange(queue, 0, -1)}
        found |= {job.id for job in self.host.workers.dead() if job.queue in (self.queue, self.other_queue)}
        self.host.workers.purge(found)
        for kind in ("arq:job", "arq:result", "arq:retry", "arq:in-progress", "sigra-workers:arq:run"):
            for job_id in found:
                self.connection.delete(f"{kind}:{job_id}")
        for key in self.connection.scan_iter(f"*{self.prefix}*", count=1000):
            self.connection.delete(key)

    # -- what is in Redis ------------------------------------------------------------------------------

    @property
    def adapter(self) -> ArqAdapter:
        return ArqAdapter.of(self.host.workers)

    def payload(self, job_id: str) -> Payload:
        """Our payload as it lies in arq now."""
        packed = cast("bytes | None", self.connection.get(wire.job_key(job_id)))
        assert packed is not None, job_id
        return Payload.parse(self.adapter.codec.text(packed))

    def score(self, job_id: str, queue: str | None = None) -> float | None:
        """When arq may start it, in seconds."""
        score = cast("float | None", self.connection.zscore(queue or self.queue, job_id))
        return None if score is None else score / 1_000

    def result(self, job_id: str) -> JobResult | None:
        """What arq keeps of its end."""
        packed = cast("bytes | None", self.connection.get(wire.result_key(job_id)))
        return deserialize_result(packed, deserializer=self.adapter.codec.loads) if packed else None

    def status(self, job_id: str) -> str:
        """finished or failed, with arq's keys of the job gone; running, waiting, queued; or gone."""
        queued = [self.score(job_id, queue) for queue in (self.queue, self.other_queue)]
        due = next((at for at in queued if at is not None), None)
        found = self.result(job_id)
        if due is None:
            return "gone" if found is None else "finished" if found.success else "failed"
        if self.connection.exists(wire.in_progress_key(job_id)):
            return "running"
        return "queued" if due <= time.time() else "waiting"

    def keys(self, job_id: str) -> set[str]:
        """Every key that names the job."""
        return {key.decode() for key in self.connection.scan_iter(f"*{job_id}*", count=1000)}

    def wait(self, job_id: str, *statuses: str, seconds: float = SECONDS) -> str:
        """Wait until the job is so (finished or failed if none is given)."""
        wanted = statuses or ("finished", "failed")
        eventually(
            lambda: self.status(job_id) in wanted, f"job {job_id} to be {' or '.join(wanted)}", seconds
        )
        return self.status(job_id)

    def wait_all(self, job_ids: list[str], seconds: float = SECONDS) -> None:
        """Wait until every job is finished or failed."""
        end = time.monotonic() + seconds
        for job_id in job_ids:
            self.wait(job_id, seconds=max(0.1, end - time.monotonic()))

    # -- what worker processes wrote ---------------------------------------------------------------------

    def runs(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """Each run of host code, or those of one job, in order."""
        return [run for run in self.lines("runs.jsonl") if job_id in (None, run["job"])]

    def turns(self, job_id: str) -> list[tuple[int, int]]:
        """Attempt and snoozes of each of its runs."""
        return [(run["attempt"], run["snoozes"]) for run in self.runs(job_id)]

    def audit(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """The audit trail, or that of one job."""
        return [event for event in self.lines("audit.jsonl") if job_id in (None, event["job_id"])]

    def lines(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def plain_job(function: str, *args: object) -> bytes:
    """A job of the host's own, as arq sends it."""
    return pickle.dumps({"t": None, "f": function, "a": args, "k": {}, "et": int(time.time() * 1_000)})


@contextmanager
def harness(folder: Path, url: str = URL, serializer: str = "pickle") -> Generator[Harness]:
    """A harness for a block."""
    found = Harness(url, folder, reach(url), serializer)
    try:
        yield found
    finally:
        found.close()
