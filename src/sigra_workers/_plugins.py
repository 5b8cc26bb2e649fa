"""The plugin host: one pluggy manager a `Workers` object, behind a typed facade."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

import pluggy

from sigra_workers import hooks
from sigra_workers.args import Id
from sigra_workers.errors import AdapterNotFoundError, InvalidSettingsError, told
from sigra_workers.hooks import Decision
from sigra_workers.jobs import JobInfo, JobRef
from sigra_workers.protocols import Adapter

_log: Final = logging.getLogger("sigra_workers")


class Lifecycle(Protocol):
    """The lifecycle hooks as `hooks.py` declares them; pluggy's own relay is untyped."""

    def sigra_enqueued(self, *, job: JobRef, organization_id: Id | None) -> object: ...
    def sigra_started(self, *, job: JobInfo, organization_id: Id | None) -> object: ...
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


class Plugins:
    """Finds the adapter by name and tells the lifecycle hooks.

    One pluggy manager a plugin: a hook that raises keeps nothing from those of the others.
    """

    def __init__(self, plugins: Iterable[object]) -> None:
        self._managers: list[pluggy.PluginManager] = []
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: object) -> None:
        """Register a plugin; one without hooks is refused, as is a hook or argument that does not exist."""
        if isinstance(plugin, type):
            raise InvalidSettingsError(f"plugin {plugin.__qualname__}", "it is a class, expected an instance")
        self._add(lambda manager: manager.register(plugin))
        if not self._managers[-1].get_hookcallers(plugin):
            raise InvalidSettingsError(f"plugin {plugin!r}", "it marks no method with hookimpl")

    def _add(self, register: Callable[[pluggy.PluginManager], object]) -> None:
        manager = pluggy.PluginManager(hooks.PROJECT)
        manager.add_hookspecs(hooks)
        try:
            register(manager)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise InvalidSettingsError("plugin", str(error)) from error
        self._managers.append(manager)

    def adapter(self, name: str, settings: Mapping[str, Any]) -> Adapter:
        """Make the adapter `name`; its distribution alone is loaded, whatever else is installed."""
        made = self._make(name, settings)
        if made is None:
            self._add(lambda manager: manager.load_setuptools_entrypoints(hooks.PROJECT, name=name))
            made = self._make(name, settings)
        if made is None:
            from importlib.metadata import entry_points

            raise AdapterNotFoundError(name, sorted(entry_points(group=hooks.PROJECT).names))
        return made

    def _make(self, name: str, settings: Mapping[str, Any]) -> Adapter | None:
        made = (manager.hook.sigra_adapter(name=name, settings=settings) for manager in self._managers)
        return cast("Adapter | None", next((adapter for adapter in made if adapter is not None), None))

    def tell(self, call: Callable[[Lifecycle], object]) -> None:
        """Tell one hook of every plugin; one that raises is logged and changes nothing."""
        for manager in self._managers:
            try:
                call(cast("Lifecycle", manager.hook))
            except (Exception, SystemExit, GeneratorExit) as error:  # hooks observe
                _log.error("a lifecycle hook raised %s", told(error))
