"""Host code of one run: scope builder, arounds and `perform`, in this thread or on this event loop."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from time import perf_counter
from typing import Any, cast

from sigra_workers.errors import InvalidScopeError
from sigra_workers.handles import Around, Implementation
from sigra_workers.jobs import Run
from sigra_workers.results import Cancel, Snooze
from sigra_workers.scopes import AuditOnly, AuditScopeBuilder
from sigra_workers.timeouts import JobInterrupted, Limit, run_limited
from sigra_workers.workers import Workers


class Ended:
    """How host code ended. `outside` is set where it did not end by itself: there is no decision then."""

    __slots__ = ("error", "outside", "result", "timed_out")

    def __init__(
        self,
        result: Any = None,
        error: BaseException | None = None,
        timed_out: bool = False,
        outside: bool = False,
    ) -> None:
        self.result, self.error, self.timed_out, self.outside = result, error, timed_out, outside


class HostCode:
    """What a run calls of the host, under the job's time limit (seconds, from `begin`)."""

    __slots__ = ("args", "outside", "run", "started", "stopped", "timeout", "worker", "workers")

    def __init__(
        self,
        workers: Workers[Any],
        worker: Implementation,
        run: Run,
        outside: tuple[type[BaseException], ...],
    ) -> None:
        self.workers, self.worker, self.run, self.outside = workers, worker, run, outside
        self.args: Any = run.payload.args
        self.timeout = run.payload.timeout
        self.started = 0.0
        self.stopped = False

    def begin(self) -> None:
        """Start the clock."""
        self.started = perf_counter()

    def call(self) -> Ended:
        """All of it in this thread."""
        return self._limited(self._build)

    @property
    def blocks(self) -> bool:
        """Whether nothing of it needs an event loop."""
        return not (self.worker.is_async or self.workers.builds_async)

    async def acall(self) -> Ended:
        """All of it on this event loop; a `def` worker and what blocks around it in a thread."""
        import asyncio

        from sigra_workers.loops import body_in_thread

        try:
            if self.worker.is_async:
                return await self._alimited(self._abody())
            ended = await self._alimited(self._abuild())
            if ended.error is None and not ended.timed_out:
                scope = ended.result
                ended = await body_in_thread(copy_context(), lambda: self._limited(lambda: scope))
            return ended
        except asyncio.CancelledError as error:
            return Ended(error=error, outside=True)

    def stop(self) -> None:
        """Note that the run is being cancelled from outside: no decision, whatever host code makes of it."""
        self.stopped = True

    def _time_left(self) -> float | None:
        limit = self.timeout
        return None if limit is None else max(0.001, limit - (perf_counter() - self.started))

    def _limited(self, build: Callable[[], Any]) -> Ended:
        limit = Limit(self._time_left())

        def body() -> Any:
            scope = self._checked(build())
            if isinstance(scope, (Cancel, Snooze)):
                return scope
            limit.hold()  # so that arounds enter whole
            return self._nest(scope, self.workers.arounds, limit)

        value, error, timed_out = limit.run(body)
        outside = isinstance(error, self.outside)
        return Ended(value, error, timed_out or isinstance(error, JobInterrupted), outside)

    def _checked(self, scope: object) -> object:
        """What the builder made, unless it is no scope of a worker: host code must not get it."""
        if scope is not None and not isinstance(scope, (AuditOnly, Cancel, Snooze)):
            builder = type(self.workers.scope_builder).__qualname__
            raise InvalidScopeError(builder, type(scope).__name__)
        return scope

    def _build(self) -> Any:
        scope: Any = self.workers.scope_builder.build(self.args)
        if isinstance(scope, AuditOnly) or not inspect.isawaitable(scope):
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
        with arounds[0].enter(self.run.info, scope, self.args):
            try:
                result = self._nest(scope, arounds[1:], limit)
            except BaseException as raised:
                error = raised
                raise
        if error is not None:
            raise error
        return result

    async def _alimited(self, coroutine: Coroutine[Any, Any, Any]) -> Ended:
        import asyncio

        task = cast("asyncio.Task[Any]", asyncio.current_task())
        ended = Ended()
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
        if type(builder) is AuditScopeBuilder or self.workers.builds_async:
            scope = builder.build(self.args)
        else:
            build = functools.partial(builder.build, self.args)
            limited = functools.partial(run_limited, self._time_left(), build)
            scope, error, late = await body_in_thread(copy_context(), limited)
            if error is not None or late:
                raise JobInterrupted if late or error is None else error
        return scope if isinstance(scope, AuditOnly) or not inspect.isawaitable(scope) else await scope

    async def _anest(self, scope: Any, arounds: Sequence[Around]) -> Any:
        """Async twin of `_nest`; `def` arounds run on the loop, in the task of the job."""
        if not arounds:
            return await self.worker.perform(scope, self.args)
        result, error = None, None
        async with AsyncExitStack() as stack:
            await arounds[0].aenter(stack, self.run.info, scope, self.args)
            try:
                result = await self._anest(scope, arounds[1:])
            except BaseException as raised:
                error = raised
                raise
        if error is not None:
            raise error
        return result
