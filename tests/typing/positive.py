"""Every line must type-check, in every checker; it also runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal, NotRequired, assert_never, assert_type
from uuid import UUID

from typing_extensions import ReadOnly

from sigra_workers import (
    JSON,
    Audit,
    AuditEvent,
    AuditOnly,
    AuditRef,
    AuditScope,
    AuditSink,
    Authorizes,
    Cancel,
    Error,
    FunctionHandle,
    Id,
    Job,
    JobInfo,
    JobOptions,
    JobRef,
    MemorySink,
    Ok,
    OrganizationArgs,
    OrganizationKeys,
    Result,
    ScopeBuilder,
    Snooze,
    TenantArgs,
    TenantKeys,
    Worker,
    WorkerHandle,
    WorkerOptions,
    Workers,
    WorkersOptions,
    current_job,
    fetch_arg,
    forbid_audit_scope,
    organization_args,
    tenant_args,
    wire_id,
)

# --- args


class CloseArgs(TenantArgs):
    account_id: str
    note: NotRequired[str]


class OrgArgs(OrganizationArgs):
    account_id: str


class TextArgs(TenantArgs):  # ReadOnly lets a worker narrow the keys further
    organization_id: ReadOnly[str]


@dataclass
class User:
    id: UUID


@dataclass
class Organization:
    id: int


@dataclass
class RequestScope:
    user: User | None
    active_organization: Organization
    sigra_authorizes: ClassVar[Literal[True]] = True


request = RequestScope(User(UUID(int=1)), Organization(7))
keys = tenant_args(request)
assert_type(keys, TenantKeys)
assert_type(keys["actor_id"], str | int | None)
assert_type(tenant_args(organization_id=UUID(int=1), actor_id=None), TenantKeys)
assert_type(tenant_args(organization_id=1, actor_id="u", impersonating_from=UUID(int=2)), TenantKeys)
assert_type(organization_args(request), OrganizationKeys)
assert_type(organization_args(organization_id=UUID(int=1), actor_id=None), OrganizationKeys)
assert_type(organization_args(request)["organization_id"], str | int)
assert_type(wire_id(UUID(int=1)), Id | None)
narrow: TenantKeys = organization_args(request)  # the organization form fits where the keys do

literal: CloseArgs = {"organization_id": None, "actor_id": 0, "account_id": "a"}
built = CloseArgs(**tenant_args(request), account_id="a", note="n")
of_organization = OrgArgs(**organization_args(request), account_id="a")
assert_type(of_organization["organization_id"], str | int)
base: TenantArgs = of_organization

# --- scopes


@dataclass(frozen=True, slots=True)
class WorkerScope(AuditOnly):
    actor: AuditRef | None
    organization: AuditRef | None


class Builder:
    def build(self, args: TenantArgs) -> WorkerScope:
        actor = args["actor_id"]
        return WorkerScope(None if actor is None else AuditRef(actor), None)


class AsyncBuilder:
    async def build(self, args: Mapping[str, object]) -> WorkerScope:
        return WorkerScope(None, None)


class DecidingBuilder:  # a deleted organization, a suspended one
    def build(self, args: TenantArgs) -> WorkerScope | Cancel | Snooze:
        if args["organization_id"] == "deleted":
            return Cancel("deleted")
        return Snooze(60) if args["organization_id"] == "suspended" else WorkerScope(None, None)


class AsyncDecidingBuilder:
    async def build(self, args: TenantArgs) -> WorkerScope | Cancel | Snooze:
        return WorkerScope(None, None)


class MaybeBuilder:
    def build(self, args: TenantArgs) -> WorkerScope | None:
        return None if args["actor_id"] is None else WorkerScope(None, None)


class MaybeDecidingBuilder:
    async def build(self, args: TenantArgs) -> WorkerScope | Cancel | None:
        return None


assert_type(Workers(), Workers[AuditScope])
assert_type(Workers[AuditScope](), Workers[AuditScope])
assert_type(Workers[AuditScope](adapter="memory", queues=["a"]), Workers[AuditScope])
assert_type(Workers(scope_builder=Builder()), Workers[WorkerScope])
assert_type(Workers(scope_builder=AsyncBuilder()), Workers[WorkerScope])
assert_type(Workers[WorkerScope](scope_builder=DecidingBuilder()), Workers[WorkerScope])
assert_type(Workers[WorkerScope](scope_builder=AsyncDecidingBuilder()), Workers[WorkerScope])
assert_type(Workers[WorkerScope | None](scope_builder=MaybeBuilder()), Workers[WorkerScope | None])
assert_type(Workers[WorkerScope | None](scope_builder=MaybeDecidingBuilder()), Workers[WorkerScope | None])
builder: ScopeBuilder[WorkerScope] = DecidingBuilder()
options: WorkersOptions = {"adapter": "memory", "system_actor": "cron", "unknown_worker_grace": 60}

app = Workers[WorkerScope](
    scope_builder=Builder(),
    audit=Audit(MemorySink()),
    settings={"clock": lambda: 0.0},
    queues={"bulk"},
    cancel_on=[LookupError],
    max_args_bytes=1024,
    plugins=(),
)
Workers[WorkerScope](scope_builder=builder, **options)
maybe = Workers[WorkerScope | None](scope_builder=MaybeBuilder())
plain = Workers[AuditScope]()

# --- workers


class Close:
    def perform(self, scope: WorkerScope, args: CloseArgs) -> Result[str]:
        assert_type(args["account_id"], str)
        assert_type(args["organization_id"], str | int | None)
        assert_type(fetch_arg(args, "account_id"), object)
        assert_type(fetch_arg(args, "account_id", str), str)
        assert_type(fetch_arg(args, "actor_id", str | None), str | None)
        return Ok("closed")


class CloseAsync:
    async def perform(self, scope: WorkerScope, args: CloseArgs) -> Result[int]:
        return Ok(1)


class Narrow:
    def perform(self, _scope: AuditOnly, _args: OrgArgs) -> Result:
        return Ok()


class TakesNone:
    def perform(self, scope: WorkerScope | None, args: CloseArgs) -> Result[str]:
        return Ok("none" if scope is None else "some")


class OnlyFails:
    async def perform(self, scope: object, args: TenantArgs) -> Result:
        return Error("x")


class OnlyCancels:  # not `-> Cancel`: pyright then leaves the value's type open
    def perform(self, scope: WorkerScope, args: TextArgs) -> Result:
        assert_type(args["organization_id"], str)
        return Cancel("x")


class Explicit(Worker[WorkerScope, CloseArgs, str]):  # opt-in: errors at the definition
    async def perform(self, scope: WorkerScope, args: CloseArgs) -> Result[str]:
        return Snooze(timedelta(minutes=5))


close = app.register(Close(), name="close", queue="billing", max_attempts=5)
assert_type(close, WorkerHandle[WorkerScope, CloseArgs, str])
assert_type(app.register(CloseAsync(), name="close_async"), WorkerHandle[WorkerScope, CloseArgs, int])
assert_type(app.register(Narrow(), name="narrow"), WorkerHandle[WorkerScope, OrgArgs, object])
assert_type(app.register(OnlyFails(), name="fails"), WorkerHandle[WorkerScope, TenantArgs, object])
assert_type(app.register(OnlyCancels(), name="cancels"), WorkerHandle[WorkerScope, TextArgs, object])
assert_type(app.register(Explicit(), name="explicit"), WorkerHandle[WorkerScope, CloseArgs, str])
assert_type(app.register(TakesNone(), name="takes_none"), WorkerHandle[WorkerScope, CloseArgs, str])
assert_type(maybe.register(TakesNone(), name="none"), WorkerHandle[WorkerScope | None, CloseArgs, str])
worker: Worker[WorkerScope, CloseArgs, str] = Close()


@app.worker(name="sync_fn", queue="billing", backoff=[1, 2.5], timeout=30, aliases=["old"])
def sync_fn(scope: WorkerScope, args: CloseArgs) -> Result[str]:
    return Ok("x")


@app.worker(name="async_fn", backoff=lambda attempt: 2**attempt, cancel_on=(LookupError, OSError))
async def async_fn(scope: WorkerScope, args: OrgArgs) -> Result[str]:
    return Ok("x")


@app.worker(name="fails_fn")
def fails_fn(scope: WorkerScope | None, args: CloseArgs) -> Error:
    return Error("x")


assert_type(sync_fn, FunctionHandle[WorkerScope, CloseArgs, str, Result[str]])
assert_type(async_fn, FunctionHandle[WorkerScope, OrgArgs, str, Coroutine[Any, Any, Result[str]]])
assert_type(sync_fn(WorkerScope(None, None), built), Result[str])

# --- declare and implement

worker_options: WorkerOptions = {"queue": "lifecycle", "max_attempts": 5}
declared = app.declare("declared", CloseArgs, **worker_options)
assert_type(declared, WorkerHandle[WorkerScope, CloseArgs, object])
implemented = declared.implement(Close())
runs: Worker[WorkerScope, CloseArgs, object] = implemented
app.declare("declared_async", CloseArgs).implement(CloseAsync())
app.declare("wider", OrgArgs).implement(OnlyFails())  # a worker of fewer keys serves more
maybe.declare("maybe", CloseArgs).implement(TakesNone())
by_function = app.declare("by_function", CloseArgs)
by_async_function = app.declare("by_async_function", OrgArgs)


@by_function.implement
def close_fn(scope: WorkerScope, args: CloseArgs) -> Result[str]:
    return Ok(args["account_id"])


@by_async_function.implement
async def close_async_fn(scope: WorkerScope, args: OrgArgs) -> Result[str]:
    return Ok(args["account_id"])


called: Result[str] = close_fn(WorkerScope(None, None), built)
as_function: Callable[[WorkerScope, CloseArgs], Result[str]] = close_fn

# --- jobs

job = close.new({"organization_id": 7, "actor_id": None, "account_id": "a"})
assert_type(job, Job[CloseArgs])
assert_type(job.args, CloseArgs)
close.new({"organization_id": "o", "actor_id": "u", "account_id": "a", "impersonating_from": "admin"})
close.new({**tenant_args(request), "account_id": "a"})  # pyrefly: ignore[bad-unpacking]
close.new(CloseArgs(**tenant_args(request), account_id="a"))
close.new(CloseArgs(**organization_args(request), account_id="a"))
async_fn.new(OrgArgs(**organization_args(request), account_id="a"))
job_options: JobOptions = {"queue": "bulk", "max_attempts": 3}
close.new(built, **job_options)
close.new(built, backoff=[1, 2.5], timeout=30, schedule_in=timedelta(days=1))
close.new(built, schedule_at=datetime.now(UTC), job_id="close-1", native={})
jobs: list[Job] = [job, async_fn.new(of_organization)]  # covariant in the args
jobs_of_base: list[Job[TenantArgs]] = [job, async_fn.new(of_organization)]


async def enqueues() -> None:
    assert_type(await close.aenqueue(built, schedule_in=0.5), JobRef)
    assert_type(await app.aenqueue(job), JobRef)
    assert_type(await app.aenqueue_many(jobs, on_duplicate="skip"), list[JobRef])
    async with plain as same:
        assert_type(same, Workers[AuditScope])


assert_type(close.enqueue(literal, schedule_in=60), JobRef)
assert_type(app.enqueue(job), JobRef)
assert_type(app.enqueue_many(jobs_of_base), list[JobRef])
assert_type(app.enqueue_many(close.new(built) for _ in range(2)), list[JobRef])
assert_type(current_job(), JobInfo | None)

# --- arounds


@app.around
def transaction(job: JobInfo, scope: WorkerScope, args: TenantArgs) -> Generator[None]:
    yield


@app.around
def as_iterator(job: JobInfo, scope: AuditOnly, args: Mapping[str, object]) -> Iterator[None]:
    yield


@maybe.around
def with_none(job: JobInfo, scope: WorkerScope | None, args: TenantArgs) -> Generator[None]:
    yield


async def atransaction(job: JobInfo, scope: WorkerScope, args: TenantArgs) -> AsyncGenerator[None]:
    yield


app.around(transaction, atransaction)
only_async = Workers[WorkerScope](scope_builder=Builder())


@only_async.around
async def session(job: JobInfo, scope: WorkerScope, args: TenantArgs) -> AsyncGenerator[None]:
    yield


# --- results


def exhaustive(result: Result[str]) -> str:
    match result:
        case Ok(value=value):
            assert_type(value, str)
            return value
        case Error(reason):
            return repr(reason)
        case Snooze(seconds=seconds):
            assert_type(seconds, int)
            return str(seconds)
        case Cancel(reason):
            return repr(reason)
        case _:
            assert_never(result)


assert_type(Ok(), Ok[None])
assert_type(Ok("x").value, str)
empty: Result[None] = Ok()
wide: Result[object] = Ok("x")
assert_type(Snooze(timedelta(hours=1)).seconds, int)

# --- audit


class Sink:
    def write(self, event: AuditEvent) -> None: ...


class AsyncSink:
    def write(self, event: AuditEvent, /) -> int:
        return 1

    async def awrite(self, event: AuditEvent) -> None: ...


sinks: list[AuditSink] = [Sink(), AsyncSink(), MemorySink()]
audit = Audit(Sink(), reserved=["sigra."])
ids: list[int] = [1]
audit.log_safe("account.closed", None, metadata={"ids": ids, "nested": {"a": [1, "x", None]}})
local: dict[str, JSON] = {"a": 1, "b": ["x"]}  # annotate locals: mypy would infer dict[str, object]
audit.log_safe("account.closed", WorkerScope(None, None), outcome="failure", metadata=local)
audit.log_safe("account.closed", request, target_type="account", target_id=UUID(int=1), event_key="k")
audit.log_safe("account.closed", None, actor_id=1, actor_type="user", occurred_at=datetime.now(UTC))
assert_type(audit.log("account.closed", AuditScope(None, None)), AuditEvent)
with audit.using(MemorySink()):
    audit.log_safe("account.closed", None)

audit_scope = AuditScope(user=AuditRef("u"), active_organization=None)
assert_type(audit_scope.user, AuditRef | None)
assert_type(audit_scope.impersonating_from, AuditRef | None)

# --- authorization


def authorize(scope: RequestScope) -> bool:
    return True


def authorize_marked(scope: Authorizes) -> bool:
    return scope.sigra_authorizes


def authorize_untyped(scope: Any) -> bool:
    forbid_audit_scope(scope)
    return True


print(authorize(request), authorize_marked(request), authorize_untyped(request))
