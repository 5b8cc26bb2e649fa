"""Handles: a worker by its name, with what it needs to make and send jobs; and what is refused early."""

import inspect
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    Generic,
    Protocol,
    TypeAlias,
    cast,
    get_args,
    get_origin,
    overload,
)

from typing_extensions import ReadOnly, TypedDict, TypeVar, Unpack, evaluate_forward_ref, is_typeddict

from sigra_workers.args import ArgsForm, TenantArgs
from sigra_workers.errors import DuplicateWorkerError, InvalidOptionError, InvalidWorkerError
from sigra_workers.jobs import Backoff, Job, JobInfo, JobOptions, JobRef, Seconds
from sigra_workers.protocols import ArgsT, ScopeT, Worker
from sigra_workers.records import record
from sigra_workers.results import R, Result

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
QUEUE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_Value = TypeVar("_Value", default=object)


class WorkerOptions(TypedDict, total=False):
    """Options of a worker; those of `JobOptions` win over them, job by job."""

    queue: ReadOnly[str]
    """Where its jobs wait; "default" where none is given."""
    max_attempts: ReadOnly[int]
    """Runs in all, the first included; 20 where none is given."""
    backoff: ReadOnly[Backoff | Callable[[int], Seconds]]
    """Seconds before the next attempt, or a function of the attempt that failed."""
    timeout: ReadOnly[Seconds]
    """Seconds that one run may take; no limit where none is given."""
    cancel_on: ReadOnly[Sequence[type[Exception]]]
    """Exceptions that mean `Cancel`."""
    aliases: ReadOnly[Sequence[str]]
    """Former names, that jobs may still carry."""


class Sender(Protocol):
    """What a handle needs of its `Workers`."""

    def new(self, worker: "WorkerHandle[Any, Any, Any]", args: Any, options: JobOptions, /) -> Job[Any]: ...
    def enqueue(self, job: Job[Any], /) -> JobRef: ...
    async def aenqueue(self, job: Job[Any], /) -> JobRef: ...
    def check_arounds(self, worker: "Implementation", /) -> None: ...


@record(frozen=True, slots=True)
class Implementation:
    """A worker object behind a handle, looked at once."""

    label: str
    perform: Callable[[Any, Any], Any]
    is_async: bool


@dataclass(slots=True, eq=False)
class WorkerHandle(Generic[ScopeT, ArgsT, R]):
    """A worker by name: makes and sends its jobs, wherever it is implemented."""

    name: str
    queue: str
    args_type: type[ArgsT]
    aliases: tuple[str, ...]
    max_attempts: int
    backoff: Backoff | Callable[[int], Seconds] | None
    timeout: float | None
    cancel_on: tuple[type[Exception], ...]
    sender: Sender = field(repr=False)
    form: ArgsForm = field(repr=False)
    implementation: Implementation | None = field(default=None, repr=False)

    def new(self, args: ArgsT, /, **options: Unpack[JobOptions]) -> Job[ArgsT]:
        """Check the args and make a job, sending nothing.

        Raises `InvalidArgsError` (`MissingTenantKeyError` for an absent tenant key) that names
        everything wrong, and `InvalidOptionError`.
        """
        return self.sender.new(self, args, options)

    def enqueue(self, args: ArgsT, /, **options: Unpack[JobOptions]) -> JobRef:
        """`new`, and send it: raises `EnqueueError` where the queue may not have it."""
        return self.sender.enqueue(self.new(args, **options))

    async def aenqueue(self, args: ArgsT, /, **options: Unpack[JobOptions]) -> JobRef:
        """Async twin of `enqueue`; never blocks the event loop."""
        return await self.sender.aenqueue(self.new(args, **options))

    @overload
    def implement(
        self, worker: Callable[[ScopeT, ArgsT], Result[_Value]], /
    ) -> Callable[[ScopeT, ArgsT], Result[_Value]]: ...
    @overload
    def implement(
        self, worker: Callable[[ScopeT, ArgsT], Coroutine[Any, Any, Result[_Value]]], /
    ) -> Callable[[ScopeT, ArgsT], Coroutine[Any, Any, Result[_Value]]]: ...
    @overload
    def implement(self, worker: Worker[ScopeT, ArgsT, _Value], /) -> Worker[ScopeT, ArgsT, _Value]: ...
    def implement(self, worker: Any, /) -> Any:
        """Bind the worker object, or function, that does the jobs; in worker processes only.

        Returns what it was given, so that it decorates a function. Raises `InvalidWorkerError` for what
        can't serve, `DuplicateWorkerError` where the handle is implemented already.
        """
        if self.implementation is not None:
            raise DuplicateWorkerError(self.name, f"is implemented already, by {self.implementation.label}")
        implementation = inspect_worker(worker)
        self.sender.check_arounds(implementation)
        self.implementation = implementation
        return worker


_Ret_co = TypeVar("_Ret_co", covariant=True, default=object)


@dataclass(slots=True, eq=False)
class FunctionHandle(WorkerHandle[ScopeT, ArgsT, R], Generic[ScopeT, ArgsT, R, _Ret_co]):
    """A handle made by decorating a function; still callable as that function, so tests need no queue."""

    function: Callable[[ScopeT, ArgsT], _Ret_co] = field(kw_only=True, repr=False)

    def __call__(self, scope: ScopeT, args: ArgsT, /) -> _Ret_co:
        """Call the function itself."""
        return self.function(scope, args)


class WorkerDecorator(Protocol[ScopeT]):
    """What ``workers.worker(name=...)`` returns."""

    @overload
    def __call__(
        self, function: Callable[[ScopeT, ArgsT], Result[R]], /
    ) -> FunctionHandle[ScopeT, ArgsT, R, Result[R]]: ...
    @overload
    def __call__(
        self, function: Callable[[ScopeT, ArgsT], Coroutine[Any, Any, Result[R]]], /
    ) -> FunctionHandle[ScopeT, ArgsT, R, Coroutine[Any, Any, Result[R]]]: ...


# -- what is refused at registration ---------------------------------------------------------------------


def inspect_worker(worker: object, /) -> Implementation:
    """Look at a worker object or function once; raises `InvalidWorkerError` for what can't serve."""
    if isinstance(worker, type):
        name = worker.__qualname__
        raise InvalidWorkerError(name, f"it is a class, expected an instance: {name}(...)")
    if inspect.isroutine(worker):
        perform: Any = worker
        label = str(getattr(worker, "__qualname__", worker))
    else:
        name = type(worker).__qualname__
        perform, label = getattr(worker, "perform", None), f"{name}.perform"
        if not callable(perform):
            near = [m for m in ("run", "execute", "handle", "process", "__call__") if hasattr(worker, m)]
            hint = f", but {near[0]}: rename it" if near else ""
            raise InvalidWorkerError(name, f"it has no method perform(scope, args){hint}")
    if inspect.isgeneratorfunction(perform) or inspect.isasyncgenfunction(perform):
        raise InvalidWorkerError(label, "it is a generator, expected a function that returns a result")
    signature = _check_call(perform, label, "(scope, args)", 2)
    called: Any = type(perform).__call__ if not inspect.isroutine(perform) else inspect.unwrap(perform)
    if inspect.iscoroutinefunction(called) and not inspect.iscoroutinefunction(perform):
        raise InvalidWorkerError(label, "it is a `def` around an `async def`: make it `async def` itself")
    if signature.return_annotation in (None, "None", type(None)):
        raise InvalidWorkerError(
            label, "it returns None, expected Ok, Error, Snooze or Cancel: end it with Ok()"
        )
    return Implementation(label, perform, inspect.iscoroutinefunction(perform))


def _check_call(function: Callable[..., Any], label: str, expected: str, count: int) -> inspect.Signature:
    """The signature of a function that can be called with so many arguments, or `InvalidWorkerError`."""
    signature = inspect.signature(function)
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        problem = f"it can't be called with {expected}: {error}"
        raise InvalidWorkerError(f"{label}{signature}", problem) from None
    return signature


def args_type_of(perform: Callable[..., Any], label: str) -> Any:
    """The TypedDict that annotates the second parameter of `perform`; `TenantArgs` for anything else."""
    hint = list(inspect.signature(perform).parameters.values())[:2][-1].annotation
    if isinstance(hint, str):
        try:
            hint = evaluate_forward_ref(ForwardRef(hint), globals=getattr(perform, "__globals__", {}))
        except Exception as error:
            problem = f"the annotation {hint!r} of its args can't be resolved, name them: workers.declare"
            raise InvalidWorkerError(label, f"{problem}(name, ArgsType)") from error
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    parts = () if is_typeddict(get_origin(hint)) else get_args(hint)
    if any(is_typeddict(get_origin(part) or part) for part in parts):
        problem = f"the annotation {hint!r} of its args is more than one TypedDict, name it: workers.declare"
        raise InvalidWorkerError(label, f"{problem}(name, ArgsType)")
    return hint if is_typeddict(get_origin(hint) or hint) else TenantArgs


def check_form(label: str, args_type: Any) -> ArgsForm:
    """What a TypedDict demands at run time; raises `InvalidWorkerError` for one that can't be args."""
    try:
        return ArgsForm.of(args_type)
    except TypeError as error:
        raise InvalidWorkerError(label, str(error)) from error


def check_name(option: str, name: object, pattern: re.Pattern[str]) -> str:
    """A name of a worker or queue, or `InvalidOptionError`."""
    if not isinstance(name, str) or pattern.fullmatch(name) is None:
        raise InvalidOptionError(
            option, f"expected up to 128 letters, digits or .:_- characters, got {name!r}"
        )
    return name


def check_names(option: str, names: object, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Names of workers or queues, or `InvalidOptionError`; one text is not a sequence of them."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InvalidOptionError(option, f"expected a sequence of names, got {type(names).__name__}")
    return tuple(check_name(option, name, pattern) for name in cast("Iterable[object]", names))


# -- arounds ---------------------------------------------------------------------------------------

SyncAround: TypeAlias = Callable[[JobInfo, ScopeT, TenantArgs], Iterator[None]]
AsyncAround: TypeAlias = Callable[[JobInfo, ScopeT, TenantArgs], AsyncIterator[None]]
AroundFn = TypeVar("AroundFn", bound=Callable[..., Any])


@record(frozen=True, slots=True)
class Around:
    """Host code around `perform`: `sync` for `def` workers, `asynchronous` first for `async def` ones."""

    label: str
    sync: Callable[..., Any] | None
    asynchronous: Callable[..., Any] | None

    @classmethod
    def of(cls, function: object, twin: object = None) -> "Around":
        """Look at an around, or at a pair of them, once."""
        label = str(getattr(function, "__qualname__", type(function).__qualname__))
        sync = asynchronous = None
        for given in (function, twin):
            if inspect.isgeneratorfunction(given) and sync is None:
                sync = contextmanager(cast("Callable[..., Generator[None]]", given))
            elif inspect.isasyncgenfunction(given) and asynchronous is None:
                asynchronous = asynccontextmanager(cast("Callable[..., AsyncGenerator[None]]", given))
            elif given is not None or function is None:
                raise InvalidWorkerError(
                    label, "an around is a generator function that yields once, a pair is one of each kind"
                )
            if given is not None:
                _check_call(cast("Callable[..., Any]", given), label, "(job, scope, args)", 3)
        return cls(label, sync, asynchronous)

    def enter(self, job: JobInfo, scope: Any, args: Any) -> AbstractContextManager[object]:
        """The context manager around one run of a `def` worker, which `check` has let in."""
        return cast("Callable[..., AbstractContextManager[object]]", self.sync)(job, scope, args)

    async def aenter(self, stack: AsyncExitStack, job: JobInfo, scope: Any, args: Any) -> None:
        """Enter around one run of an async worker, the async half first."""
        if self.asynchronous is not None:
            await stack.enter_async_context(self.asynchronous(job, scope, args))
        else:
            stack.enter_context(self.enter(job, scope, args))

    def check(self, worker: Implementation) -> None:
        """Refuse an `async def` around alone for a `def` worker."""
        if self.sync is None and not worker.is_async:
            raise InvalidWorkerError(
                worker.label,
                f"around {self.label} is async and the worker is not: workers.around(sync, async) pairs them",
            )
