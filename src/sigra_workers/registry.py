"""The registry of an application's workers: what is declared and implemented, and what runs around it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, cast, overload

from typing_extensions import Unpack

from sigra_workers.errors import DuplicateWorkerError, InvalidOptionError, refuse_unknown
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
from sigra_workers.jobs import check_attempts, check_backoff, check_timeout
from sigra_workers.protocols import ArgsT, ScopeT, Worker
from sigra_workers.results import R


class Registry(Generic[ScopeT]):
    """The registering half of `Workers`."""

    def __init__(self, queues: Iterable[str]) -> None:
        self._queues = {*check_names("queues", queues, QUEUE)}
        self._handles: dict[str, WorkerHandle[ScopeT, Any, Any]] = {}
        self._arounds: list[Around] = []

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


def check_exceptions(value: object) -> tuple[type[Exception], ...]:
    """A sequence of exception classes, or `InvalidOptionError`."""
    found = tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(item, type) and issubclass(item, Exception) for item in found):
        raise InvalidOptionError("cancel_on", "expected a sequence of exception classes")
    return cast("tuple[type[Exception], ...]", found)
