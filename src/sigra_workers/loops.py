"""One event loop a process, for async code on queues without a loop; threads for blocking calls in one."""

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Process:
    """What this process has started so far; a forked child begins anew, as threads don't follow it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pool: ThreadPoolExecutor | None = None


_process = _Process()
os.register_at_fork(after_in_child=_process.reset)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop of this process, in the caller's context, and wait for it.

    What interrupts the wait (a signal handler that raises) cancels the coroutine and waits for its end.
    """
    loop = process_loop()
    over: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(finish)

    def finish(task: asyncio.Task[T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            over.set_result(task.result())
        else:
            over.set_exception(error)

    loop.call_soon_threadsafe(start)
    try:
        return over.result()
    except BaseException:
        if not over.done():
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            wait([over])
        raise


def process_loop() -> asyncio.AbstractEventLoop:
    """The loop of this process, running in a daemon thread; started when first needed."""
    with _process.lock:
        if _process.loop is None:
            _process.loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_forever, args=(_process.loop,), name="sigra-workers-loop", daemon=True
            )
            thread.start()
        return _process.loop


def _forever(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except (
            SystemExit,
            KeyboardInterrupt,
        ):  # asyncio lets these out of run_forever: host code exits a task
            continue
        return


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread of our own, in a copy of the caller's context, and await it.

    Threads can't be stopped: a caller that is cancelled meanwhile waits for the call to end first.
    """
    call = functools.partial(contextvars.copy_context().run, functools.partial(function, *args, **kwargs))
    future = asyncio.get_running_loop().run_in_executor(_threads(), call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _threads() -> ThreadPoolExecutor:
    with _process.lock:
        if _process.pool is None:
            _process.pool = ThreadPoolExecutor(max_workers=256, thread_name_prefix="sigra-workers")
        return _process.pool
