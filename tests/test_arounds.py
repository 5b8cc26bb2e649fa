"""Arounds: host code around `perform`, in its thread or task and context."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
from tests.support import KEYS, MODES, Host, Mode, after, again, completed, dead

from sigra_workers import Cancel, Error, InvalidWorkerError, JobInfo, JobTimeoutError, Ok, Snooze, TenantArgs

TENANT: ContextVar[str] = ContextVar("TENANT", default="none")


def add(host: Host, kind: str, around: Callable[[Any, Any, Any], Generator[None]]) -> None:
    """Register the around as it is, or as an `async def` one."""
    if kind == "def":
        host.workers.around(around)
        return

    async def twin(job: Any, scope: Any, args: Any) -> AsyncGenerator[None]:
        generator = around(job, scope, args)
        next(generator)
        try:
            await asyncio.sleep(0)
            yield
        except BaseException as error:
            try:
                generator.throw(error)
            except StopIteration:
                return
            raise AssertionError("yielded twice") from error
        else:
            next(generator, None)

    host.workers.around(twin)


@pytest.fixture(
    params=[(mode, "def") for mode in MODES] + [(mode, "async def") for mode in MODES if mode.kind != "def"],
    ids=lambda found: f"{found[0].way}-{found[0].kind}-in-{found[1]}",
)
def host_and_kind(request: pytest.FixtureRequest) -> tuple[Host, str]:
    """A host, and a kind of around that its worker can have."""
    return Host(request.param[0]), request.param[1]


def noting(notes: list[str], name: str = "around") -> Callable[[Any, Any, Any], Generator[None]]:
    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        notes.append(f"enter {name}")
        try:
            yield
        except BaseException as error:
            notes.append(f"{type(error).__name__} in {name}")
            raise
        else:
            notes.append(f"leave {name}")

    return around


def test_arounds_nest_in_the_order_of_registration(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind
    notes: list[str] = []
    for name in ("a", "b"):
        add(host, kind, noting(notes, name))
    host.worker(after(lambda args: notes.append("perform"), Ok(1)))
    assert completed(host.run()) == 1
    assert notes == ["enter a", "enter b", "perform", "leave b", "leave a"]


def test_an_around_gets_job_scope_and_args(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind
    seen: list[Any] = []

    def around(job: JobInfo, scope: Any, args: TenantArgs) -> Generator[None]:
        seen.extend([job, scope, {**args}])
        yield

    add(host, kind, around)
    host.worker(lambda scope, args: Ok(scope))
    payload = host.payload()
    scope = completed(host.deliver(payload))
    assert seen == [payload.info(), scope, KEYS]


def test_an_around_shares_thread_task_and_context_with_perform(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind
    seen: list[object] = []

    def here() -> tuple[int, object]:
        try:
            return threading.get_ident(), asyncio.current_task()
        except RuntimeError:
            return threading.get_ident(), None

    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        seen.append(here())
        TENANT.set(args["organization_id"])
        yield
        seen.append((here(), TENANT.get()))

    def perform(scope: Any, args: Any) -> Ok[str]:
        seen.append(here())
        tenant = TENANT.get()
        TENANT.set("perform")
        return Ok(tenant)

    add(host, kind, around)
    host.worker(perform)
    assert completed(host.run()) == "org-1"
    assert seen == [seen[0], seen[0], (seen[0], "perform")]
    assert TENANT.get() == "none"


@pytest.mark.parametrize("result", [Error("busy"), Snooze(1), Cancel("hold"), None])
def test_a_returned_result_leaves_an_around_normally(host_and_kind: tuple[Host, str], result: object) -> None:
    host, kind = host_and_kind
    notes: list[str] = []
    add(host, kind, noting(notes))
    host.worker(lambda scope, args: result).run()
    assert notes == ["enter around", "leave around"]


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), GeneratorExit(), StopIteration()])
def test_an_around_sees_what_perform_raised(host_and_kind: tuple[Host, str], error: BaseException) -> None:
    host, kind = host_and_kind
    notes: list[str] = []
    add(host, kind, noting(notes))

    def perform(scope: Any, args: Any) -> None:
        raise error

    outcome = dead(host.worker(perform, max_attempts=1).run())
    if isinstance(error, StopIteration) and host.mode.kind == "async def":
        error = RuntimeError()  # what a coroutine makes of one
    assert notes == ["enter around", f"{type(error).__name__} in around"]
    assert type(outcome.error) is type(error)


def test_an_around_is_left_after_an_interrupt_from_outside(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind
    notes: list[str] = []
    add(host, kind, noting(notes))

    def perform(scope: Any, args: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.worker(perform).run()
    assert notes == ["enter around", "KeyboardInterrupt in around"]


def test_an_around_is_left_after_a_time_out(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind
    notes: list[str] = []
    add(host, kind, noting(notes))
    host.handle = host.workers.declare("accounts.close", TenantArgs, timeout=0.05, max_attempts=1)
    if host.mode.kind == "def":

        @host.handle.implement
        def perform(scope: Any, args: Any) -> Ok[None]:
            while True:
                threading.Event().wait(0.001)

    else:

        @host.handle.implement
        async def aperform(scope: Any, args: Any) -> Ok[None]:
            await asyncio.sleep(60)
            return Ok()

    assert isinstance(dead(host.run()).error, JobTimeoutError)
    interrupt = "JobInterrupted" if host.mode.kind == "def" else "CancelledError"
    assert notes == ["enter around", f"{interrupt} in around"]


@pytest.mark.parametrize("when", ["entry", "exit"])
def test_an_around_that_raises_counts_as_perform_raising(host_and_kind: tuple[Host, str], when: str) -> None:
    host, kind = host_and_kind
    ran: list[object] = []

    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        if when == "entry":
            raise OSError("no connection")
        yield
        raise OSError("commit failed")

    add(host, kind, around)
    outcome = dead(host.worker(after(ran.append, Ok()), max_attempts=1).run())
    assert isinstance(outcome.error, OSError)
    assert len(ran) == (when == "exit")


@pytest.mark.parametrize("yields", [0, 2])
def test_an_around_that_does_not_yield_once_counts_as_raised(
    host_and_kind: tuple[Host, str], yields: int
) -> None:
    host, kind = host_and_kind

    async def uneven(job: Any, scope: Any, args: Any) -> AsyncGenerator[None]:
        for _ in range(yields):
            yield

    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        for _ in range(yields):
            yield

    if kind == "def":
        host.workers.around(around)
    else:
        host.workers.around(uneven)
    assert isinstance(dead(host.worker(lambda s, a: Ok(), max_attempts=1).run()).error, RuntimeError)


def swallowing(job: Any, scope: Any, args: Any) -> Generator[None]:
    with suppress(BaseException):
        yield


def test_an_around_that_swallows_what_perform_raised_changes_nothing(
    host_and_kind: tuple[Host, str],
) -> None:
    host, kind = host_and_kind
    for _ in range(2):
        add(host, kind, swallowing)

    def perform(scope: Any, args: Any) -> None:
        raise ValueError("busy")

    outcome = dead(host.worker(perform, max_attempts=1).run())
    assert outcome.reason == "ValueError: busy"


def test_an_around_that_swallows_a_failed_exit_changes_nothing(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind

    def committing(job: Any, scope: Any, args: Any) -> Generator[None]:
        yield
        raise OSError("commit failed")

    add(host, kind, swallowing)
    add(host, kind, committing)
    outcome = dead(host.worker(lambda scope, args: Ok(), max_attempts=1).run())
    assert outcome.reason == "OSError: commit failed"


def test_a_raise_in_an_around_replaces_what_perform_raised(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind

    def translating(job: Any, scope: Any, args: Any) -> Generator[None]:
        try:
            yield
        except ValueError as error:
            raise LookupError("gone") from error

    def perform(scope: Any, args: Any) -> None:
        raise ValueError("busy")

    add(host, kind, translating)
    assert dead(host.worker(perform, cancel_on=[LookupError]).run()).reason == "cancelled: LookupError: gone"


def test_an_inner_around_is_not_entered_where_an_outer_one_raises(host_and_kind: tuple[Host, str]) -> None:
    host, kind = host_and_kind
    notes: list[str] = []

    def failing(job: Any, scope: Any, args: Any) -> Generator[None]:
        raise OSError
        yield

    add(host, kind, noting(notes, "outer"))
    add(host, kind, failing)
    add(host, kind, noting(notes, "inner"))
    assert again(host.worker(lambda scope, args: Ok()).run()).why == "retry"
    assert notes == ["enter outer", "OSError in outer"]


@pytest.mark.parametrize("mode", MODES, ids="-".join)
@pytest.mark.parametrize("order", [1, -1])
def test_of_a_pair_each_worker_gets_its_own_kind(mode: Mode, order: int) -> None:
    host = Host(mode)
    notes: list[str] = []

    def sync(job: Any, scope: Any, args: Any) -> Generator[None]:
        notes.append("def")
        yield

    async def asynchronous(job: Any, scope: Any, args: Any) -> AsyncGenerator[None]:
        notes.append("async def")
        yield

    pair: Any = (sync, asynchronous)[::order]
    host.workers.around(*pair)
    completed(host.worker(lambda scope, args: Ok()).run())
    assert notes == [mode.kind]


async def lonely(job: Any, scope: Any, args: Any) -> AsyncGenerator[None]:
    yield


def test_an_async_around_alone_is_refused_with_a_def_worker() -> None:
    host = Host()
    host.workers.around(lonely)
    with pytest.raises(InvalidWorkerError, match=r"around lonely is async and the worker is not"):
        host.worker(lambda scope, args: Ok())


def test_an_async_around_alone_is_refused_where_a_def_worker_is_registered() -> None:
    host = Host().worker(lambda scope, args: Ok(1))
    with pytest.raises(InvalidWorkerError):
        host.workers.around(lonely)
    assert completed(host.run()) == 1


def test_an_around_that_does_not_take_job_scope_and_args_is_refused() -> None:
    def around(job: Any, scope: Any) -> Generator[None]:
        yield

    wrong: Any = around
    with pytest.raises(InvalidWorkerError, match=r"it can't be called with \(job, scope, args\)"):
        Host().workers.around(wrong)
