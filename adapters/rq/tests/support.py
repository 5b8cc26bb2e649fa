"""A Redis, `rq worker` processes, and what a test reads back from both."""

import contextlib
import os
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job as RqJob
from rq.results import Result
from tests.queues.harness import SECONDS, Process, QueueHarness, eventually, python_path, reach_redis

from rq_host.jobs import make_host
from sigra_workers import Payload
from sigra_workers_rq import wire

URL: Final = os.environ.get("SIGRA_TEST_REDIS_URL", "redis://127.0.0.1:6379/7")
HOST_FOLDER: Final = Path(__file__).parent / "host"
PYTHONPATH: Final = python_path(HOST_FOLDER)
RQ: Final = str(Path(sys.executable).parent / "rq")
BOOT: Final = "rq_host.rq_lifecycle"


def reach(url: str) -> Any:
    """A client of that Redis, which answers."""
    return reach_redis(url, "SIGRA_TEST_REDIS_URL")


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


@dataclass(kw_only=True)
class Harness(QueueHarness):
    """A host application on a Redis of its own or a shared one, with queue names of its own."""

    url: str
    connection: Any
    serializer: str = "json"

    def __post_init__(self) -> None:
        settings = {"url": self.url, "serializer": self.serializer}
        self.host = make_host(settings, self.queue, [self.other_queue])

    # -- processes -------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process finds in its environment."""
        return {
            **super().environment,
            "HOST_REDIS_URL": self.url,
            "HOST_SERIALIZER": self.serializer,
            "PYTHONPATH": PYTHONPATH,
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
        command = [RQ, "worker", "-u", self.url]
        command += ["--name", f"{self.prefix}-{len(self.processes)}"]
        command += ["-c", boot] if boot else []
        command += ["--serializer", self.serializer] if "--serializer" not in options else []
        command += ["--with-scheduler"] if scheduler else []
        process = self.run([*command, *options, *(queues or (self.queue,))], environment)
        if ready:
            process.ready("Listening on")
        return process

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
        self.end()
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


@contextmanager
def harness(folder: Path, url: str = URL, serializer: str = "json") -> Generator[Harness]:
    """A harness for a block."""
    found = Harness(url=url, folder=folder, connection=reach(url), serializer=serializer)
    try:
        yield found
    finally:
        found.close()
