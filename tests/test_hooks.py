"""Hooks: what each is told, and that no plugin can harm a job or another plugin."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from tests.support import KEYS, Host

from sigra_workers import (
    AdapterNotFoundError,
    Again,
    Cancel,
    Complete,
    Dead,
    Error,
    InvalidSettingsError,
    Ok,
    Snooze,
    Workers,
    hookimpl,
    hooks,
)
from sigra_workers._plugins import Lifecycle
from sigra_workers.memory import MemoryAdapter

SPECS: dict[str, Any] = {
    name: found for name, found in vars(hooks).items() if hasattr(found, "sigra_workers_spec")
}


class BrokenSink:
    def write(self, event: object, /) -> None:
        raise ConnectionError


class Watcher:
    """A plugin that implements every lifecycle hook with every argument it has."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, Any]]] = {name: [] for name in LIFECYCLE}

    @hookimpl
    def sigra_enqueued(self, job: Any, organization_id: Any) -> None:
        self._note(inspect.currentframe())

    @hookimpl
    def sigra_started(self, job: Any, organization_id: Any) -> None:
        self._note(inspect.currentframe())

    @hookimpl
    def sigra_finished(
        self, job: Any, organization_id: Any, decision: Any, exception: Any, duration: Any
    ) -> None:
        self._note(inspect.currentframe())

    @hookimpl
    def sigra_dead(self, job: Any, organization_id: Any, reason: Any, exception: Any) -> None:
        self._note(inspect.currentframe())

    @hookimpl
    def sigra_audit_failed(self, action: Any, fields: Any, exception: Any) -> None:
        self._note(inspect.currentframe())

    def _note(self, frame: Any) -> None:
        self.told[frame.f_code.co_name].append(
            {name: value for name, value in frame.f_locals.items() if name != "self"}
        )


class Broken:
    """A plugin whose every lifecycle hook raises."""

    @hookimpl
    def sigra_enqueued(self) -> None:
        raise RuntimeError

    @hookimpl
    def sigra_started(self) -> None:
        raise RuntimeError

    @hookimpl
    def sigra_finished(self) -> None:
        raise RuntimeError

    @hookimpl
    def sigra_dead(self) -> None:
        raise RuntimeError

    @hookimpl
    def sigra_audit_failed(self) -> None:
        raise RuntimeError


LIFECYCLE = [name for name in SPECS if name != "sigra_adapter"]


def host(*plugins: object, result: Any = None) -> Host:
    """A host whose worker audits to a broken sink and ends with `result`."""

    def perform(scope: Any, args: Any) -> Any:
        with made.audit.using(BrokenSink()):
            made.audit.log_safe("account.closed", scope)
        return Cancel("hold") if result is None else result

    made = Host(plugins=plugins).worker(perform)
    return made


# -- the specifications --------------------------------------------------------------------------------


def test_the_hooks_are_these() -> None:
    assert sorted(SPECS) == [
        "sigra_adapter",
        "sigra_audit_failed",
        "sigra_dead",
        "sigra_enqueued",
        "sigra_finished",
        "sigra_started",
    ]


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_is_prefixed_typed_and_documented(name: str) -> None:
    spec = SPECS[name]
    assert name.startswith("sigra_")
    assert spec.__doc__
    assert {*spec.__annotations__} == {*inspect.signature(spec).parameters, "return"}


@pytest.mark.parametrize("name", LIFECYCLE)
def test_the_typed_facade_has_the_arguments_of_the_hook(name: str) -> None:
    facade = inspect.signature(getattr(Lifecycle, name)).parameters
    assert [*facade] == ["self", *inspect.signature(SPECS[name]).parameters]


def test_the_typed_facade_has_every_lifecycle_hook_and_no_other() -> None:
    assert sorted(name for name in vars(Lifecycle) if name.startswith("sigra_")) == sorted(LIFECYCLE)


@pytest.mark.parametrize("name", LIFECYCLE)
def test_every_lifecycle_hook_is_called_once_with_exactly_its_arguments(name: str) -> None:
    watcher = Watcher()
    made = host(watcher)
    made.handle.enqueue(KEYS)
    MemoryAdapter.of(made.workers).drain()
    (told,) = watcher.told[name]
    assert [*told] == [*inspect.signature(SPECS[name]).parameters]


def test_what_the_hooks_are_told_is_of_the_types_they_say() -> None:
    watcher = Watcher()
    made = host(watcher)
    ref = made.handle.enqueue(KEYS)
    MemoryAdapter.of(made.workers).drain()
    namespace = {**vars(sys.modules["sigra_workers"]), **vars(hooks)}
    for name, (told,) in watcher.told.items():
        hints = get_type_hints(SPECS[name], globalns=namespace)
        assert isinstance(told.get("exception"), (BaseException, type(None)))
        for argument in ("job", "duration", "reason", "action"):
            if argument in told:
                assert isinstance(told[argument], hints[argument]), (name, argument)
    (finished,) = watcher.told["sigra_finished"]
    assert (finished["job"].id, finished["organization_id"]) == (ref.id, "org-1")
    assert 0 <= finished["duration"] < 60
    (failed,) = watcher.told["sigra_audit_failed"]
    assert (failed["action"], failed["fields"]) == ("account.closed", ("sink",))


def test_an_implementation_takes_only_the_arguments_it_wants() -> None:
    class Few:
        def __init__(self) -> None:
            self.decisions: list[str] = []

        @hookimpl
        def sigra_finished(self, decision: str) -> None:
            self.decisions.append(decision)

    few = Few()
    host(few).run()
    assert few.decisions == ["cancel"]


def test_a_module_may_be_a_plugin() -> None:
    told: list[str] = []
    module = ModuleType("metrics")
    setattr(module, "sigra_started", hookimpl(lambda job: told.append(job.worker)))  # noqa: B010
    host(module).run()
    assert told == ["accounts.close"]


# -- what is refused at registration -------------------------------------------------------------------


def test_a_misspelt_hook_is_refused_when_it_is_registered() -> None:
    class Misspelt:
        @hookimpl
        def sigra_startet(self, job: object) -> None: ...

    with pytest.raises(InvalidSettingsError, match="sigra_startet"):
        Workers(plugins=[Misspelt()])


def test_an_argument_that_a_hook_does_not_have_is_refused_when_it_is_registered() -> None:
    class Wants:
        @hookimpl
        def sigra_started(self, job: object, args: object) -> None: ...

    with pytest.raises(InvalidSettingsError, match="args"):
        Workers(plugins=[Wants()])


# -- hooks observe -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "kind"), [(Ok("x"), Complete), (Error("no"), Again), (Snooze(5), Again), (Cancel("no"), Dead)]
)
def test_hooks_that_raise_change_nothing(result: Any, kind: type) -> None:
    assert isinstance(host(Broken(), result=result).run(), kind)


def test_a_hook_that_raises_does_not_lose_the_job_that_is_enqueued() -> None:
    made = host(Broken())
    ref = made.handle.enqueue(KEYS)
    assert [payload.id for payload in MemoryAdapter.of(made.workers).payloads] == [ref.id]


@pytest.mark.parametrize("order", [lambda *two: two, lambda *two: two[::-1]])
def test_a_hook_that_raises_keeps_nothing_from_the_other_plugins(order: Callable[..., Any]) -> None:
    watcher = Watcher()
    made = host(*order(Broken(), watcher))
    made.handle.enqueue(KEYS)
    MemoryAdapter.of(made.workers).drain()
    assert {name: len(told) for name, told in watcher.told.items()} == dict.fromkeys(LIFECYCLE, 1)


def test_a_hook_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    host(Broken(), result=Ok()).run()
    found = [record for record in caplog.records if "a lifecycle hook raised RuntimeError" in record.message]
    assert len(found) == 3
    assert {(record.name, record.levelno) for record in found} == {("sigra_workers", logging.ERROR)}


# -- finding an adapter by name ------------------------------------------------------------------------

PLUGINS = {
    "neighbour_broken": "raise RuntimeError('broken neighbour')\n",
    "toy_queue": (
        "from sigra_workers import hookimpl\n"
        "from sigra_workers.memory import MemoryAdapter\n"
        "class ToyAdapter(MemoryAdapter):\n    pass\n"
        "@hookimpl\n"
        "def sigra_adapter(name, settings):\n"
        "    return ToyAdapter() if name == 'toy' else None\n"
    ),
    "misspelt_queue": (
        "from sigra_workers import hookimpl\n@hookimpl\ndef sigra_adaptor(name, settings):\n    return None\n"
    ),
    "shy_queue": (
        "from sigra_workers import hookimpl\n@hookimpl\ndef sigra_adapter(name, settings):\n    return None\n"
    ),
}
ENTRY_POINTS = (
    "[sigra_workers]\n"
    "broken = neighbour_broken\n"
    "absent = there_is_no_such_module\n"
    "toy = toy_queue\n"
    "misspelt = misspelt_queue\n"
    "shy = shy_queue\n"
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with a good adapter and several broken ones, installed for the length of a test."""
    for name, source in PLUGINS.items():
        (tmp_path / f"{name}.py").write_text(source)
    info = tmp_path / "neighbours-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: neighbours\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in PLUGINS:
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("installed")
def test_broken_neighbours_harm_nobody_as_only_the_adapter_asked_for_is_loaded() -> None:
    assert isinstance(Workers(adapter="memory").adapter, MemoryAdapter)
    assert not {*PLUGINS} & {*sys.modules}


@pytest.mark.usefixtures("installed")
def test_an_installed_adapter_is_found_by_its_name_alone() -> None:
    assert type(Workers(adapter="toy").adapter).__name__ == "ToyAdapter"
    assert {*PLUGINS} & {*sys.modules} == {"toy_queue"}


@pytest.mark.usefixtures("installed")
def test_the_adapters_that_are_installed_are_named_where_one_is_not() -> None:
    with pytest.raises(AdapterNotFoundError) as caught:
        Workers(adapter="kafka").adapter  # noqa: B018
    assert {"memory", "toy", "broken"} <= {*caught.value.found}
    assert not {*PLUGINS} & {*sys.modules}


@pytest.mark.usefixtures("installed")
def test_a_distribution_that_makes_no_adapter_of_its_name_is_not_found() -> None:
    with pytest.raises(AdapterNotFoundError):
        Workers(adapter="shy").adapter  # noqa: B018


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "error", "named"),
    [
        ("misspelt", InvalidSettingsError, "sigra_adaptor"),
        ("broken", RuntimeError, "broken neighbour"),
        ("absent", ModuleNotFoundError, "there_is_no_such_module"),
    ],
)
def test_what_is_wrong_with_the_adapter_asked_for_is_not_hidden(
    name: str, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        Workers(adapter=name).adapter  # noqa: B018


@pytest.mark.usefixtures("installed")
def test_a_plugin_of_the_host_comes_before_the_adapter_that_is_installed() -> None:
    mine = MemoryAdapter()

    class Mine:
        @hookimpl
        def sigra_adapter(self, name: str, settings: Mapping[str, Any]) -> Any:
            return mine

    assert Workers(adapter="broken", plugins=[Mine()]).adapter is mine


def test_settings_that_the_adapter_cannot_use_are_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="adapter 'memory'"):
        Workers(settings={"clock": 5}).adapter  # noqa: B018


def test_a_plugin_that_marks_no_hook_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="marks no method with hookimpl"):
        Workers(plugins=[object()])


def test_a_plugin_class_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="plugin Watcher: it is a class, expected an instance"):
        Workers(plugins=[Watcher])
