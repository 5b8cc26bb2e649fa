"""The watchdog of synchronous code: interrupts the thread of a job when its time is up."""

import _thread
import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")
AGAIN: Final = 10.0
"""Seconds until a body that goes on is interrupted again, and that clean-up has at least."""
STARTS: Final = 10.0
"""Seconds that an interrupt waits for a thread to begin: on a busy machine one may take that long."""
_START: Final = ("start", "threading")
_sys: Final[Any] = sys  # their private parts are not typed
_threading: Final[Any] = threading


class JobInterrupted(BaseException):
    """Raised inside a job whose time is up; not an `Exception`, so that a broad `except` lets it pass."""


class Limit:
    """A limit, in seconds, for what one thread does; None is none.

    The interrupt comes when Python next runs in that thread: a call that blocks in C ends first. One that is
    swallowed, by host code or by Python in a destructor, is followed by another. The thread takes no lock
    while it is watched, as an interrupt may come anywhere: who acts in a round of the watchdog is decided by
    one atomic `setdefault`, which may be repeated.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._state: dict[Any, Any] = {"round": 0}
        self._ends = 0.0

    def run(self, body: Callable[[], T]) -> tuple[T | None, BaseException | None, bool]:
        """Call `body`; its value, what it raised, and whether its time was up first."""
        value: T | None = None
        raised: BaseException | None = None
        if self._seconds is None:
            try:
                return body(), None, False
            except BaseException as error:  # the caller decides
                return None, error, False
        self._ends = time.perf_counter() + self._seconds
        begun, over = _thread.allocate_lock(), _thread.allocate_lock()
        begun.acquire()
        over.acquire()
        try:
            _thread.start_new_thread(self._watch, (_thread.get_ident(), self._seconds, begun, over))
            try:
                begun.acquire()  # for the reason that _interrupt gives
                value = body()
            except BaseException as error:  # the caller decides
                raised = error
        except JobInterrupted:
            pass
        while True:
            try:
                self.hold()
                break
            except JobInterrupted:
                continue
        over.release()
        late = "sent" in self._state or time.perf_counter() >= self._ends
        return (None if late else value), raised, late

    def hold(self) -> None:
        """No interrupt for 10 s beyond the limit, as for clean-up; one that was sent lands in here."""
        if self._seconds is None:
            return
        state = self._state
        while state.setdefault(claimed := state["round"], "held") != "held" or state["round"] != claimed:
            time.sleep(0.0005)  # it is just being sent
        if "sent" in state:
            for _ in range(3):
                time.sleep(0)

    def resume(self) -> None:
        """Interrupts are let in again; where the time is up by now, at once."""
        if self._seconds is not None:
            claimed = self._state["round"]
            if self._state.get(claimed) == "held":  # and not "sent": hold() is to wait for that
                self._state.pop(claimed, None)
            if time.perf_counter() >= self._ends:
                raise JobInterrupted

    def _watch(self, thread: int, seconds: float, begun: _thread.LockType, over: _thread.LockType) -> None:
        begun.release()
        state, wait = self._state, min(seconds, _thread.TIMEOUT_MAX)
        while not over.acquire(timeout=wait):
            if state.setdefault(state["round"], "sent") == "sent":
                _interrupt(thread, JobInterrupted)
                state["sent"] = True
            state["round"] += 1
            wait = AGAIN


def run_limited(seconds: float | None, body: Callable[[], T]) -> tuple[T | None, BaseException | None, bool]:
    """Call `body` under a `Limit`."""
    return Limit(seconds).run(body)


def _interrupt(thread: int, exception: type[BaseException]) -> None:
    """Raise it in that thread, once a thread that it is just starting has begun.

    Until then Python 3.11 gives the new one the id of its starter (init_threadstate in Python/pystate.c):
    the interrupt of a job in `Thread.start` would kill it, and the job would wait for it for ever. Without
    the lock no thread starts another.
    """
    import ctypes  # slow to import: where a job is late

    target, raised = ctypes.c_ulong(thread), ctypes.py_object(exception)
    end = time.perf_counter() + STARTS
    with _threading._active_limbo_lock:
        while _is_starting(thread) and time.perf_counter() < end:
            time.sleep(0.0005)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(target, raised)


def _is_starting(thread: int) -> bool:
    """Whether that thread waits in `Thread.start` for another to begin."""
    if not _threading._limbo:  # nobody does
        return False
    frame = _frames().get(thread)
    while frame is not None and (frame.f_code.co_name, frame.f_globals.get("__name__")) != _START:
        frame = frame.f_back
    new: Any = frame and frame.f_locals.get("self")
    return new in _threading._limbo and new.ident is None


def _frames() -> dict[int, Any]:
    """What each thread runs.

    Python 3.11 holds a lock meanwhile that every thread needs which begins or ends: a garbage collection in
    it, and in that a switch of threads, would stop the process for good.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        found: dict[int, Any] = _sys._current_frames()
    finally:
        if collects:
            gc.enable()
    return found
