"""One queue with a worker process of the host on it, which is watched."""

import json
import os
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from tests.losses.back_ends import BackEnd, Place
from tests.losses.processes import kill_session
from tests.losses.servers import RABBITMQ_URL, RedisServer, delete_queue
from tests.observability.host import VARIABLE, Host, Served, StepArgs, make_host

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Seconds until what is waited for has to be there."""
SECRET: Final = "s3cr3t-5d1f"


@dataclass
class Stage:
    """A queue, its worker process, and the sender of its jobs."""

    back_end: BackEnd
    folder: Path
    served: Served
    command: list[str]
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def sender(self, *plugins: object) -> Host:
        """The application as its web processes have it."""
        return make_host(self.served, *plugins)

    def start(self) -> None:
        """Start the worker process."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Tell it to end, and wait until it has."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            kill_session(self.process.pid)
            self.process.wait()
            self.process = None

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "worker.log"

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What watchers wrote to files of that name, such as those of several processes."""
        files = sorted(self.folder.glob(f"{name}*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def until_over(self, host: Host, jobs: Mapping[str, Sequence[str]], dead: int) -> None:
        """Wait until each job has done the last of its steps, and so many are dead; then end the process."""

        def is_over() -> bool:
            ran = Counter(run["job"] for run in self.lines("runs"))
            return ran == {job_id: len(steps) for job_id, steps in jobs.items()}

        self.until(is_over, f"the runs of {len(jobs)} jobs")
        self.until(lambda: len(host.workers.dead()) == dead, f"{dead} dead jobs")
        self.stop()

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end or (self.process is not None and self.process.poll() is not None):
                log = self.log.read_text(errors="replace")[-6_000:]
                raise TimeoutError(f"{self.back_end.name}: {what}\n{log}")
            time.sleep(0.1)


def script(*steps: str, organization: str = "org-1") -> StepArgs:
    """The args of a job that does so."""
    return StepArgs(organization_id=organization, actor_id="ann", steps=[*steps], token=SECRET)


@contextmanager
def stage(back_end: BackEnd, folder: Path, watcher: str) -> Generator[Stage]:
    """A Redis of its own, and the command that the README gives."""
    redis = RedisServer(folder / "redis")
    queue = f"watched-{uuid.uuid4().hex[:10]}"
    settings = {"url": RABBITMQ_URL, "store": redis.url} if back_end.rabbit else {"url": redis.url}
    served = Served(
        adapter=back_end.adapter, settings=settings, queue=queue, folder=str(folder), watcher=watcher
    )
    environment = {**os.environ, VARIABLE: json.dumps(served), "PYTHONPATH": str(ROOT)}
    environment |= {"PYTHONUNBUFFERED": "1", "REDIS_URL": redis.url}
    place = Place(cast("Any", None), redis, queue, settings)
    command = [part.replace("tests.losses.", "tests.observability.") for part in back_end.run(place)]
    redis.start()
    found = Stage(back_end, folder, served, command, environment)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        if back_end.rabbit:
            delete_queue(queue)
        redis.kill()
