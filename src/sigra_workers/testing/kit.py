"""`SigraTesting`: what a host's tests do with its workers, without a server."""

import contextvars
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Generic, cast

from typing_extensions import Unpack

from sigra_workers.audit import Audit
from sigra_workers.dispatch import Running, begin
from sigra_workers.errors import AuditError, InvalidOptionError, WorkerNotImplementedError
from sigra_workers.events import AuditEvent, AuditSink
from sigra_workers.handles import WorkerHandle, inspect_worker
from sigra_workers.jobs import Payload, Seconds, check_seconds
from sigra_workers.memory import HeldClock
from sigra_workers.protocols import ArgsT, Delivery, Outcome, ScopeT, Worker
from sigra_workers.results import R, Result
from sigra_workers.sinks import MemorySink
from sigra_workers.testing import failures
from sigra_workers.testing.matching import (
    EventFilters,
    HandleOrName,
    JobFilters,
    Wanted,
    event_facts,
    job_facts,
    misfits,
    wanted_event,
    wanted_job,
)
from sigra_workers.testing.performing import ArgsOf, RunFacts, as_delivered, check_handle, faked, result_of
from sigra_workers.testing.queue import HeldQueue, Inline, in_a_loop
from sigra_workers.testing.runs import JobRun, RunEnding
from sigra_workers.workers import Workers


class SigraTesting(Generic[ScopeT]):
    """The workers of an application under test. See `testing`, which makes one.

    Failed assertions raise `AssertionError` and list what is there instead. What can't be, such as a filter
    that fits nothing ever, raises `InvalidOptionError`.
    """

    def __init__(self, workers: Workers[ScopeT], clock: HeldClock) -> None:
        self.workers: Final = workers
        self.clock: Final = clock
        """What is now for jobs; ``clock.advance(seconds)`` moves it."""
        self.queue: Final = HeldQueue(workers, clock)
        """Where jobs wait: ``queue.results`` has what `Ok(value)` returned, by job id."""
        self.trail: Final = MemorySink()
        """Where audit events go."""
        self.refused: Final = list[str]()
        """The audit events that could not be written, and why."""

    # -- performing ------------------------------------------------------------------------------------

    def perform_job(
        self, handle: WorkerHandle[Any, ArgsT, R], args: ArgsOf[ArgsT], /, **facts: Unpack[RunFacts]
    ) -> Result[R]:
        """Run a job as a worker process would, and return what `perform` did.

        The args make the round trip of the wire form; scope builder, arounds, time-outs, hooks and audit are
        as ever. No queue is touched. Raises what `perform` raised, `JobTimeoutError`, `InvalidResultError`.
        """
        result: Result[R] = result_of(*self._perform(self._delivery(handle, args, facts)))
        return result

    async def aperform_job(
        self, handle: WorkerHandle[Any, ArgsT, R], args: ArgsOf[ArgsT], /, **facts: Unpack[RunFacts]
    ) -> Result[R]:
        """Async twin of `perform_job`: an async worker runs on this event loop, another one in a thread."""
        result: Result[R] = result_of(*await self._aperform(self._delivery(handle, args, facts)))
        return result

    def payload(
        self, handle: WorkerHandle[Any, ArgsT, Any], args: ArgsOf[ArgsT], /, **facts: Unpack[RunFacts]
    ) -> dict[str, Any]:
        """A job's wire form, to break by hand and give to `perform_payload`."""
        return cast("dict[str, Any]", json.loads(faked(self.workers, handle, args, facts).dump()))

    def perform_payload(self, payload: object, /, *, crashes: int = 0, worker: str | None = None) -> Outcome:
        """Dispatch a payload made by hand, whatever is wrong with it, and return what the queue has to do.

        That is `Complete`, `Again`, or `Dead` with its `reason` and `error`. A mapping goes as JSON, anything
        else as it is. `crashes` is how often a process died under it, `worker` the name its queue gives it.
        """
        return self._perform(Delivery(as_delivered(payload), crashes, worker))[1]

    async def aperform_payload(
        self, payload: object, /, *, crashes: int = 0, worker: str | None = None
    ) -> Outcome:
        """Async twin of `perform_payload`."""
        return (await self._aperform(Delivery(as_delivered(payload), crashes, worker)))[1]

    def _delivery(self, handle: WorkerHandle[Any, Any, Any], args: Any, facts: RunFacts) -> Delivery:
        payload = faked(self.workers, handle, args, facts)
        if handle.implementation is None:
            raise WorkerNotImplementedError(handle.name)
        return Delivery(payload.dump())

    def _perform(self, delivery: Delivery) -> tuple[Running | Outcome, Outcome]:
        """What began, and what it came to; inline jobs that it sent run behind it."""
        context = contextvars.copy_context()
        sent = self.queue.behind(context)
        begun = context.run(begin, self.workers, delivery)
        outcome = context.run(begun.here) if isinstance(begun, Running) else begun
        self.queue.run_sent(sent)
        return begun, outcome

    async def _aperform(self, delivery: Delivery) -> tuple[Running | Outcome, Outcome]:
        context = contextvars.copy_context()
        sent = self.queue.behind(context)
        begun = context.run(begin, self.workers, delivery)
        outcome = await begun.on_loop(context) if isinstance(begun, Running) else begun
        await self.queue.arun_sent(sent)
        return begun, outcome

    # -- the queue -------------------------------------------------------------------------------------

    @property
    def runs(self) -> list[JobRun]:
        """What the queue ran so far, and how each run ended, oldest first."""
        return [*self.queue.runs]

    def all_enqueued(
        self, worker: HandleOrName | None = None, /, **filters: Unpack[JobFilters]
    ) -> list[Payload]:
        """The jobs that wait, due or not, and fit; the latest that was queued first."""
        return self._waiting(wanted_job(self.workers, worker, filters))

    def assert_enqueued(
        self, worker: HandleOrName | None = None, /, *, wait: Seconds = 0, **filters: Unpack[JobFilters]
    ) -> Payload:
        """A job waits that fits: the latest of them. With `wait` it may come so many seconds later."""
        __tracebackhide__ = True
        wanted = wanted_job(self.workers, worker, filters)
        found = self._waiting_soon(wanted, wait)
        if not found:
            raise AssertionError(failures.no_job(self.workers, wanted, self.queue))
        return found[0]

    def refute_enqueued(
        self, worker: HandleOrName | None = None, /, *, wait: Seconds = 0, **filters: Unpack[JobFilters]
    ) -> None:
        """No job waits that fits. With `wait` none comes in so many seconds either."""
        __tracebackhide__ = True
        wanted = wanted_job(self.workers, worker, filters)
        found = self._waiting_soon(wanted, wait)
        if found:
            raise AssertionError(failures.some_jobs(wanted, found, self.clock()))

    def _waiting(self, wanted: Wanted) -> list[Payload]:
        now = self.clock()
        return [one for one in self.queue.waiting if not misfits(job_facts(self.workers, one, now), wanted)]

    def _waiting_soon(self, wanted: Wanted, wait: object) -> list[Payload]:
        seconds = check_seconds("wait", wait)
        if seconds and in_a_loop():
            problem = (
                "it would block this event loop, use asyncio.to_thread(sigra.assert_enqueued, ..., wait=1)"
            )
            raise InvalidOptionError("wait", problem)
        self.queue.wait_for(lambda: self._waiting(wanted), seconds)
        return self._waiting(wanted)

    def drain(
        self, *, scheduled: bool = False, recursion: bool = True, raising: bool = False
    ) -> Counter[RunEnding]:
        """Run jobs until none is due; how many runs ended how.

        With `scheduled` those that are due later too, the clock moving on to them. Without `recursion` only
        those that wait now, not the jobs that they enqueue. With `raising`, what fails a run is raised, but
        for a `Cancel`. Raises `AssertionError` for jobs that snooze, or enqueue themselves, for ever.
        """
        return self.queue.run_all(scheduled=scheduled, recursion=recursion, raising=raising)

    async def adrain(
        self, *, scheduled: bool = False, recursion: bool = True, raising: bool = False
    ) -> Counter[RunEnding]:
        """Async twin of `drain`: async workers run on this event loop, others in a thread."""
        return await self.queue.arun_all(scheduled=scheduled, recursion=recursion, raising=raising)

    @contextmanager
    def run_inline(self, *, raising: bool = True) -> Generator[None]:
        """For a block, jobs that are due run as they are sent; `raising` gives the sender what fails one.

        They see none of the context variables that the sender has set since the block began. Jobs that they
        send run behind them. Retries, snoozes and scheduled jobs wait for `drain`.
        """
        with self.queue.mode(Inline(raising, contextvars.copy_context())):
            yield

    @contextmanager
    def manual(self) -> Generator[None]:
        """For a block, jobs wait for `drain`, as they do where nothing else is said."""
        with self.queue.mode(None):
            yield

    # -- the audit trail ---------------------------------------------------------------------------------

    def all_audited(self, **filters: Unpack[EventFilters]) -> list[AuditEvent]:
        """The audit events that were logged and fit, the latest first."""
        return self._audited(wanted_event(self.workers, filters))

    def assert_audit_logged(self, **filters: Unpack[EventFilters]) -> AuditEvent:
        """An audit event was logged that fits: the latest of them."""
        __tracebackhide__ = True
        wanted = wanted_event(self.workers, filters)
        found = self._audited(wanted)
        if not found:
            raise AssertionError(failures.no_event(self.workers, wanted, self.trail.events, self.refused))
        return found[0]

    def refute_audit_logged(self, **filters: Unpack[EventFilters]) -> None:
        """No audit event was logged that fits."""
        __tracebackhide__ = True
        wanted = wanted_event(self.workers, filters)
        found = self._audited(wanted)
        if found:
            raise AssertionError(failures.some_events(wanted, found))

    def _audited(self, wanted: Wanted) -> list[AuditEvent]:
        events = reversed(self.trail.events)
        return [event for event in events if not misfits(event_facts(self.workers, event), wanted)]


@contextmanager
def testing(
    workers: Workers[ScopeT],
    /,
    *,
    replace: Mapping[WorkerHandle[ScopeT, Any, Any], Worker[Any, Any, Any] | Callable[..., Any]]
    | None = None,
    audits: Iterable[Audit] = (),
    clock: HeldClock | None = None,
) -> Generator[SigraTesting[ScopeT]]:
    """For a block, run the workers of an application without a server, and put everything back behind it.

    Jobs go to a queue in this process; events of ``workers.audit``, and of `audits`, go to a list. `replace`
    implements workers anew, such as with fakes: ``{close_account: CloseAccount(FakeAccounts(), audit)}``.
    """
    kit = SigraTesting(workers, HeldClock() if clock is None else clock)
    with ExitStack() as stack:
        stack.enter_context(workers.using(kit.queue))
        stack.enter_context(_noting(kit.refused))
        for audit in (workers.audit, *audits):
            stack.enter_context(audit.using(_instead_of(audit.sink, kit.trail)))
            audit.on_failure(_note_refused)
        for handle, worker in (replace or {}).items():
            stack.enter_context(_implemented(workers, handle, worker))
        yield kit


setattr(testing, "__test__", False)  # noqa: B010  # by its name pytest would take it for a test


def _instead_of(sink: AuditSink, trail: MemorySink) -> AuditSink:
    """The list in place of a sink; where that can't write in a transaction, one that is refused as it is."""
    if hasattr(sink, "write_in"):
        return trail
    return cast("AuditSink", type(type(sink).__name__, (), {"write": staticmethod(trail.write)})())


@contextmanager
def _implemented(workers: Workers[Any], replaced: object, worker: object) -> Generator[None]:
    handle = check_handle(workers, replaced)
    implementation = inspect_worker(worker)
    workers.check_arounds(implementation)
    before, handle.implementation = handle.implementation, implementation
    try:
        yield
    finally:
        handle.implementation = before


_notes: Final = list[list[str]]()


@contextmanager
def _noting(lines: list[str]) -> Generator[None]:
    _notes.append(lines)
    try:
        yield
    finally:
        _notes[:] = [others for others in _notes if others is not lines]


def _note_refused(action: str, fields: tuple[str, ...], error: BaseException) -> None:
    """A listener of every audit that was ever under test: it can't be taken off."""
    why = error.problem if isinstance(error, AuditError) else type(error).__name__
    for lines in _notes:
        lines.append(f"{action}, {', '.join(fields)}: {why}")
