"""One job, start to finish: from what the queue delivers to the one thing it must do now.

Adapters call `dispatch` in a thread, or `adispatch` on their event loop, and carry the outcome out. Both
walk the same steps; only how scope builder, arounds and `perform` are called differs.
"""

import contextvars
import functools
import inspect
import logging
import random
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final, Literal, cast

from sigra_workers.errors import (
    InvalidPayloadError,
    InvalidResultError,
    InvalidScopeError,
    JobCancelledError,
    JobCrashedError,
    JobFailedError,
    JobTimeoutError,
    SigraWorkersError,
    UnknownWorkerError,
    told,
)
from sigra_workers.handles import Around, Implementation, WorkerHandle
from sigra_workers.hooks import Decision
from sigra_workers.jobs import CURRENT_RUN, Backoff, JobInfo, Payload, Run, Seconds, check_seconds
from sigra_workers.protocols import Again, Complete, Dead, Delivery, Outcome
from sigra_workers.results import Cancel, Error, Ok, Snooze
from sigra_workers.scopes import AuditOnly, AuditScopeBuilder
from sigra_workers.timeouts import JobInterrupted, Limit, run_limited
from sigra_workers.workers import Workers

MAX_REASON: Final = 2_000
"""Characters of a reason that are kept."""
MAX_TRACEBACK: Final = 64_000
"""Characters of a traceback that are kept: its end."""
MAX_BACKOFF: Final = 86_400.0

_log = logging.getLogger("sigra_workers")


def dispatch(workers: Workers[Any], delivery: Delivery, /) -> Outcome:
    """Run one job in this thread; async workers run on the one loop of this process.

    Never raises for what host code does; raises only what ends the process (KeyboardInterrupt and such).
    """
    context = contextvars.copy_context()
    begun = context.run(_begin, workers, delivery)
    if not isinstance(begun, _Running):
        return begun
    if begun.worker.is_async:
        from sigra_workers.loops import run

        return context.run(run, begun.arun(), begun.stop)
    return context.run(begun.run)


async def adispatch(workers: Workers[Any], delivery: Delivery, /) -> Outcome:
    """Run one job from this event loop: async workers as a task on it, `def` workers in a thread."""
    import asyncio

    from sigra_workers.loops import outlast

    context = contextvars.copy_context()
    begun = context.run(_begin, workers, delivery)
    if not isinstance(begun, _Running):
        return begun
    task = asyncio.get_running_loop().create_task(begun.arun(), context=context)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        begun.stop()
        task.cancel()
        await outlast(task)  # no attempt of a job overlaps a live body of it
        raise


# -- before host code ----------------------------------------------------------------------------------


def _begin(workers: Workers[Any], delivery: Delivery) -> "_Running | Outcome":
    """The steps before any host code: parse, count crashes, find the worker, check the args."""
    now = workers.adapter.clock()
    try:
        payload = Payload.parse(delivery.payload)
        if delivery.worker is not None and delivery.worker != payload.worker:
            raise InvalidPayloadError("its worker is another than the queue's own record of it says")
    except InvalidPayloadError as error:
        return Dead(None, _reason(error), None, error)
    attempt = payload.attempt + delivery.crashes
    payload = replace(payload, attempt=min(attempt, payload.max_attempts))
    info = payload.info()
    if attempt > payload.max_attempts:
        return _dead(workers, payload, info, JobCrashedError(delivery.crashes))
    if payload.due_at is not None and payload.due_at > now:
        return Again(payload, payload.due_at, "early")
    handle = workers.find(payload.worker)
    if handle is None or handle.implementation is None:
        return _wait_for_worker(workers, payload, info, now)
    try:
        handle.form.check_present(handle.name, payload.args)
    except SigraWorkersError as error:
        return _dead(workers, payload, info, error)
    implementation, outside = handle.implementation, delivery.outside
    return _Running(workers, delivery.payload, payload, info, handle, implementation, payload.args, outside)


def _wait_for_worker(workers: Workers[Any], payload: Payload, info: JobInfo, now: float) -> Outcome:
    """A rolling deploy may know the worker soon: wait uncounted, with growing pauses, for the grace time."""
    since: Any = payload.meta.get("unknown_since")
    known = isinstance(since, (int, float)) and not isinstance(since, bool)
    since = max(0.0, min(since, now)) if known else now
    waited = now - since
    if waited >= workers.unknown_worker_grace:
        return _dead(workers, payload, info, UnknownWorkerError(payload.worker, waited))
    _log.warning(
        "worker %r is not implemented in this process: job %s waits for it (organization %s)",
        payload.worker,
        payload.id,
        payload.organization_id,
    )
    due_at = now + min(max(waited, 5.0), 300.0, workers.unknown_worker_grace - waited)
    return Again(
        payload.again(due_at, meta={**payload.meta, "unknown_since": since}), due_at, "unknown_worker"
    )


# -- host code -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Ended:
    """How host code ended. `outside` is set where it did not end by itself: there is no decision then."""

    result: Any = None
    error: BaseException | None = None
    timed_out: bool = False
    outside: bool = False


@dataclass(slots=True)
class _Running:
    """One run of one job, once nothing stands against it."""

    workers: Workers[Any]
    text: object
    payload: Payload
    info: JobInfo
    handle: WorkerHandle[Any, Any, Any]
    worker: Implementation
    args: Any
    outside: tuple[type[BaseException], ...]
    started: float = 0.0
    organization: Any = None
    stopped: bool = False

    def __post_init__(self) -> None:
        self.organization = self.payload.args["organization_id"]  # host code may change the args it is given

    def run(self) -> Outcome:
        """The run in this thread."""
        self._start()
        return self._end(self._limited(self._build))

    async def arun(self) -> Outcome:
        """The run on this event loop; a `def` worker and what blocks around it in a thread."""
        import asyncio

        from sigra_workers.loops import body_in_thread

        self._start()
        try:
            if self.worker.is_async:
                ended = await self._alimited(self._abody())
            elif inspect.iscoroutinefunction(self.workers.scope_builder.build):
                ended = await self._alimited(self._abuild())
                if ended.error is None and not ended.timed_out:
                    scope = ended.result
                    ended = await body_in_thread(self._limited, lambda: scope)
            else:
                ended = await body_in_thread(self._limited, self._build)
        except asyncio.CancelledError as error:
            ended = _Ended(error=error, outside=True)
        return self._end(ended)

    def stop(self) -> None:
        """Note that the run is being cancelled from outside: no decision, whatever host code makes of it."""
        self.stopped = True

    def _start(self) -> None:
        workers = self.workers
        CURRENT_RUN.set(Run(self.info, self.payload.resends, workers.system_actor, workers.adapter.clock))
        workers.plugins.tell(
            lambda hook: hook.sigra_started(job=self.info, organization_id=self.organization)
        )
        self.started = perf_counter()

    def _time_left(self) -> float | None:
        limit = self.payload.timeout
        return None if limit is None else max(0.001, limit - (perf_counter() - self.started))

    def _limited(self, build: Callable[[], Any]) -> _Ended:
        limit = Limit(self._time_left())

        def body() -> Any:
            scope = self._checked(build())
            if isinstance(scope, (Cancel, Snooze)):
                return scope
            limit.hold()  # so that arounds enter whole
            return self._nest(scope, self.workers.arounds, limit)

        value, error, timed_out = limit.run(body)
        outside = isinstance(error, self.outside)
        return _Ended(value, error, timed_out or isinstance(error, JobInterrupted), outside)

    def _checked(self, scope: object) -> object:
        """What the builder made, unless it is no scope of a worker: host code must not get it."""
        if scope is not None and not isinstance(scope, (AuditOnly, Cancel, Snooze)):
            builder = type(self.workers.scope_builder).__qualname__
            raise InvalidScopeError(builder, type(scope).__name__)
        return scope

    def _build(self) -> Any:
        scope: Any = self.workers.scope_builder.build(self.args)
        if not inspect.isawaitable(scope):
            return scope
        import asyncio

        from sigra_workers.loops import run

        async def wait() -> Any:
            limit = asyncio.timeout(self._time_left())
            try:
                async with limit:
                    return await scope
            except BaseException as error:
                if limit.expired():
                    raise JobInterrupted from error
                raise

        return run(wait())

    def _nest(self, scope: Any, arounds: Sequence[Around], limit: Limit) -> Any:
        """`perform` inside the arounds; what one of them swallows is raised again behind it."""
        if not arounds:
            try:
                limit.resume()
                return self.worker.perform(scope, self.args)
            finally:
                limit.hold()  # and left whole
        result, error = None, None
        with arounds[0].enter(self.info, scope, self.args):
            try:
                result = self._nest(scope, arounds[1:], limit)
            except BaseException as raised:
                error = raised
                raise
        if error is not None:
            raise error
        return result

    async def _alimited(self, coroutine: Coroutine[Any, Any, Any]) -> _Ended:
        import asyncio

        task = cast("asyncio.Task[Any]", asyncio.current_task())
        ended = _Ended()
        limit = asyncio.timeout(self._time_left())
        try:
            async with limit:
                ended.result = await coroutine
        except asyncio.CancelledError as error:
            ended.error, ended.outside = error, task.cancelling() > 0
        except BaseException as error:  # _end decides
            ended.error, ended.outside = error, isinstance(error, self.outside)
        if self.stopped and not ended.outside:
            ended.error, ended.outside = asyncio.CancelledError(), True
        when = limit.when()
        late = when is not None and asyncio.get_running_loop().time() >= when
        ended.timed_out = late or limit.expired() or isinstance(ended.error, JobInterrupted)
        return ended

    async def _abody(self) -> Any:
        scope = self._checked(await self._abuild())
        if isinstance(scope, (Cancel, Snooze)):
            return scope
        return await self._anest(scope, self.workers.arounds)

    async def _abuild(self) -> Any:
        from sigra_workers.loops import body_in_thread

        builder = self.workers.scope_builder
        scope: Any
        if type(builder) is AuditScopeBuilder or inspect.iscoroutinefunction(builder.build):
            scope = builder.build(self.args)
        else:
            build = functools.partial(builder.build, self.args)
            scope, error, late = await body_in_thread(run_limited, self._time_left(), build)
            if error is not None or late:
                raise JobInterrupted if late or error is None else error
        return await scope if inspect.isawaitable(scope) else scope

    async def _anest(self, scope: Any, arounds: Sequence[Around]) -> Any:
        """Async twin of `_nest`; `def` arounds run on the loop, in the task of the job."""
        if not arounds:
            return await self.worker.perform(scope, self.args)
        result, error = None, None
        async with AsyncExitStack() as stack:
            await arounds[0].aenter(stack, self.info, scope, self.args)
            try:
                result = await self._anest(scope, arounds[1:])
            except BaseException as raised:
                error = raised
                raise
        if error is not None:
            raise error
        return result

    # -- the decision table ----------------------------------------------------------------------------

    def _end(self, ended: _Ended) -> Outcome:
        error = ended.error
        if error is not None and ended.outside:
            self._finished(None, error)
            raise error
        cancel_on = (*self.handle.cancel_on, *self.workers.cancel_on)
        cancelled = False
        if ended.timed_out:
            late = JobTimeoutError(cast("float", self.payload.timeout))
            late.__cause__ = None if isinstance(error, JobInterrupted) else error
            error, cancelled = late, JobTimeoutError in cancel_on
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
            cancelled = isinstance(error, cancel_on)
        if cancelled:
            meant = JobCancelledError(_reason(error))
            meant.__cause__ = error
            return self._die("cancel", meant)
        if self.payload.attempt >= self.payload.max_attempts:
            return self._die("dead", error)
        delay = self._backoff()
        _log.warning(
            "job %s of worker %r (organization %s): attempt %d of %d failed with %s, it runs again in %.1f s",
            self.info.id,
            self.info.worker,
            self.organization,
            self.info.attempt,
            self.info.max_attempts,
            told(error),
            delay,
        )
        self._finished("retry", error)
        return self._again(delay, "retry")

    def _again(self, delay: float, why: Literal["retry", "snooze"]) -> Again:
        due_at = self.workers.adapter.clock() + delay
        fresh = Payload.parse(self.text)  # host code may have changed the args it was given
        payload = fresh.again(
            due_at,
            attempt=self.payload.attempt + (why == "retry"),
            snoozes=self.payload.snoozes + (why == "snooze"),
            meta={key: value for key, value in fresh.meta.items() if key != "unknown_since"},
        )
        return Again(payload, due_at, why)

    def _die(self, decision: Decision, error: BaseException) -> Dead:
        self._finished(decision, error)
        payload = replace(Payload.parse(self.text), attempt=self.payload.attempt)
        return _dead(self.workers, payload, self.info, error)

    def _finished(self, decision: Decision | None, error: BaseException | None) -> None:
        duration = perf_counter() - self.started
        self.workers.plugins.tell(
            lambda hook: hook.sigra_finished(
                job=self.info,
                organization_id=self.organization,
                decision=decision,
                exception=error,
                duration=duration,
            )
        )

    def _backoff(self) -> float:
        attempt, own = self.payload.attempt, self.handle.backoff
        steps: Backoff | None = self.payload.backoff
        if steps is None:
            if callable(own):
                try:
                    return check_seconds("backoff", own(attempt))
                except Exception as error:  # a broken backoff must not cost the job its retry
                    _log.error("the backoff of worker %r raised %s", self.info.worker, type(error).__name__)
            else:
                steps = own
        if steps is None:
            mean: float = min(15 + 2 ** min(attempt, 20), MAX_BACKOFF)
            return min(mean * random.uniform(0.9, 1.1), MAX_BACKOFF)  # noqa: S311  # jitter, not a secret
        if isinstance(steps, (int, float)):
            return steps
        step: Seconds = steps[min(attempt, len(steps)) - 1]
        return step


def _dead(workers: Workers[Any], payload: Payload, info: JobInfo, error: BaseException) -> Dead:
    reason = _reason(error)
    trace = _traceback(error) if error.__traceback__ or error.__cause__ else ""
    organization = payload.organization_id
    workers.plugins.tell(
        lambda hook: hook.sigra_dead(job=info, organization_id=organization, reason=reason, exception=error)
    )
    return Dead(payload, reason, trace[-MAX_TRACEBACK:] or None, error)


def _traceback(error: BaseException) -> str:
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
    except Exception:  # a reason that can't be printed is no reason to lose the decision
        return f"an object of type {type(reason).__name__}"
