"""One run of the kit against one adapter: sends jobs, waits for what becomes of them, reads it back."""

import asyncio
import io
import json
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from sigra_workers.conformance.harness import Harness, StopInside, Tree
from sigra_workers.conformance.host import KINDS, Kind, Setup, make_workers
from sigra_workers.conformance.script import ENDINGS, implement
from sigra_workers.conformance.story import Story
from sigra_workers.conformance.watch import listeners
from sigra_workers.jobs import Job, JobRef
from sigra_workers.protocols import Capability, Outgoing, Receipt
from sigra_workers.workers import Workers

QUIET: Final = 0.5
"""Seconds without anything more from a job that ended, before it is believed."""
BACKLOG: Final = 3
"""How many times the harness's patience is had at most with a job while others get on."""
RUN: Final = 5.0
"""Seconds that a run takes at most that is not hanging or killed."""
LOG_LINES: Final = 40
P = ParamSpec("P")
T = TypeVar("T")


class Broken(AssertionError):
    """What the adapter did is not what the rule says."""


class Begun:
    """A rule whose first half was done, or failed."""

    def __init__(self, rest: Generator[None]) -> None:
        self._rest = rest
        self._error: Exception | None = None
        try:
            next(rest)
        except Exception as error:  # that rule's failure alone
            self._error = error

    def end(self) -> None:
        """Do the second half."""
        if self._error is not None:
            raise self._error
        for _ in self._rest:
            raise RuntimeError("a rule yields once")


class Bench:
    """The adapter under test, with its sender in this process and its worker processes.

    Every check raises `Broken`, with what was expected, what was found, and the jobs' stories.
    """

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self._temporary = tempfile.TemporaryDirectory(prefix="sigra-workers-kit-")
        self.folder = Path(self._temporary.name)
        self.prefix = f"kit{uuid.uuid4().hex[:10]}"
        self.setup = Setup(
            harness.adapter, dict(harness.settings), str(self.folder), self.prefix, harness.inside
        )
        self.records = self.setup.records
        self.workers: Workers[Any] = make_workers(self.setup, harness.plugins)
        self.begun: dict[str, Begun] = {}
        """The rules that are to be checked, by name."""
        self._trees: dict[str, Tree] = {}
        self._log = io.StringIO()
        self._handler = logging.StreamHandler(self._log)
        listeners.add(self._handler)
        self._stop: StopInside | None = None
        self._restarting: list[Future[Any]] = []
        self._aside = ThreadPoolExecutor(16, thread_name_prefix="sigra-workers-kit")
        self._restarts = ThreadPoolExecutor(1, thread_name_prefix="sigra-workers-kit-restarts")
        if harness.start is not None:
            implement(self.workers, self.setup)
            self._stop = harness.start(self.workers)
        else:
            self.tree("main")

    def close(self) -> None:
        """Stop everything, and leave nothing behind."""
        self._aside.shutdown(cancel_futures=True)
        self._restarts.shutdown(cancel_futures=True)
        for tree in self._trees.values():
            tree.close()
        if self._stop is not None:
            self._stop()
        with suppress(Exception):  # an adapter that can't do it was told so by its rule
            self.workers.purge([job for job in self.records.read() if job is not None])
        self.workers.close()
        listeners.remove(self._handler)
        if self.harness.clean is not None:
            self.harness.clean(list(self.setup.queues.values()))
        self._temporary.cleanup()

    # -- worker processes --------------------------------------------------------------------------------

    def tree(self, queue: str) -> Tree:
        """The worker processes of a queue ("main", "restarts", "poison"), started when first asked for."""
        if queue not in self._trees:
            self._trees[queue] = Tree(self.harness, self.setup, queue, self.folder)
            self._trees[queue].start()
        return self._trees[queue]

    def stop(self) -> None:
        """End the worker processes of the queue "restarts" as a supervisor does."""
        if self._stop is not None:
            self._stop()
        else:
            self.tree("restarts").stop(self.harness.patience)

    def start(self) -> None:
        """Start them again."""
        if self.harness.start is not None:
            self._stop = self.harness.start(self.workers)
        else:
            self.tree("restarts").start()

    def reopen(self) -> None:
        """Close the connections of this process; an adapter inside may end its runner with them."""
        self.workers.close()
        if self.harness.start is not None:
            self._stop = self.harness.start(self.workers)

    def on_restarts(self, task: Callable[[], T]) -> "Future[T]":
        """Do something beside the other rules that ends and starts the worker processes of "restarts".

        One at a time. An adapter inside has one queue runner for all: there it is done when asked for.
        """
        if not self.harness.inside:
            self.tree("restarts")
        future = self._restarts.submit(task)
        self._restarting.append(future)
        return future

    def beside(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Do something beside the other rules."""
        return self._aside.submit(task, *args, **kwargs)

    def when_calm(self, task: Callable[[], T]) -> "Future[T]":
        """Do something beside the other rules, when none of their jobs runs nor ran for a while."""

        def wait() -> T:
            end = time.monotonic() + BACKLOG * self.harness.patience
            while time.monotonic() < end and not self._calm():
                time.sleep(0.05)
            return task()

        return self.beside(wait)

    def _calm(self) -> bool:
        if not all(future.done() for future in self._restarting):
            return False
        now = time.time()
        for records in self.records.read().values():
            last = records[-1]
            ended = last["what"] in ("finished", "dead", "enqueued")
            if now - last["at"] < (QUIET if ended else RUN):
                return False
        return True

    # -- sending -----------------------------------------------------------------------------------------

    def can(self, capability: Capability) -> bool:
        """Whether the adapter declares it."""
        return capability in self.workers.adapter.capabilities

    def args(self, *steps: str, kind: Kind = "def", **keys: Any) -> Any:
        """Args of a job that does these steps, for organization org-1 and actor ann unless told otherwise."""
        return {"organization_id": "org-1", "actor_id": "ann", "steps": [*steps], "kind": kind, **keys}

    def new(
        self, kind: Kind, *steps: str, worker: str | None = None, keys: Any = None, **options: Any
    ) -> Job[Any]:
        """A job that does these steps; it runs again at once unless `backoff` says otherwise."""
        handle = self.workers.find(worker or f"kit.{kind}")
        if handle is None:
            raise LookupError(worker)
        if worker != "kit.backoff":
            options.setdefault("backoff", 0)
        options.setdefault("max_attempts", 1)
        return handle.new(self.args(*steps, kind=kind, **(keys or {})), **options)

    def send(self, kind: Kind, *steps: str, **options: Any) -> JobRef:
        """Enqueue a job that does these steps."""
        return self.workers.enqueue(self.new(kind, *steps, **options))

    def endings(self, **options: Any) -> list[str]:
        """Enqueue a job for every way in which runs end; their ids."""
        return [
            self.send(kind, *steps, timeout=1 if "sleep" in steps[0] else 60, **options).id
            for steps in ENDINGS
            for kind in KINDS
        ]

    def inject(self, job: Job[Any], **changes: Any) -> Receipt:
        """Send a job by hand, with a payload that `handle.new` would not make."""
        payload = replace(job.payload(self.workers.adapter.clock()), **changes)
        worker = changes.get("worker", job.worker)
        (receipt,) = self.workers.adapter.send([Outgoing(replace(job, worker=worker), payload)])
        return receipt

    # -- waiting -----------------------------------------------------------------------------------------

    def until(self, look: Callable[[], T], what: str, jobs: Iterable[str] = (), seconds: float = 0) -> T:
        """What `look` returns as soon as it is true; `Broken` where it is not in time.

        As all rules send their jobs at once, a slow machine may take long to come to this one: without
        `seconds` the time that counts is that in which no job gets on.
        """
        start = time.monotonic()
        patience = seconds or self.harness.patience
        last = start + patience * (1 if seconds else BACKLOG)
        while True:
            found = look()
            if found:
                return found
            problem = next((tree.problem for tree in [*self._trees.values()] if tree.problem), None)
            now = time.monotonic()
            if problem is not None or now > min(last, max(start, self.records.changed) + patience):
                raise Broken(self._told(problem or f"waited {now - start:.0f} s for {what}", jobs))
            time.sleep(0.02)

    def ended(self, job: str, seconds: float = 0) -> Story:
        """The story of a job, once it is complete or dead and nothing more comes of it."""

        def over() -> bool:
            return any(
                record["what"] == "dead" or record.get("decision") in ("complete", "dead", "cancel")
                for record in self.story(job).records
            )

        self.until(over, f"job {job} to be complete or dead", [job], seconds)
        return self.quiet(job)

    def quiet(self, job: str, seconds: float = QUIET) -> Story:
        """The story of a job, once nothing more came for so many seconds."""

        def still() -> bool:
            records = self.story(job).records
            return not records or time.time() - records[-1]["at"] > seconds

        self.until(still, f"job {job} to do nothing more", [job])
        return self.story(job)

    def decided(self, job: str, runs: int = 1) -> Story:
        """The story of a job, once so many runs have ended."""
        self.until(lambda: len(self.story(job).decisions) >= runs, f"the end of run {runs} of {job}", [job])
        return self.story(job)

    def began(self, job: str, runs: int = 1, seconds: float = 0) -> Story:
        """The story of a job, once `perform` was called so many times."""
        self.until(
            lambda: len(self.story(job).runs) >= runs, f"run {runs} of job {job} to begin", [job], seconds
        )
        return self.story(job)

    def story(self, job: str) -> Story:
        """What happened to a job so far."""
        return Story(job, self.records.of(job))

    # -- checking ----------------------------------------------------------------------------------------

    def same(self, found: object, expected: object, what: str, *jobs: str) -> None:
        """`Broken` unless both are equal, types included."""
        if _exact(found) != _exact(expected):
            self.broken(f"{what}\n  expected: {_short(expected)}\n  found:    {_short(found)}", *jobs)

    def true(self, holds: object, what: str, *jobs: str) -> None:
        """`Broken` unless it holds."""
        if not holds:
            self.broken(what, *jobs)

    @contextmanager
    def raising(self, kind: type[BaseException], what: str) -> Generator[list[Any]]:
        """`Broken` unless the block raises that; the list it yields holds the error then."""
        caught: list[Any] = []
        try:
            yield caught
        except kind as error:
            caught.append(error)
        if not caught:
            self.broken(f"{what}: expected {kind.__name__}, nothing was raised")

    def broken(self, what: str, *jobs: str) -> None:
        """The adapter breaks the rule."""
        raise Broken(self._told(what, jobs))

    def logs(self) -> dict[str, str]:
        """What was logged, by where."""
        trees = {f"the worker processes of queue {name!r}": tree.text for name, tree in self._trees.items()}
        return {"this process": self._log.getvalue(), **trees}

    def _told(self, what: str, jobs: Iterable[str]) -> str:
        parts = [what, *(str(self.story(job)) for job in jobs)]
        for where, text in self.logs().items():
            if lines := text.splitlines()[-LOG_LINES:]:
                parts.append("\n".join([f"the end of the log of {where}:", *lines]))
        return "\n\n".join(parts)


def in_loop(coroutine: Any) -> Any:
    """Run a coroutine on an event loop of its own."""
    return asyncio.run(coroutine)


def _exact(value: object) -> str:
    """A text that tells 1 from True and "1"."""
    return json.dumps(value, sort_keys=True, default=repr)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 500 else f"{text[:240]} ... {text[-240:]}"
