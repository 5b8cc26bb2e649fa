"""The plugin host: one pluggy manager a `Workers` object, behind a typed facade."""

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from types import NoneType, TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, TypeVar, cast, get_args

import pluggy

from sigra_workers import hooks
from sigra_workers.args import Id
from sigra_workers.errors import AdapterNotFoundError, InvalidSettingsError, is_own, log, told
from sigra_workers.hooks import Decision
from sigra_workers.jobs import JobInfo, JobRef
from sigra_workers.protocols import Adapter, Outgoing, Receipt
from sigra_workers.trail import AuditReader

T = TypeVar("T")
Around: TypeAlias = Generator[Mapping[str, str] | None, Sequence[Receipt]]


class Lifecycle(Protocol):
    """The lifecycle hooks as `hooks.py` declares them; pluggy's own relay is untyped."""

    def sigra_sending(
        self, *, adapter: str, jobs: Sequence[JobRef], organization_ids: Sequence[Id | None]
    ) -> list[Around]: ...
    def sigra_enqueued(self, *, job: JobRef, organization_id: Id | None) -> object: ...
    def sigra_started(
        self,
        *,
        job: JobInfo,
        organization_id: Id | None,
        adapter: str,
        waited: float,
        meta: Mapping[str, str],
    ) -> object: ...
    def sigra_finished(
        self,
        *,
        job: JobInfo,
        organization_id: Id | None,
        decision: Decision | None,
        exception: BaseException | None,
        duration: float,
    ) -> object: ...
    def sigra_dead(
        self, *, job: JobInfo, organization_id: Id | None, reason: str, exception: BaseException | None
    ) -> object: ...
    def sigra_audit_failed(
        self, *, action: str, fields: tuple[str, ...], exception: BaseException
    ) -> object: ...


LifecycleHook: TypeAlias = Literal[
    "sigra_enqueued", "sigra_started", "sigra_finished", "sigra_dead", "sigra_audit_failed"
]
_LIFECYCLE: Final[tuple[LifecycleHook, ...]] = get_args(LifecycleHook)


class Plugins:
    """Finds the adapter by name and tells the lifecycle hooks.

    One pluggy manager a plugin: a hook that raises keeps nothing from those of the others.
    """

    def __init__(self, plugins: Iterable[object]) -> None:
        self._managers: list[pluggy.PluginManager] = []
        self._listening: dict[str, list[Lifecycle]] = {name: [] for name in _LIFECYCLE}
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: object) -> None:
        """Register a plugin; one without hooks is refused, as is a hook or argument that does not exist."""
        if isinstance(plugin, type):
            raise InvalidSettingsError(f"plugin {plugin.__qualname__}", "it is a class, expected an instance")
        self._add(lambda manager: manager.register(plugin))
        manager = self._managers[-1]
        if not manager.get_hookcallers(plugin):
            raise InvalidSettingsError(f"plugin {plugin!r}", "it marks no method with hookimpl")
        for around in manager.hook.sigra_sending.get_hookimpls():
            if not inspect.isgeneratorfunction(around.function):
                problem = "its sigra_sending is no generator: it yields once, what goes along with the jobs"
                raise InvalidSettingsError(f"plugin {plugin!r}", problem)

    def _add(self, register: Callable[[pluggy.PluginManager], object]) -> None:
        manager = pluggy.PluginManager(hooks.PROJECT)
        manager.add_hookspecs(hooks)
        try:
            register(manager)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise InvalidSettingsError("plugin", str(error)) from error
        self._managers.append(manager)
        for name, listening in self._listening.items():
            if getattr(manager.hook, name).get_hookimpls():
                listening.append(cast("Lifecycle", manager.hook))

    def adapter(self, name: str, settings: Mapping[str, Any]) -> Adapter:
        """Make the adapter `name`; its distribution alone is loaded, whatever else is installed."""
        made: Adapter = self._made(name, lambda hook: hook.sigra_adapter(name=name, settings=settings))
        return made

    def audit_reader(self, name: str, url: str, table: str) -> AuditReader:
        """Open an audit trail with the distribution that has the entry point `name`."""
        made: AuditReader = self._made(name, lambda hook: hook.sigra_audit_reader(url=url, table=table))
        return made

    def _made(self, name: str, make: Callable[[Any], Any]) -> Any:
        """What the first plugin makes; the distribution of that name is loaded where none did."""
        made = self._ask(make)
        if made is None:
            self._add(lambda manager: manager.load_setuptools_entrypoints(hooks.PROJECT, name=name))
            made = self._ask(make)
        if made is None:
            from importlib.metadata import entry_points

            raise AdapterNotFoundError(name, sorted(entry_points(group=hooks.PROJECT).names))
        return made

    def _ask(self, make: Callable[[Any], Any]) -> Any:
        found = (make(manager.hook) for manager in self._managers)
        return next((made for made in found if made is not None), None)

    def tell(self, name: LifecycleHook, call: Callable[[Lifecycle], object]) -> None:
        """Tell that hook of every plugin that has it; one that raises is logged and changes nothing."""
        for hook in self._listening[name]:
            _observe(call, hook)

    def hears(self, name: LifecycleHook) -> bool:
        """Whether a plugin has that hook: what only it is told need not be made where none does."""
        return bool(self._listening[name])

    def sending(self, adapter: str, batch: Sequence[Outgoing]) -> "Sending":
        """What the plugins do around the sending of a batch."""
        hooked = [m.hook for m in self._managers if m.hook.sigra_sending.get_hookimpls()]
        return Sending(cast("list[Lifecycle]", hooked), adapter, batch)


class Sending:
    """A block that sends a batch: `batch` with what goes along, `receipts` to be set to what became of it."""

    def __init__(self, hooked: Sequence[Lifecycle], adapter: str, batch: Sequence[Outgoing]) -> None:
        self.batch = batch
        self.receipts: Sequence[Receipt] = ()
        self._hooked, self._adapter = hooked, adapter
        self._begun: list[Around] = []

    def __enter__(self) -> Self:
        if not self._hooked:
            return self
        jobs = [sent.payload.ref() for sent in self.batch]
        organizations = [sent.payload.organization_id for sent in self.batch]
        carried: dict[str, str] = {}

        def begin(hook: Lifecycle) -> None:
            arounds = hook.sigra_sending(adapter=self._adapter, jobs=jobs, organization_ids=organizations)
            for around in arounds:
                found = next(around)
                self._begun.append(around)
                carried.update(_checked(found))

        for hook in self._hooked:
            _observe(begin, hook)
        if carried:
            self.batch = [Outgoing(sent.job, sent.payload.carrying(carried)) for sent in self.batch]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for around in reversed(self._begun):
            _observe(self._end if error is None else lambda begun: begun.close(), around)

    def _end(self, around: Around) -> None:
        with suppress(StopIteration):
            around.send([*self.receipts])
            around.close()
            raise InvalidSettingsError("sigra_sending", "it yields twice, expected once")


def _observe(call: Callable[[T], object], told_one: T) -> None:
    try:
        call(told_one)
    except BaseException as error:
        if not is_own(error):
            raise
        log().error("a lifecycle hook raised %s", told(error))  # hooks observe


def _checked(found: object) -> dict[str, str]:
    """What a plugin gives a job along, which has to travel."""
    entries = dict(cast("Mapping[object, object]", found)) if isinstance(found, Mapping) else {}
    parts = [*entries, *entries.values()]
    if not isinstance(found, (Mapping, NoneType)) or not all(isinstance(part, str) for part in parts):
        raise InvalidSettingsError("sigra_sending", "what it yields is no mapping of str to str, nor None")
    return cast("dict[str, str]", entries)
