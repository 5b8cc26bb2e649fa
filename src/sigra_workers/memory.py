"""The embedded adapter: a real queue inside the process, with a clock the caller can hold.

For development, tests and small tools: due times, attempts, snoozes and dead jobs are as on a server,
but jobs live and die with the process.
"""

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast

from sigra_workers.adapters import report
from sigra_workers.dead import DeadFilters, DeadJob, Resend, fits
from sigra_workers.dispatch import adispatch, dispatch
from sigra_workers.errors import InvalidOptionError, InvalidPayloadError, InvalidSettingsError
from sigra_workers.hooks import hookimpl
from sigra_workers.jobs import Job, Payload
from sigra_workers.protocols import (
    Again,
    Capability,
    Complete,
    Dead,
    Delivery,
    Duplicate,
    Outcome,
    Outgoing,
    Receipt,
    Sent,
)
from sigra_workers.workers import Workers

Ending: TypeAlias = Literal["complete", "dead", "retry", "snooze", "unknown_worker", "early"]
MAX_RUNS: Final = 10_000
KEPT: Final = 10_000
_log: Final = logging.getLogger("sigra_workers.memory")


class HeldClock:
    """A clock that stands still until it is moved; call it for epoch seconds."""

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        """The time it shows."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self.now += seconds


@dataclass(order=True, slots=True)
class QueueEntry:
    due_at: float
    order: int
    job_id: str = field(compare=False)
    text: str = field(compare=False)
    crashes: int = field(default=0, compare=False)


class MemoryAdapter:
    """Jobs in a heap by due time. `drain` runs them here, `start` in a thread.

    Settings: ``{"clock": callable}``, such as a `HeldClock`; the time of day where none is given. Others,
    such as the ``url`` of a server, are left alone, so that one application runs here and on a real queue.
    """

    capabilities: frozenset[Capability] = frozenset(
        ("bulk", "dead_jobs", "results", "stops_sync", "unique_ids")
    )

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.dead: deque[DeadJob] = deque(maxlen=KEPT)
        """Dead jobs, the latest 10,000, oldest first."""
        self.results: dict[str, object] = {}
        """What `Ok(value)` returned, by job id: the latest 10,000."""
        self._heap: list[QueueEntry] = []
        self._running: dict[str, QueueEntry] = {}
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._workers: Workers[Any] | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, workers: Workers[Any]) -> "MemoryAdapter":
        """The embedded adapter of `workers`; raises `InvalidSettingsError` where they use another one."""
        adapter = workers.adapter
        if not isinstance(adapter, cls):
            problem = f"these workers use adapter {workers.adapter_name!r}, expected 'memory'"
            raise InvalidSettingsError("MemoryAdapter.of", problem)
        adapter._workers = workers
        return adapter

    @property
    def payloads(self) -> list[Payload]:
        """What waits, soonest first."""
        with self._changed:
            return [Payload.parse(entry.text) for entry in sorted(self._heap)]

    def clear(self) -> None:
        """Forget all jobs, dead ones and results: between tests of one registry."""
        with self._changed:
            self._heap.clear()
            self.dead.clear()
            self.results.clear()

    def put(self, text: str, /) -> None:
        """Queue a payload as it is, due now and unchecked: for one made by hand, as in a test."""
        try:
            job_id = Payload.parse(text).id
        except InvalidPayloadError:
            job_id = ""
        with self._changed:
            heapq.heappush(self._heap, QueueEntry(self.clock(), next(self._order), job_id, text))
            self._changed.notify_all()

    # -- the Adapter protocol ----------------------------------------------------------------------------

    def check(self, job: Job) -> None:
        """Every job id can be told from others; there are no native options."""
        if job.native:
            raise InvalidOptionError("native", f"the embedded adapter has none, got {sorted(job.native)}")

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """Queue the jobs."""
        with self._changed:
            receipts = [self._push(sent) for sent in jobs]
            self._changed.notify_all()
        return receipts

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """Queue the jobs; nothing here blocks."""
        return self.send(jobs)

    def close(self) -> None:
        """Stop the thread, if one runs; jobs stay queued."""
        self.stop()

    # -- the DeadJobs protocol ---------------------------------------------------------------------------

    def dead_jobs(self, filters: DeadFilters, /) -> list[DeadJob]:
        """The dead jobs that fit, latest first."""
        with self._changed:
            found = [job for job in reversed(self.dead) if fits(job, filters)]
        return found[: filters.get("limit")]

    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        """Queue dead jobs again."""
        receipts: list[Receipt] = []
        with self._changed:
            for job in jobs:
                if job.dead in self.dead:
                    self.dead.remove(job.dead)
                    self._put(job.payload, self.clock())
                    receipts.append(Sent())
                else:
                    receipts.append(Duplicate())
            self._changed.notify_all()
        return receipts

    def purge(self, ids: Sequence[str], /) -> int:
        """Forget dead jobs."""
        with self._changed:
            found = [job for job in self.dead if job.id in ids]
            for job in found:
                self.dead.remove(job)
        return len(found)

    def _push(self, sent: Outgoing) -> Receipt:
        if sent.job.given_id and self._knows(sent.job.id):
            return Duplicate()
        self._put(sent.payload)
        return Sent()

    def _knows(self, job_id: str) -> bool:
        return (
            job_id in self._running
            or any(entry.job_id == job_id for entry in self._heap)
            or any(dead.id == job_id for dead in self.dead)
        )

    def _put(self, payload: Payload, now: float | None = None) -> None:
        due_at = (now or payload.enqueued_at) if payload.due_at is None else payload.due_at
        heapq.heappush(self._heap, QueueEntry(due_at, next(self._order), payload.id, payload.dump()))

    # -- running ---------------------------------------------------------------------------------------

    def drain(self, *, scheduled: bool = False) -> Counter[Ending]:
        """Run jobs in this thread until none is due; how many runs ended how.

        With `scheduled`, jobs that are due later run too: a `HeldClock` is moved on to them, with another
        clock this waits for them. Raises `RuntimeError` after 10,000 runs, as when a job snoozes for ever.
        """
        endings: Counter[Ending] = Counter()
        while (ending := self.run_one(scheduled=scheduled)) is not None:
            _count(endings, ending)
        return endings

    async def adrain(self, *, scheduled: bool = False) -> Counter[Ending]:
        """`drain` on the running event loop; with `scheduled`, only under a `HeldClock`."""
        endings: Counter[Ending] = Counter()
        while (ending := await self.arun_one(scheduled=scheduled)) is not None:
            _count(endings, ending)
        return endings

    def run_one(self, *, scheduled: bool = False) -> Ending | None:
        """Run the job that is due first, as `drain` does; how the run ended, or None where none is due."""
        self._bound()
        entry = self._take(scheduled)
        return None if entry is None else self._settle(entry, self._run(entry))

    async def arun_one(self, *, scheduled: bool = False) -> Ending | None:
        """`run_one` on the running event loop."""
        workers = self._bound()
        if scheduled and not isinstance(self.clock, HeldClock):
            raise InvalidSettingsError("MemoryAdapter.adrain", "scheduled=True needs a HeldClock as 'clock'")
        entry = self._take(scheduled)
        if entry is None:
            return None
        try:
            outcome = await adispatch(workers, Delivery(entry.text, entry.crashes))
        except BaseException:
            self._crashed(entry)
            raise
        return self._settle(entry, outcome)

    def start(self) -> None:
        """Run jobs in a daemon thread, as they come due, until `stop`."""
        self._bound()
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._forever, name="sigra-workers-memory", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """End the thread, when the job it runs is over."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _forever(self) -> None:
        while True:
            with self._changed:
                if self._thread is not threading.current_thread():
                    return
                entry = self._pop()
                if entry is None:
                    # A clock that the caller holds moves without telling: look again soon.
                    self._changed.wait(min(0.05, self._until_due()))
                    continue
            try:
                self._settle(entry, self._run(entry))
            except BaseException as error:  # host code ended this thread: go on with the next job
                _log.error("job %s was interrupted by %s", entry.job_id, type(error).__name__)

    def _bound(self) -> Workers[Any]:
        if self._workers is None:
            raise InvalidSettingsError(
                "MemoryAdapter", "bound to no workers yet: MemoryAdapter.of(workers) binds it"
            )
        return self._workers

    def _until_due(self) -> float:
        return max(0.001, self._heap[0].due_at - self.clock()) if self._heap else 60.0

    def _take(self, scheduled: bool) -> QueueEntry | None:
        while True:
            with self._changed:
                entry = self._pop()
                if entry is not None or not self._heap or not scheduled:
                    return entry
                wait = self._until_due()
            if isinstance(self.clock, HeldClock):
                self.clock.advance(wait)
            else:
                time.sleep(wait)

    def _pop(self) -> QueueEntry | None:
        if not self._heap or self._heap[0].due_at > self.clock():
            return None
        entry = heapq.heappop(self._heap)
        self._running[entry.job_id] = entry
        return entry

    def _run(self, entry: QueueEntry) -> Outcome:
        try:
            return dispatch(self._bound(), Delivery(entry.text, entry.crashes))
        except BaseException:
            self._crashed(entry)
            raise

    def _crashed(self, entry: QueueEntry) -> None:
        """Shut down from outside in the middle of a run: it counts as a crash, and the job waits again."""
        with self._changed:
            self._running.pop(entry.job_id, None)
            entry.crashes += 1
            heapq.heappush(self._heap, entry)

    def _settle(self, entry: QueueEntry, outcome: Outcome) -> Ending:
        with self._changed:
            self._running.pop(entry.job_id, None)
            match outcome:
                case Complete(value):
                    self.results[entry.job_id] = value
                    if len(self.results) > KEPT:
                        del self.results[next(iter(self.results))]
                    return "complete"
                case Again(payload, _, why):
                    self._put(payload)
                    self._changed.notify_all()
                    return why
                case dead:
                    self._bury(entry, dead)
                    return "dead"

    def _bury(self, entry: QueueEntry, dead: Dead) -> None:
        text = entry.text if dead.payload is None else dead.payload.dump()
        self.dead.append(DeadJob.of(entry.job_id, text, dead.reason, dead.traceback, self.clock()))
        report(dead, entry.job_id, _log)


def _count(endings: Counter[Ending], ending: Ending) -> None:
    endings[ending] += 1
    if endings.total() >= MAX_RUNS:
        raise RuntimeError(f"still not drained after {MAX_RUNS} runs: does a job snooze for ever?")


@hookimpl
def sigra_adapter(name: str, settings: Mapping[str, Any]) -> MemoryAdapter | None:
    """Make the embedded adapter."""
    if name != "memory":
        return None
    clock: Any = settings.get("clock", time.time)
    if not callable(clock):
        raise InvalidSettingsError("adapter 'memory'", "setting 'clock' is not callable")
    return MemoryAdapter(cast("Callable[[], float]", clock))
