"""`Workers`: the registry of an application's workers, and its composition root."""

import importlib
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast, overload

from typing_extensions import ReadOnly, TypedDict, Unpack

from sigra_workers._plugins import Plugins
from sigra_workers.args import MAX_ARGS_BYTES, check_args
from sigra_workers.audit import Audit
from sigra_workers.dead import (
    DeadFilters,
    DeadJob,
    DeadJobOrId,
    DeadJobs,
    Resend,
    check_by,
    check_filters,
    dead_ids,
)
from sigra_workers.errors import (
    DuplicateJobError,
    EnqueueError,
    InvalidArgsError,
    InvalidOptionError,
    InvalidPayloadError,
    InvalidSettingsError,
    InvalidWorkerError,
    NotDeadError,
    NotFoundError,
    NotSupportedError,
    UnknownQueueError,
    log,
    refuse_unknown,
)
from sigra_workers.handles import (
    WorkerHandle,
)
from sigra_workers.jobs import (
    Backoff,
    Job,
    JobOptions,
    JobRef,
    OnDuplicate,
    Payload,
    check_attempts,
    check_backoff,
    check_due,
    check_id,
    check_native,
    check_seconds,
    check_timeout,
    new_id,
)
from sigra_workers.protocols import (
    Adapter,
    Duplicate,
    Outgoing,
    Receipt,
    Rejected,
    ScopeBuilder,
    ScopeT,
    Sent,
)
from sigra_workers.registry import Registry, check_exceptions
from sigra_workers.scopes import AuditScope, AuditScopeBuilder

P = ParamSpec("P")
T = TypeVar("T")
BATCH: Final = 500
"""Jobs that `enqueue_many` hands to the adapter at a time."""


class WorkersOptions(TypedDict, total=False):
    """Options of `Workers`."""

    adapter: ReadOnly[str]
    """"memory" where none is given, or the name of an installed adapter."""
    settings: ReadOnly[Mapping[str, Any]]
    """The adapter's connection, such as ``{"url": ...}``."""
    audit: ReadOnly[Audit]
    """The facade whose failures go to the hook `sigra_audit_failed`."""
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


class Workers(Registry[ScopeT]):
    """An application's workers. Making one opens nothing; write ``Workers[MyScope](...)``.

    Raises `InvalidOptionError` for options that are unknown or can't be.
    """

    @overload
    def __init__(self: "Workers[AuditScope]", **options: Unpack[WorkersOptions]) -> None: ...
    @overload
    def __init__(self, *, scope_builder: ScopeBuilder[ScopeT], **options: Unpack[WorkersOptions]) -> None: ...
    def __init__(self, *, scope_builder: Any = None, **options: Unpack[WorkersOptions]) -> None:
        refuse_unknown(options, WorkersOptions)
        super().__init__(options.get("queues", ()))
        builder: Any = AuditScopeBuilder() if scope_builder is None else scope_builder
        self.scope_builder: Final[ScopeBuilder[ScopeT]] = builder
        if not callable(getattr(builder, "build", None)) or isinstance(builder, type):
            raise InvalidWorkerError(repr(builder), "a scope builder is an object with build(args), no class")
        self.builds_async: Final = inspect.iscoroutinefunction(builder.build)
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
        self._adapter: Adapter | None = None
        self._making = threading.Lock()
        _every.add(self)
        self.audit.on_failure(self._audit_failed)

    # -- making and sending ------------------------------------------------------------------------------

    @property
    def adapter(self) -> Adapter:
        """The adapter, made when first asked for; raises `AdapterNotFoundError`, `InvalidSettingsError`."""
        found = self._adapter
        if found is None:
            with self._making:
                found = self._adapter
                found = self.plugins.adapter(self.adapter_name, self.settings) if found is None else found
                self._adapter = found
        return found

    @contextmanager
    def using(self, adapter: Adapter, /) -> Generator[None]:
        """Put another adapter in place for a block, in every thread: for tests."""
        with self._making:
            before, self._adapter = self._adapter, adapter
        try:
            yield
        finally:
            with self._making:
                self._adapter = before

    def new(self, worker: WorkerHandle[Any, Any, Any], args: Any, options: JobOptions, /) -> Job[Any]:
        """What ``handle.new`` does."""
        refuse_unknown(options, JobOptions)
        queue = options.get("queue", worker.queue)
        if not isinstance(cast("object", queue), str) or queue not in self._queues:
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
            native=check_native(options["native"]) if "native" in options else {},
            args_json=check_args(worker.name, args, worker.form, self.max_args_bytes),
            sender=self,
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
        """Send jobs in batches; returns a `JobRef` each, in order. After a failed batch nothing more is sent.

        Raises `EnqueueError` with what was accepted, rejected (the jobs not sent included) and is
        unknown; `DuplicateJobError` for an id that exists, unless ``on_duplicate="skip"``.
        """
        refs: list[JobRef] = []
        rest = iter(self._checked(jobs, on_duplicate))
        while batch := self._batch(rest):
            with self.plugins.sending(self.adapter_name, batch) as sending:
                sending.receipts = self.adapter.send(sending.batch)
            self._settle(batch, sending.receipts, refs, rest, on_duplicate)
        return refs

    async def aenqueue_many(
        self, jobs: Iterable[Job[Any]], /, *, on_duplicate: OnDuplicate = "raise"
    ) -> list[JobRef]:
        """Async twin of `enqueue_many`."""
        refs: list[JobRef] = []
        rest = iter(self._checked(jobs, on_duplicate))
        while batch := self._batch(rest):
            with self.plugins.sending(self.adapter_name, batch) as sending:
                sending.receipts = await self.adapter.asend(sending.batch)
            self._settle(batch, sending.receipts, refs, rest, on_duplicate)
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
                    self._enqueued(refs[-1], sent.payload)
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

    # -- dead jobs -------------------------------------------------------------------------------------

    def dead(self, **filters: Unpack[DeadFilters]) -> list[DeadJob]:
        """Jobs of these workers or queues that will not run again by themselves, latest first.

        Those of another application in the same database are found by `ids` alone. One that can't be read
        (`worker` is None) may be of either: it is listed unless filters ask for what it says. Raises
        `NotSupportedError` where the adapter keeps none, `InvalidOptionError` for a wrong filter.
        """
        check_filters(filters)
        if "ids" in filters:
            return [*self._dead_jobs.dead_jobs(filters)]
        wider = dict[str, object](filters)
        limit = cast("int | None", wider.pop("limit", None))
        found = self._dead_jobs.dead_jobs(cast("DeadFilters", wider))
        return [*islice((job for job in found if self._is_ours(job)), limit)]

    async def adead(self, **filters: Unpack[DeadFilters]) -> list[DeadJob]:
        """Async twin of `dead`."""
        return await _in_thread(self.dead, **filters)

    def resend(self, jobs: DeadJobOrId | Iterable[DeadJobOrId], /, *, by: str) -> list[JobRef]:
        """Send dead jobs again: same id, args and actor, attempts from 1. `by` is who does, for the record.

        However many do so at once, each job is sent once: raises `NotDeadError` for those that are not dead
        (any more), `EnqueueError` for those that the queue did not take, both behind sending the others.
        """
        check_by(by)
        shelf, refs = self._dead_jobs, list[JobRef]()
        ids = dead_ids(jobs)
        missing, rejected, unknown = list[str](), list[str](), list[str]()
        cause: Exception | None = None
        for start in range(0, len(ids), BATCH):
            page = ids[start : start + BATCH]
            try:
                found = {job.id: job for job in shelf.dead_jobs({"ids": page})}
            except Exception as error:  # of the queue's client: those before it were sent
                cause = error
                rejected += ids[start:]
                break
            missing += [job_id for job_id in page if job_id not in found]
            again = list[Resend]()
            for job in found.values():
                try:
                    again.append(Resend(job, self._again(job, by)))
                except (InvalidPayloadError, UnknownQueueError) as error:
                    rejected.append(job.id)
                    cause = error
            for resend, receipt in zip(again, shelf.resend(again), strict=True):
                match receipt:
                    case Sent():
                        refs.append(resend.payload.ref())
                        log().info("job %s is sent again by %r", resend.dead.id, by)
                        self._enqueued(refs[-1], resend.payload)
                    case Duplicate():
                        missing.append(resend.dead.id)
                    case Rejected(cause):
                        rejected.append(resend.dead.id)
                    case lost:
                        cause = lost.cause
                        unknown.append(resend.dead.id)
        accepted = [ref.id for ref in refs]
        if missing:
            raise NotDeadError(accepted, [*missing, *rejected], unknown, missing) from cause
        if cause is not None:
            raise EnqueueError(accepted, rejected, unknown) from cause
        return refs

    def _again(self, job: DeadJob, by: str) -> Payload:
        """The job's next run, on a queue that somebody reads."""
        payload = job.again(by, self.adapter.clock())
        if payload.queue not in self._queues:
            raise UnknownQueueError(payload.queue, self.queues)
        return payload

    async def aresend(self, jobs: DeadJobOrId | Iterable[DeadJobOrId], /, *, by: str) -> list[JobRef]:
        """Async twin of `resend`."""
        return await _in_thread(self.resend, jobs, by=by)

    def purge(self, jobs: DeadJobOrId | Iterable[DeadJobOrId], /) -> int:
        """Forget dead jobs for good, such as ``workers.dead(organization=...)``; how many there were.

        Of ``workers.dead()`` leave out those whose `worker` is None, where another application has the same
        database: they may be its own.
        """
        return self._dead_jobs.purge(dead_ids(jobs))

    async def apurge(self, jobs: DeadJobOrId | Iterable[DeadJobOrId], /) -> int:
        """Async twin of `purge`."""
        return await _in_thread(self.purge, jobs)

    def _is_ours(self, job: DeadJob) -> bool:
        """Whether a dead job is this application's; one that nobody can read is everybody's."""
        return job.worker is None or job.queue in self._queues or self.find(job.worker) is not None

    @property
    def _dead_jobs(self) -> DeadJobs:
        if "dead_jobs" not in self.adapter.capabilities:
            raise NotSupportedError(self.adapter_name, "dead_jobs")
        return cast("DeadJobs", self.adapter)

    def _enqueued(self, ref: JobRef, payload: Payload) -> None:
        if self.plugins.hears("sigra_enqueued"):
            organization = payload.organization_id
            self.plugins.tell(
                "sigra_enqueued", lambda hook: hook.sigra_enqueued(job=ref, organization_id=organization)
            )

    def _audit_failed(self, action: str, fields: tuple[str, ...], error: BaseException) -> None:
        self.plugins.tell(
            "sigra_audit_failed",
            lambda hook: hook.sigra_audit_failed(action=action, fields=fields, exception=error),
        )

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
        await _in_thread(self.close)


async def _in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    from sigra_workers.loops import in_thread  # asyncio is only imported where a loop runs

    return await in_thread(function, *args, **kwargs)


_every: Final[weakref.WeakSet[Workers[Any]]] = weakref.WeakSet()


def _after_fork() -> None:
    for workers in _every:
        workers._making = threading.Lock()  # pyright: ignore[reportPrivateUsage]  # another thread may have had it


os.register_at_fork(after_in_child=_after_fork)


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
