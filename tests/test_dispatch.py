"""One job, start to finish: the decision table, and every step before and after host code."""

import asyncio
import gc
import json
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

import pytest
from tests.support import KEYS, MODES, NOW, Builder, Host, Kind, Mode, after, again, completed, dead

from sigra_workers import (
    Again,
    AuditScope,
    AuditScopeBuilder,
    Cancel,
    Dead,
    Delivery,
    Error,
    InvalidArgsError,
    InvalidPayloadError,
    InvalidResultError,
    InvalidScopeError,
    JobCancelledError,
    JobCrashedError,
    JobFailedError,
    JobInfo,
    JobTimeoutError,
    MissingArgError,
    Ok,
    OrganizationArgs,
    Payload,
    PayloadVersionError,
    Result,
    Snooze,
    TenantArgs,
    UnknownWorkerError,
    adispatch,
    current_job,
    dispatch,
    hookimpl,
    loops,
)

SECRET = "s3cr3t-value"
DONE = Ok()


class NoteArgs(TenantArgs):
    note: str


class Interrupt(BaseException):
    """What a queue library may stop a thread with."""


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no text")


class EndingError(Exception):
    def __str__(self) -> str:
        raise SystemExit


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":  # what `traceback` asks for
            raise ValueError("no notes")
        return super().__getattribute__(name)


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def body(*_: Any) -> NoReturn:
        raise error

    return body


def returning(value: Any) -> Callable[..., Any]:
    return lambda *_: value


# -- the decision table --------------------------------------------------------------------------------


def test_ok_completes_with_its_value(mode: Mode) -> None:
    assert completed(Host(mode).worker(returning(Ok({"closed": 1}))).run()) == {"closed": 1}


@pytest.mark.parametrize("body", [returning(Error("busy")), raising(ValueError("busy"))])
def test_a_failure_runs_again_one_attempt_later(mode: Mode, body: Callable[..., Any]) -> None:
    host = Host(mode).worker(body, backoff=7)
    found = again(host.deliver(replace(host.payload(), attempt=2, snoozes=3, resends=4)))
    assert (found.why, found.due_at) == ("retry", NOW + 7)
    assert (found.payload.attempt, found.payload.snoozes, found.payload.resends) == (3, 3, 4)
    assert found.payload.due_at == NOW + 7


def test_a_retry_keeps_everything_else_of_the_payload(mode: Mode) -> None:
    host = Host(mode).worker(returning(Error("busy")), backoff=7)
    before = replace(host.payload(), meta={"trace": "t1"}, unknown={"kid": "k1"})
    after = again(host.deliver(before)).payload
    assert after == replace(before, attempt=2, due_at=NOW + 7)


@pytest.mark.parametrize("ends", [Error("busy"), Cancel("gone")])
def test_a_payload_that_the_adapter_has_parsed_is_run_and_what_follows_is_as_it_came(ends: Any) -> None:
    given: list[Any] = []

    def perform(scope: AuditScope, args: TenantArgs) -> Any:
        given.append({**args})
        cast("dict[str, Any]", args)["note"] = "changed"
        return ends

    host = Host(Mode("dispatch", "def")).worker(perform)
    text = host.payload({**KEYS, "note": "as it came"}).dump()
    parsed = Payload.parse(text)
    outcome = dispatch(host.workers, Delivery(text, crashes=1, parsed=parsed))
    assert given == [{**KEYS, "note": "as it came"}]
    assert isinstance(outcome, (Again, Dead))
    assert outcome.payload is not None
    assert outcome.payload.args == given[0]
    assert outcome.payload.attempt == (3 if isinstance(outcome, Again) else 2)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (returning(Error("busy")), JobFailedError, "busy"),
        (raising(ValueError("busy")), ValueError, "ValueError: busy"),
    ],
)
def test_a_failure_on_the_last_attempt_is_dead(
    mode: Mode, body: Callable[..., Any], kind: type[Exception], reason: str
) -> None:
    host = Host(mode).worker(body, max_attempts=2)
    found = dead(host.deliver(replace(host.payload(), attempt=2)))
    assert (found.reason, type(found.error)) == (reason, kind)
    assert found.payload is not None
    assert found.payload.attempt == 2


def test_the_traceback_of_what_was_raised_is_kept_of_a_dead_job(mode: Mode) -> None:
    found = dead(Host(mode).worker(raising(ValueError("busy")), max_attempts=1).run())
    assert found.traceback is not None
    assert "in body" in found.traceback


def test_a_returned_error_has_no_traceback(mode: Mode) -> None:
    assert dead(Host(mode).worker(returning(Error("busy")), max_attempts=1).run()).traceback is None


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        GeneratorExit(),
        asyncio.CancelledError(),
        Interrupt(),  # unless the queue says that it is its own
        StopIteration(),
        TimeoutError(),
    ],
)
def test_what_host_code_raises_to_end_something_counts_as_raised(mode: Mode, error: BaseException) -> None:
    host = Host(mode).worker(raising(error), backoff=1)
    assert again(host.run()).payload.attempt == 2
    assert host.told.of("finished")["decision"] == "retry"


def test_a_snooze_costs_no_attempt(mode: Mode) -> None:
    host = Host(mode).worker(returning(Snooze(90)), max_attempts=1)
    found = again(host.deliver(replace(host.payload(), snoozes=4)))
    assert (found.why, found.due_at) == ("snooze", NOW + 90)
    assert (found.payload.attempt, found.payload.snoozes) == (1, 5)


def test_snoozes_leave_the_backoff_alone(mode: Mode) -> None:
    host = Host(mode).worker(returning(Error("busy")), backoff=[10, 20, 30])
    found = again(host.deliver(replace(host.payload(), attempt=2, snoozes=50)))
    assert found.due_at == NOW + 20


def test_the_due_time_counts_from_the_end_of_the_run(mode: Mode) -> None:
    host = Host(mode)
    host.worker(after(lambda args: host.clock.advance(100), Snooze(5)))
    assert again(host.run()).due_at == NOW + 105


def test_cancel_is_dead_whatever_attempts_are_left(mode: Mode) -> None:
    found = dead(Host(mode).worker(returning(Cancel("legal hold"))).run())
    assert found.reason == "cancelled: legal hold"
    assert isinstance(found.error, JobCancelledError)


@pytest.mark.parametrize("whose", ["worker", "all"])
def test_cancel_on_means_cancel(mode: Mode, whose: str) -> None:
    options: dict[str, Any] = {"cancel_on": [LookupError]}
    host = Host(mode, **(options if whose == "all" else {}))
    host.worker(raising(KeyError("gone")), **(options if whose == "worker" else {}))
    found = dead(host.run())
    assert found.reason == "cancelled: KeyError: 'gone'"
    assert isinstance(found.error, JobCancelledError)
    assert isinstance(found.error.__cause__, KeyError)
    assert host.told.of("finished")["decision"] == "cancel"


def test_cancel_on_leaves_other_exceptions_alone(mode: Mode) -> None:
    host = Host(mode, cancel_on=[LookupError]).worker(raising(ValueError()), cancel_on=(OSError,))
    assert again(host.run()).why == "retry"


@pytest.mark.parametrize(
    ("value", "found"), [(None, "None"), (True, "bool"), ("done", "str"), (Ok, "type"), (object(), "object")]
)
def test_anything_else_is_an_invalid_result_and_dead(mode: Mode, value: object, found: str) -> None:
    outcome = dead(Host(mode).worker(returning(value)).run())
    assert isinstance(outcome.error, InvalidResultError)
    assert found in outcome.error.found
    assert "expected Ok(...)" in outcome.reason


def test_a_coroutine_that_nobody_awaited_is_an_invalid_result(mode: Mode) -> None:
    async def forgotten() -> Ok[None]:
        return Ok()

    outcome = dead(Host(mode).worker(lambda scope, args: forgotten()).run())
    gc.collect()  # it was closed: it must not warn
    assert isinstance(outcome.error, InvalidResultError)
    assert "nobody awaited" in outcome.reason


def test_a_result_with_a_hostile_value_property_is_an_invalid_result(mode: Mode) -> None:
    class Row:
        @property
        def value(self) -> NoReturn:
            raise RuntimeError("detached")

    assert isinstance(dead(Host(mode).worker(returning(Row())).run()).error, InvalidResultError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupt()])
def test_an_interrupt_from_outside_is_raised_again_without_a_decision(
    mode: Mode, error: BaseException
) -> None:
    host = Host(mode).worker(raising(error))
    host.outside = (KeyboardInterrupt, Interrupt)
    with pytest.raises(type(error)):
        host.run()
    finished = host.told.of("finished")
    assert (finished["decision"], finished["exception"]) == (None, error)
    assert host.told.names == ["started", "finished"]


# -- crashes -------------------------------------------------------------------------------------------


def test_each_crash_costs_an_attempt(mode: Mode) -> None:
    attempts: list[int] = []

    def body(scope: Any, args: Any) -> Error:
        attempts.append(job_here().attempt)
        return Error("busy")

    found = again(Host(mode).worker(body, backoff=[1, 2, 3]).run(crashes=2))
    assert attempts == [3]
    assert (found.payload.attempt, found.due_at) == (4, NOW + 3)


def test_a_job_may_run_on_its_last_attempt_after_crashes(mode: Mode) -> None:
    assert completed(Host(mode).worker(returning(Ok("done")), max_attempts=3).run(crashes=2)) == "done"


def test_a_job_that_crashed_on_every_attempt_is_dead_and_not_run(mode: Mode) -> None:
    ran: list[object] = []
    host = Host(mode).worker(after(ran.append, Ok()), max_attempts=3)
    found = dead(host.run(crashes=3))
    assert found.reason.startswith("crashed")
    assert isinstance(found.error, JobCrashedError)
    assert found.error.crashes == 3
    assert ran == []
    assert host.told.names == ["dead"]


def test_a_snooze_after_a_crash_keeps_the_crash_counted(mode: Mode) -> None:
    found = again(Host(mode).worker(returning(Snooze(1))).run(crashes=2))
    assert (found.payload.attempt, found.payload.snoozes) == (3, 1)


# -- before host code ----------------------------------------------------------------------------------


class Ran:
    """A host whose every piece of code notes that it ran."""

    def __init__(self, mode: Mode, args_type: Any = TenantArgs) -> None:
        self.pieces: list[str] = []
        self.host = Host(
            mode, scope_builder=Builder(mode.kind, self._note("builder", AuditScope(None, None)))
        )

        @self.host.workers.around
        def tenant(job: Any, scope: Any, args: Any) -> Generator[None]:
            self.pieces.append("around")
            yield

        self.host.worker(self._note("perform", Ok()), args_type)

    def _note(self, piece: str, value: Any) -> Callable[..., Any]:
        def note(*_: Any) -> Any:
            self.pieces.append(piece)
            return value

        return note


def test_host_code_runs_in_order_where_nothing_stands_against_it(mode: Mode) -> None:
    ran = Ran(mode)
    completed(ran.host.run())
    assert ran.pieces == ["builder", "around", "perform"]


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ({"actor_id": "ann"}, "organization_id"),
        ({"organization_id": "org-1"}, "actor_id"),
        ({}, "organization_id"),
    ],
)
def test_an_absent_tenant_key_is_dead_before_any_host_code(
    mode: Mode, args: dict[str, Any], key: str
) -> None:
    ran = Ran(mode)
    found = dead(ran.host.deliver(replace(ran.host.payload(), args_or_json=args)))
    assert isinstance(found.error, MissingArgError)
    assert found.error.key == key
    assert ran.pieces == []
    assert ran.host.told.names == ["dead"]


def test_an_absent_key_of_the_workers_own_is_dead_before_any_host_code(mode: Mode) -> None:
    ran = Ran(mode, NoteArgs)
    found = dead(ran.host.deliver(replace(ran.host.payload({**KEYS, "note": "x"}), args_or_json={**KEYS})))
    assert isinstance(found.error, MissingArgError)
    assert (found.error.key, ran.pieces) == ("note", [])


@pytest.mark.parametrize(
    ("args_type", "changed"),
    [
        (OrganizationArgs, {"organization_id": None}),
        (TenantArgs, {"organization_id": True}),
        (TenantArgs, {"actor_id": 1.5}),
        (TenantArgs, {"impersonating_from": ["admin"]}),
    ],
)
def test_a_tenant_key_of_a_wrong_type_is_dead_before_any_host_code(
    mode: Mode, args_type: Any, changed: dict[str, Any]
) -> None:
    ran = Ran(mode, args_type)
    found = dead(ran.host.deliver(replace(ran.host.payload(), args_or_json={**KEYS, **changed})))
    assert isinstance(found.error, InvalidArgsError)
    assert ran.pieces == []


@pytest.mark.parametrize("value", [None, 0, ""])
def test_falsy_ids_are_values(mode: Mode, value: Any) -> None:
    host = Host(mode).worker(lambda scope, args: Ok([args["organization_id"], args["actor_id"]]))
    assert completed(host.run({"organization_id": value, "actor_id": value})) == [value, value]


@pytest.mark.parametrize(
    "text", [b"{}", None, 3, "", "no json", "[]", "{}", '{"v":0}', '{"v":true}', '{"v":1}', '{"v":1e999}']
)
def test_garbage_is_dead_with_a_named_error(mode: Mode, text: object) -> None:
    ran = Ran(mode)
    found = dead(ran.host.deliver(text))
    assert isinstance(found.error, InvalidPayloadError)
    assert found.payload is None
    assert (ran.pieces, ran.host.told.names) == ([], [])


def test_a_newer_payload_version_is_dead_and_says_so(mode: Mode) -> None:
    ran = Ran(mode)
    whole = {**json.loads(ran.host.payload().dump()), "v": 2}
    found = dead(ran.host.deliver(json.dumps(whole)))
    assert isinstance(found.error, PayloadVersionError)
    assert (found.error.found, ran.pieces) == (2, [])


def test_a_transport_name_that_differs_from_the_payload_is_dead(mode: Mode) -> None:
    ran = Ran(mode)
    found = dead(ran.host.deliver(ran.host.payload(), worker="accounts.open"))
    assert isinstance(found.error, InvalidPayloadError)
    assert ran.pieces == []


def test_a_transport_name_that_agrees_is_fine(mode: Mode) -> None:
    host = Host(mode).worker(returning(Ok(1)))
    assert completed(host.deliver(host.payload(), worker="accounts.close")) == 1


def test_a_job_that_comes_early_is_sent_on_unrun_and_uncounted(mode: Mode) -> None:
    ran = Ran(mode)
    payload = replace(ran.host.payload(), due_at=NOW + 0.5, attempt=2, snoozes=1)
    found = again(ran.host.deliver(payload))
    assert (found.why, found.due_at, found.payload) == ("early", NOW + 0.5, payload)
    assert (ran.pieces, ran.host.told.names) == ([], [])


def test_a_job_that_comes_on_time_runs(mode: Mode) -> None:
    host = Host(mode).worker(returning(Ok(1)))
    assert completed(host.deliver(replace(host.payload(), due_at=NOW))) == 1


# -- unknown workers -----------------------------------------------------------------------------------


@pytest.fixture(params=["unknown", "declared only"])
def without(request: pytest.FixtureRequest, mode: Mode) -> Host:
    """A host whose process does not implement the worker, and the handle to make its jobs with."""
    host = Host(mode)
    sender = Host(mode).worker(returning(Ok()))
    host.handle = sender.handle
    if request.param == "declared only":
        host.handle = host.workers.declare("accounts.close", TenantArgs)
    return host


def test_a_job_of_an_unknown_worker_waits_uncounted(without: Host) -> None:
    found = again(without.deliver(replace(without.payload(), attempt=20, max_attempts=20, snoozes=2)))
    assert (found.why, found.payload.attempt, found.payload.snoozes) == ("unknown_worker", 20, 2)
    assert found.payload.meta == {"unknown_since": NOW}
    assert without.told.names == []


def test_the_waits_for_an_unknown_worker_grow_and_end_with_its_death(without: Host) -> None:
    payload, waits = without.payload(), list[float]()
    while not isinstance(found := without.deliver(payload), Dead):
        payload = again(found).payload
        waits.append(again(found).due_at - without.clock())
        without.clock.now = again(found).due_at
    assert waits[:4] == [5, 5, 10, 20]
    assert waits[:-1] == sorted(waits[:-1])
    assert (sum(waits), max(waits)) == (3_600, 300)
    assert isinstance(found.error, UnknownWorkerError)
    assert (found.error.worker, found.error.waited) == ("accounts.close", 3_600)
    assert found.payload is not None
    assert found.payload.attempt == 1
    assert without.told.names == ["dead"]


def test_the_grace_of_unknown_workers_can_be_set(mode: Mode) -> None:
    host = Host(mode, unknown_worker_grace=0)
    host.handle = host.workers.declare("accounts.close", TenantArgs)
    assert isinstance(dead(host.run()).error, UnknownWorkerError)


@pytest.mark.parametrize("since", ["yesterday", True, None, []])
def test_a_broken_start_of_the_grace_begins_it_anew(mode: Mode, since: object) -> None:
    host = Host(mode)
    host.handle = host.workers.declare("accounts.close", TenantArgs)
    found = again(host.deliver(replace(host.payload(), meta={"unknown_since": since})))
    assert found.payload.meta == {"unknown_since": NOW}


def test_a_worker_found_later_runs_and_forgets_the_wait(mode: Mode) -> None:
    host = Host(mode)
    host.handle = host.workers.declare("accounts.close", TenantArgs, backoff=1)
    waiting = again(host.deliver(replace(host.payload(), meta={"trace": "t1"}))).payload
    host.clock.advance(5)
    host.handle.implement(lambda scope, args: Error("busy"))
    found = again(host.deliver(waiting))
    assert (found.why, found.payload.attempt, found.payload.meta) == ("retry", 2, {"trace": "t1"})


def test_an_alias_finds_the_worker(mode: Mode) -> None:
    host = Host(mode).worker(returning(Ok(1)), aliases=["accounts.shut"])
    assert completed(host.deliver(replace(host.payload(), worker="accounts.shut"))) == 1


# -- scope builders ------------------------------------------------------------------------------------

BUILDERS = pytest.mark.parametrize("builder_kind", ["def", "async def", "awaitable"])


def builder(kind: Any, build: Callable[[Any], Any]) -> Builder:
    """The build as a method of that kind; "awaitable" is a `def` that returns a coroutine."""
    if kind != "awaitable":
        return Builder(kind, build)
    made = Builder("async def", build)
    abuild = made.build
    made.build = lambda args: abuild(args)
    return made


@BUILDERS
def test_perform_gets_the_scope_that_was_built(mode: Mode, builder_kind: str) -> None:
    scope = AuditScope(None, None)
    seen: list[object] = []

    def build(args: Any) -> AuditScope:
        seen.append({**args})
        return scope

    host = Host(mode, scope_builder=builder(builder_kind, build))
    host.worker(lambda scope, args: Ok(scope))
    assert completed(host.run()) is scope
    assert seen == [KEYS]


@BUILDERS
@pytest.mark.parametrize(
    ("end", "why"), [(Snooze(30), "snooze"), (ValueError("db"), "retry"), (StopIteration(), "retry")]
)
def test_a_scope_builder_may_put_the_job_off(mode: Mode, builder_kind: str, end: object, why: str) -> None:
    ran: list[object] = []
    build = raising(end) if isinstance(end, Exception) else returning(end)
    host = Host(mode, scope_builder=builder(builder_kind, build))

    @host.workers.around
    def tenant(job: Any, scope: Any, args: Any) -> Generator[None]:
        ran.append("around")
        yield

    host.worker(after(lambda args: ran.append("perform"), Ok()))
    assert again(host.run()).why == why
    assert ran == []


@BUILDERS
def test_a_scope_builder_may_cancel_the_job(mode: Mode, builder_kind: str) -> None:
    host = Host(mode, scope_builder=builder(builder_kind, returning(Cancel("organization deleted"))))
    ran: list[object] = []
    host.worker(after(ran.append, Ok()))
    assert dead(host.run()).reason == "cancelled: organization deleted"
    assert ran == []


def test_a_scope_of_none_is_passed_on(mode: Mode) -> None:
    host = Host(mode, scope_builder=Builder("def", returning(None)))
    assert completed(host.worker(lambda scope, args: Ok([scope])).run()) == [None]


def test_a_scope_builder_blocks_no_event_loop(mode: Mode) -> None:
    threads: list[int] = []

    class Slow(AuditScopeBuilder):
        def build(self, args: TenantArgs, /) -> AuditScope:
            threads.append(threading.get_ident())
            return super().build(args)

    host = Host(mode, scope_builder=Slow()).worker(lambda scope, args: Ok(threading.get_ident()))
    ran_in = completed(host.run())
    assert (threads == [ran_in]) == (mode.kind == "def")


def test_the_default_scope_has_the_ids_of_the_args(mode: Mode) -> None:
    host = Host(mode).worker(lambda scope, args: Ok(scope))
    scope = completed(host.run({"organization_id": 0, "actor_id": None, "impersonating_from": "admin"}))
    assert (scope.active_organization.id, scope.user, scope.impersonating_from.id) == (0, None, "admin")


# -- what host code can't do ---------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Error("busy"), Snooze(1), ValueError()])
def test_args_changed_by_host_code_do_not_travel(mode: Mode, end: object) -> None:
    def body(scope: Any, args: Any) -> Any:
        args.clear()
        args["organization_id"] = "org-2"
        return raising(end)() if isinstance(end, Exception) else end

    host = Host(mode).worker(body)
    assert again(host.run()).payload.args == {**KEYS}
    assert host.told.of("finished")["organization_id"] == "org-1"


def test_args_changed_by_host_code_do_not_reach_the_dead_job(mode: Mode) -> None:
    host = Host(mode).worker(after(lambda args: args.clear(), Cancel("hold")))
    found = dead(host.run())
    assert found.payload is not None
    assert found.payload.args == {**KEYS}
    assert host.told.of("dead")["organization_id"] == "org-1"


REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")

ENDINGS = pytest.mark.parametrize(
    "end",
    [
        returning(Ok()),
        returning(Error("busy")),
        returning(Snooze(1)),
        returning(Cancel("hold")),
        returning(None),
        raising(ValueError()),
        raising(SystemExit()),
        raising(KeyboardInterrupt()),
    ],
    ids=["Ok", "Error", "Snooze", "Cancel", "None", "raises", "SystemExit", "KeyboardInterrupt"],
)


@ENDINGS
def test_nothing_that_host_code_sets_survives_the_run(mode: Mode, end: Callable[..., Any]) -> None:
    def build(args: Any) -> AuditScope:
        REQUEST.set("builder")
        return AuditScope(None, None)

    def body(scope: Any, args: Any) -> Any:
        REQUEST.set(args["organization_id"])
        return end()

    host = Host(mode, scope_builder=Builder("def", build)).worker(body)
    job = Delivery(host.payload().dump())

    async def on_a_loop() -> tuple[str, JobInfo | None]:
        with suppress(KeyboardInterrupt):  # which does not end the loop
            await adispatch(host.workers, job)
        return REQUEST.get(), current_job()

    if mode.way == "dispatch":
        with suppress(KeyboardInterrupt):
            dispatch(host.workers, job)
    else:
        assert asyncio.run(on_a_loop()) == ("none", None)
    assert (REQUEST.get(), current_job()) == ("none", None)


def test_the_next_job_of_a_thread_sees_nothing_of_the_one_before(mode: Mode) -> None:
    def body(scope: Any, args: Any) -> Ok[str]:
        before = REQUEST.get()
        REQUEST.set(args["organization_id"])
        return Ok(before)

    host = Host(mode).worker(body)
    assert [completed(host.run({**KEYS, "organization_id": name})) for name in "abc"] == ["none"] * 3


def test_host_code_sees_the_context_of_the_queue(mode: Mode) -> None:
    host = Host(mode).worker(lambda scope, args: Ok(REQUEST.get()))
    token = REQUEST.set("queue")
    try:
        assert completed(host.run()) == "queue"
    finally:
        REQUEST.reset(token)


def job_here() -> JobInfo:
    job = current_job()
    assert job is not None
    return job


def test_current_job_tells_of_the_running_job_and_of_none_outside(mode: Mode) -> None:
    host = Host(mode).worker(lambda scope, args: Ok(current_job()), queue="lifecycle", max_attempts=5)
    payload = replace(host.payload(), attempt=2, snoozes=3)
    expected = JobInfo(payload.id, "accounts.close", "lifecycle", 2, 5, 3, datetime.fromtimestamp(NOW, UTC))
    assert completed(host.deliver(payload)) == expected
    assert current_job() is None


@BUILDERS
def test_current_job_is_there_for_the_scope_builder(mode: Mode, builder_kind: str) -> None:
    seen: list[str] = []

    def build(args: Any) -> None:
        seen.append(job_here().id)

    host = Host(mode, scope_builder=builder(builder_kind, build)).worker(returning(Ok()))
    payload = host.payload()
    host.deliver(payload)
    assert seen == [payload.id]


# -- cancelled from outside ----------------------------------------------------------------------------


async def cancelled(host: Host, begun: threading.Event, times: int = 1, by: str = "the task") -> None:
    """Dispatch a job and cancel it once its body runs; returns when the dispatch has ended."""
    task = asyncio.create_task(adispatch(host.workers, Delivery(host.payload().dump())))
    assert await asyncio.to_thread(begun.wait, 5)
    others = asyncio.all_tasks() - {asyncio.current_task(), task}
    for _ in range(times):
        for victim in [task] if by == "the task" else [task, *others]:
            victim.cancel()
        await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await task


def told_of_no_decision(host: Host) -> bool:
    finished = host.told.of("finished")
    assert host.told.names == ["started", "finished"]
    return finished["decision"] is None and isinstance(finished["exception"], asyncio.CancelledError)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("by", ["the task", "every task"])
@pytest.mark.parametrize("builder_kind", ["def", "async def"])
def test_a_cancelled_dispatch_waits_for_the_thread_of_a_def_worker(
    times: int, by: str, builder_kind: Kind
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def body(scope: Any, args: Any) -> Ok[None]:
        begun.set()
        ended.wait(0.1)
        ended.set()
        return Ok()

    builder = Builder(builder_kind, lambda args: AuditScope(None, None))
    host = Host(Mode("adispatch", "def"), scope_builder=builder).worker(body)

    async def main() -> None:
        await cancelled(host, begun, times, by)
        assert ended.is_set()

    asyncio.run(main())
    assert told_of_no_decision(host)


def test_a_dispatch_cancelled_while_it_waits_for_a_thread_never_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free, ran = threading.Event(), list[object]()
    host = Host(Mode("adispatch", "def")).worker(after(ran.append, Ok()))

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            monkeypatch.setattr(loops, "_pool", lambda name: pool)
            pool.submit(free.wait, 5)
            task = asyncio.create_task(adispatch(host.workers, Delivery(host.payload().dump())))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            free.set()

    asyncio.run(main())
    assert (ran, host.told.names) == ([], [])


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_dispatch_waits_for_the_scope_builders_thread(times: int) -> None:
    begun, ended, ran = threading.Event(), threading.Event(), list[object]()

    def build(args: Any) -> None:
        begun.set()
        ended.wait(0.1)
        ended.set()

    host = Host(Mode("adispatch", "async def"), scope_builder=Builder("def", build))
    host.worker(after(ran.append, Ok()))

    async def main() -> None:
        await cancelled(host, begun, times)
        assert ended.is_set()

    asyncio.run(main())
    assert told_of_no_decision(host)
    assert ran == []


def test_a_cancelled_dispatch_cancels_an_async_body_and_waits_for_its_end() -> None:
    begun, ended = threading.Event(), threading.Event()
    host = Host(Mode("adispatch", "async def"))
    host.handle = host.workers.declare("accounts.close", TenantArgs)

    @host.handle.implement
    async def body(scope: Any, args: Any) -> Ok[None]:
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ended.set()
        return Ok()

    async def main() -> None:
        await cancelled(host, begun)
        assert ended.is_set()

    asyncio.run(main())
    assert told_of_no_decision(host)


@pytest.mark.parametrize("end", [returning(Ok()), raising(ValueError())])
def test_a_body_that_swallows_its_cancellation_gets_no_decision(end: Callable[..., Any]) -> None:
    begun = threading.Event()
    host = Host(Mode("adispatch", "async def"))
    host.handle = host.workers.declare("accounts.close", TenantArgs)

    @host.handle.implement
    async def body(scope: Any, args: Any) -> Any:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return end()

    asyncio.run(cancelled(host, begun))
    assert told_of_no_decision(host)


def test_a_cancelled_dispatch_cancels_an_async_scope_builder() -> None:
    begun, ran = threading.Event(), list[object]()

    class Slow:
        async def build(self, args: Any, /) -> None:
            begun.set()
            await asyncio.sleep(60)

    host = Host(Mode("adispatch", "def"), scope_builder=Slow())
    host.worker(after(ran.append, Ok()))
    asyncio.run(cancelled(host, begun))
    assert told_of_no_decision(host)
    assert ran == []


# -- hooks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "decision", "kind", "names"),
    [
        (returning(Ok()), "complete", None, ["started", "finished"]),
        (returning(Error("busy")), "retry", JobFailedError, ["started", "finished"]),
        (raising(ValueError()), "retry", ValueError, ["started", "finished"]),
        (returning(Snooze(1)), "snooze", None, ["started", "finished"]),
        (returning(Cancel("hold")), "cancel", JobCancelledError, ["started", "finished", "dead"]),
        (returning(None), "dead", InvalidResultError, ["started", "finished", "dead"]),
    ],
)
def test_hooks_are_told_once_in_order_with_the_decision(
    mode: Mode, end: Callable[..., Any], decision: str, kind: type | None, names: list[str]
) -> None:
    host = Host(mode).worker(end)
    payload = host.payload()
    host.deliver(payload)
    assert host.told.names == names
    assert {facts["organization_id"] for _, facts in host.told.calls} == {"org-1"}
    assert {facts["job"] for _, facts in host.told.calls} == {payload.info()}
    finished = host.told.of("finished")
    assert finished["decision"] == decision
    assert isinstance(finished["exception"], kind or type(None))


def test_the_dead_hook_is_told_the_reason_and_the_exception(mode: Mode) -> None:
    host = Host(mode).worker(raising(ValueError("busy")), max_attempts=1)
    found = dead(host.run())
    told = host.told.of("dead")
    assert (told["reason"], told["exception"]) == ("ValueError: busy", found.error)


def test_hooks_are_told_the_duration_in_seconds(mode: Mode) -> None:
    pause = threading.Event()
    host = Host(mode).worker(after(lambda args: pause.wait(0.05), Ok()))
    host.run()
    assert 0.05 <= host.told.of("finished")["duration"] < 5


def test_a_hook_that_raises_changes_nothing(mode: Mode) -> None:
    class Broken:
        @hookimpl
        def sigra_started(self) -> NoReturn:
            raise RuntimeError("started")

        @hookimpl
        def sigra_finished(self) -> NoReturn:
            raise RuntimeError("finished")

        @hookimpl
        def sigra_dead(self) -> NoReturn:
            raise RuntimeError("dead")

    host = Host(mode, plugins=(Broken(),)).worker(returning(Cancel("hold")))
    assert dead(host.run()).reason == "cancelled: hold"


def test_the_started_hook_takes_nothing_of_the_time_limit(mode: Mode) -> None:
    class Slow:
        @hookimpl
        def sigra_started(self) -> None:
            threading.Event().wait(0.2)

    host = Host(mode, plugins=(Slow(),)).worker(returning(Ok(1)), timeout=0.15)
    assert completed(host.run()) == 1


def test_a_hook_told_of_a_job_that_never_ran_leaves_no_context(mode: Mode) -> None:
    class Binding:
        @hookimpl
        def sigra_dead(self, job: JobInfo) -> None:
            REQUEST.set(job.id)

    host = Host(mode, plugins=(Binding(),)).worker(returning(Ok()), max_attempts=1)

    async def on_a_loop() -> str:
        await adispatch(host.workers, Delivery(host.payload().dump(), crashes=1))
        return REQUEST.get()

    if mode.way == "adispatch":
        assert asyncio.run(on_a_loop()) == "none"
    else:
        host.run(crashes=1)
        assert REQUEST.get() == "none"
    assert host.told.names == ["dead"]


# -- backoff -------------------------------------------------------------------------------------------


def delay(host: Host, attempt: int, **options: Any) -> float:
    payload = replace(host.payload(max_attempts=10_000, **options), attempt=attempt)
    return again(host.deliver(payload)).due_at - NOW


@pytest.mark.parametrize(
    ("attempt", "mean"), [(1, 17), (2, 19), (5, 47), (10, 1_039), (16, 65_551), (17, 86_400), (5_000, 86_400)]
)
def test_the_default_backoff_grows_to_a_day(attempt: int, mean: float) -> None:
    host = Host().worker(returning(Error("busy")))
    found = [delay(host, attempt) for _ in range(20)]
    assert all(mean * 0.9 <= seconds <= min(mean * 1.1, 86_400) for seconds in found)
    assert len({*found}) > 1


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (0, [0, 0, 0, 0]),
        (2.5, [2.5, 2.5, 2.5, 2.5]),
        ([1, 10], [1, 10, 10, 10]),
        (lambda attempt: attempt * 100, [100, 200, 300, 400]),
    ],
)
def test_a_worker_may_have_a_backoff_of_its_own(backoff: Any, delays: Sequence[float]) -> None:
    host = Host().worker(returning(Error("busy")), backoff=backoff)
    assert [delay(host, attempt) for attempt in (1, 2, 3, 4)] == delays


@pytest.mark.parametrize(("backoff", "delays"), [(3, [3, 3, 3]), ([4, 5], [4, 5, 5]), (0, [0, 0, 0])])
@pytest.mark.parametrize("workers_own", [100, lambda attempt: 100.0])
def test_the_backoff_of_a_job_wins(backoff: Any, delays: Sequence[float], workers_own: Any) -> None:
    host = Host().worker(returning(Error("busy")), backoff=workers_own)
    assert [delay(host, attempt, backoff=backoff) for attempt in (1, 2, 3)] == delays


@pytest.mark.parametrize(
    "broken", [raising(ValueError(SECRET)), returning(-1), returning("soon"), returning(float("nan"))]
)
def test_a_broken_backoff_costs_no_retry(broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    host = Host().worker(returning(Error("busy")), backoff=broken)
    assert 15 <= delay(host, 1) <= 19
    assert "the backoff of worker 'accounts.close' raised" in caplog.text
    assert SECRET not in caplog.text


# -- audit ---------------------------------------------------------------------------------------------


def audited(mode: Mode, result: Result[None] = DONE, **options: Any) -> Host:
    host = Host(mode, **options)

    def body(scope: Any, args: Any) -> Any:
        host.audit.log_safe("account.closed", scope, target_type="account", target_id="a1")
        return result

    return host.worker(body)


def event_ids(host: Host, *payloads: Any) -> list[str]:
    """The event id that each payload's run writes, even one that is written already."""
    found: list[str] = []
    for payload in payloads:
        host.sink.clear()
        host.deliver(payload)
        found += [event.event_id for event in host.events]
    return found


def test_audit_rows_carry_the_ids_and_facts_of_their_job(mode: Mode) -> None:
    host = audited(mode)
    payload = host.payload({"organization_id": 7, "actor_id": "ann", "impersonating_from": "admin"})
    host.deliver(payload)
    (event,) = host.events
    assert (event.organization_id, event.actor_id, event.effective_user_id) == (7, "admin", "ann")
    assert (event.job_id, event.worker, event.queue, event.attempt) == (
        payload.id,
        "accounts.close",
        "default",
        1,
    )
    assert event.occurred_at == datetime.fromtimestamp(NOW, UTC)


def test_a_retried_run_writes_the_same_audit_events(mode: Mode) -> None:
    host = audited(mode, Error("busy"))
    payload = host.payload()
    first, second = event_ids(host, payload, replace(payload, attempt=2))
    assert first == second


@pytest.mark.parametrize("counted", ["snoozes", "resends"])
def test_each_snooze_and_each_resend_writes_audit_events_of_its_own(mode: Mode, counted: Any) -> None:
    host = audited(mode)
    payload = host.payload()
    later: dict[str, Any] = {counted: 1}
    first, second = event_ids(host, payload, replace(payload, **later))
    assert first != second


def test_equal_audit_events_of_one_run_are_told_apart(mode: Mode) -> None:
    host = Host(mode)

    def body(scope: Any, args: Any) -> Ok[None]:
        for _ in range(3):
            host.audit.log_safe("account.closed", scope)
        return Ok()

    host.worker(body).run()
    assert len(host.events) == 3


def test_null_actors_are_the_system_actor(mode: Mode) -> None:
    host = audited(mode, system_actor="cron")
    host.run({"organization_id": "org-1", "actor_id": None})
    (event,) = host.events
    assert (event.actor_id, event.actor_type, event.effective_user_id) == ("cron", "system", None)


# -- reasons and logs ----------------------------------------------------------------------------------


def test_what_ends_the_process_passes_through_a_reason() -> None:
    class StoppedError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Host().worker(raising(StoppedError()), max_attempts=1).run()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (returning(Error({"code": 3})), "{'code': 3}"),
        (returning(Error(ValueError("busy"))), "ValueError: busy"),
        (returning(Error("\ud800")), "\\ud800"),
        (returning(Error(Unprintable())), "an object of type Unprintable"),
        (returning(Cancel(Unprintable())), "cancelled: an object of type Unprintable"),
        (raising(UnprintableError()), "an object of type UnprintableError"),
        (raising(EndingError()), "an object of type EndingError"),
    ],
)
def test_every_reason_has_a_text(mode: Mode, end: Callable[..., Any], reason: str) -> None:
    assert dead(Host(mode).worker(end, max_attempts=1).run()).reason == reason


@pytest.mark.parametrize("end", [returning(Error("x" * 5_000)), raising(ValueError("x" * 5_000))])
def test_a_long_reason_is_cut(end: Callable[..., Any]) -> None:
    assert len(dead(Host().worker(end, max_attempts=1).run()).reason) == 2_000


def failing_with_args(kind: str) -> Callable[[Any, Any], Any]:
    """A body that puts its args into everything that it ends with."""

    def body(scope: Any, args: Any) -> Any:
        secret = args["note"]
        match kind:
            case "raises":
                raise ValueError(secret)
            case "cancel_on":
                raise LookupError(secret)
            case "interrupt":
                raise KeyboardInterrupt(secret)
            case "late":
                threading.Event().wait(0.05)
                raise ValueError(secret)
            case _:
                return {
                    "error": Error(secret),
                    "cancel": Cancel(secret),
                    "invalid": secret,
                    "ok": Ok(secret),
                }[kind]

    return body


@pytest.mark.parametrize("max_attempts", [1, 2])
@pytest.mark.parametrize(
    "kind", ["ok", "raises", "cancel_on", "interrupt", "late", "error", "cancel", "invalid"]
)
def test_logs_never_show_args(
    mode: Mode, kind: str, max_attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host = Host(mode, cancel_on=[LookupError])
    host.worker(failing_with_args(kind), NoteArgs, max_attempts=max_attempts, timeout=0.04)
    with suppress(KeyboardInterrupt):
        host.run({**KEYS, "note": SECRET})
    assert SECRET not in caplog.text


@pytest.mark.parametrize("problem", ["missing", "unknown", "broken", "early", "crashed"])
def test_logs_of_jobs_that_never_ran_show_no_args(
    mode: Mode, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host = Host(mode).worker(returning(Ok()), NoteArgs)
    payload = host.payload({**KEYS, "note": SECRET})
    bad: dict[str, Any] = {
        "missing": replace(payload, args_or_json={"note": SECRET}),
        "unknown": replace(payload, worker="accounts.open"),
        "broken": payload.dump()[:-1],
        "early": replace(payload, due_at=NOW + 1),
        "crashed": replace(payload, attempt=99),
    }
    outcome = host.deliver(bad[problem])
    assert SECRET not in caplog.text
    assert isinstance(outcome, Again) or SECRET not in outcome_text(outcome)


def outcome_text(outcome: Any) -> str:
    return f"{outcome.reason}{outcome.traceback}{outcome.error}"


def test_a_retry_is_logged_with_job_worker_organization_and_place(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(mode).worker(raising(ValueError(SECRET)), backoff=7, max_attempts=5)
    payload = host.payload()
    host.deliver(payload)
    (record,) = [record for record in caplog.records if record.name == "sigra_workers"]
    assert record.levelno == logging.WARNING
    assert f"job {payload.id} of worker 'accounts.close' (organization org-1)" in record.getMessage()
    assert "attempt 1 of 5 failed with ValueError at " in record.getMessage()
    assert "it runs again in 7.0 s" in record.getMessage()


def test_the_wait_for_an_unknown_worker_is_logged(without: Host, caplog: pytest.LogCaptureFixture) -> None:
    without.run()
    assert "worker 'accounts.close' is not implemented in this process" in caplog.text
    assert "(organization org-1)" in caplog.text


def test_snoozes_are_not_logged(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    Host(mode).worker(returning(Snooze(1))).run()
    assert caplog.records == []


def test_a_timed_out_job_is_as_raised_in_the_table(mode: Mode) -> None:
    host = Host(mode).worker(after(lambda args: threading.Event().wait(0.1), Ok()), timeout=0.02)
    found = dead(host.run(max_attempts=1))
    assert isinstance(found.error, JobTimeoutError)
    assert host.told.of("finished")["decision"] == "dead"


class RequestScope:
    """What a web handler has, and no worker may get."""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_scope_that_is_not_audit_only_never_reaches_host_code(mode: Mode, kind: Kind) -> None:
    reached: list[str] = []

    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        reached.append("around")
        yield

    host = Host(mode, scope_builder=Builder(kind, lambda args: RequestScope()))
    host.workers.around(around)
    host.worker(lambda scope, args: reached.append("perform"), max_attempts=1)
    found = dead(host.run())
    assert isinstance(found.error, InvalidScopeError)
    assert "returned an object of type RequestScope" in found.reason
    assert reached == []


def test_a_retry_is_logged_with_the_hosts_line_and_what_the_library_says_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Host().worker(lambda scope, args: scope.membership).run()
    (record,) = caplog.records
    assert f"failed with AuditOnlyScopeError at {__file__}:" in record.getMessage()
    assert "AuditScope has no 'membership'" in record.getMessage()
