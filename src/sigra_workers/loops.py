"""One event loop a process, for async code on queues without a loop; threads for blocking calls in one."""

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")


class _Process:
    """What this process has started so far; a forked child begins anew, as threads don't follow it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pools: dict[str, ThreadPoolExecutor] = {}


_process = _Process()
os.register_at_fork(after_in_child=_process.reset)


def run(coroutine: Coroutine[Any, Any, T], stopping: Callable[[], object] = bool) -> T:
    """Run a coroutine on the loop of this process, in the caller's context, and wait for it.

    What interrupts the wait (a signal handler that raises) calls `stopping`, cancels the coroutine and
    waits for its end.
    """
    loop = process_loop()
    tasks: list[asyncio.Task[T]] = []
    over = threading.Lock()  # taken and given back in C: no interrupt leaves it in between
    over.acquire()

    def start() -> None:
        if not tasks:
            tasks.append(loop.create_task(coroutine))
            tasks[0].add_done_callback(lambda _: over.release())

    def stop() -> None:
        start()
        tasks[0].cancel()

    try:
        loop.call_soon_threadsafe(start)
        # Never waits for good: while an interrupt is pending for a thread that waits in C, Python 3.11 stops
        # every thread that is traced (DO_TRACING in Python/ceval.c), the loop under coverage among them.
        while not over.acquire(timeout=0.2):
            pass
    except BaseException:
        stopping()
        loop.call_soon_threadsafe(stop)
        while not (tasks and tasks[0].done()):
            over.acquire(timeout=0.05)
        if not tasks[0].cancelled():
            tasks[0].exception()  # or asyncio logs that nobody looked at it
        raise
    return tasks[0].result()


def process_loop() -> asyncio.AbstractEventLoop:
    """The loop of this process, running in a daemon thread; started when first needed."""
    with _process.lock:
        if _process.loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=_forever, args=(loop,), name="sigra-workers-loop", daemon=True).start()
            _process.loop = loop
        return _process.loop


def _forever(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        # asyncio lets these two out of run_forever where a task ends with one; host code may stop the loop.
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread of our own, in a copy of the caller's context, and await it.

    Threads can't be stopped: a caller that is cancelled meanwhile waits for the call to end first, unless it
    has not begun.
    """
    call = functools.partial(function, *args, **kwargs)
    return await _in_pool("calls", contextvars.copy_context(), call)


async def body_in_thread(context: contextvars.Context, body: Callable[[], T]) -> T:
    """`in_thread` for the bodies of jobs: apart, as they may wait for calls of their own."""
    return await _in_pool("jobs", context, body)


async def _in_pool(name: str, context: contextvars.Context, function: Callable[[], T]) -> T:
    running = _pool(name).submit(context.run, _call, function)
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        await outlast(asyncio.wrap_future(running))
        raise


def _call(function: Callable[[], T]) -> T:
    try:
        return function()
    except StopIteration as error:  # asyncio's futures can't hold one: nobody would ever be woken
        raise RuntimeError("a call in a thread raised StopIteration") from error


async def held_back(coroutine: Coroutine[Any, Any, T]) -> T | KeyboardInterrupt:
    """What it returns, or the interrupt that it raises: a task that raised one would end its loop.

    asyncio lets it out of the loop itself, past whoever waits for the task: it is for them to raise it.
    """
    try:
        return await coroutine
    except KeyboardInterrupt as error:
        return error


async def outlast(future: asyncio.Future[Any]) -> None:
    """Wait for its end, however often the waiting task is cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue


def _pool(name: str) -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # which fails in a process that ends

    with _process.lock:
        if name not in _process.pools:
            prefix = f"sigra-workers-{name}"
            _process.pools[name] = ThreadPoolExecutor(max_workers=256, thread_name_prefix=prefix)
        return _process.pools[name]
