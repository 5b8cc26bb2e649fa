"""One event loop a process, and threads beside a loop."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from textwrap import dedent
from typing import Any, NoReturn

import pytest
from tests.support import MODES, Host, completed

from sigra_workers import Ok
from sigra_workers.loops import in_thread, process_loop, run

HERE: ContextVar[str] = ContextVar("HERE", default="none")


async def loop_here() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def sleeping(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


def script(text: str) -> str:
    """What a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(text)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- the loop ------------------------------------------------------------------------------------------


def test_a_coroutine_gives_its_value() -> None:
    assert run(sleeping(0)) == "slept"


def test_a_coroutine_may_take_longer_than_one_look_at_it() -> None:
    assert run(sleeping(0.3)) == "slept"


def test_every_job_and_thread_has_the_same_loop() -> None:
    found: list[object] = [run(loop_here()), process_loop()]
    threads = [threading.Thread(target=lambda: found.append(run(loop_here()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert len({*map(id, found)}) == 1


def test_async_workers_without_a_loop_of_their_queue_share_one() -> None:
    host = Host(MODES[1])

    async def perform(scope: Any, args: Any) -> Ok[asyncio.AbstractEventLoop]:
        return Ok(asyncio.get_running_loop())

    host.exact(perform)
    assert completed(host.run()) is completed(host.run()) is process_loop()


def test_coroutines_of_many_threads_run_at_the_same_time() -> None:
    barrier = asyncio.Barrier(4)

    async def meet() -> bool:
        async with asyncio.timeout(5):
            await barrier.wait()
        return True

    met: list[bool] = []
    threads = [threading.Thread(target=lambda: met.append(run(meet()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [True] * 4


def test_a_coroutine_sees_the_context_of_its_caller_and_leaves_nothing_in_it() -> None:
    async def read_and_set() -> str:
        before = HERE.get()
        HERE.set("coroutine")
        return before

    token = HERE.set("caller")
    try:
        assert run(read_and_set()) == "caller"
        assert HERE.get() == "caller"
    finally:
        HERE.reset(token)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_a_coroutine_raises_reaches_the_caller(kind: type[BaseException]) -> None:
    async def failing() -> NoReturn:
        raise kind

    with pytest.raises(kind):
        run(failing())
    assert run(sleeping(0)) == "slept"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_task_that_ends_the_process_does_not_kill_the_loop(kind: type[BaseException]) -> None:
    loop = process_loop()

    async def exiting() -> NoReturn:
        raise kind

    async def parent() -> str:
        child = asyncio.create_task(exiting())
        await asyncio.wait([child])
        return type(child.exception()).__name__

    assert run(parent()) == kind.__name__
    assert run(loop_here()) is loop


def test_host_code_that_stops_the_loop_stops_nothing() -> None:
    async def stopping() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "went on"

    assert run(stopping()) == "went on"
    assert run(sleeping(0)) == "slept"


def test_a_forked_process_has_a_loop_and_threads_of_its_own() -> None:
    printed = script(
        """
        import asyncio, os, warnings
        from sigra_workers.loops import in_thread, process_loop, run

        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tried

        async def answer():
            return await in_thread(lambda: 42)

        before = process_loop()
        assert run(answer()) == 42
        child = os.fork()
        if not child:
            ok = run(answer()) == 42 and process_loop() is not before
            os._exit(0 if ok else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), run(answer()), process_loop() is before)
        """
    )
    assert printed == "0 42 True\n"


class Stop(BaseException):
    """Raised by a signal handler."""


def interrupted(coroutine: Callable[[threading.Event], Any], **options: Any) -> None:
    """Run a coroutine and interrupt the wait for it by a signal, once it has begun."""

    def handler(*_: object) -> NoReturn:
        raise Stop

    begun = threading.Event()
    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        begun.wait(5)
        signal.pthread_kill(main, signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Stop):
            run(coroutine(begun), **options)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupted_caller_cancels_the_coroutine_and_waits_for_its_end() -> None:
    notes: list[str] = []

    async def body(begun: threading.Event) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            notes.append("cancelled")
            await asyncio.sleep(0.1)
            notes.append("ended")

    interrupted(body, stopping=lambda: notes.append("stopping"))
    assert notes == ["stopping", "cancelled", "ended"]


def test_what_an_interrupted_coroutine_raises_is_not_logged_as_overlooked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body(begun: threading.Event) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("s3cr3t-value")

    interrupted(body)
    run(sleeping(0))
    gc.collect()
    assert caplog.text == ""


def test_an_interrupt_before_the_coroutine_begins_never_lets_it_run(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = process_loop()
    ran: list[str] = []

    def interrupted_once(*args: Any) -> Any:
        monkeypatch.undo()
        raise Stop

    async def body() -> None:
        ran.append("body")

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted_once)
    with pytest.raises(Stop):
        run(body())
    assert (run(sleeping(0)), ran) == ("slept", [])


def test_an_interrupted_job_of_an_async_worker_has_no_decision() -> None:
    host = Host(MODES[1])
    begun = threading.Event()

    async def perform(scope: Any, args: Any) -> Ok[None]:
        begun.set()
        with suppress(asyncio.CancelledError):  # host code may swallow it
            await asyncio.sleep(60)
        return Ok()

    host.exact(perform)

    def handler(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)

    def send() -> None:
        if begun.wait(5):
            os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            host.run()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert host.told.names == ["started", "finished"]
    assert host.told.of("finished")["decision"] is None


# -- threads -------------------------------------------------------------------------------------------


def test_a_call_in_a_thread_gives_its_value() -> None:
    def add(a: int, *, b: int) -> tuple[int, bool]:
        return a + b, threading.current_thread() is threading.main_thread()

    assert asyncio.run(in_thread(add, 1, b=2)) == (3, False)


def test_a_call_in_a_thread_sees_the_context_of_its_caller_and_leaves_nothing_in_it() -> None:
    def read_and_set() -> str:
        before = HERE.get()
        HERE.set("thread")
        return before

    async def main() -> tuple[str, str]:
        HERE.set("caller")
        return await in_thread(read_and_set), HERE.get()

    assert asyncio.run(main()) == ("caller", "caller")


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_a_call_in_a_thread_raises_reaches_the_caller(kind: type[BaseException]) -> None:
    def failing() -> NoReturn:
        raise kind("why")

    async def main() -> None:
        with pytest.raises(kind, match="why"):
            await in_thread(failing)

    asyncio.run(main())


def test_a_stop_iteration_of_a_call_in_a_thread_reaches_the_caller_as_a_runtime_error() -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await in_thread(lambda: next(iter(())))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(main())


@pytest.mark.parametrize("times", [1, 4])
def test_a_cancelled_caller_waits_for_the_thread(times: int) -> None:
    begun, ended = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        ended.wait(0.1)
        ended.set()

    async def main() -> None:
        task = asyncio.create_task(in_thread(call))
        assert await asyncio.to_thread(begun.wait, 5)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.005)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(main())
