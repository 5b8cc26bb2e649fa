"""`testing`: what is put in place for a block, and back behind it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from tests.support import KEYS, NOW, Host, Told, dead

from sigra_workers import (
    AuditScope,
    Capability,
    InvalidOptionError,
    InvalidWorkerError,
    JobInfo,
    NotSupportedError,
    Ok,
    OrganizationArgs,
    Rejected,
    Result,
    TenantArgs,
    WorkerHandle,
    WorkerNotImplementedError,
    Workers,
    hookimpl,
)
from sigra_workers.memory import HeldClock
from sigra_workers.testing import testing


class CloseAccountArgs(OrganizationArgs):
    account_id: str


class CloseAccount:
    """A worker, or a fake of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, scope: AuditScope, args: TenantArgs) -> Result[str]:
        return Ok(self.name)


class HostError(Exception):
    """An error of the host's own."""


class Closed:
    """An adapter of a server that is not there."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self) -> None:
        self.checked: list[Any] = []

    def clock(self) -> float:
        return NOW

    def check(self, job: Any) -> None:
        self.checked.append((job.id if job.given_id else None, dict(job.native)))
        if "priority" in job.native:
            raise InvalidOptionError("native", "there is no priority here")

    def send(self, jobs: Any, /) -> Any:
        return [Rejected(ConnectionError()) for _ in jobs]

    async def asend(self, jobs: Any, /) -> Any:
        return self.send(jobs)

    def close(self) -> None:
        pass


class Plugin:
    """Makes the adapter "closed", once for each that asks."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    @hookimpl
    def sigra_adapter(self, name: str, settings: Any) -> Any:
        return self.make() if name == "closed" else None


def host(make: Callable[[], Any] = Closed) -> Workers[AuditScope]:
    return Workers[AuditScope](adapter="closed", plugins=[Plugin(make)])


def declared(workers: Workers[AuditScope]) -> WorkerHandle[AuditScope, TenantArgs, object]:
    handle = workers.declare("accounts.close", TenantArgs)
    handle.implement(CloseAccount("real"))
    return handle


# -- the adapter -----------------------------------------------------------------------------------------


def test_no_server_is_touched_and_the_adapter_is_put_back() -> None:
    workers = host()
    handle, before = declared(workers), workers.adapter
    with pytest.raises(HostError), testing(workers) as sigra:  # noqa: PT012
        handle.enqueue(KEYS)
        asyncio.run(handle.aenqueue(KEYS))
        assert sigra.drain() == {"complete": 2}
        workers.close()
        raise HostError
    assert workers.adapter is before


def test_an_adapter_that_can_not_be_made_in_the_test_is_not_made() -> None:
    def broken() -> Any:
        raise RuntimeError("no url")

    workers = host(broken)
    handle = declared(workers)
    with testing(workers) as sigra:
        handle.enqueue(KEYS, job_id="j1", native={"at_front": True})
        assert sigra.drain() == {"complete": 1}
    with pytest.raises(RuntimeError):
        handle.enqueue(KEYS)


def test_an_adapter_that_is_not_installed_here_is_not_missed() -> None:
    workers = Workers[AuditScope](adapter="celery")
    handle = declared(workers)
    with testing(workers):
        handle.enqueue(KEYS, native={"priority": 1})


def test_options_are_checked_by_the_applications_own_adapter() -> None:
    made: list[Closed] = []

    def make() -> Closed:
        made.append(Closed())
        return made[-1]

    workers = host(make)
    handle = declared(workers)
    with testing(workers):
        handle.enqueue(KEYS)
        assert made == []
        handle.enqueue(KEYS, job_id="j1")
        handle.enqueue(KEYS, native={"at_front": True})
        with pytest.raises(InvalidOptionError, match="there is no priority here"):
            handle.enqueue(KEYS, native={"priority": 1})
    (adapter,) = made
    assert adapter.checked == [("j1", {}), (None, {"at_front": True}), (None, {"priority": 1})]


def test_the_embedded_adapter_has_no_native_options_in_a_test_either() -> None:
    workers = Workers[AuditScope]()
    handle = declared(workers)
    with testing(workers), pytest.raises(InvalidOptionError, match="the embedded adapter has none"):
        handle.enqueue(KEYS, native={"priority": 1})


def test_dead_jobs_are_kept_whatever_the_adapter_keeps() -> None:
    workers = host()
    with testing(workers) as sigra:
        found = dead(sigra.perform_payload("{}"))
        assert found.payload is None
        assert workers.dead() == []
    with pytest.raises(NotSupportedError):
        workers.dead()


def test_the_clock_may_be_given() -> None:
    clock = HeldClock(NOW)
    workers = host()
    handle = declared(workers)
    with testing(workers, clock=clock) as sigra:
        assert sigra.clock is clock
        assert sigra.payload(handle, KEYS)["enqueued_at"] == NOW


# -- blocks in blocks ------------------------------------------------------------------------------------


def test_blocks_nest() -> None:
    workers = host()
    handle = declared(workers)
    with testing(workers, replace={handle: CloseAccount("outer")}) as outer:
        handle.enqueue(KEYS)
        with testing(workers, replace={handle: CloseAccount("inner")}) as inner:
            assert inner.all_enqueued() == []
            assert inner.perform_job(handle, KEYS) == Ok("inner")
            workers.audit.log_safe("account.closed", None)
            inner.assert_audit_logged()
        outer.refute_audit_logged()
        outer.assert_enqueued(handle)
        assert outer.perform_job(handle, KEYS) == Ok("outer")


def test_two_applications_are_tested_side_by_side() -> None:
    one, two = host(), host()
    first, second = declared(one), declared(two)
    with testing(one) as sigra, testing(two) as other:
        first.enqueue(KEYS)
        sigra.assert_enqueued(first)
        other.refute_enqueued(second)


# -- replacing implementations ---------------------------------------------------------------------------


def test_an_implementation_is_replaced_and_put_back() -> None:
    workers = host()
    handle = declared(workers)
    with pytest.raises(HostError), testing(workers, replace={handle: CloseAccount("fake")}) as sigra:  # noqa: PT012
        assert sigra.perform_job(handle, KEYS) == Ok("fake")
        raise HostError
    with testing(workers) as sigra:
        assert sigra.perform_job(handle, KEYS) == Ok("real")


def test_a_worker_that_is_only_declared_gets_an_implementation_for_the_block() -> None:
    workers = host()
    handle = workers.declare("accounts.close", TenantArgs)
    with testing(workers, replace={handle: CloseAccount("fake")}) as sigra:
        assert sigra.perform_job(handle, KEYS) == Ok("fake")
    with testing(workers) as sigra, pytest.raises(WorkerNotImplementedError):
        sigra.perform_job(handle, KEYS)


def test_an_async_worker_is_replaced_by_a_fake_that_is_not() -> None:
    workers = host()

    @workers.worker(name="reports.build")
    async def build_report(scope: AuditScope, args: TenantArgs) -> Result[str]:
        return Ok("real")

    with testing(workers, replace={build_report: lambda scope, args: Ok("fake")}) as sigra:
        assert sigra.perform_job(build_report, KEYS) == Ok("fake")
        assert asyncio.run(sigra.aperform_job(build_report, KEYS)) == Ok("fake")
        assert asyncio.run(build_report(AuditScope(None, None), KEYS)) == Ok("real")
    with testing(workers) as sigra:
        assert sigra.perform_job(build_report, KEYS) == Ok("real")


def test_an_async_worker_under_async_arounds_is_not_replaced_by_a_fake_that_is_not() -> None:
    workers = host()

    @workers.around
    async def session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> AsyncGenerator[None]:
        yield

    @workers.worker(name="reports.build")
    async def build_report(scope: AuditScope, args: TenantArgs) -> Result[str]:
        return Ok("real")

    async def fake(scope: AuditScope, args: TenantArgs) -> Result[str]:
        return Ok("fake")

    with (
        pytest.raises(InvalidWorkerError, match="is async and the worker is not"),
        testing(workers, replace={build_report: lambda scope, args: Ok("fake")}),
    ):
        pass
    with testing(workers, replace={build_report: fake}) as sigra:
        assert sigra.perform_job(build_report, KEYS) == Ok("fake")


def test_what_can_not_serve_is_refused_and_all_is_put_back() -> None:
    workers, told = host(), Told()
    handle, other = declared(workers), workers.declare("reports.build", TenantArgs)
    adapter, sink = workers.adapter, workers.audit.sink
    fake: Any = CloseAccount
    with (
        pytest.raises(InvalidWorkerError, match=r"it is a class, expected an instance: CloseAccount\("),
        testing(workers, replace={handle: CloseAccount("fake"), other: fake}),
    ):
        told.calls.append(("never", {}))
    assert told.calls == []
    assert (workers.adapter, workers.audit.sink) == (adapter, sink)
    assert other.implementation is None
    with testing(workers) as sigra:
        assert sigra.perform_job(handle, KEYS) == Ok("real")


@pytest.mark.parametrize("key", ["accounts.close", Host().worker(lambda scope, args: Ok()).handle], ids=str)
def test_a_key_that_is_no_handle_of_these_workers_is_refused(key: Any) -> None:
    workers = host()
    declared(workers)
    with (
        pytest.raises(InvalidOptionError, match="'handle'"),
        testing(workers, replace={key: CloseAccount("fake")}),
    ):
        pass
