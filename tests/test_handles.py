"""Handles: declaring, implementing and registering workers; and what is refused at once."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Annotated, Any, Generic, NotRequired, TypeVar, cast

import pytest
from tests import future_host
from tests.support import KEYS
from typing_extensions import TypedDict

from sigra_workers import (
    AuditScope,
    DuplicateWorkerError,
    FunctionHandle,
    InvalidArgsError,
    InvalidOptionError,
    InvalidWorkerError,
    JobInfo,
    MissingTenantKeyError,
    Ok,
    OrganizationArgs,
    Result,
    TenantArgs,
    UnknownQueueError,
    WorkerHandle,
    Workers,
)
from sigra_workers.args import ArgsForm
from sigra_workers.handles import Around
from sigra_workers.memory import MemoryAdapter


class CloseArgs(OrganizationArgs):
    account_id: str
    note: NotRequired[str]


class Close:
    """A worker that nothing is wrong with."""

    def perform(self, scope: AuditScope, args: CloseArgs) -> Result[str]:
        return Ok(args["account_id"])


class AsyncClose:
    """Its async twin."""

    async def perform(self, scope: AuditScope, args: CloseArgs) -> Result[str]:
        return Ok(args["account_id"])


def close(scope: AuditScope, args: CloseArgs) -> Result[str]:
    return Ok(args["account_id"])


async def aclose(scope: AuditScope, args: CloseArgs) -> Result[str]:
    return Ok(args["account_id"])


ARGS = CloseArgs(organization_id="org-1", actor_id="ann", account_id="a1")


def new_workers() -> Workers[AuditScope]:
    return Workers[AuditScope]()


def drained(workers: Workers[Any]) -> dict[str, object]:
    """What the jobs that wait return, by job id."""
    adapter = MemoryAdapter.of(workers)
    adapter.drain()
    return adapter.results


# -- the three ways ------------------------------------------------------------------------------------


def test_a_declared_handle_enqueues_without_the_implementation_which_may_follow() -> None:
    workers = new_workers()
    handle = workers.declare("accounts.close", CloseArgs, queue="lifecycle")
    assert handle.implementation is None
    ref = handle.enqueue(ARGS)
    assert (ref.worker, ref.queue) == ("accounts.close", "lifecycle")
    handle.implement(Close())
    assert drained(workers) == {ref.id: "a1"}


@pytest.mark.parametrize("worker", [Close(), AsyncClose(), close, aclose, Close().perform])
def test_register_declares_and_implements_with_the_args_of_the_annotation(worker: Any) -> None:
    workers = new_workers()
    handle = workers.register(worker, name="accounts.close")
    assert handle.args_type is CloseArgs
    ref = handle.enqueue(ARGS)
    assert drained(workers) == {ref.id: "a1"}


def test_the_decorator_registers_a_function_that_stays_callable() -> None:
    workers = new_workers()
    handle = workers.worker(name="accounts.close", queue="lifecycle")(close)
    assert isinstance(handle, FunctionHandle)
    assert handle(AuditScope(None, None), ARGS) == Ok("a1")
    assert handle.args_type is CloseArgs
    ref = handle.enqueue(ARGS)
    assert drained(workers) == {ref.id: "a1"}


def test_the_decorator_takes_async_functions() -> None:
    workers = new_workers()
    handle = workers.worker(name="accounts.close")(aclose)
    assert asyncio.run(handle(AuditScope(None, None), ARGS)) == Ok("a1")


def test_implement_decorates_a_function_and_returns_what_it_was_given() -> None:
    handle = new_workers().declare("accounts.close", CloseArgs)
    worker = Close()
    assert handle.implement(worker) is worker
    other = new_workers().declare("accounts.close", CloseArgs)
    assert other.implement(close) is close


@pytest.mark.parametrize("annotation", [TenantArgs, dict[str, Any], Any, None])
def test_args_without_a_typed_dict_are_tenant_args(annotation: Any) -> None:
    def perform(scope: Any, args: Any) -> Any:
        return Ok()

    perform.__annotations__ = {} if annotation is None else {"args": annotation}
    assert new_workers().worker(name="a")(perform).args_type is TenantArgs


def test_a_worker_with_other_parameter_names_defaults_and_stars_serves() -> None:
    class Odd:
        def perform(self, who: Any, what: CloseArgs, why: str = "", *more: Any, **most: Any) -> Any:
            return Ok()

    class Starred:
        def perform(self, *both: Any) -> Any:
            return Ok()

    workers = new_workers()
    assert workers.register(Odd(), name="odd").args_type is CloseArgs
    assert workers.register(Starred(), name="starred").args_type is TenantArgs


def test_new_checks_the_args_against_the_workers_own_type() -> None:
    handle = new_workers().declare("accounts.close", CloseArgs)
    bad: Any = {"actor_id": "ann"}
    with pytest.raises(MissingTenantKeyError) as caught:
        handle.new(bad)
    assert caught.value.worker == "accounts.close"
    assert caught.value.problems[1] == "key 'account_id' is missing"
    with pytest.raises(InvalidArgsError, match="'organization_id' is None"):
        handle.new({**ARGS, "organization_id": cast("Any", None)})
    assert handle.new(ARGS).args == ARGS


def test_aenqueue_is_the_async_twin_of_enqueue() -> None:
    workers = new_workers()
    handle = workers.register(Close(), name="accounts.close")
    ref = asyncio.run(handle.aenqueue(ARGS, job_id="job-1"))
    assert ref.id == "job-1"
    assert drained(workers) == {"job-1": "a1"}


def test_defaults_are_those_of_the_readme() -> None:
    handle = new_workers().declare("accounts.close", CloseArgs)
    assert (handle.queue, handle.max_attempts, handle.backoff) == ("default", 20, None)
    assert (handle.timeout, handle.aliases, handle.cancel_on) == (None, (), ())


# -- names ---------------------------------------------------------------------------------------------


def test_a_worker_is_found_by_its_name_and_its_aliases() -> None:
    workers = new_workers()
    handle = workers.declare("accounts.close", CloseArgs, aliases=["close", "accounts.shut"])
    assert [workers.find(name) for name in ("accounts.close", "close", "accounts.shut")] == [handle] * 3
    assert workers.find("accounts.open") is None
    assert workers.handles == [handle]


def test_handles_are_listed_in_the_order_of_declaration() -> None:
    workers = new_workers()
    handles = [workers.declare(name, TenantArgs) for name in ("c", "a", "b")]
    assert workers.handles == handles


@pytest.mark.parametrize(
    ("name", "aliases", "named"),
    [
        ("first", [], "first"),
        ("alias", [], "alias"),
        ("second", ["first"], "first"),
        ("second", ["alias"], "alias"),
        ("second", ["second"], "second"),
        ("second", ["third", "third"], "third"),
    ],
)
def test_a_name_or_alias_has_one_worker(name: str, aliases: list[str], named: str) -> None:
    workers = new_workers()
    workers.declare("first", TenantArgs, aliases=["alias"])
    ways: list[Any] = [
        lambda: workers.declare(name, CloseArgs, aliases=aliases),
        lambda: workers.register(Close(), name=name, aliases=aliases),
        lambda: workers.worker(name=name, aliases=aliases)(close),
    ]
    for way in ways:
        with pytest.raises(DuplicateWorkerError) as caught:
            way()
        assert caught.value.name == named
    assert len(workers.handles) == 1


def test_a_handle_is_implemented_once() -> None:
    handle = new_workers().register(Close(), name="accounts.close")
    with pytest.raises(DuplicateWorkerError, match=r"is implemented already, by Close\.perform"):
        handle.implement(Close())


BAD_NAMES = ["", ".", "-a", "a b", "a/b", "é", "a\n", "x" * 129, None, 5, b"a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_not_every_queue_can_carry_is_refused(name: Any) -> None:
    for options in ({"name": name}, {"name": "a", "aliases": [name]}):
        with pytest.raises(InvalidOptionError) as caught:
            new_workers().register(Close(), **cast("Any", options))
        assert caught.value.option == [*options][-1]


@pytest.mark.parametrize("queue", [*BAD_NAMES, "9lives", ":a"])
def test_a_queue_that_not_every_library_can_carry_is_refused(queue: Any) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        new_workers().declare("a", TenantArgs, queue=queue)
    assert caught.value.option == "queue"


@pytest.mark.parametrize("aliases", ["old", 5, None])
def test_aliases_are_a_sequence_and_not_one_text(aliases: Any) -> None:
    with pytest.raises(InvalidOptionError, match="expected a sequence of names") as caught:
        new_workers().declare("a", TenantArgs, aliases=aliases)
    assert caught.value.option == "aliases"


# -- options of a worker -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", 3),
        ("max_attempts", 0),
        ("backoff", -1),
        ("backoff", []),
        ("backoff", "5"),
        ("timeout", 0),
        ("timeout", "5"),
        ("cancel_on", ["ValueError"]),
        ("cancel_on", [ValueError()]),
        ("cancel_on", KeyboardInterrupt),
        ("cancel_on", 5),
    ],
)
def test_an_option_that_is_unknown_or_cannot_be_is_refused_by_name(option: str, value: Any) -> None:
    ways: list[Any] = [
        lambda **options: new_workers().declare("a", TenantArgs, **options),
        lambda **options: new_workers().register(Close(), name="a", **options),
        lambda **options: new_workers().worker(name="a", **options)(close),
    ]
    for way in ways:
        with pytest.raises(InvalidOptionError) as caught:
            way(**{option: value})
        assert caught.value.option == option


@pytest.mark.parametrize("cancel_on", [ValueError, [ValueError], (ValueError,)])
def test_cancel_on_takes_one_exception_or_many(cancel_on: Any) -> None:
    assert new_workers().declare("a", TenantArgs, cancel_on=cancel_on).cancel_on == (ValueError,)


def test_the_queue_of_a_handle_is_known_to_jobs_of_all_workers() -> None:
    workers = new_workers()
    one = workers.declare("one", TenantArgs, queue="fast")
    two = workers.declare("two", TenantArgs)
    assert two.new(KEYS, queue="fast").queue == "fast"
    with pytest.raises(UnknownQueueError) as caught:
        one.new(KEYS, queue="slow")
    assert (caught.value.queue, caught.value.known) == ("slow", ("default", "fast"))


# -- workers that can't serve --------------------------------------------------------------------------


class Base:
    """What the workers below have in common: nothing that helps."""


class Run(Base):
    def run(self, scope: Any, args: Any) -> Any: ...


class Called(Base):
    def __call__(self, scope: Any, args: Any) -> Any: ...


class PerformIsData(Base):
    perform = "later"


class Yields(Base):
    def perform(self, scope: Any, args: Any) -> Iterator[Any]:
        yield Ok()


class YieldsAsync(Base):
    async def perform(self, scope: Any, args: Any) -> AsyncIterator[Any]:
        yield Ok()


class TakesOne(Base):
    def perform(self, args: Any) -> Any: ...


class TakesThree(Base):
    def perform(self, scope: Any, args: Any, job: Any) -> Any: ...


class TakesNames(Base):
    def perform(self, *, scope: Any, args: Any) -> Any: ...


class ReturnsNone(Base):
    def perform(self, scope: Any, args: Any) -> None: ...


class ReturnsNoneAsync(Base):
    async def perform(self, scope: Any, args: Any) -> None: ...


def yields(scope: Any, args: Any) -> Iterator[Any]:
    yield Ok()


def takes_one(args: Any) -> Any: ...


def returns_none(scope: Any, args: Any) -> None: ...


@pytest.mark.parametrize(
    ("worker", "problem"),
    [
        (Close, r"^Close can't be registered: it is a class, expected an instance: Close\(\.\.\.\)$"),
        (None, "NoneType can't be registered: it has no method perform"),
        ("accounts.close", r"str can't be registered: it has no method perform\(scope, args\)"),
        (Base(), r"it has no method perform\(scope, args\)$"),
        (Run(), "it has no method perform.*, but run: rename it"),
        (Called(), "it has no method perform.*, but __call__: rename it"),
        (PerformIsData(), "PerformIsData can't be registered: it has no method perform"),
        (Yields(), r"Yields\.perform can't be registered: it is a generator"),
        (YieldsAsync(), "it is a generator"),
        (TakesOne(), r"TakesOne\.perform\(args: .* can't be called with \(scope, args\): too many"),
        (TakesThree(), "missing a required argument: 'job'"),
        (TakesNames(), r"can't be called with \(scope, args\)"),
        (ReturnsNone(), r"it returns None, expected Ok, Error, Snooze or Cancel: end it with Ok\(\)"),
        (ReturnsNoneAsync(), "it returns None"),
        (future_host.ReturnsNone(), "it returns None"),
        (yields, "yields can't be registered: it is a generator"),
        (takes_one, "it can't be called with"),
        (returns_none, "returns_none can't be registered: it returns None"),
    ],
)
def test_a_worker_that_cannot_serve_is_refused_at_once_and_by_every_way(worker: Any, problem: str) -> None:
    workers = new_workers()
    ways: list[Any] = [
        lambda: workers.register(worker, name="a"),
        lambda: workers.worker(name="a")(worker),
        lambda: handle.implement(worker),
    ]
    handle: WorkerHandle[Any, Any, Any] = workers.declare("declared", TenantArgs)
    for way in ways:
        with pytest.raises(InvalidWorkerError, match=problem):
            way()
    assert workers.handles == [handle]
    assert handle.implementation is None


# -- args types ----------------------------------------------------------------------------------------


class Elsewhere(TypedDict):
    account_id: str


class Optionally(TypedDict, total=False):
    organization_id: str
    actor_id: str


class NoActor(TypedDict):
    organization_id: str
    actor_id: NotRequired[str]


@pytest.mark.parametrize(
    ("args_type", "problem"),
    [
        (dict, "is not a TypedDict"),
        (None, "is not a TypedDict"),
        ({"a": str}, "is not a TypedDict"),
        (Elsewhere, "Elsewhere has no required key 'organization_id': derive it from TenantArgs"),
        (Optionally, "Optionally has no required key 'organization_id'"),
        (NoActor, "NoActor has no required key 'actor_id'"),
    ],
)
def test_an_args_type_without_the_tenant_keys_is_refused(args_type: Any, problem: str) -> None:
    with pytest.raises(InvalidWorkerError, match=problem) as caught:
        new_workers().declare("accounts.close", args_type)
    assert caught.value.worker == "accounts.close"


@pytest.mark.parametrize(
    ("args_type", "required", "not_none"),
    [
        (TenantArgs, [], set()),
        (OrganizationArgs, [], {"organization_id"}),
        (CloseArgs, ["account_id"], {"organization_id"}),
        (future_host.ResolvableArgs, ["account_id"], set()),
        (future_host.PartlyArgs, ["account_id"], set()),
        (future_host.CheckersAloneArgs, ["amount"], {"organization_id"}),
        (future_host.CheckersAlonePartlyArgs, ["amount"], set()),
        (future_host.FromScratchArgs, ["amount"], {"organization_id"}),
    ],
)
def test_required_keys_and_keys_that_may_not_be_none_are_read_as_they_were_written(
    args_type: Any, required: list[str], not_none: set[str]
) -> None:
    form = new_workers().declare("a", args_type).form
    assert form.required == ("organization_id", "actor_id", *required)
    assert form.not_none == not_none


def test_annotations_that_are_strings_are_resolved() -> None:
    workers = new_workers()
    assert workers.register(future_host.Resolvable(), name="a").args_type is future_host.ResolvableArgs
    assert workers.worker(name="b")(future_host.function).args_type is future_host.ResolvableArgs


def test_an_annotation_that_cannot_be_resolved_is_refused_with_the_way_out() -> None:
    worker: Any = future_host.CheckersAlone()
    with pytest.raises(InvalidWorkerError, match=r"'Money' of its args.*workers\.declare\(name, ArgsType\)"):
        new_workers().register(worker, name="a")
    new_workers().declare("a", TenantArgs).implement(worker)


# -- arounds -------------------------------------------------------------------------------------------


def around(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    yield


async def aaround(job: JobInfo, scope: AuditScope, args: TenantArgs) -> AsyncGenerator[None]:
    yield


def no_around(job: JobInfo, scope: AuditScope, args: TenantArgs) -> None: ...


@pytest.mark.parametrize("worker", [Close(), AsyncClose()])
def test_a_def_around_serves_every_worker(worker: Any) -> None:
    workers = new_workers()
    assert workers.around(around) is around
    workers.register(worker, name="a")
    assert len(workers.arounds) == 1


def test_an_async_around_serves_async_workers() -> None:
    workers = new_workers()
    assert workers.around(aaround) is aaround
    workers.register(AsyncClose(), name="a")


def test_an_async_around_alone_refuses_a_def_worker_however_it_comes() -> None:
    workers = new_workers()
    workers.around(aaround)
    declared = workers.declare("declared", CloseArgs)
    ways: list[Any] = [
        lambda: workers.register(Close(), name="a"),
        lambda: workers.worker(name="a")(close),
        lambda: declared.implement(Close()),
    ]
    for way in ways:
        with pytest.raises(InvalidWorkerError, match=r"workers\.around\(sync, async\) pairs them"):
            way()
    assert workers.handles == [declared]
    assert declared.implementation is None


def test_a_def_worker_refuses_an_async_around_that_comes_later() -> None:
    workers = new_workers()
    workers.declare("declared", CloseArgs)
    workers.register(Close(), name="a")
    with pytest.raises(InvalidWorkerError, match="around aaround is async and the worker is not"):
        workers.around(aaround)
    assert workers.arounds == []


@pytest.mark.parametrize("worker", [Close(), AsyncClose()])
def test_a_pair_of_arounds_serves_every_worker(worker: Any) -> None:
    workers = new_workers()
    assert workers.around(around, aaround) is around
    workers.register(worker, name="a")


@pytest.mark.parametrize(
    ("function", "twin"),
    [
        (no_around, None),
        (None, None),
        ("around", None),
        (around, around),
        (aaround, aaround),
        (around, no_around),
        (no_around, aaround),
        (None, aaround),
    ],
)
def test_an_around_is_a_generator_function_and_a_pair_is_one_of_each_kind(function: Any, twin: Any) -> None:
    workers: Any = new_workers()
    with pytest.raises(InvalidWorkerError, match="a pair is one of each kind"):
        workers.around(function, twin)


def test_a_pair_may_be_given_the_other_way_round() -> None:
    pair = Around.of(aaround, around)
    assert pair.sync is not None
    assert pair.asynchronous is not None


class AsyncCallable:
    async def __call__(self, scope: Any, args: Any) -> Any: ...


class HasAsyncCallable:
    perform = AsyncCallable()


def wrapping(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(scope: Any, args: Any) -> Any:
        return function(scope, args)

    return wrapper


@pytest.mark.parametrize("worker", [HasAsyncCallable(), wrapping(AsyncCallable().__call__)])
def test_an_async_function_hidden_in_a_plain_one_is_refused(worker: Any) -> None:
    with pytest.raises(InvalidWorkerError, match="`def` around an `async def`"):
        Workers[AuditScope]().register(worker, name="hidden")


ItemT = TypeVar("ItemT")


class BatchArgs(OrganizationArgs, Generic[ItemT]):
    items: list[ItemT]


def annotated(scope: Any, args: Annotated[OrganizationArgs, "a note"]) -> Any: ...
def generic(scope: Any, args: BatchArgs[int]) -> Any: ...
def optional(scope: Any, args: OrganizationArgs | None) -> Any: ...


@pytest.mark.parametrize(("perform", "args_type"), [(annotated, OrganizationArgs), (generic, BatchArgs)])
def test_an_annotated_or_generic_args_type_is_checked_at_new(perform: Any, args_type: Any) -> None:
    handle = Workers[AuditScope]().worker(name="typed")(perform)
    assert handle.form == ArgsForm.of(args_type)
    no_organization: Any = {"organization_id": None, "actor_id": None, "items": []}
    with pytest.raises(InvalidArgsError, match="'organization_id' is None"):
        handle.new(no_organization)


def test_args_that_may_be_something_else_than_args_are_refused() -> None:
    perform: Any = optional
    with pytest.raises(InvalidWorkerError, match=r"workers.declare\(name, ArgsType\)"):
        Workers[AuditScope]().worker(name="typed")(perform)
