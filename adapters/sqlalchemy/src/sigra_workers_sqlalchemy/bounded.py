"""Calls that nobody waits for longer than so many seconds, however long they take."""

import _thread
import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")
STUCK: Final = 8
"""How many calls may be without an answer, one after another, before further ones are refused at once."""
AGAIN: Final = 10.0
"""Seconds after which one is tried again all the same."""


class Overdue(Exception):
    """A call takes longer than it may; it may still come to its end."""


class Refused(Overdue):
    """A call was not made, as those before it are overdue."""


class _Call:
    """One call. Its lock is C's: an interrupt of the job that waits leaves nothing taken that others need."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.over = _thread.allocate_lock()
        self.over.acquire()
        self._function = function

    def make(self) -> None:
        try:
            self.value = self._function()
        except BaseException as error:  # the caller's
            self.error = error


class Bounded:
    """Calls in daemon threads, or as tasks, waited for up to `seconds`.

    Safe from many threads and event loops, but not after a fork.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle: list[SimpleQueue[_Call]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._overdue: set[object] = set()
        """Calls without an answer since there was one: late, or given up as late by the driver."""
        self._begun = 0.0

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns or raises, or `Overdue`."""
        begun = self._begin()
        call = _Call(partial(copy_context().run, function))
        self._worker().put(call)
        if not call.over.acquire(timeout=self._seconds):
            self._overdue.add(call)
            if not call.over.locked():  # just now
                self._answered_late(call, call.error)
            raise Overdue
        self._answered(call, call.error, begun)
        if call.error is not None:
            raise call.error
        value: T = call.value
        return value

    async def acall(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """`call` as a task; one that is overdue is cancelled and left alone: to end it may take as long."""
        begun = self._begin()
        task = asyncio.create_task(function())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait([task], timeout=self._seconds)
        if task.done():
            self._answered(task, None if task.cancelled() else task.exception(), begun)
            return task.result()
        self._overdue.add(task)
        if len(self._overdue) < STUCK:  # others wait on: they tell when there is an answer again
            task.cancel()
        raise Overdue

    def _begin(self) -> float:
        now = time.monotonic()
        if len(self._overdue) >= STUCK and now < self._begun + AGAIN:
            raise Refused
        self._begun = now
        return now

    def _answered(self, call: object, error: BaseException | None, begun: float) -> None:
        """An error that took long is the driver's own time-out, and no answer."""
        if error is None or time.monotonic() < begun + self._seconds / 2:
            self._overdue.clear()  # they may be stuck for long, on connections that are dead
        else:
            self._overdue.add(call)

    def _answered_late(self, call: object, error: BaseException | None) -> None:
        if error is None and call in self._overdue:
            self._overdue.clear()

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._answered_late(task, task.exception())  # which asyncio else logs that nobody looked at

    def _worker(self) -> "SimpleQueue[_Call]":
        """The inbox of a thread that has nothing to do."""
        try:
            return self._idle.pop()
        except IndexError:
            inbox = SimpleQueue[_Call]()
            threading.Thread(
                target=self._work, args=(inbox,), name="sigra-workers-audit", daemon=True
            ).start()
            return inbox

    def _work(self, inbox: "SimpleQueue[_Call]") -> None:
        while True:
            call = inbox.get()
            call.make()
            self._idle.append(inbox)
            call.over.release()
            self._answered_late(call, call.error)
