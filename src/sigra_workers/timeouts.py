"""The watchdog of synchronous code: interrupts the thread of a job when its time is up."""

import _thread
import ctypes
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class JobInterrupted(BaseException):
    """Raised inside a job whose time is up; not an `Exception`, so that a broad `except` lets it pass."""


def run_limited(seconds: float | None, body: Callable[[], T]) -> tuple[T | None, BaseException | None, bool]:
    """Call `body` and return its value, what it raised, and whether its time was up first.

    The interrupt comes when Python next runs in this thread: a call that blocks in C ends first. Between
    arming and disarming this thread takes no lock, as the interrupt may come anywhere; who may act is
    decided by the atomic pop of a one-element list.
    """
    if seconds is None:
        try:
            return body(), None, False
        except BaseException as error:  # the caller decides
            return None, error, False
    value: T | None = None
    raised: BaseException | None = None
    token, fired = [None], list[None]()
    begun, over = _thread.allocate_lock(), _thread.allocate_lock()
    begun.acquire()
    over.acquire()
    thread = _thread.get_ident()

    def watch() -> None:
        begun.release()
        if over.acquire(timeout=min(seconds, _thread.TIMEOUT_MAX)) or not _take(token):
            return
        _interrupt(thread, JobInterrupted)
        fired.append(None)

    try:
        _thread.start_new_thread(watch, ())
        try:
            # Until a thread has begun, Python 3.11 gives it the id of the one that starts it
            # (init_threadstate in Python/pystate.c): an interrupt of this thread would go to the watchdog.
            begun.acquire()
            value = body()
        except BaseException as error:  # the caller decides
            raised = error
        if _take(token):
            over.release()
            return value, raised, False
        # The interrupt was sent, or is just being sent: be sure that it has landed before going on.
        while not fired:
            time.sleep(0.0005)
        for _ in range(3):
            time.sleep(0)
    except JobInterrupted:
        pass
    return None, raised, True


def _take(token: list[None]) -> bool:
    try:
        token.pop()
    except IndexError:
        return False
    return True


def _interrupt(thread: int, exception: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))
