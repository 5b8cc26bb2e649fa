"""The queue of a test: the embedded one, which notes what it ran, and can run jobs as they are sent."""

import contextvars
import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from sigra_workers.dispatch import adispatch
from sigra_workers.jobs import Job, Payload, current_job
from sigra_workers.memory import Ending, HeldClock, MemoryAdapter, QueueEntry
from sigra_workers.protocols import Adapter, Delivery, Outcome, Outgoing, Receipt, Sent
from sigra_workers.testing.runs import JobRun, RunEnding, Tally, read
from sigra_workers.workers import Workers

_BEHIND: Final = contextvars.ContextVar[deque[str] | None]("sigra_workers_behind", default=None)
"""Where a job that runs notes the inline jobs that it sends."""


@dataclass(frozen=True, slots=True)
class Inline:
    """How jobs run as they are sent: in a context of their own, not in the sender's."""

    raising: bool
    context: contextvars.Context


class HeldQueue(MemoryAdapter):
    """The embedded adapter under a clock that is held, in the place of the application's own."""

    def __init__(self, workers: Workers[Any], clock: HeldClock) -> None:
        super().__init__(clock)
        self._workers = workers
        self._held = clock
        self.inline: Inline | None = None
        """How jobs run as they are sent; None is that they wait."""
        self.runs: list[JobRun] = []
        """All runs so far, oldest first."""

    @property
    def waiting(self) -> list[Payload]:
        """What waits and can be read, the latest that was queued first."""
        with self._changed:
            texts = [entry.text for entry in sorted(self._heap, key=lambda entry: -entry.order)]
        return [payload for text in texts if (payload := read(text)) is not None]

    def wait_for(self, condition: Callable[[], object], seconds: float) -> None:
        """Wait until another thread has brought it about, for at most so long."""
        with self._changed:
            self._changed.wait_for(condition, seconds)

    def clear(self) -> None:
        """Forget all jobs, dead ones, results and runs."""
        super().clear()
        self.runs.clear()

    def check(self, job: Job) -> None:
        """Refuse what the application's own adapter does; nothing where that can't be made in the test."""
        if self._own_adapter is not None:
            self._own_adapter.check(job)

    @cached_property
    def _own_adapter(self) -> Adapter | None:
        workers = self._bound()
        try:
            return workers.plugins.adapter(workers.adapter_name, workers.settings)
        except Exception:  # not installed here, or without the settings that it has in production
            return None

    # -- as jobs are sent ------------------------------------------------------------------------------

    @contextmanager
    def mode(self, inline: Inline | None) -> Generator[None]:
        """For a block, whether jobs run as they are sent."""
        before, self.inline = self.inline, inline
        try:
            yield
        finally:
            self.inline = before

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """Queue the jobs, and run what is due where they run inline."""
        receipts = super().send(jobs)
        self.run_sent(self._due_at_once(jobs, receipts))
        return receipts

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """Async twin of `send`."""
        receipts = super().send(jobs)
        await self.arun_sent(self._due_at_once(jobs, receipts))
        return receipts

    def _due_at_once(self, jobs: Sequence[Outgoing], receipts: Sequence[Receipt]) -> deque[str]:
        """The ids of what the sender has to run; what a job sends runs behind it, as on a real queue."""
        ids = [
            sent.payload.id for sent, receipt in zip(jobs, receipts, strict=True) if isinstance(receipt, Sent)
        ]
        if self.inline is None:
            return deque()
        if current_job() is None:
            return deque(ids)
        behind = _BEHIND.get()
        if behind is not None:
            behind.extend(ids)
        return deque()

    def behind(self, context: contextvars.Context) -> deque[str]:
        """The ids of inline jobs that a job which runs in this context is going to send."""
        ids = deque[str]()
        context.run(_BEHIND.set, ids)
        return ids

    def run_sent(self, ids: deque[str]) -> None:
        """Run jobs that were sent inline, and those that they send.

        Inside a running loop in a thread: host code that is not async must find none in its own.
        """
        if ids and in_a_loop():
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1, "sigra-workers-inline") as pool:
                pool.submit(self._run_sent, ids).result()
        else:
            self._run_sent(ids)

    def _run_sent(self, ids: deque[str]) -> None:
        tally = Tally()
        while ids and (inline := self.inline) is not None:
            entry = self._claim({ids.popleft()}, scheduled=False)
            if entry is not None:
                context = self._apart(inline, ids)
                tally.note(context.run(self._perform, entry), raising=inline.raising)

    async def arun_sent(self, ids: deque[str]) -> None:
        """Async twin of `run_sent`."""
        tally = Tally()
        while ids and (inline := self.inline) is not None:
            entry = self._claim({ids.popleft()}, scheduled=False)
            if entry is not None:
                import asyncio

                performing = self._aperform(entry)
                context = self._apart(inline, ids)
                run = await asyncio.get_running_loop().create_task(performing, context=context)
                tally.note(run, raising=inline.raising)

    def _apart(self, inline: Inline, ids: deque[str]) -> contextvars.Context:
        context = inline.context.copy()
        context.run(_BEHIND.set, ids)
        return context

    # -- draining --------------------------------------------------------------------------------------

    def run_all(self, *, scheduled: bool, recursion: bool, raising: bool) -> Counter[RunEnding]:
        """See `SigraTesting.drain`."""
        tally, ids = Tally(), self._ids(recursion)
        while (entry := self._claim(ids, scheduled)) is not None:
            tally.note(self._perform(entry), raising=raising)
        return tally.endings

    async def arun_all(self, *, scheduled: bool, recursion: bool, raising: bool) -> Counter[RunEnding]:
        """Async twin of `run_all`."""
        tally, ids = Tally(), self._ids(recursion)
        while (entry := self._claim(ids, scheduled)) is not None:
            tally.note(await self._aperform(entry), raising=raising)
        return tally.endings

    def _ids(self, recursion: bool) -> Collection[str] | None:
        with self._changed:
            return None if recursion else {entry.job_id for entry in self._heap}

    def _claim(self, ids: Collection[str] | None, scheduled: bool) -> QueueEntry | None:
        """Take out what is due first, of these jobs or of all; with `scheduled` the clock moves on to it."""
        with self._changed:
            heap = self._heap
            first = heap[:1] if ids is None else [entry for entry in heap if entry.job_id in ids]
            entry = min(first, default=None)
            if entry is None or (entry.due_at > self._held.now and not scheduled):
                return None
            self._held.now = max(self._held.now, entry.due_at)
            if entry is heap[0]:
                heapq.heappop(heap)
            else:
                heap.remove(entry)
                heapq.heapify(heap)
            self._running[entry.job_id] = entry
        return entry

    def _perform(self, entry: QueueEntry) -> JobRun:
        return self._note(entry, self._run(entry))

    async def _aperform(self, entry: QueueEntry) -> JobRun:
        try:
            outcome = await adispatch(self._bound(), Delivery(entry.text, entry.crashes))
        except BaseException:
            self._crashed(entry)
            raise
        return self._note(entry, outcome)

    def _note(self, entry: QueueEntry, outcome: Outcome) -> JobRun:
        self._settle(entry, outcome)
        return JobRun.of(entry.text, outcome)

    def _settle(self, entry: QueueEntry, outcome: Outcome) -> Ending:
        self.runs.append(JobRun.of(entry.text, outcome))
        return super()._settle(entry, outcome)


def in_a_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
