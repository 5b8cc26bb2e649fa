"""What is measured within one process."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from time import perf_counter
from typing import Any, Final

import pluggy

from benchmarks.host import SCOPE, TEN_KEYS, Host, aclose, close, round_trip
from benchmarks.measuring import Row, Target, Timer, more, ratio, timed
from sigra_workers import Audit, AuditEvent, Delivery, adispatch, dispatch, hookimpl

US: Final = 1e-6
MS: Final = 1e-3
_LIBRARIES: Final = "import pluggy, typing_extensions, dataclasses, inspect"
_STANDARD: Final = "contextvars, datetime, json, threading"
"""What else of the standard library the core can't be without."""
_IMPORT: Final = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
NOW: Final = 1_800_000_000.5


class Listener:
    """A listener to what a job's run tells, that does nothing."""

    @hookimpl
    def sigra_started(self) -> None:
        """A run begins."""

    @hookimpl
    def sigra_finished(self) -> None:
        """A run ended."""


class NullSink:
    """A sink that keeps nothing."""

    def write(self, event: AuditEvent, /) -> None:
        """Keep nothing."""


class InProcess:
    """The calls that are measured in one process, ours and the bare ones beside them."""

    def __init__(self) -> None:
        self.host = Host()
        self.heard = Host(plugins=[Listener()])
        self.text = self.host.sync.new(TEN_KEYS).payload(NOW).dump()
        self.atext = self.host.asynchronous.new(TEN_KEYS).payload(NOW).dump()

    round_trip = staticmethod(round_trip)

    def new(self) -> object:
        """Check the args and make a job."""
        return self.host.sync.new(TEN_KEYS)

    def load_and_call(self) -> object:
        """What is left of a dispatch without the contract."""
        return close(SCOPE, json.loads(self.text)["args"])

    def dispatch(self) -> object:
        """Run a job in this thread."""
        return dispatch(self.host.workers, Delivery(self.text))

    def dispatch_with_listener(self) -> object:
        """The same, heard."""
        return dispatch(self.heard.workers, Delivery(self.text))


def on_loop(call: Callable[[], Awaitable[object]]) -> Timer:
    """A timer of what is awaited, on one event loop."""
    runner = asyncio.Runner()

    async def repeat(loops: int) -> float:
        begun = perf_counter()
        for _ in range(loops):
            await call()
        return perf_counter() - begun

    return lambda loops: runner.run(repeat(loops))


def rows() -> Iterator[Row]:
    """The rows of the core."""
    one = InProcess()
    yield Row(
        "core",
        "`handle.new`, ten keys, against `json.dumps` and `json.loads` of them",
        Target(2.5, "x"),
        {"ours": timed(one.new), "bare": timed(one.round_trip)},
        ratio(),
        2_000,
    )
    yield Row(
        "core",
        "`dispatch` of a `def` worker, against `json.loads` of the payload and a call",
        Target(4, "x"),
        {"ours": timed(one.dispatch), "bare": timed(one.load_and_call)},
        ratio(),
        1_000,
    )
    yield from _handed_over(one)
    yield _listener(one)
    yield from _audit()
    yield _import()


def on_one_core(timer: Timer) -> Timer:
    """A timer of threads that share a core: between two, the time is that of waking up a core."""

    def timed_there(loops: int) -> float:
        cores = os.sched_getaffinity(0)
        _run_on({min(cores)})
        try:
            return timer(loops)
        finally:
            _run_on(cores)

    return timed_there


def _run_on(cores: set[int]) -> None:
    for thread in threading.enumerate():  # those that they start go where they are
        os.sched_setaffinity(thread.native_id or 0, cores)


def _handed_over(one: InProcess) -> Iterator[Row]:
    workers = one.host.workers

    async def atask() -> object:
        async def body() -> object:
            return await aclose(SCOPE, json.loads(one.atext)["args"])

        return await asyncio.create_task(body())

    yield Row(
        "core",
        "`adispatch` of an `async def` worker, against a task that loads the payload and calls",
        Target(None, "x"),
        {"ours": on_loop(lambda: adispatch(workers, Delivery(one.atext))), "bare": on_loop(atask)},
        ratio(),
        500,
    )
    yield Row(
        "core",
        "`adispatch` of a `def` worker, against `asyncio.to_thread` of loading the payload and a call",
        Target(1.3, "x"),
        {
            "ours": on_one_core(on_loop(lambda: adispatch(workers, Delivery(one.text)))),
            "bare": on_one_core(on_loop(lambda: asyncio.to_thread(one.load_and_call))),
            "floor": on_one_core(on_loop(lambda: asyncio.to_thread(one.dispatch))),
        },
        ratio(),
        1_000,
    )
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def load_and_call() -> object:
        return await aclose(SCOPE, json.loads(one.atext)["args"])

    async def dispatch_there() -> object:
        return one.dispatch()

    def across(body: Callable[[], Coroutine[Any, Any, object]]) -> Timer:
        return on_one_core(timed(lambda: asyncio.run_coroutine_threadsafe(body(), loop).result()))

    yield Row(
        "core",
        "`dispatch` of an `async def` worker, against handing a coroutine to another thread's loop",
        Target(1.3, "x"),
        {
            "ours": on_one_core(timed(lambda: dispatch(workers, Delivery(one.atext)))),
            "bare": across(load_and_call),
            "floor": across(dispatch_there),
        },
        ratio(),
        1_000,
    )


def _listener(one: InProcess) -> Row:
    two = Host(plugins=[Listener(), Listener()])
    spec, impl = pluggy.HookspecMarker("bare"), pluggy.HookimplMarker("bare")

    class Spec:
        @spec
        def called(self) -> None: ...

    class Heard:
        @impl
        def called(self) -> None:
            """Do nothing."""

    manager = pluggy.PluginManager("bare")
    manager.add_hookspecs(Spec)
    manager.register(Heard())
    call: Any = manager.hook.called

    def both() -> None:
        call()
        call()

    return Row(
        "core",
        "one more listener to a run's begin and end, beyond two calls of pluggy",
        Target(2, "us"),
        {
            "ours": timed(lambda: dispatch(two.workers, Delivery(one.text))),
            "bare": timed(one.dispatch_with_listener),
            "pluggy": timed(both),
        },
        lambda seconds: (seconds["ours"] - seconds["bare"] - seconds["pluggy"]) / US,
        1_000,
    )


def _audit() -> Iterator[Row]:
    sink = NullSink()
    audit = Audit(sink)
    event = audit.log("account.closed", SCOPE, target_type="account", target_id="acc_77b1")
    yield Row(
        "audit",
        "`log_safe` to a sink that keeps nothing, beyond that sink",
        Target(5, "us"),
        {
            "ours": timed(lambda: audit.log_safe("account.closed", SCOPE, target_id="acc_77b1")),
            "bare": timed(lambda: sink.write(event)),
        },
        more(US),
        1_000,
    )


def _import() -> Row:
    def process(code: str) -> Timer:
        def timer(loops: int) -> float:
            total = 0.0
            for _ in range(loops):
                done = subprocess.run(  # noqa: S603  # this Python
                    [sys.executable, "-c", _IMPORT.format(code)],
                    capture_output=True,
                    check=True,
                    text=True,
                    env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # or all is compiled each time
                )
                total += float(done.stdout)
            return total

        return timer

    return Row(
        "core",
        "`import sigra_workers`, beyond `import pluggy, typing_extensions, dataclasses, inspect`",
        Target(15, "ms"),
        {
            "ours": process("import sigra_workers"),
            "bare": process(_LIBRARIES),
            "floor": process(f"{_LIBRARIES}, {_STANDARD}"),
        },
        more(MS),
        1,
    )
