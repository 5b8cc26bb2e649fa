"""`perform_job` and `aperform_job`: one job as a worker process would run it, and what it comes to."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

import pytest
from tests.support import KEYS, NOW, Builder, Host, Told, after
from tests.testing.support import WAYS, Kit, Make, Way

from sigra_workers import (
    AuditScope,
    Cancel,
    Error,
    InvalidArgsError,
    InvalidOptionError,
    InvalidPayloadError,
    InvalidResultError,
    InvalidScopeError,
    JobInfo,
    JobTimeoutError,
    MissingTenantKeyError,
    Ok,
    OrganizationArgs,
    Result,
    Snooze,
    TenantArgs,
    UnknownQueueError,
    WorkerNotImplementedError,
    Workers,
    current_job,
    tenant_args,
)
from sigra_workers.testing import testing

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  # as a host might give it


class CloseArgs(OrganizationArgs):
    account_id: str


@pytest.mark.parametrize("result", [Ok(), Ok({"a": 1}), Error("no"), Snooze(60), Cancel("hold")], ids=repr)
def test_the_result_is_what_perform_returned(make: Make, result: Result[Any]) -> None:
    assert make(lambda scope, args: result).perform() == result


# -- the wire form -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ((1, 2), "value is of type tuple"),
        (datetime.now(UTC), "value is of type datetime"),
        (UUID(int=1), "value is of type UUID"),
        (b"x", "value is of type bytes"),
        ({1}, "value is of type set"),
        (float("nan"), "value is NaN"),
        ({1: "x"}, "a key of value is of type int"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_args_that_could_not_travel_are_refused(made: Make, value: object, named: str) -> None:
    kit = made(lambda scope, args: Ok())
    with pytest.raises(InvalidArgsError, match=named):
        kit.perform({**KEYS, "value": value})


def test_args_without_a_tenant_key_are_refused(made: Make) -> None:
    with pytest.raises(MissingTenantKeyError, match="'actor_id' is missing"):
        made(lambda scope, args: Ok()).perform({"organization_id": "org-1"})


def test_args_without_a_key_of_the_worker_are_refused(made: Make) -> None:
    with pytest.raises(InvalidArgsError, match="'account_id' is missing"):
        made(lambda scope, args: Ok(), args_type=CloseArgs).perform()


def test_perform_gets_a_copy_of_the_args(make: Make) -> None:
    given = {**KEYS, "items": [1]}

    def body(scope: Any, args: Any) -> Ok[None]:
        assert args == given
        assert args is not given
        args["items"].append(2)
        return Ok()

    make(body).perform(given)
    assert given == {**KEYS, "items": [1]}


# -- what runs around perform --------------------------------------------------------------------------


def test_perform_gets_the_scope_that_the_builder_made(make: Make) -> None:
    scopes: list[Any] = []

    def body(scope: Any, args: Any) -> Ok[None]:
        scopes.append(scope)
        return Ok()

    make(body).perform(tenant_args(organization_id=7, actor_id="ann", impersonating_from="root"))
    (scope,) = scopes
    assert isinstance(scope, AuditScope)
    assert (scope.user and scope.user.id, scope.impersonating_from and scope.impersonating_from.id) == (
        "ann",
        "root",
    )


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("decision", [Cancel("organization was deleted"), Snooze(3_600)], ids=repr)
def test_a_scope_builder_may_decide(make: Make, kind: Any, decision: Any) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        pytest.fail("perform was called")

    assert make(body, scope_builder=Builder(kind, lambda args: decision)).perform() == decision


def test_what_a_scope_builder_raises_is_raised(make: Make) -> None:
    def build(args: Any) -> NoReturn:
        raise LookupError("no such organization")

    with pytest.raises(LookupError, match="no such organization"):
        make(lambda scope, args: Ok(), scope_builder=Builder("def", build)).perform()


def test_a_scope_that_is_not_audit_only_is_refused(make: Make) -> None:
    with pytest.raises(InvalidScopeError, match="'Builder' returned an object of type dict"):
        make(lambda scope, args: Ok(), scope_builder=Builder("def", lambda args: {})).perform()


def test_arounds_are_entered_and_left(make: Make) -> None:
    steps: list[str] = []

    def around(job: JobInfo, scope: Any, args: Any) -> Generator[None]:
        steps.append(f"enter {job.worker}")
        yield
        steps.append("leave")

    kit = make(after(lambda args: steps.append("perform"), Ok()))
    kit.workers.around(around)
    assert kit.perform() == Ok()
    assert steps == ["enter accounts.close", "perform", "leave"]


def test_what_an_around_raises_is_raised(make: Make) -> None:
    def around(job: JobInfo, scope: Any, args: Any) -> Generator[None]:
        yield
        raise ConnectionError("the commit failed")

    kit = make(lambda scope, args: Ok())
    kit.workers.around(around)
    with pytest.raises(ConnectionError, match="the commit failed"):
        kit.perform()


def test_hooks_are_told_of_the_run_and_not_of_a_queue(make: Make) -> None:
    kit = make(lambda scope, args: Cancel("hold"))
    kit.perform(job_id="j1")
    assert kit.told.names == ["started", "finished", "dead"]
    assert kit.told.of("finished")["decision"] == "cancel"
    assert kit.told.of("dead")["reason"] == "cancelled: hold"
    assert kit.waiting == []


def test_the_caller_sees_nothing_that_a_job_sets(make: Make) -> None:
    tenant = contextvars.ContextVar("tenant", default="nobody")
    kit = make(after(lambda args: tenant.set("org-1"), Ok()))
    kit.perform()
    assert tenant.get() == "nobody"
    assert current_job() is None


# -- the job's info ------------------------------------------------------------------------------------


def test_the_job_is_on_its_first_run_where_nothing_is_said(make: Make) -> None:
    infos: list[Any] = []
    kit = make(after(lambda args: infos.append(current_job()), Ok()), queue="bulk", max_attempts=5)
    kit.perform()
    kit.perform()
    first, second = infos
    assert (first.worker, first.queue, first.attempt, first.max_attempts) == ("accounts.close", "bulk", 1, 5)
    assert (first.snoozes, first.enqueued_at) == (0, datetime.fromtimestamp(NOW, UTC))
    assert first.id != second.id


def test_what_is_said_of_the_job_is_what_it_is(make: Make) -> None:
    infos: list[Any] = []
    kit = make(after(lambda args: infos.append(current_job()), Ok()))
    kit.other("bulk", lambda scope, args: Ok(), queue="bulk")
    at = datetime(2026, 1, 2, tzinfo=UTC)
    kit.perform(attempt=3, max_attempts=4, snoozes=2, job_id="j1", queue="bulk", enqueued_at=at)
    assert infos == [JobInfo("j1", "accounts.close", "bulk", 3, 4, 2, at)]


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"attempts": 2}, "'attempts': there is no such option, known are .*'attempt', 'enqueued_at'"),
        ({"schedule_in": 60}, "'schedule_in': there is no such option"),
        ({"attempt": 0}, "'attempt': expected 1 to 20, the max_attempts of the job, got 0"),
        ({"attempt": 21}, "'attempt': expected 1 to 20"),
        ({"attempt": 2, "max_attempts": 1}, "'attempt': expected 1 to 1"),
        ({"attempt": "2"}, "'attempt': expected 1 to 20, the max_attempts of the job, got '2'"),
        ({"attempt": True}, "'attempt'"),
        ({"max_attempts": 0}, "'max_attempts': expected an int from 1"),
        ({"snoozes": -1}, "'snoozes': expected at least 0, got -1"),
        ({"job_id": "a b"}, "'job_id'"),
        ({"timeout": 0}, "'timeout'"),
        ({"enqueued_at": NAIVE}, "'enqueued_at': expected a datetime with a time zone"),
        ({"enqueued_at": NOW}, "'enqueued_at': expected a datetime with a time zone"),
    ],
    ids=str,
)
def test_what_can_not_be_said_of_a_job_is_refused(made: Make, facts: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOptionError, match=named):
        made(lambda scope, args: Ok()).perform(**facts)


def test_a_queue_that_nobody_declares_is_refused(made: Make) -> None:
    with pytest.raises(UnknownQueueError, match="'bulk'"):
        made(lambda scope, args: Ok()).perform(queue="bulk")


def test_a_time_before_all_clocks_is_refused(make: Make) -> None:
    with pytest.raises(InvalidPayloadError, match="'enqueued_at' is out of range"):
        make(lambda scope, args: Ok()).perform(enqueued_at=datetime(1960, 1, 1, tzinfo=UTC))


def test_a_second_run_of_one_job_writes_its_audit_events_once(make: Make) -> None:
    kit: Kit = make(lambda scope, args: Ok(kit.audit.log("account.closed", scope).action))
    kit.perform(job_id="j1")
    kit.perform(job_id="j1", attempt=2)
    assert len(kit.sigra.all_audited()) == 1
    kit.perform(job_id="j2")
    assert len(kit.sigra.all_audited()) == 2


# -- what is raised ------------------------------------------------------------------------------------


class HostError(Exception):
    """An error of the host's own."""


@pytest.mark.parametrize("kind", [HostError, SystemExit, TimeoutError, BaseExceptionGroup])
def test_what_perform_raised_is_raised_itself(make: Make, kind: Any) -> None:
    raised = kind("no", [HostError()]) if kind is BaseExceptionGroup else kind("no")

    def body(scope: Any, args: Any) -> NoReturn:
        raise raised

    kit = make(body)
    with pytest.raises(kind) as caught:
        kit.perform()
    assert caught.value is raised
    assert any(entry.name == "body" for entry in caught.traceback)
    assert kit.told.of("finished")["decision"] == "retry"


def test_an_exception_of_cancel_on_is_raised_itself(make: Make) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        raise HostError("gone")

    kit = make(body, cancel_on=[HostError])
    with pytest.raises(HostError, match="gone"):
        kit.perform()
    assert kit.told.of("finished")["decision"] == "cancel"


def test_ctrl_c_ends_the_test(make: Make) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(body).perform()


@pytest.mark.parametrize("result", [None, True, "ok", (1,), Ok], ids=repr)
def test_what_is_no_result_is_an_error(make: Make, result: Any) -> None:
    with pytest.raises(InvalidResultError, match=r"perform of worker 'accounts\.close' returned"):
        make(lambda scope, args: result).perform()


def test_a_coroutine_that_nobody_awaited_is_an_error(made: Make) -> None:
    async def inner() -> Ok[None]:
        return Ok()

    with pytest.raises(InvalidResultError, match="a coroutine that nobody awaited"):
        made(lambda scope, args: inner()).perform()


def slow(way: Way) -> Any:
    """A body that takes long, whether it is interrupted at once or when Python next runs."""

    def perform(scope: Any, args: Any) -> Ok[None]:
        for _ in range(500):
            time.sleep(0.01)
        return Ok()

    async def aperform(scope: Any, args: Any) -> Ok[None]:
        await asyncio.sleep(5)
        return Ok()

    return perform if way.kind == "def" else aperform


@pytest.mark.parametrize("cancel_on", [(), (JobTimeoutError,)], ids=["retried", "cancelled"])
def test_a_run_beyond_its_time_out_is_an_error(way: Way, cancel_on: Any) -> None:
    with ExitStack() as stack:
        kit = Kit(stack, way)
        kit.exact(slow(way), timeout=60, cancel_on=cancel_on)
        with pytest.raises(JobTimeoutError, match=r"longer than its timeout of 0\.05 s"):
            kit.perform(timeout=0.05)


def test_a_worker_that_is_only_declared_is_told_with_what_to_do(way: Way) -> None:
    with ExitStack() as stack:
        kit = Kit(stack, way)
        kit.handle = kit.workers.declare("accounts.close", TenantArgs)
        with pytest.raises(WorkerNotImplementedError) as caught:
            kit.perform()
    assert str(caught.value) == (
        "worker 'accounts.close' is not implemented in this process\n"
        "import what implements it, such as app.implementations, or give a fake:"
        " testing(workers, replace={handle: Fake(...)})"
    )


def test_a_handle_of_other_workers_is_refused(make: Make) -> None:
    kit = make(lambda scope, args: Ok())
    kit.handle = Host().worker(lambda scope, args: Ok()).handle
    with pytest.raises(InvalidOptionError, match=r"'accounts\.close' is of another Workers object"):
        kit.perform()


class Close:
    """A worker."""

    def perform(self, scope: AuditScope, args: TenantArgs) -> Result[None]:
        return Ok()


@pytest.mark.parametrize(
    ("given", "named"),
    [(Close, "the class Close"), (Close(), "Close"), ("accounts.close", "str")],
    ids=["class", "worker", "name"],
)
def test_what_is_no_handle_is_refused(made: Make, given: Any, named: str) -> None:
    kit = made(lambda scope, args: Ok())
    expected = f"'handle': expected what declare, register or worker returned, got {named}$"
    with pytest.raises(InvalidOptionError, match=expected):
        kit.sigra.perform_job(given, KEYS)


# -- loops, threads, many at once ------------------------------------------------------------------------


def test_an_async_worker_is_awaited_on_the_loop_of_the_test() -> None:
    loops: list[Any] = []
    workers = Workers()

    @workers.worker(name="a")
    async def handle(scope: AuditScope, args: TenantArgs) -> Result[None]:
        loops.append(asyncio.get_running_loop())
        return Ok()

    async def main() -> bool:
        with testing(workers) as sigra:
            await sigra.aperform_job(handle, KEYS)
        return loops == [asyncio.get_running_loop()]

    assert asyncio.run(main())


def test_a_def_worker_is_awaited_in_a_thread_without_a_loop() -> None:
    async def inner() -> Result[int]:
        return Ok(threading.get_ident())

    with ExitStack() as stack:
        kit = Kit(stack, Way("awaited", "def"))
        kit.exact(lambda scope, args: asyncio.run(inner()))
        assert kit.perform() != Ok(threading.get_ident())


def test_many_at_once_do_not_mix() -> None:
    seen: dict[str, Any] = {}
    workers = Workers()

    @workers.worker(name="a")
    async def handle(scope: AuditScope, args: TenantArgs) -> Result[Any]:
        await asyncio.sleep(0)
        before = current_job()
        workers.audit.log_safe("account.closed", scope)
        await asyncio.sleep(0)
        assert before is current_job()
        seen[str(args["actor_id"])] = before and before.id
        return Ok(args["actor_id"])

    async def main() -> list[Result[Any]]:
        with testing(workers) as sigra:
            args = [TenantArgs(organization_id="org-1", actor_id=str(n)) for n in range(50)]
            jobs = [sigra.aperform_job(handle, each, job_id=f"j{n}") for n, each in enumerate(args)]
            results = await asyncio.gather(*jobs)
            events = sigra.all_audited()
        assert {event.actor_id: event.job_id for event in events} == seen
        return results

    assert asyncio.run(main()) == [Ok(str(n)) for n in range(50)]
    assert seen == {str(n): f"j{n}" for n in range(50)}


@pytest.mark.parametrize("way", [way for way in WAYS if way.call == "awaited"], ids="-".join)
def test_a_cancelled_test_cancels_its_job(way: Way) -> None:
    steps: list[str] = []

    async def aperform(scope: Any, args: Any) -> Ok[None]:
        steps.append("begun")
        try:
            await asyncio.sleep(60)
        finally:
            steps.append("ended")
        return Ok()

    def perform(scope: Any, args: Any) -> Ok[None]:
        time.sleep(0.1)
        return Ok()

    async def main(kit: Kit) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(kit.sigra.aperform_job(kit.handle, KEYS), 0.05)

    with ExitStack() as stack:
        kit = Kit(stack, way)
        kit.exact(aperform if way.kind == "async def" else perform)
        asyncio.run(main(kit))
        assert kit.told.of("finished")["decision"] is None
    assert steps == (["begun", "ended"] if way.kind == "async def" else [])


def test_plugins_see_the_run_as_any_other(make: Make) -> None:
    plugin = Told()
    make(lambda scope, args: Ok(), plugins=(plugin,)).perform()
    assert plugin.names == ["started", "finished"]
