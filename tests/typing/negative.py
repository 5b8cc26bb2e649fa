"""Every ignored line must stay an error: an ignore that becomes unused fails the run.

N numbers are errors in both checkers, M in mypy alone, P in pyright alone.
"""

# ruff: noqa: B018

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal, NewType, Protocol, assert_never
from uuid import UUID

from positive import (
    Builder,
    Close,
    CloseArgs,
    MaybeBuilder,
    OrgArgs,
    RequestScope,
    WorkerScope,
    app,
    async_fn,
    audit,
    audit_scope,
    authorize,
    authorize_marked,
    built,
    close,
    declared,
    job,
    maybe,
    only_async,
    plain,
    request,
    sync_fn,
)

from sigra_workers import (
    Audit,
    AuditEvent,
    AuditOnly,
    AuditRef,
    AuditScope,
    Authorizes,
    Cancel,
    Error,
    JobInfo,
    JobOptions,
    Ok,
    Result,
    Snooze,
    TenantArgs,
    TenantKeys,
    Worker,
    WorkerOptions,
    Workers,
    WorkersOptions,
    fetch_arg,
    forbid_audit_scope,
    organization_args,
    tenant_args,
)

u = UUID(int=1)

# --- args
close.new({"organization_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N01 actor_id missing
close.new({"actor_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N02 organization_id missing
close.new({"organization_id": None, "actor_id": None})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N03 the worker's own key missing
close.new({"organization_id": None, "actor_id": 1.5, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N04 wrong type
close.new({"organization_id": None, "actor_id": u, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N05 a UUID is not an id on the wire
close.new({"organization_id": None, "actor_id": None, "account_id": "a", "account": 1})  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportArgumentType]  # N06 unknown key
close.new({**tenant_args(None)})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N07 spread, own key missing
close.new(CloseArgs(account_id="a", organization_id=None))  # type: ignore[typeddict-item]  # pyright: ignore[reportCallIssue]  # N08 constructor form
close.new(CloseArgs(**tenant_args(None)))  # type: ignore[typeddict-item]  # pyright: ignore[reportCallIssue]  # N09 constructor form, own key missing
close.new(tenant_args(None))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N10 keys only
close.new({})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N11 empty
close.new({"organization_id": None, "actor_id": None, "account_id": "a", "impersonating_from": u})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N12 the optional key
sync_fn.new({"organization_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N13 handle of a function
app.register(Close(), name="n14").new({"actor_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N14 inline
close.enqueue({"organization_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N15 enqueue
declared.new({"organization_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N16 declared handle
async_fn.new({"organization_id": None, "actor_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N17 OrganizationArgs: None
OrgArgs(**tenant_args(request), account_id="a")  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N18 OrganizationArgs from keys that may be None
organization_args(organization_id=None, actor_id=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N19 organization_args of None
tenant_args(organization_id=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]  # N20 an id left out
tenant_args()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]  # N21 nothing given
tenant_args(organization_id=1, actor_id=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N22 not an id
organization_args(actor_id=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]  # N23 organization left out


def mutate(args: CloseArgs) -> None:
    args["actor_id"] = "root"  # type: ignore[typeddict-readonly-mutated]  # pyright: ignore[reportTypedDictNotRequiredAccess]  # N24 read-only
    args["accountid"]  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]  # N25 typo on read
    n: int = fetch_arg(args, "account_id")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # N26 object
    m: int = fetch_arg(args, "account_id", str)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # N27 wrong form
    args["note"].upper()  # pyright: ignore[reportTypedDictNotRequiredAccess]  # P28 an optional key read as if it were there
    print(n, m)


async def enqueues() -> None:
    await close.aenqueue({"organization_id": None, "account_id": "a"})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]  # N29 aenqueue
    await app.aenqueue(built)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N30 args for a job, async


class MoreKeys(TenantKeys):  # pyright: ignore[reportIncompatibleVariableOverride]  # P145 what tenant_args returns is closed
    account_id: str  # type: ignore[misc]  # M146 the same


# --- jobs and their options
close.new(built, queues="bulk")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N31 unknown option
close.new(built, max_attempts="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N32 wrong type
close.new(built, schedule_at=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N33 a number for a date
close.new(built, backoff=lambda attempt: 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]  # N34 a callable does not travel
close.enqueue(built, priority=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N35 an option of the queue outside of native
job_options: JobOptions = {"job_id": 1}  # type: ignore[typeddict-item]  # pyright: ignore[reportAssignmentType]  # N36 wrong type, as a dict
app.enqueue(built)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N37 args for a job
app.enqueue_many([built])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]  # N38 the same, in bulk
app.enqueue_many([job], on_duplicate="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N39 no such mode
app.enqueue(job).args  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # N40 a JobRef has no args

# --- workers


@dataclass(frozen=True, slots=True)
class OtherScope(AuditOnly):
    x: int


class WOther:
    def perform(self, scope: OtherScope, args: CloseArgs) -> Result[str]:
        return Ok("x")


class WRequest:
    def perform(self, scope: RequestScope, args: CloseArgs) -> Result[str]:
        return Ok("x")


class WNotNone:
    def perform(self, scope: WorkerScope, args: CloseArgs) -> Result[str]:
        return Ok("x")


class WArity:
    def perform(self, args: CloseArgs) -> Result[str]:
        return Ok("x")


class WInt:
    def perform(self, scope: WorkerScope, args: CloseArgs) -> int:
        return 1


class WNone:
    async def perform(self, scope: WorkerScope, args: CloseArgs) -> None:
        print("done")


class WMaybe:
    def perform(self, scope: WorkerScope, args: CloseArgs) -> Result[str] | None:
        return None


class WGenerator:
    def perform(self, scope: WorkerScope, args: CloseArgs) -> Generator[Result[str]]:
        yield Ok("x")


class WDict:
    def perform(self, scope: WorkerScope, args: dict[str, str]) -> Result[str]:
        return Ok("x")


class WRun:
    def run(self, scope: WorkerScope, args: CloseArgs) -> Result[str]:
        return Ok("x")


app.register(WOther(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N41 a worker of another scope
app.register(WRequest(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N42 a worker of the request's scope
maybe.register(WNotNone(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N43 the scope may be None
app.register(WArity(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N44 arity
app.register(WInt(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N45 return type
app.register(WNone(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N46 returns None
app.register(WMaybe(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N47 may return None
app.register(WGenerator(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N48 generator
app.register(WDict(), name="w")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]  # N49 args not a TenantArgs
app.register(WRun(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N50 no perform
app.register(Close, name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N51 class
app.register(Close())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N52 name left out
app.register(Close(), name="w", max_attempt=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N53 unknown option
app.register(Close(), name="w", queue=["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N54 wrong type
app.worker(name="w", timeout="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N55 wrong type, decorator
app.worker()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N56 name left out, decorator
worker_options: WorkerOptions = {"cancel_on": [KeyboardInterrupt]}  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]  # N57 not an Exception
plain.register(Close(), name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N58 a worker of a host's scope beside the default builder


class WExplicit(Worker[WorkerScope, CloseArgs, str]):
    def perform(self, args: CloseArgs) -> Result[str]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # N59 definition site
        return Ok("x")


@app.worker(name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N60 other scope
def f_other(scope: OtherScope, args: CloseArgs) -> Result[str]:
    return Ok("x")


@app.worker(name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N61 arity
def f_arity(args: CloseArgs) -> Result[str]:
    return Ok("x")


@app.worker(name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N62 return type
async def f_ret(scope: WorkerScope, args: CloseArgs) -> int:
    return 1


@app.worker(name="w")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N63 returns None
def f_none(scope: WorkerScope, args: CloseArgs) -> None:
    print("done")


@app.worker(name="w")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N64 args
def f_args(scope: WorkerScope, args: dict[str, str]) -> Result[str]:
    return Ok("x")


sync_fn(audit_scope, built)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N65 called with another scope

# --- declare and implement
app.declare("w", dict[str, str])  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]  # N66 not a TenantArgs
app.declare("w", CloseArgs, max_attempt=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N67 unknown option
declared.implement(WOther())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  # N68 a worker of another scope
declared.implement(WNone())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]  # N69 returns None
declared.implement(Close)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  # N70 class
app.declare("w", TenantArgs).implement(Close())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  # N71 a worker that needs more keys
maybe.declare("w", CloseArgs).implement(Close())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  # N72 the scope may be None


@declared.implement  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N73 function of another scope
def i_other(scope: OtherScope, args: CloseArgs) -> Result[str]:
    return Ok("x")


@declared.implement  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N74 async function that returns None
async def i_none(scope: WorkerScope, args: CloseArgs) -> None:
    print("done")


# --- arounds


@app.around  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N75 does not yield
def a_plain(job: JobInfo, scope: WorkerScope, args: TenantArgs) -> None:
    print("in")


@app.around  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N76 another scope
def a_other(job: JobInfo, scope: OtherScope, args: TenantArgs) -> Generator[None]:
    yield


@app.around  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N77 arity
def a_arity(job: JobInfo, scope: WorkerScope) -> Generator[None]:
    yield


@app.around  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N78 one worker's args
def a_args(job: JobInfo, scope: WorkerScope, args: CloseArgs) -> Generator[None]:
    yield


@maybe.around  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N79 the scope may be None
def a_none(job: JobInfo, scope: WorkerScope, args: TenantArgs) -> Generator[None]:
    yield


@only_async.around  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # N80 yields a value
async def a_value(job: JobInfo, scope: WorkerScope, args: TenantArgs) -> AsyncGenerator[int]:
    yield 1


# --- results


def r_forgot(flag: bool) -> Result[str]:  # type: ignore[return]  # pyright: ignore[reportReturnType]  # N81 forgotten return
    if flag:
        return Ok("x")


def r_bare(flag: bool) -> Result[str]:
    if flag:
        return  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # N82 bare return
    return Ok("x")


def r_none() -> Result[None]:
    return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # N83 None is no result


def r_value() -> Result[str]:
    return Ok(1)  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]  # N84 wrong value


def r_empty() -> Result[str]:
    return Ok()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # N85 Ok() is Ok[None]


def r_match(r: Result[str]) -> str:
    match r:
        case Ok(value=value):
            return value
        case Error() | Snooze():
            return "e"
        case _:
            assert_never(r)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N86 Cancel not handled


def r_match_snooze(r: Result[str]) -> str:
    match r:
        case Ok(value=value):
            return value
        case Error() | Cancel():
            return "e"
        case _:
            assert_never(r)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N87 Snooze not handled


def r_value_of(r: Result[str]) -> str:
    return r.value  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]  # N88 not every result has a value


Snooze("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N89 not an int
Snooze(timedelta(hours=1)).seconds = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # N90 frozen
Cancel()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N91 no reason
Error()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N92 no reason

# --- scopes
AliasScope = NewType("AliasScope", RequestScope)


class ScopeBuilderBad:
    def build(self, args: TenantArgs) -> RequestScope:
        return request


class ScopeBuilderBadAsync:
    async def build(self, args: TenantArgs) -> RequestScope | Cancel:
        return request


class ScopeBuilderNew:
    def build(self, args: TenantArgs) -> AliasScope:
        return AliasScope(request)


class ScopeBuilderOk:
    def build(self, args: TenantArgs) -> Result[WorkerScope]:
        return Error("x")


class ScopeBuilderArgs:
    def build(self, args: CloseArgs) -> WorkerScope:
        return WorkerScope(None, None)


Workers[WorkerScope](scope_builder=ScopeBuilderBad())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N93 request scope
Workers[WorkerScope](scope_builder=ScopeBuilderBadAsync())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N94 request scope, async
Workers[WorkerScope](scope_builder=ScopeBuilderNew())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N95 NewType of it
Workers[WorkerScope](scope_builder=ScopeBuilderOk())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N96 a builder that returns Ok or Error
Workers[WorkerScope](scope_builder=ScopeBuilderArgs())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N97 one worker's args
Workers[WorkerScope](scope_builder=MaybeBuilder())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N98 may be None, workers don't take None
Workers[WorkerScope](scope_builder=Builder)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N99 class
Workers(scope_builder=ScopeBuilderBad())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N100 unsubscripted
Workers[WorkerScope]()  # pyright: ignore[reportCallIssue]  # P101 no builder: mypy makes it Workers[AuditScope]
bad_app: Workers[RequestScope]  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]  # N102 the bound itself
not_maybe: Workers[WorkerScope] = maybe  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # N103 workers that take None are not workers that don't
Workers(adaptor="rq")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]  # N104 unknown option
Workers(settings="redis://")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N105 wrong type
Workers(scope_builder=Builder(), cancel_on=LookupError)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N106 a class for a sequence
Workers(audit=print)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # N107 not an Audit
workers_options: WorkersOptions = {"queues": 1}  # type: ignore[typeddict-item]  # pyright: ignore[reportAssignmentType]  # N108 wrong type, as a dict


class Both(RequestScope, AuditOnly): ...  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]  # N109 both


class HasUser(Protocol):
    user: object


class HasUserRO(Protocol):
    @property
    def user(self) -> RequestScope: ...


class HasPermissions(Protocol):
    @property
    def permissions(self) -> list[str]: ...


class HasAuditPartsMarked(Authorizes, Protocol):
    @property
    def user(self) -> AuditRef | None: ...


@dataclass
class NeverMarked:
    sigra_authorizes: ClassVar[Literal[False]] = False


def authorize_attr(scope: HasUser) -> bool:
    return True


def authorize_ro(scope: HasUserRO) -> bool:
    return True


def authorize_permissions(scope: HasPermissions) -> bool:
    return True


def authorize_parts(scope: HasAuditPartsMarked) -> bool:
    return True


def in_worker(scope: AuditScope, own: WorkerScope) -> None:
    authorize(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N110 nominal
    authorize(own)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N111 nominal, a host's own
    authorize_attr(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N112 structural
    authorize_ro(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N113 structural, read-only
    authorize_permissions(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N114 structural, a member it has not
    authorize_marked(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N115 marked
    authorize_parts(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N116 structural, same member, marked
    authorize_marked(NeverMarked())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N117 marked with False
    scope.membership  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # N118 nothing but the three parts
    scope.session  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # N119 nothing but the three parts
    scope.user.id  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # N120 the part may be None
    if scope.user is not None:
        scope.user.email  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # N122 an id and no more
        name: str = scope.user.id  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # N123 an id may be an int
        print(name)
    scope.user = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # N121 frozen


AuditScope(user="u", active_organization=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N124 a bare id
AuditRef(u)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N125 a UUID
forbid_audit_scope()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N126 no scope

# --- audit


class SinkNoEvent:
    def write(self) -> None: ...


class SinkDict:
    def write(self, event: dict[str, object]) -> None: ...


class SinkOther:
    def log(self, event: AuditEvent) -> None: ...


Audit(SinkNoEvent())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N127 a sink without the event
Audit(SinkDict())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N128 a sink of another event
Audit(SinkOther())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N129 a sink without write
Audit(print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N130 a function
audit.log_safe("a.b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N131 scope omitted
audit.log("a.b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N132 scope omitted, required mode
audit.log_safe("a.b", scope=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N133 scope by name
audit.log_safe("a.b", None, outcome="oops")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N134 outcome
audit.log_safe("a.b", None, metadata={"u": u})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]  # N135 not JSON
audit.log_safe("a.b", None, metadata={1: "x"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]  # N136 not a string key
audit.log_safe("a.b", None, metadata=["x"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N137 not an object
audit.log_safe("a.b", None, actor="u")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N138 unknown field
audit.log_safe("a.b", None, actor_type="robot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N139 actor type
audit.log_safe("a.b", None, actor_id=u)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N140 a UUID for an id
inferred = {"a": 1, "b": "x"}
audit.log_safe("a.b", None, metadata=inferred)  # type: ignore[arg-type]  # M141 joined to dict[str, object]


async def audits() -> None:
    await audit.alog_safe("a.b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # N142 scope omitted, async
    await audit.alog("a.b", None, outcome="oops")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # N143 outcome, async


def wrong_value(worker: Close) -> Worker[WorkerScope, CloseArgs, int]:
    return worker  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # N144 another value
