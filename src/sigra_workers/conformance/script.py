"""The kit's workers: each run does one step of its job's script and records what it saw.

A step is words, done in order: ``sleep:0.5 ok``. Words that end it: ``ok``, ``ok:odd`` (a value that nothing
can store), ``error``, ``raise``, ``snooze:<seconds>``, ``cancel``, ``permanent`` (an exception of
`cancel_on`), ``none``, ``exit`` (SystemExit), ``die`` (the process). Others: ``send`` (another job),
``sleep:<seconds>`` (in small pieces, so that a time-out can come in between), ``meet:<name>`` (wait for a
second job that does so).
"""

import asyncio
import os
import signal
import time
from collections.abc import Generator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, cast

from sigra_workers.conformance.host import SESSION, Permanent, Setup
from sigra_workers.conformance.records import here
from sigra_workers.handles import WorkerHandle
from sigra_workers.jobs import Job, JobInfo, JobRef, current_job
from sigra_workers.results import Cancel, Error, Ok, Result, Snooze
from sigra_workers.scopes import AuditScope
from sigra_workers.workers import Workers

MEETING: Final = 15.0
"""How long a job waits for the one it meets, in seconds."""
ENDINGS: Final = (
    ("ok",),
    ("ok:odd",),
    ("error",),
    ("raise",),
    ("cancel",),
    ("permanent",),
    ("none",),
    ("exit",),
    ("snooze:1", "ok"),
    ("sleep:3 ok",),
)
"""Scripts that end runs in every way there is; the one that sleeps is to have a time-out."""
_LEFTOVER: Final[ContextVar[str | None]] = ContextVar("sigra_workers_conformance_leftover", default=None)


class _Step:
    """The pauses of a step, in seconds, and then its result."""

    result: Result[Any]

    def __init__(self, words: "Generator[float, None, Result[Any]]") -> None:
        self._words = words

    def __iter__(self) -> Generator[float]:
        self.result = yield from self._words


class _Scripted:
    def __init__(self, setup: Setup, workers: Workers[Any]) -> None:
        self.setup = setup
        self.records = setup.records
        self.workers = workers

    def _begin(self, scope: AuditScope, args: Any) -> list[str]:
        job = current_job()
        if job is None:
            raise RuntimeError("there is no current_job() in perform")
        steps = args["steps"]
        step = steps[min(self.records.count("run", job.id), len(steps) - 1)]
        self.records.add(
            "run",
            job.id,
            worker=job.worker,
            queue=job.queue,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            snoozes=job.snoozes,
            enqueued_at=job.enqueued_at.timestamp(),
            args=args,
            scope=_ids(scope),
            leftover=_LEFTOVER.get(),
            session=SESSION.get(),
            **here(),
        )
        _LEFTOVER.set(job.id)
        self._log(scope, "job.began")
        return list(step.split())

    def _end(self, scope: AuditScope) -> None:
        """What is seen at the end of a run is what was seen at its beginning."""
        job = current_job()
        self._log(scope, "job.ended")
        self.records.add(
            "left",
            None if job is None else job.id,
            leftover=_LEFTOVER.get(),
            session=SESSION.get(),
            scope=_ids(scope),
            **here(),
        )

    def _log(self, scope: AuditScope, action: str) -> None:
        self.workers.audit.log_safe(action, scope)

    def _another(self, args: Any) -> Job[Any]:
        handle = cast("WorkerHandle[Any, Any, Any]", self.workers.find(f"kit.{args['kind']}"))
        return handle.new({**args, "steps": ["ok"]})

    def _sent(self, ref: JobRef) -> None:
        job = cast("JobInfo", current_job())
        self.records.add("sent", job.id, another=ref.id)

    def _words(self, words: list[str]) -> "Generator[float, None, Result[Any]]":
        """Do the words of a step; yields seconds to sleep, which differs in async code."""
        for word in words:
            name, _, value = word.partition(":")
            match name:
                case "sleep":
                    end = time.monotonic() + float(value)
                    while time.monotonic() < end:
                        yield 0.01
                case "send":
                    continue
                case "meet":
                    yield from self._meet(value)
                case "snooze":
                    return Snooze(int(value))
                case _:
                    return self._last(name, value)
        return Ok()

    def _last(self, name: str, value: str) -> Result[Any]:
        match name:
            case "ok":
                return Ok(object() if value == "odd" else {"answer": 42})
            case "error":
                return Error("no luck")
            case "raise":
                raise LookupError("nothing there")
            case "cancel":
                return Cancel("not wanted any more")
            case "permanent":
                raise Permanent("never again")
            case "exit":
                raise SystemExit(3)
            case "die":  # or raise what stops a run from outside
                os.kill(os.getpid(), 0 if self.setup.inside else signal.SIGKILL)
                raise KeyboardInterrupt
            case "none":
                pass
            case _:
                raise ValueError(f"there is no step {name!r}")
        return cast("Result[Any]", None)

    def _meet(self, name: str) -> Generator[float]:
        job = current_job()
        folder = Path(self.setup.folder) / f"meet-{name}"
        folder.mkdir(exist_ok=True)
        (folder / ("nobody" if job is None else job.id)).touch()
        end = time.monotonic() + (0 if self.setup.inside else MEETING)
        while len(list(folder.iterdir())) < 2 and time.monotonic() < end:
            yield 0.02
        met = len(list(folder.iterdir())) >= 2
        self.records.add("met", None if job is None else job.id, met=met)


class Script(_Scripted):
    """A `def` worker."""

    def perform(self, scope: AuditScope, args: Any, /) -> Result[Any]:
        """Do the next step of the script."""
        words = self._begin(scope, args)
        if "send" in words:
            self._sent(self.workers.enqueue(self._another(args)))
        step = _Step(self._words(words))
        try:
            for seconds in step:
                time.sleep(seconds)
            return step.result
        finally:
            self._end(scope)


class AsyncScript(_Scripted):
    """An `async def` worker."""

    async def perform(self, scope: AuditScope, args: Any, /) -> Result[Any]:
        """Do the next step of the script."""
        words = self._begin(scope, args)
        if "send" in words:
            self._sent(await self.workers.aenqueue(self._another(args)))
        step = _Step(self._words(words))
        try:
            for seconds in step:
                await asyncio.sleep(seconds)
            return step.result
        finally:
            self._end(scope)


def _ids(scope: AuditScope) -> list[Any]:
    organization, user = scope.active_organization, scope.user
    return [None if organization is None else organization.id, None if user is None else user.id]


def implement(workers: Workers[Any], setup: Setup) -> None:
    """Implement all workers: in a worker process, or in the sender's where the adapter is inside."""
    for handle in workers.handles:
        script = AsyncScript if handle.name == "kit.async" else Script
        handle.implement(script(setup, workers))
