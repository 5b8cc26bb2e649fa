"""`Workers`: the registry of an application's workers, and its composition root."""

import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeAlias, cast, overload

from typing_extensions import ReadOnly, TypedDict, Unpack

from sigra_workers._plugins import Plugins
from sigra_workers.args import MAX_ARGS_BYTES, Id, check_args
from sigra_workers.audit import Audit
from sigra_workers.errors import (
    DuplicateJobError,
    DuplicateWorkerError,
    EnqueueError,
    InvalidArgsError,
    InvalidOptionError,
    InvalidSettingsError,
    InvalidWorkerError,
    NotFoundError,
    UnknownQueueError,
)
from sigra_workers.handles import (
    NAME,
    QUEUE,
    Around,
    AroundFn,
    AsyncAround,
    FunctionHandle,
    Implementation,
    SyncAround,
    WorkerDecorator,
    WorkerHandle,
    WorkerOptions,
    args_type_of,
    check_form,
    check_name,
    check_names,
    inspect_worker,
)
from sigra_workers.jobs import (
    Backoff,
    Job,
    JobOptions,
    JobRef,
    check_attempts,
    check_backoff,
    check_due,
    check_id,
    check_seconds,
    check_timeout,
    new_id,
)
from sigra_workers.protocols import (
    Adapter,
    ArgsT,
    Duplicate,
    Outgoing,
    Receipt,
    Rejected,
    ScopeBuilder,
    ScopeT,
    Sent,
    Worker,
)
from sigra_workers.results import R
from sigra_workers.scopes import AuditScope, AuditScopeBuilder

OnDuplicate: TypeAlias = Literal["raise", "skip"]
BATCH: Final = 500
"""Jobs that `enqueue_many` hands to the adapter at a time."""


class WorkersOptions(TypedDict, total=False):
    """Options of `Workers`."""

    adapter: ReadOnly[str]
    """"memory" where none is given, or the name of an installed adapter."""
    settings: ReadOnly[Mapping[str, Any]]
    """The adapter's connection, such as ``{"url": ...}``."""
    audit: ReadOnly[Audit]
    """The facade whose failures go to the `audit_failed` hook."""
    queues: ReadOnly[Iterable[str]]
    """Queues besides those of the handles."""
    cancel_on: ReadOnly[Sequence[type[Exception]]]
    """Exceptions that mean `Cancel` in every worker."""
    system_actor: ReadOnly[str]
    """How the audit trail names nobody."""
    unknown_worker_grace: ReadOnly[float]
    """Seconds that a job of an unknown worker waits for a deploy; 3,600 where none is given."""
    max_args_bytes: ReadOnly[int]
    """How much a job's args may take as JSON; 256 KiB where none is given."""
    plugins: ReadOnly[Iterable[object]]
    """Objects or modules with hook implementations."""


class Workers(Generic[ScopeT]):
    """An application's workers. Making one opens nothing; write ``Workers[MyScope](...)``.

    Raises `InvalidOptionError` for options that are unknown or can't be.
    """

    @overload
    def __init__(self: "Workers[AuditScope]", **options: Unpack[WorkersOptions]) -> None: ...
    @overload
    def __init__(self, *, scope_builder: ScopeBuilder[ScopeT], **options: Unpack[WorkersOptions]) -> None: ...
    def __init__(self, *, scope_builder: Any = None, **options: Unpack[WorkersOptions]) -> None:
        refuse_unknown(options, WorkersOptions)
        builder: Any = AuditScopeBuilder() if scope_builder is None else scope_builder
        self.scope_builder: Final[ScopeBuilder[ScopeT]] = builder
        if not callable(getattr(builder, "build", None)) or isinstance(builder, type):
            raise InvalidWorkerError(repr(builder), "a scope builder is an object with build(args), no class")
        self.adapter_name: Final = options.get("adapter", "memory")
        self.settings: Final[Mapping[str, Any]] = dict(options.get("settings", {}))
        self.audit: Final = check_audit(options.get("audit"))
        self.cancel_on: Final = check_exceptions(options.get("cancel_on", ()))
        self.system_actor: Final[str | None] = options.get("system_actor")
        self.unknown_worker_grace: Final[float] = check_seconds(
            "unknown_worker_grace", options.get("unknown_worker_grace", 3_600)
        )
        self.max_args_bytes: Final = check_bytes(
            "max_args_bytes", options.get("max_args_bytes", MAX_ARGS_BYTES)
        )
        self.plugins: Final = Plugins(options.get("plugins", ()))
        self._queues = {*check_names("queues", options.get("queues", ()), QUEUE)}
        self._handles: dict[str, WorkerHandle[ScopeT, Any, Any]] = {}
        self._arounds: list[Around] = []
        self._adapter: Adapter | None = None
        self._making = threading.Lock()
        self.audit.on_failure(self._audit_failed)

    # -- registering -----------------------------------------------------------------------------------

    def declare(
        self, name: str, args_type: type[ArgsT], /, **options: Unpack[WorkerOptions]
    ) -> WorkerHandle[ScopeT, ArgsT, object]:
        """A handle that enqueues without the implementation: for web processes and other services."""
        handle: WorkerHandle[ScopeT, ArgsT, object]
        handle = WorkerHandle(**self._parts(name, args_type, options))
        self._add(handle)
        return handle

    def register(
        self, worker: Worker[ScopeT, ArgsT, R], /, *, name: str, **options: Unpack[WorkerOptions]
    ) -> WorkerHandle[ScopeT, ArgsT, R]:
        """Declare and implement in one, with the args type that annotates `perform`'s second parameter."""
        implementation = inspect_worker(worker)
        args_type = args_type_of(implementation.perform, implementation.label)
        handle: WorkerHandle[ScopeT, ArgsT, R]
        handle = WorkerHandle(**self._parts(name, args_type, options))
        self.check_arounds(implementation)
        self._add(handle)
        handle.implementation = implementation
        return handle

    def worker(self, *, name: str, **options: Unpack[WorkerOptions]) -> WorkerDecorator[ScopeT]:
        """Register a function: ``@workers.worker(name="reports.build")``."""

        def decorate(function: Callable[[Any, Any], Any], /) -> Any:
            implementation = inspect_worker(function)
            args_type = args_type_of(implementation.perform, implementation.label)
            handle = FunctionHandle[ScopeT, Any, Any, Any](
                **self._parts(name, args_type, options), function=function
            )
            self.check_arounds(implementation)
            self._add(handle)
            handle.implementation = implementation
            return handle

        return cast("WorkerDecorator[ScopeT]", decorate)

    @overload
    def around(self, function: SyncAround[ScopeT], /) -> SyncAround[ScopeT]: ...
    @overload
    def around(self, function: AsyncAround[ScopeT], /) -> AsyncAround[ScopeT]: ...
    @overload
    def around(self, function: SyncAround[ScopeT], twin: AsyncAround[ScopeT], /) -> SyncAround[ScopeT]: ...
    def around(self, function: AroundFn, twin: Any = None, /) -> AroundFn:
        """Put a generator function around every `perform`, in the order of registration.

        It yields once. A `def` one serves every worker, an `async def` one async workers only, unless
        both are given as a pair. Raise in it to fail the run; what it swallows still counts.
        """
        around = Around.of(function, twin)
        for handle in self.handles:
            if handle.implementation is not None:
                around.check(handle.implementation)
        self._arounds.append(around)
        return function

    @property
    def arounds(self) -> Sequence[Around]:
        """The arounds, outermost first."""
        return self._arounds

    @property
    def handles(self) -> list[WorkerHandle[ScopeT, Any, Any]]:
        """Every handle, in the order of declaration."""
        return list(dict.fromkeys(self._handles.values()))

    @property
    def queues(self) -> list[str]:
        """Every queue that a job may go to, sorted."""
        return sorted(self._queues)

    def find(self, name: str) -> WorkerHandle[ScopeT, Any, Any] | None:
        """The handle of that name or alias."""
        return self._handles.get(name)

    def check_arounds(self, worker: Implementation, /) -> None:
        """Refuse a worker that an around can't serve."""
        for around in self._arounds:
            around.check(worker)

    def _parts(self, name: str, args_type: Any, options: WorkerOptions) -> dict[str, Any]:
        refuse_unknown(options, WorkerOptions)
        label = check_name("name", name, NAME)
        backoff: Any = options.get("backoff")
        timeout = options.get("timeout")
        return {
            "name": label,
            "queue": check_name("queue", options.get("queue", "default"), QUEUE),
            "args_type": args_type,
            "aliases": check_names("aliases", options.get("aliases", ()), NAME),
            "max_attempts": check_attempts(options.get("max_attempts", 20)),
            "backoff": backoff if backoff is None or callable(backoff) else check_backoff(backoff),
            "timeout": None if timeout is None else check_timeout(timeout),
            "cancel_on": check_exceptions(options.get("cancel_on", ())),
            "sender": self,
            "form": check_form(label, args_type),
        }

    def _add(self, handle: WorkerHandle[ScopeT, Any, Any]) -> None:
        names = (handle.name, *handle.aliases)
        for name in names:
            if name in self._handles or names.count(name) > 1:
                raise DuplicateWorkerError(name, "is declared already: a name or alias has one worker")
        self._handles.update(dict.fromkeys(names, handle))
        self._queues.add(handle.queue)

    # -- making and sending ------------------------------------------------------------------------------

    @property
    def adapter(self) -> Adapter:
        """The adapter, made when first asked for; raises `AdapterNotFoundError`, `InvalidSettingsError`."""
        with self._making:
            if self._adapter is None:
                self._adapter = self.plugins.adapter(self.adapter_name, self.settings)
        return self._adapter

    def new(self, worker: WorkerHandle[Any, Any, Any], args: Any, options: JobOptions, /) -> Job[Any]:
        """What ``handle.new`` does."""
        refuse_unknown(options, JobOptions)
        queue = options.get("queue", worker.queue)
        if queue not in self._queues:
            raise UnknownQueueError(queue, self.queues)
        job_id = options.get("job_id")
        backoff: Backoff | None = options.get("backoff")
        if backoff is None and not callable(worker.backoff):
            backoff = worker.backoff
        timeout = options.get("timeout", worker.timeout)
        schedule_in, schedule_at = check_due(options)
        job: Job[Any] = Job(
            id=new_id() if job_id is None else check_id(job_id),
            worker=worker.name,
            queue=queue,
            max_attempts=check_attempts(options.get("max_attempts", worker.max_attempts)),
            backoff=None if backoff is None else check_backoff(backoff),
            timeout=None if timeout is None else check_timeout(timeout),
            schedule_in=schedule_in,
            schedule_at=schedule_at,
            given_id=job_id is not None,
            native=dict(options.get("native", {})),
            args_json=check_args(worker.name, args, worker.form, self.max_args_bytes),
        )
        if job.given_id or job.native:
            self.adapter.check(job)
        return job

    def enqueue(self, job: Job[Any], /) -> JobRef:
        """Send one job; raises `EnqueueError` where the queue may not have it.

        Inside a running event loop it blocks for one bounded round trip: `aenqueue` doesn't.
        """
        return self.enqueue_many([job])[0]

    async def aenqueue(self, job: Job[Any], /) -> JobRef:
        """Async twin of `enqueue`."""
        return (await self.aenqueue_many([job]))[0]

    def enqueue_many(
        self, jobs: Iterable[Job[Any]], /, *, on_duplicate: OnDuplicate = "raise"
    ) -> list[JobRef]:
        """Send jobs in batches; their `JobRef`s in order. After a failed batch nothing more is sent.

        Raises `EnqueueError` with what was accepted, rejected (the jobs not sent included) and is
        unknown; `DuplicateJobError` for an id that exists, unless ``on_duplicate="skip"``.
        """
        refs: list[JobRef] = []
        rest = iter(self._checked(jobs, on_duplicate))
        while batch := self._batch(rest):
            self._settle(batch, self.adapter.send(batch), refs, rest, on_duplicate)
        return refs

    async def aenqueue_many(
        self, jobs: Iterable[Job[Any]], /, *, on_duplicate: OnDuplicate = "raise"
    ) -> list[JobRef]:
        """Async twin of `enqueue_many`."""
        refs: list[JobRef] = []
        rest = iter(self._checked(jobs, on_duplicate))
        while batch := self._batch(rest):
            self._settle(batch, await self.adapter.asend(batch), refs, rest, on_duplicate)
        return refs

    def _batch(self, jobs: Iterator[Job[Any]]) -> list[Outgoing]:
        now = self.adapter.clock()
        return [Outgoing(job, job.payload(now)) for job in islice(jobs, BATCH)]

    def _checked(self, jobs: Iterable[Job[Any]], on_duplicate: OnDuplicate) -> list[Job[Any]]:
        """What can be refused before anything is sent; an iterable that raises does so here as well."""
        if on_duplicate not in ("raise", "skip"):
            raise InvalidOptionError("on_duplicate", "expected 'raise' or 'skip'")
        found = [*jobs]
        ids: set[str] = set()
        for job in found:
            if not isinstance(cast("object", job), Job):
                kind = type(job).__name__
                raise InvalidArgsError("enqueue", [f"they are a {kind}, expected a Job: handle.new(args)"])
            if job.queue not in self._queues:
                raise UnknownQueueError(job.queue, self.queues)
            if job.id in ids and not job.given_id:
                raise InvalidOptionError("job_id", f"{job.id!r} is there twice, expected each job once")
            ids.add(job.id)
        return found

    def _settle(
        self,
        batch: Sequence[Outgoing],
        receipts: Sequence[Receipt],
        refs: list[JobRef],
        rest: Iterator[Job[Any]],
        on_duplicate: OnDuplicate,
    ) -> None:
        """Note what became of a batch; raise if any of it failed."""
        rejected: list[str] = []
        unknown: list[str] = []
        duplicates: list[str] = []
        cause: Exception | None = None
        for sent, receipt in zip(batch, receipts, strict=True):
            match receipt:
                case Sent():
                    refs.append(sent.payload.ref())
                    self._enqueued(refs[-1], sent.payload.args["organization_id"])
                case Duplicate() if on_duplicate == "skip":
                    refs.append(sent.payload.ref(duplicate=True))
                case Duplicate():
                    duplicates.append(sent.job.id)
                case Rejected(cause):
                    rejected.append(sent.job.id)
                case lost:
                    cause = lost.cause
                    unknown.append(sent.job.id)
        if cause is None and not duplicates:
            return
        accepted = [ref.id for ref in refs if not ref.duplicate]
        rejected += [*duplicates, *(job.id for job in rest)]
        if cause is None:
            raise DuplicateJobError(accepted, rejected, unknown, duplicates)
        raise EnqueueError(accepted, rejected, unknown) from cause

    def _enqueued(self, ref: JobRef, organization: Id | None) -> None:
        self.plugins.tell(lambda hook: hook.sigra_enqueued(job=ref, organization_id=organization))

    def _audit_failed(self, action: str, fields: tuple[str, ...], error: BaseException) -> None:
        self.plugins.tell(lambda hook: hook.sigra_audit_failed(action=action, fields=fields, exception=error))

    # -- life ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close what this process opened; a later `enqueue` opens it again."""
        if self._adapter is not None:
            self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from sigra_workers.loops import in_thread

        await in_thread(self.close)


def load_workers(path: str, /) -> Workers[Any]:
    """The `Workers` object at ``module:attribute``; raises `NotFoundError` that says where the path ended.

    For operators and boot files: such a path is never read from a job.
    """
    name, _, attribute = path.partition(":")
    if not name or not attribute or name.startswith("."):
        raise NotFoundError(path, "expected module:attribute, such as app.jobs:workers")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        hint = "" if "." in error.name else ": run it from the project's folder"
        raise NotFoundError(path, f"there is no module {error.name!r}{hint}") from error
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(cast("object", found), Workers):
        there = [key for key, value in vars(module).items() if isinstance(value, Workers)]
        raise NotFoundError(path, f"module {name!r} has no such object, its Workers are {there}")
    workers: Workers[Any] = found
    return workers


def refuse_unknown(options: Mapping[str, object], known: Any) -> None:
    """Refuse options that a TypedDict does not list."""
    for name in options:
        if name not in known.__annotations__:
            raise InvalidOptionError(
                name, f"there is no such option, known are {sorted(known.__annotations__)}"
            )


def check_bytes(option: str, value: object) -> int:
    """A number of bytes, or `InvalidOptionError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOptionError(option, f"expected a number of bytes, got {value!r}")
    return value


def check_audit(audit: object) -> Audit:
    """An `Audit`, the default one for None; `InvalidSettingsError` for a bare sink."""
    if audit is not None and not isinstance(audit, Audit):
        raise InvalidSettingsError(
            "Workers", f"audit is of type {type(audit).__name__}, expected Audit(sink)"
        )
    return audit or Audit()


def check_exceptions(value: object) -> tuple[type[Exception], ...]:
    """A sequence of exception classes, or `InvalidOptionError`."""
    found = tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(item, type) and issubclass(item, Exception) for item in found):
        raise InvalidOptionError("cancel_on", "expected a sequence of exception classes")
    return cast("tuple[type[Exception], ...]", found)
