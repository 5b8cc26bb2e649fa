"""Time-outs: what is interrupted, what counts as late, and that no interrupt ever escapes."""

import asyncio
import gc
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from types import NoneType, SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from tests.support import KEYS, MODES, Builder, Host, Mode, after, completed, dead

from sigra_workers import (
    Again,
    AuditScope,
    Complete,
    Delivery,
    Error,
    JobTimeoutError,
    Ok,
    Snooze,
    TenantArgs,
    adispatch,
    dispatch,
    timeouts,
)
from sigra_workers.timeouts import JobInterrupted, Limit, run_limited

T = TypeVar("T")
LIMIT = 0.05
CALM = 0.4  # where something must have begun before it
WAYS = ("dispatch", "adispatch")


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


def spin(seconds: float) -> None:
    """Run Python for so long, where an interrupt can come at any time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def threads(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls return, each in a thread of its own."""
    results: list[T] = []
    started = [
        threading.Thread(target=lambda call=call: results.append(call()), daemon=True) for call in calls
    ]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(30)
    assert not any(thread.is_alive() for thread in started), "it hangs"
    return results


def limited(mode: Mode, perform: Callable[..., Any], **options: Any) -> Host:
    """A host whose worker is `perform` as it is, on its last attempt."""
    host = Host(mode, **options)
    host.handle = host.workers.declare("accounts.close", TenantArgs, timeout=LIMIT, max_attempts=1)
    host.handle.implement(perform)
    return host


def timed_out(host: Host) -> bool:
    started = time.perf_counter()
    error = dead(host.run()).error
    assert time.perf_counter() - started < 5
    return isinstance(error, JobTimeoutError)


# -- through dispatch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_def_worker_is_interrupted_when_python_next_runs(way: Any) -> None:
    def perform(scope: Any, args: Any) -> Ok[None]:
        spin(60)
        return Ok()

    assert timed_out(limited(Mode(way, "def"), perform))


@pytest.mark.parametrize("way", WAYS)
def test_an_async_worker_is_interrupted_where_it_waits(way: Any) -> None:
    async def perform(scope: Any, args: Any) -> Ok[None]:
        await asyncio.sleep(60)
        return Ok()

    assert timed_out(limited(Mode(way, "async def"), perform))


@pytest.mark.parametrize("result", [Ok(), Error("busy"), Snooze(1), None])
@pytest.mark.parametrize("way", WAYS)
def test_a_def_worker_that_swallows_the_interrupt_is_late(way: Any, result: Any) -> None:
    def perform(scope: Any, args: Any) -> Any:
        try:
            spin(60)
        except BaseException:
            return result

    assert timed_out(limited(Mode(way, "def"), perform))


@pytest.mark.parametrize("way", WAYS)
def test_an_async_worker_that_swallows_the_interrupt_is_late(way: Any) -> None:
    async def perform(scope: Any, args: Any) -> Ok[None]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return Ok()

    assert timed_out(limited(Mode(way, "async def"), perform))


def test_a_body_that_blocks_beyond_its_limit_is_late(mode: Mode) -> None:
    host = Host(mode).worker(after(lambda args: time.sleep(0.1), Ok()), timeout=LIMIT, max_attempts=1)
    assert timed_out(host)


def test_an_error_beyond_the_limit_is_a_time_out(mode: Mode) -> None:
    def perform(scope: Any, args: Any) -> None:
        time.sleep(0.1)
        raise ValueError("late")

    error = dead(Host(mode).worker(perform, timeout=LIMIT, max_attempts=1).run()).error
    assert isinstance(error, JobTimeoutError)
    assert error.seconds == LIMIT


def test_a_job_within_its_limit_completes(mode: Mode) -> None:
    host = Host(mode).worker(lambda scope, args: Ok(1), timeout=5)
    assert completed(host.run()) == 1


def test_a_time_out_leaves_a_retry_where_attempts_are_left(mode: Mode) -> None:
    host = Host(mode).worker(after(lambda args: time.sleep(0.1), Ok()), timeout=LIMIT)
    outcome = host.run()
    assert isinstance(outcome, Again)
    assert (outcome.why, outcome.payload.attempt) == ("retry", 2)
    assert isinstance(host.told.of("finished")["exception"], JobTimeoutError)


def test_a_time_out_may_be_in_cancel_on(mode: Mode) -> None:
    host = Host(mode).worker(after(lambda args: time.sleep(0.1), Ok()), timeout=LIMIT)
    host.handle.cancel_on = (TimeoutError,)  # what perform raises, and no time-out of ours
    assert isinstance(host.run(), Again)
    host.handle.cancel_on = (JobTimeoutError,)
    assert dead(host.run()).reason.startswith("cancelled: JobTimeoutError")


def test_a_timeout_error_of_the_hosts_own_is_an_ordinary_error(mode: Mode) -> None:
    def perform(scope: Any, args: Any) -> None:
        raise TimeoutError("the bank did not answer")

    error = dead(Host(mode).worker(perform, timeout=5, max_attempts=1).run()).error
    assert type(error) is TimeoutError


def test_the_limit_of_a_job_wins(mode: Mode) -> None:
    host = Host(mode).worker(after(lambda args: time.sleep(0.1), Ok(1)), timeout=LIMIT)
    assert completed(host.run(timeout=5)) == 1


def test_a_cancellation_after_the_time_out_wins() -> None:
    begun = threading.Event()

    async def perform(scope: Any, args: Any) -> Ok[None]:
        try:
            await asyncio.sleep(60)
        finally:
            begun.set()
            await asyncio.sleep(60)
        return Ok()

    host = limited(Mode("adispatch", "async def"), perform)

    async def main() -> None:
        task = asyncio.create_task(adispatch(host.workers, Delivery(host.payload().dump())))
        assert await asyncio.to_thread(begun.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert host.told.of("finished")["decision"] is None


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_from_outside_after_the_time_out_wins(way: Any) -> None:
    def perform(scope: Any, args: Any) -> None:
        try:
            spin(60)
        except BaseException:
            raise KeyboardInterrupt from None

    host = Host(Mode(way, "def")).worker(perform, timeout=CALM)
    with pytest.raises(KeyboardInterrupt):
        host.run()
    assert host.told.of("finished")["decision"] is None


@pytest.mark.parametrize("kind", ["def", "async def", "awaitable"])
def test_the_scope_builder_is_within_the_limit(mode: Mode, kind: str) -> None:
    ran: list[object] = []

    def blocking(args: Any) -> AuditScope:
        spin(60 if mode.kind == "def" else 0.1)  # beside an event loop its thread can't be stopped
        return AuditScope(None, None)

    async def waiting(args: Any) -> AuditScope:
        await asyncio.sleep(60)
        return AuditScope(None, None)

    builder = Builder("def", blocking)
    if kind != "def":
        builder.build = waiting if kind == "async def" else lambda args: waiting(args)
    host = Host(mode, scope_builder=builder)
    host.worker(after(ran.append, Ok()), timeout=LIMIT, max_attempts=1)
    assert timed_out(host)
    assert ran == []


@pytest.mark.parametrize("kind", ["async def", "awaitable"])
def test_a_timeout_error_of_the_scope_builders_own_is_an_ordinary_error(mode: Mode, kind: str) -> None:
    async def build(args: Any) -> AuditScope:
        raise TimeoutError("the database did not answer")

    builder = Builder("def", build if kind == "async def" else lambda args: build(args))
    host = Host(mode, scope_builder=builder).worker(lambda scope, args: Ok(), timeout=5, max_attempts=1)
    assert type(dead(host.run()).error) is TimeoutError


def test_scope_builder_and_perform_share_one_limit(mode: Mode) -> None:
    host = Host(mode, scope_builder=Builder("async def", lambda args: time.sleep(0.06)))
    host.worker(after(lambda args: time.sleep(0.06), Ok()), timeout=0.1, max_attempts=1)
    assert timed_out(host)


def test_a_session_that_is_slow_to_open_or_close_is_not_torn(mode: Mode) -> None:
    notes: list[str] = []
    host = Host(mode)

    @host.workers.around
    def session(job: Any, scope: Any, args: Any) -> Generator[None]:
        spin(CALM * 1.5)
        notes.append("open")
        try:
            yield
        finally:
            spin(CALM * 1.5)
            notes.append("closed")

    host.worker(after(lambda args: notes.append("ran"), Ok()), timeout=CALM, max_attempts=1)
    assert timed_out(host)
    assert [note for note in notes if note != "ran"] == ["open", "closed"]
    assert mode.kind == "async def" or "ran" not in notes


def test_the_limit_is_off_before_the_decision(mode: Mode) -> None:
    host = Host(mode)

    def backoff(attempt: int) -> float:
        spin(0.2)
        return 7

    host.worker(lambda scope, args: Error("busy"), timeout=0.1, backoff=backoff)
    outcome = host.run()
    assert isinstance(outcome, Again)
    assert outcome.due_at == host.clock() + 7


def test_a_hand_made_limit_of_zero_is_a_time_out_not_a_hang() -> None:
    host = Host().worker(after(lambda args: spin(60), Ok()), max_attempts=1)
    text = host.payload().dump().replace('"timeout":null', '"timeout":0')
    assert isinstance(dead(host.deliver(text)).error, JobTimeoutError)


# -- the watchdog itself -------------------------------------------------------------------------------


def test_without_a_limit_the_watchdog_only_calls() -> None:
    assert run_limited(None, lambda: 3) == (3, None, False)


@pytest.mark.parametrize("limit", [None, 5.0])
def test_the_watchdog_hands_over_what_was_raised(limit: float | None) -> None:
    error = KeyboardInterrupt()

    def body() -> None:
        raise error

    assert run_limited(limit, body) == (None, error, False)


def test_the_interrupt_passes_a_broad_except() -> None:
    def body() -> str:
        try:
            spin(60)
        except Exception:
            return "caught"
        return "done"

    value, error, late = run_limited(LIMIT, body)
    assert (value, type(error), late) == (None, JobInterrupted, True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_that_starts_threads_is_interrupted_and_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "AGAIN", 0.05)  # one may be lost in the callback of a weak reference

    def body() -> None:
        while True:
            threading.Thread(target=int).start()

    started = time.perf_counter()
    assert [run_limited(0.003, body)[2] for _ in range(100)] == [True] * 100
    assert time.perf_counter() - started < 10


def test_a_limit_beyond_what_a_lock_can_wait_for_is_none() -> None:
    assert run_limited(1e12, partial(pow, 2, 3)) == (8, None, False)


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_threads_are_looked_at(
    collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = SimpleNamespace(_current_frames=lambda: {0: gc.isenabled()})
    monkeypatch.setattr(timeouts, "_sys", fake)
    (gc.enable if collects else gc.disable)()
    try:
        assert timeouts._frames() == {0: False}
        assert gc.isenabled() == collects
    finally:
        gc.enable()


@pytest.fixture
def switching_often() -> Generator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


JOBS, THREADS = 200, 8


def near(limit: float) -> float:
    """A length within a few milliseconds of the limit."""
    return max(0.0, limit + random.uniform(-0.003, 0.003))


def sleep_then_spin(seconds: float) -> None:
    """Run Python only around the limit, so that many threads get there together."""
    time.sleep(seconds * 0.7)
    spin(seconds * 0.3)


def following() -> None:
    """Code after a job, that no interrupt may hit."""
    spin(0.0002)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # one may land in a GC callback
@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("how", ["spins", "sleeps", "swallows"])
def test_calls_that_end_near_their_limit_never_leak_the_interrupt(how: str) -> None:
    def body(seconds: float) -> str:
        try:
            (time.sleep if how == "sleeps" else sleep_then_spin)(seconds)
        except JobInterrupted:
            if how != "swallows":
                raise
        return "done"

    def work() -> list[bool]:
        endings: list[bool] = []
        for _ in range(JOBS // 2):
            limit = random.uniform(0.002, 0.008)
            value, error, late = run_limited(limit, partial(body, near(limit)))
            following()
            assert value == (None if late else "done")
            assert isinstance(error, JobInterrupted if late and error else NoneType)
            endings.append(late)
        return endings

    endings = threads([work] * (THREADS // 2))
    assert [len(found) for found in endings] == [JOBS // 2] * (THREADS // 2)
    assert {*chain(*endings)} == {True, False}


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # one may land in a GC callback
@pytest.mark.usefixtures("switching_often")
def test_jobs_that_end_near_their_limit_complete_or_time_out_and_leave_their_arounds() -> None:
    host = Host()
    inside: set[str] = set()

    @host.workers.around
    def session(job: Any, scope: Any, args: Any) -> Generator[None]:
        inside.add(job.id)
        try:
            yield
        finally:
            inside.discard(job.id)

    class NearArgs(TenantArgs):
        seconds: float

    host.worker(after(lambda args: sleep_then_spin(args["seconds"]), Ok()), NearArgs, max_attempts=1)

    def work() -> Counter[str]:
        counts: Counter[str] = Counter()
        for _ in range(JOBS):
            limit = random.uniform(0.002, 0.006)
            payload = host.payload({**KEYS, "seconds": near(limit)}, timeout=limit)
            outcome = dispatch(host.workers, Delivery(payload.dump()))
            following()
            counts["complete" if isinstance(outcome, Complete) else type(dead(outcome).error).__name__] += 1
        return counts

    counts = sum(threads([work] * THREADS), Counter[str]())
    assert {*counts} == {"complete", "JobTimeoutError"}
    assert counts.total() == JOBS * THREADS
    assert inside == set()
    decisions = Counter(facts["decision"] for name, facts in host.told.calls if name == "finished")
    assert decisions == {"complete": counts["complete"], "dead": counts["JobTimeoutError"]}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog in threads that coverage sees: it hooks into those of `threading` alone."""

    def start(function: Callable[..., object], args: tuple[Any, ...]) -> None:
        threading.Thread(target=function, args=args, daemon=True).start()

    monkeypatch.setattr("_thread.start_new_thread", start)


@pytest.mark.usefixtures("measured")
def test_a_swallowed_interrupt_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "AGAIN", 0.05)
    swallowed: list[BaseException] = []

    def body() -> None:
        for _ in range(2):
            try:
                spin(60)
            except BaseException as error:
                swallowed.append(error)
        spin(60)

    value, error, late = run_limited(LIMIT, body)
    assert [type(found) for found in (*swallowed, error)] == [JobInterrupted] * 3
    assert (value, late) == (None, True)


@pytest.mark.usefixtures("measured")
def test_no_interrupt_comes_while_a_limit_is_held() -> None:
    limit = Limit(LIMIT)
    notes: list[str] = []

    def body() -> None:
        limit.hold()
        spin(LIMIT * 2)
        notes.append("held")
        limit.resume()
        notes.append("resumed")

    value, error, late = limit.run(body)
    assert (value, type(error), late, notes) == (None, JobInterrupted, True, ["held"])


@pytest.mark.usefixtures("measured")
def test_an_interrupt_comes_where_a_limit_is_resumed_in_time() -> None:
    limit = Limit(CALM)

    def body() -> None:
        limit.hold()
        limit.resume()
        spin(60)

    _, error, late = limit.run(body)
    assert (type(error), late) == (JobInterrupted, True)


@pytest.mark.usefixtures("measured")
def test_clean_up_without_end_is_interrupted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "AGAIN", 0.05)
    limit = Limit(LIMIT)

    def body() -> None:
        limit.hold()
        spin(60)

    _, error, late = limit.run(body)
    assert (type(error), late) == (JobInterrupted, True)


@pytest.mark.parametrize("sent_late", [False, True])
def test_an_interrupt_that_is_just_being_sent_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, sent_late: bool
) -> None:
    """`sent_late` is after `resume`, which must not take the interrupt for one that is held."""
    taken = threading.Event()
    send = timeouts._interrupt

    def interrupt(thread: int, exception: type[BaseException]) -> None:
        taken.set()
        time.sleep(0.05)  # meanwhile the body ends
        send(thread, exception)

    monkeypatch.setattr(timeouts, "_interrupt", interrupt)
    limit = Limit(0.001)

    def body() -> None:
        taken.wait(5)
        if sent_late:
            limit.resume()

    assert limit.run(body)[2]
    following()


@pytest.mark.usefixtures("measured")
def test_an_interrupt_waits_for_a_thread_to_begin_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "_is_starting", lambda thread: True)
    monkeypatch.setattr(timeouts, "STARTS", 0.1)
    started = time.perf_counter()
    assert run_limited(LIMIT, partial(spin, 60))[2]
    assert LIMIT + 0.1 <= time.perf_counter() - started < 5


def test_no_thread_is_looked_at_where_none_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "_threading", SimpleNamespace(_limbo={}))
    monkeypatch.setattr(timeouts, "_frames", None)
    assert not timeouts._is_starting(threading.get_ident())


def test_a_thread_starts_another_until_that_has_begun() -> None:
    may_begin = threading.Event()

    class Slow(threading.Thread):
        def _bootstrap(self) -> None:
            may_begin.wait(5)
            cast(Any, super())._bootstrap()

    starter = threading.Thread(target=Slow().start)
    starter.start()
    end = time.perf_counter() + 5
    while not timeouts._is_starting(cast(int, starter.ident)) and time.perf_counter() < end:
        time.sleep(0.001)
    assert timeouts._is_starting(cast(int, starter.ident))
    may_begin.set()
    starter.join()
    assert not timeouts._is_starting(cast(int, starter.ident))


def test_a_body_begins_once_its_watchdog_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = threading.Event()

    def start(function: Callable[..., object], args: tuple[Any, ...]) -> None:
        def late() -> None:
            time.sleep(0.05)
            watching.set()
            function(*args)

        threading.Thread(target=late, daemon=True).start()

    monkeypatch.setattr("_thread.start_new_thread", start)
    assert run_limited(5, watching.is_set) == (True, None, False)
