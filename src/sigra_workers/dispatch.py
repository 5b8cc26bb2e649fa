"""One job, start to finish: from what the queue delivers to the one thing it must do now.

Adapters call `dispatch` in a thread, or `adispatch` on their event loop, and carry the outcome out. Both
walk the same steps; only how scope builder, arounds and `perform` are called differs.
"""

import contextvars
import inspect
from dataclasses import replace
from time import perf_counter
from typing import Any, Final, Literal, cast

from sigra_workers.errors import (
    InvalidPayloadError,
    InvalidResultError,
    JobCancelledError,
    JobCrashedError,
    JobFailedError,
    JobTimeoutError,
    SigraWorkersError,
    UnknownWorkerError,
    is_own,
    log,
    told,
)
from sigra_workers.handles import WorkerHandle
from sigra_workers.hooks import Decision
from sigra_workers.host import Ended, HostCode
from sigra_workers.jobs import CURRENT_RUN, Backoff, Payload, Run, Seconds, check_seconds
from sigra_workers.protocols import Again, Complete, Dead, Delivery, Outcome
from sigra_workers.results import Cancel, Error, Ok, Snooze
from sigra_workers.timeouts import JobInterrupted
from sigra_workers.workers import Workers

MAX_REASON: Final = 2_000
"""Characters of a reason that are kept."""
MAX_TRACEBACK: Final = 64_000
"""Characters of a traceback that are kept: its end."""
MAX_BACKOFF: Final = 86_400.0


def dispatch(workers: Workers[Any], delivery: Delivery, /) -> Outcome:
    """Run one job in this thread; async workers run on the one loop of this process.

    Never raises for what host code does; raises only what ends the process (KeyboardInterrupt and such).
    """
    return contextvars.copy_context().run(_dispatch, workers, delivery)


def _dispatch(workers: Workers[Any], delivery: Delivery) -> Outcome:
    begun = begin(workers, delivery)
    return begun.here() if isinstance(begun, Running) else begun


async def adispatch(workers: Workers[Any], delivery: Delivery, /) -> Outcome:
    """Run one job from this event loop: async workers as a task on it, `def` workers in a thread."""
    context = contextvars.copy_context()
    begun = context.run(begin, workers, delivery)
    return await begun.on_loop(context) if isinstance(begun, Running) else begun


# -- before host code ----------------------------------------------------------------------------------


def begin(workers: Workers[Any], delivery: Delivery) -> "Running | Outcome":
    """The steps before any host code: parse, count crashes, find the worker, check the args."""
    clock = workers.adapter.clock
    now = clock()
    try:
        payload = delivery.parsed or Payload.parse(delivery.payload)
        if delivery.worker is not None and delivery.worker != payload.worker:
            raise InvalidPayloadError("its worker is another than the queue's own record of it says")
    except InvalidPayloadError as error:
        return Dead(None, _reason(error), None, error)
    attempt = payload.attempt + delivery.crashes
    counted = min(attempt, payload.max_attempts)
    if counted != payload.attempt:
        payload = replace(payload, attempt=counted)
    run = Run(payload, workers.system_actor, clock)
    CURRENT_RUN.set(run)
    if attempt > payload.max_attempts:
        return _dead(workers, payload, run, JobCrashedError(delivery.crashes))
    if payload.due_at is not None and payload.due_at > now:
        return Again(payload, payload.due_at, "early")
    handle = workers.find(payload.worker)
    if handle is None or handle.implementation is None:
        return _wait_for_worker(workers, payload, run, now)
    try:
        handle.form.check_present(handle.name, payload.args)
    except SigraWorkersError as error:
        return _dead(workers, payload, run, error)
    host = HostCode(workers, handle.implementation, run, delivery.outside)
    return Running(workers, delivery.payload, run, handle, host)


def _wait_for_worker(workers: Workers[Any], payload: Payload, run: Run, now: float) -> Outcome:
    """A rolling deploy may know the worker soon: wait uncounted, with growing pauses, for the grace time."""
    since: Any = payload.meta.get("unknown_since")
    known = isinstance(since, (int, float)) and not isinstance(since, bool)
    since = max(0.0, min(since, now)) if known else now
    waited = now - since
    if waited >= workers.unknown_worker_grace:
        return _dead(workers, payload, run, UnknownWorkerError(payload.worker, waited))
    log().warning(
        "worker %r is not implemented in this process: job %s waits for it (organization %s)",
        payload.worker,
        payload.id,
        payload.organization_id,
    )
    due_at = now + min(max(waited, 5.0), 300.0, workers.unknown_worker_grace - waited)
    return Again(
        payload.again(due_at, meta={**payload.meta, "unknown_since": since}), due_at, "unknown_worker"
    )


# -- one run -------------------------------------------------------------------------------------------


class Running:
    """One run of one job, once nothing stands against it."""

    __slots__ = ("ended", "handle", "host", "payload", "run", "text", "workers")

    def __init__(
        self,
        workers: Workers[Any],
        text: object,
        run: Run,
        handle: WorkerHandle[Any, Any, Any],
        host: HostCode,
    ) -> None:
        self.workers, self.text, self.handle, self.host = workers, text, handle, host
        self.run, self.payload = run, run.payload
        self.ended: Ended | None = None
        """How host code ended, once it did."""

    def here(self) -> Outcome:
        """The run in this thread, or on the one loop of this process."""
        if self.host.worker.is_async:
            from sigra_workers.loops import run

            return run(self.arun(), self.host.stop)
        return self._end(self._body())

    async def on_loop(self, context: contextvars.Context) -> Outcome:
        """The run in that context: in a thread where nothing of it is async, else as a task of this loop."""
        import asyncio

        from sigra_workers.loops import body_in_thread, held_back, outlast

        if self.host.blocks:
            try:
                ended = await body_in_thread(context, self._body)
            except asyncio.CancelledError as error:
                ended = Ended(error=error, outside=True)
            return context.run(self._end, ended)
        task = asyncio.get_running_loop().create_task(held_back(self.arun()), context=context)
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            self.host.stop()
            task.cancel()
            await outlast(task)  # no attempt of a job overlaps a live body of it
            raise
        if isinstance(outcome, KeyboardInterrupt):
            raise outcome
        return outcome

    async def arun(self) -> Outcome:
        """The run in this task."""
        self._start()
        return self._end(await self.host.acall())

    def _body(self) -> Ended:
        self._start()
        return self.host.call()

    def _start(self) -> None:
        plugins, run = self.workers.plugins, self.run
        if plugins.hears("sigra_started"):
            job, organization, adapter = run.info, run.organization_id, self.workers.adapter_name
            waited, carried = max(0.0, run.clock() - self.payload.since), self.payload.carried
            plugins.tell(
                "sigra_started",
                lambda hook: hook.sigra_started(
                    job=job, organization_id=organization, adapter=adapter, waited=waited, meta={**carried}
                ),
            )
        self.host.begin()

    # -- the decision table ----------------------------------------------------------------------------

    def _end(self, ended: Ended) -> Outcome:
        self.ended = ended
        error = ended.error
        if error is not None and ended.outside:
            if self.host.started:  # and not cancelled while it waited for a thread
                self._finished(None, error)
            raise error
        cancelled = False
        if ended.timed_out:
            late = JobTimeoutError(cast("float", self.payload.timeout))
            late.__cause__ = None if isinstance(error, JobInterrupted) else error
            error, cancelled = late, JobTimeoutError in self._cancel_on
        elif error is None:
            result: object = ended.result
            match result:
                case Ok():
                    self._finished("complete", None)
                    return Complete(ended.result.value)
                case Snooze():
                    self._finished("snooze", None)
                    return self._again(ended.result.seconds, "snooze")
                case Error():
                    error = JobFailedError(_text(ended.result.reason))
                case Cancel():
                    return self._die("cancel", JobCancelledError(_text(ended.result.reason)))
                case other:
                    return self._die("dead", InvalidResultError(self.payload.worker, _kind(other)))
        else:
            cancelled = isinstance(error, self._cancel_on)
        if cancelled:
            meant = JobCancelledError(_reason(error))
            meant.__cause__ = error
            return self._die("cancel", meant)
        if self.payload.attempt >= self.payload.max_attempts:
            return self._die("dead", error)
        delay = self._backoff()
        log().warning(
            "job %s of worker %r (organization %s): attempt %d of %d failed with %s, it runs again in %.1f s",
            self.payload.id,
            self.payload.worker,
            self.run.organization_id,
            self.payload.attempt,
            self.payload.max_attempts,
            told(error),
            delay,
        )
        self._finished("retry", error)
        return self._again(delay, "retry", error)

    @property
    def _cancel_on(self) -> tuple[type[Exception], ...]:
        return (*self.handle.cancel_on, *self.workers.cancel_on)

    def _again(
        self, delay: float, why: Literal["retry", "snooze"], error: BaseException | None = None
    ) -> Again:
        due_at = self.workers.adapter.clock() + delay
        fresh = Payload.parse(self.text)  # host code may have changed the args it was given
        payload = fresh.again(
            due_at,
            attempt=self.payload.attempt + (why == "retry"),
            snoozes=self.payload.snoozes + (why == "snooze"),
            meta={key: value for key, value in fresh.meta.items() if key != "unknown_since"},
        )
        return Again(payload, due_at, why, error)

    def _die(self, decision: Decision, error: BaseException) -> Dead:
        self._finished(decision, error)
        payload = replace(Payload.parse(self.text), attempt=self.payload.attempt)
        return _dead(self.workers, payload, self.run, error)

    def _finished(self, decision: Decision | None, error: BaseException | None) -> None:
        plugins, run = self.workers.plugins, self.run
        if plugins.hears("sigra_finished"):
            job, organization = run.info, run.organization_id
            duration = perf_counter() - self.host.started
            plugins.tell(
                "sigra_finished",
                lambda hook: hook.sigra_finished(
                    job=job,
                    organization_id=organization,
                    decision=decision,
                    exception=error,
                    duration=duration,
                ),
            )

    def _backoff(self) -> float:
        attempt, own = self.payload.attempt, self.handle.backoff
        steps: Backoff | None = self.payload.backoff
        if steps is None:
            if callable(own):
                try:
                    return check_seconds("backoff", own(attempt))
                except Exception as error:  # a broken backoff must not cost the job its retry
                    log().error(
                        "the backoff of worker %r raised %s", self.payload.worker, type(error).__name__
                    )
            else:
                steps = own
        if steps is None:
            import random  # slow to import: where a job failed

            mean: float = min(15 + 2 ** min(attempt, 20), MAX_BACKOFF)
            return min(mean * random.uniform(0.9, 1.1), MAX_BACKOFF)  # noqa: S311  # jitter, not a secret
        if isinstance(steps, (int, float)):
            return steps
        step: Seconds = steps[min(attempt, len(steps)) - 1]
        return step


def _dead(workers: Workers[Any], payload: Payload, run: Run, error: BaseException) -> Dead:
    reason = _writable(_reason(error))[:MAX_REASON]
    trace = _writable(_traceback(error)) if error.__traceback__ or error.__cause__ else ""
    workers.plugins.tell(
        "sigra_dead",
        lambda hook: hook.sigra_dead(
            job=run.info, organization_id=run.organization_id, reason=reason, exception=error
        ),
    )
    return Dead(payload, reason, trace[-MAX_TRACEBACK:] or None, error)


def _writable(text: str) -> str:
    """The text as every queue can write it: without the lone surrogates that UTF-8 has no bytes for."""
    return text.encode(errors="backslashreplace").decode()


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # as for a reason that can't be printed
        return ""


def _kind(result: object) -> str:
    if inspect.iscoroutine(result):
        result.close()
        return "a coroutine that nobody awaited (make perform an `async def`)"
    return "None" if result is None else f"an object of type {type(result).__name__}"


def _reason(error: BaseException) -> str:
    """Why a job died, in one text: a reason that was given, or the exception."""
    if isinstance(error, JobCancelledError):
        return f"cancelled: {error}"[:MAX_REASON]
    if isinstance(error, (JobFailedError, JobCrashedError)):
        return str(error)[:MAX_REASON]
    return _text(error)


def _text(reason: object) -> str:
    try:
        if isinstance(reason, BaseException):
            reason = f"{type(reason).__name__}: {reason}"
        return (reason if isinstance(reason, str) else repr(reason))[:MAX_REASON]
    except BaseException as error:
        if not is_own(error):
            raise
        return f"an object of type {type(reason).__name__}"  # no reason to lose the decision
