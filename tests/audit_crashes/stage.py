"""One queue with the host's worker processes on it: what became of its jobs, and of their events."""

import json
import os
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from adapters.sqlalchemy.tests.support import Database, database_for
from sqlalchemy import Table, select
from tests.audit_crashes.host import KINDS, VARIABLE, Kind, Served, StepArgs, make_host, work_table
from tests.losses.back_ends import BackEnd, Place
from tests.losses.processes import Supervised
from tests.losses.servers import RABBITMQ_URL, RedisServer, delete_queue

from sigra_workers import AuditEvent

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 100.0
"""Seconds until all jobs of a queue have to have ended."""
KILLED: Final = {
    "killed": ("success kill", "success ok"),
    "killed between": ("success kill", "success success ok"),
}
"""Jobs that kill their process, and what each of their runs does."""
OTHERS: Final = {
    "recovers": ("failure error", "success ok"),
    "repeats itself": ("success error", "success ok"),
    "snoozes": ("success snooze", "success snooze", "success snooze", "success ok"),
}


@dataclass
class Story:
    """One job: what it was to do, its runs as it told them, and what there is of it in the end."""

    name: str
    kind: Kind
    job_id: str
    steps: tuple[str, ...]
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[AuditEvent] = field(default_factory=list[AuditEvent])
    work: int = 0

    @property
    def organization(self) -> str:
        """Another job's is another."""
        return f"organization of {self.name}, {' '.join(self.kind)}"


@dataclass
class Stage:
    """A queue, its worker processes, and the database they audit to."""

    back_end: BackEnd
    folder: Path
    database: Database
    work: Table
    served: Served
    stories: list[Story] = field(default_factory=list[Story])

    def play(self) -> None:
        """Send jobs that kill their processes, and others to those that come after them."""
        self._send(KILLED)
        self._until(lambda: all(story.runs for story in self.stories))
        self._send(OTHERS)
        self._until(lambda: all(s.runs and s.runs[-1]["end"] == "ok" for s in self.stories))
        with self.database.engine.connect() as connection:
            done = [*connection.execute(select(self.work.c.job_id)).scalars()]
        events = self.database.events
        for story in self.stories:
            story.work = done.count(story.job_id)
            story.events = [event for event in events if event.job_id == story.job_id]

    @property
    def lost(self) -> list[dict[str, Any]]:
        """The events that were told to be lost."""
        return self._lines("lost")

    def _send(self, scripts: Mapping[str, tuple[str, ...]]) -> None:
        host = make_host(self.served)
        for name, steps in scripts.items():
            for kind in KINDS:
                story = Story(name, kind, "", steps)
                args = StepArgs(
                    organization_id=story.organization,
                    actor_id="ann",
                    impersonating_from="admin",
                    steps=[*steps],
                )
                story.job_id = host.handles[kind].enqueue(args).id
                self.stories.append(story)
        host.workers.close()

    def _until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            runs = self._lines("runs")
            for story in self.stories:
                story.runs = [run for run in runs if run["job"] == story.job_id]
            if done():
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{self.back_end.name}: {[s for s in self.stories if len(s.runs) < 2]}")
            time.sleep(0.1)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextmanager
def stage(back_end: BackEnd, folder: Path) -> Generator[Stage]:
    """A Redis of its own, the command that the README gives, twice and supervised, and a table of its own."""
    (folder / "notes").mkdir()
    redis = RedisServer(folder / "redis")
    queue = f"audited-{uuid.uuid4().hex[:10]}"
    settings = {"url": RABBITMQ_URL, "store": redis.url} if back_end.rabbit else {"url": redis.url}
    with database_for("postgresql+psycopg", folder) as database:
        work = work_table(database.metadata, database.name)
        work.create(database.engine)
        served = Served(
            adapter=back_end.adapter,
            settings=settings,
            queue=queue,
            folder=str(folder / "notes"),
            database=database.url,
            async_database=database.async_url,
            table=database.name,
            together=min(back_end.jobs_at_a_time, len(KILLED) * len(KINDS)),
        )
        environment = {**os.environ, VARIABLE: json.dumps(served), "PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONUNBUFFERED": "1", "REDIS_URL": redis.url}
        place = Place(cast("Any", None), redis, queue, settings)
        command = [part.replace("tests.losses.", "tests.audit_crashes.") for part in back_end.run(place)]
        workers = [
            Supervised(command, environment, folder / f"worker-{number}.log", folder) for number in range(2)
        ]
        redis.start()
        try:
            for worker in workers:
                worker.start()
            yield Stage(back_end, folder / "notes", database, work, served)
        finally:
            for worker in workers:
                worker.end()
            if back_end.rabbit:
                delete_queue(queue)
            redis.kill()
