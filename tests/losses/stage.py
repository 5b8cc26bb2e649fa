"""One catastrophe on one queue: servers, supervised workers, jobs, and what became of them."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.losses.back_ends import BackEnd, Place
from tests.losses.host import KINDS, VARIABLE, StepArgs, make_host
from tests.losses.processes import Supervised
from tests.losses.servers import RabbitServer, RedisServer

from sigra_workers import EnqueueError, Job

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 240.0
"""Seconds that anything may take in here."""
QUIET: Final = 5.0
"""Seconds that a queue has to stay empty to be taken for empty."""


@dataclass
class Run:
    """One run of a job. `decision` is None where its body was cut short; times are epoch seconds."""

    attempt: int
    snoozes: int
    began: float
    decision: str | None = None
    ended: float | None = None
    alive: float = 0.0
    """When its body was last seen at work."""
    tenant: tuple[str, ...] = ()
    """The organization of its scope, and the actor of its args."""


@dataclass
class Story:
    """One job in a catastrophe: its runs, and how it ended."""

    row: str
    kind: str
    job_id: str = ""
    max_attempts: int = 0
    since: float = 0.0
    """From when the table counts the seconds until it runs again."""
    runs: list[Run] = field(default_factory=list[Run])
    dead: str | None = None
    """The reason, where it is dead."""
    told: str = ""
    """What the sender was told."""

    @property
    def tenant(self) -> tuple[str, str]:
        """Its organization and its actor, another job's are others."""
        return f"org of {self.row}", f"actor of {self.row}, {self.kind}"


class Stage:
    """Use as a context manager: it starts servers, and at its end kills all that was started."""

    def __init__(self, back_end: BackEnd, name: str, folder: Path, shared: "Shared") -> None:
        self.back_end: Final = back_end
        self.name: Final = name
        self.folder: Final = folder
        self.stories: Final[list[Story]] = []
        self.stack: Final = ExitStack()
        self._shared = shared
        self._workers: list[Supervised] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    # -- before ----------------------------------------------------------------------------------------------

    def set_up(self, *, own_broker: bool = False, jobs: int = 2, grace: int | None = None) -> None:
        """Start servers, and worker processes for so many jobs at a time: two at least."""
        redis = RedisServer(self.folder / "redis")
        redis.start()
        self.stack.callback(redis.kill)
        queue = f"losses-{self.name}"
        if not self.back_end.rabbit:
            self.place = Place(redis, redis, queue, {"url": redis.url})
        else:
            rabbit = self._rabbit() if own_broker else self._shared.rabbit()
            self.place = Place(rabbit, redis, queue, {"url": rabbit.url, "store": redis.url})
        self.host = make_host(self.back_end.adapter, self.place.settings, queue, self.folder)
        self.stack.callback(self.host.workers.close)
        served = {
            "adapter": self.back_end.adapter,
            "settings": self.place.settings,
            "queue": queue,
            "folder": str(self.folder),
        }
        environment = {**os.environ, VARIABLE: json.dumps(served), "PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONUNBUFFERED": "1", "REDIS_URL": redis.url}
        command = self.back_end.run(self.place)
        if grace is not None:
            environment["GRACE"] = str(grace)
            command += self.back_end.graceful(grace)
        for number in range(max(2, -(-jobs // self.back_end.jobs_at_a_time))):
            log = self.folder / f"worker-{number}.log"
            worker = Supervised(command, environment, log, self.folder)
            self.stack.callback(worker.end)
            worker.start()
            self._workers.append(worker)

    def _rabbit(self) -> RabbitServer:
        rabbit = RabbitServer(self.folder / "rabbitmq")
        rabbit.start()
        self.stack.callback(rabbit.kill)
        return rabbit

    def jobs(
        self, row: str, *steps: str, kinds: Sequence[str] = KINDS, **options: Any
    ) -> dict[str, Job[StepArgs]]:
        """A job of each kind with that script, not yet sent."""
        made: dict[str, Job[StepArgs]] = {}
        for kind in kinds:
            story = Story(row, kind)
            organization, actor = story.tenant
            args = StepArgs(organization_id=organization, actor_id=actor, steps=[*steps])
            made[kind] = self.host.handles[kind].new(args, **options)
            story.job_id, story.max_attempts = made[kind].id, made[kind].max_attempts
            self.stories.append(story)
        return made

    def send(self, row: str, *steps: str, kinds: Sequence[str] = KINDS, **options: Any) -> None:
        """Enqueue a job of each kind with that script."""
        for job in self.jobs(row, *steps, kinds=kinds, **options).values():
            self.host.workers.enqueue(job)

    # -- during ----------------------------------------------------------------------------------------------

    def until(self, look: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait until `look` returns something true."""
        end = time.monotonic() + seconds
        while not look():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.back_end.name}, {self.name}: waited {seconds:g} s for {what}")
            time.sleep(0.3)

    def running(self, *rows: str, runs: int = 1) -> None:
        """Wait until each job (of those rows) has begun so many runs."""

        def begun() -> bool:
            self.read()
            return all(len(story.runs) >= runs for story in self.stories if not rows or story.row in rows)

        self.until(begun, f"run {runs} of each job")

    def mark(self, *rows: str, ahead: float = 0.0) -> None:
        """Seconds are counted from here, or from `ahead`."""
        for story in self.stories:
            if not rows or story.row in rows:
                story.since = time.time() + ahead

    def open(self, gate: str) -> None:
        """Let the jobs go on that wait for it."""
        (self.folder / gate).touch()

    def open_later(self, gate: str, seconds: float) -> None:
        """`open` after a while."""
        timer = threading.Timer(seconds, self.open, [gate])
        self.stack.callback(timer.join)
        timer.start()

    def each_worker(self, do: Callable[[Supervised], object]) -> None:
        """The same to all of them, side by side."""
        threads = [threading.Thread(target=do, args=(worker,)) for worker in self._workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # -- after -----------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Read what the worker processes wrote."""
        runs: dict[str, dict[str, Run]] = {}
        file = self.folder / "runs.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        for facts in map(json.loads, lines):
            found = runs.setdefault(facts["job"], {})
            if facts["what"] == "begin":
                run = Run(facts["attempt"], facts["snoozes"], facts["at"], tenant=(*facts["tenant"],))
                found[facts["run"]] = run
            else:
                run = found[facts["run"]]
                run.decision, run.ended = facts["decision"], facts["at"]
        for story in self.stories:
            story.runs = [*runs.get(story.job_id, {}).values()]
            for name, run in runs.get(story.job_id, {}).items():
                alive = self.folder / f"alive-{name}"
                run.alive = run.ended or (alive.stat().st_mtime if alive.exists() else run.began)

    def finish(self) -> None:
        """Wait until every job has ended and the queue holds none."""
        self.until(self._all_ended, f"the end of {[s.row for s in self.stories if not self._ended(s)]}")
        quiet = time.monotonic()

        def is_quiet() -> bool:
            nonlocal quiet
            if self.back_end.left(self.place) or not self._all_ended():
                quiet = time.monotonic()
            return time.monotonic() - quiet > QUIET

        self.until(is_quiet, "the queue to be empty")

    def _all_ended(self) -> bool:
        self.read()
        dead = self.host.workers.dead(ids=[story.job_id for story in self.stories])
        for job in dead:
            for story in self.stories:
                if story.job_id == job.id:
                    story.dead = job.reason
        return all(self._ended(story) for story in self.stories)

    @staticmethod
    def _ended(story: Story) -> bool:
        return story.dead is not None or bool(story.runs and story.runs[-1].decision == "ok")

    # -- the sender ------------------------------------------------------------------------------------------

    def send_in_vain(self, jobs: Sequence[Job[StepArgs]]) -> list[Job[StepArgs]]:
        """Send jobs while a server is away, blocking, with await, the rest at once; those not accepted."""
        workers = self.host.workers
        tries: list[tuple[Sequence[Job[StepArgs]], Callable[[], object]]] = [
            (jobs[:1], lambda: workers.enqueue(jobs[0])),
            (jobs[1:2], lambda: asyncio.run(self._aenqueue(jobs[1]))),
            (jobs[2:], lambda: workers.enqueue_many(jobs[2:])),
        ]
        told: dict[str, str] = {}
        for sent, send in tries:
            try:
                send()
                told |= {job.id: "accepted" for job in sent}
            except EnqueueError as error:
                for name in ("accepted", "rejected", "unknown"):
                    told |= dict.fromkeys(getattr(error, name), name)
        for story in self.stories:
            story.told = told.get(story.job_id, story.told)
        return [job for job in jobs if told[job.id] != "accepted"]

    async def _aenqueue(self, job: Job[StepArgs]) -> None:
        await self.host.workers.aenqueue(job)


class Shared:
    """The RabbitMQ node of all stages that do not kill it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._rabbit: RabbitServer | None = None

    def rabbit(self) -> RabbitServer:
        """The node, started when first asked for."""
        with self._lock:
            if self._rabbit is None:
                self._rabbit = RabbitServer(self._folder / "rabbitmq")
                self._rabbit.start()
            return self._rabbit

    def close(self) -> None:
        """kill -9."""
        if self._rabbit is not None:
            self._rabbit.kill()
