"""A Redis, `arq` worker processes, and what a test reads back from both."""

import contextlib
import json
import os
import pickle
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from arq.jobs import JobResult, deserialize_result
from redis.exceptions import RedisError
from tests.queues.harness import SECONDS, Process, QueueHarness, eventually, python_path, reach_redis

from arq_host.jobs import SERIALIZERS, make_host
from sigra_workers import Payload
from sigra_workers_arq import ArqAdapter, wire

URL: Final = os.environ.get("SIGRA_TEST_ARQ_REDIS_URL", "redis://127.0.0.1:6379/8")
HOST_FOLDER: Final = Path(__file__).parent / "host"
PYTHONPATH: Final = python_path(HOST_FOLDER)
BOOT: Final = "arq_host.arq_lifecycle"


def reach(url: str) -> Any:
    """A client of that Redis, which answers."""
    return reach_redis(url, "SIGRA_TEST_ARQ_REDIS_URL")


@dataclass(kw_only=True)
class Harness(QueueHarness):
    """A host application on a Redis of its own or a shared one, with queue names of its own."""

    url: str
    connection: Any
    """A `redis.Redis`, whose types say that it might be an async one."""
    serializer: str = "pickle"

    def __post_init__(self) -> None:
        settings = {"url": self.url, **SERIALIZERS[self.serializer]}
        self.host = make_host(settings, self.queue, [self.other_queue])

    # -- processes -------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process finds in its environment."""
        return {
            **super().environment,
            "HOST_REDIS_URL": self.url,
            "HOST_OTHER_QUEUE": self.other_queue,
            "HOST_SERIALIZER": self.serializer,
            "PYTHONPATH": PYTHONPATH,
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
            process.ready("redis_version=")
        return process

    def close(self) -> None:
        """Kill all that was started here, print the logs, and leave nothing in Redis."""
        self.end()
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

    def turns(self, job_id: str) -> list[tuple[int, int]]:
        """Attempt and snoozes of each of its runs."""
        return [(run["attempt"], run["snoozes"]) for run in self.runs(job_id)]


def plain_job(function: str, *args: object) -> bytes:
    """A job of the host's own, as arq sends it."""
    return pickle.dumps({"t": None, "f": function, "a": args, "k": {}, "et": int(time.time() * 1_000)})


@contextmanager
def harness(folder: Path, url: str = URL, serializer: str = "pickle") -> Generator[Harness]:
    """A harness for a block."""
    found = Harness(url=url, folder=folder, connection=reach(url), serializer=serializer)
    try:
        yield found
    finally:
        found.close()
