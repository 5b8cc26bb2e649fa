"""Hooks: what each is told, and that no plugin can harm a job or another plugin."""

import asyncio
import contextvars
import inspect
import logging
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, get_type_hints

import pytest
from tests.support import KEYS, MODES, NOW, Builder, Host, Mode

from sigra_workers import (
    AdapterNotFoundError,
    Again,
    AuditScopeBuilder,
    Cancel,
    Complete,
    Dead,
    EnqueueError,
    Error,
    InvalidSettingsError,
    Ok,
    Payload,
    Receipt,
    Rejected,
    Sent,
    Snooze,
    Workers,
    current_job,
    hookimpl,
    hooks,
)
from sigra_workers._plugins import Lifecycle, Plugins
from sigra_workers.memory import MemoryAdapter

SPECS: dict[str, Any] = {
    name: found for name, found in vars(hooks).items() if hasattr(found, "sigra_workers_spec")
}


Along: TypeAlias = Generator[Mapping[str, str] | None, Sequence[Receipt]]


class BrokenSink:
    def write(self, event: object, /) -> None:
        raise ConnectionError


class Watcher:
    """A plugin that implements every lifecycle hook with every argument it has."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, Any]]] = {name: [] for name in LIFECYCLE}

    @hookimpl
    def sigra_sending(self, adapter: Any, jobs: Any, organization_ids: Any) -> Along:
        self._note(inspect.currentframe())
        yield {"ticket": "t1"}

    @hookimpl
    def sigra_enqueued(self, job: Any, organization_id: Any) -> None:
        self._note(inspect.currentframe())

    @hookimpl
    def sigra_started(self, job: Any, organization_id: Any, adapter: Any, waited: Any, meta: Any) -> None:
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


RAISED = [RuntimeError, SystemExit, GeneratorExit, asyncio.CancelledError]


class Broken:
    """A plugin whose every lifecycle hook raises."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.error = error

    @hookimpl
    def sigra_sending(self) -> Along:
        raise self.error
        yield

    @hookimpl
    def sigra_enqueued(self) -> None:
        raise self.error

    @hookimpl
    def sigra_started(self) -> None:
        raise self.error

    @hookimpl
    def sigra_finished(self) -> None:
        raise self.error

    @hookimpl
    def sigra_dead(self) -> None:
        raise self.error

    @hookimpl
    def sigra_audit_failed(self) -> None:
        raise RuntimeError


LIFECYCLE = [name for name in SPECS if name not in ("sigra_adapter", "sigra_audit_reader")]


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
        "sigra_audit_reader",
        "sigra_dead",
        "sigra_enqueued",
        "sigra_finished",
        "sigra_sending",
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
        for argument in ("adapter", "job", "duration", "reason", "action", "waited"):
            if argument in told:
                assert isinstance(told[argument], hints[argument]), (name, argument)
    (finished,) = watcher.told["sigra_finished"]
    assert (finished["job"].id, finished["organization_id"]) == (ref.id, "org-1")
    assert 0 <= finished["duration"] < 60
    (sending,) = watcher.told["sigra_sending"]
    assert sending == {"adapter": "memory", "jobs": [ref], "organization_ids": ["org-1"]}
    (started,) = watcher.told["sigra_started"]
    assert (started["adapter"], started["waited"], started["meta"]) == ("memory", 0.0, {"ticket": "t1"})
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
@pytest.mark.parametrize("error", RAISED)
def test_hooks_that_raise_change_nothing(result: Any, kind: type, error: type[BaseException]) -> None:
    assert isinstance(host(Broken(error), result=result).run(), kind)


@pytest.mark.parametrize("error", RAISED)
def test_a_hook_that_raises_does_not_lose_the_job_that_is_enqueued(error: type[BaseException]) -> None:
    made = host(Broken(error))
    ref = made.handle.enqueue(KEYS)
    assert [payload.id for payload in MemoryAdapter.of(made.workers).payloads] == [ref.id]


def test_what_ends_the_process_passes_through_a_hook() -> None:
    with pytest.raises(KeyboardInterrupt):
        host(Broken(KeyboardInterrupt)).handle.enqueue(KEYS)


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


# -- what plugins give jobs along ------------------------------------------------------------------------


class Gives:
    """A plugin that gives jobs something along, and notes what it is told."""

    def __init__(self, *along: Any) -> None:
        self.along = along
        self.jobs: list[list[str]] = []
        self.organizations: list[Any] = []
        self.receipts: list[Any] = []
        self.metas: list[Any] = []
        self.waited: list[float] = []
        self.closed = 0

    @hookimpl
    def sigra_sending(self, jobs: Any, organization_ids: Any) -> Along:
        self.jobs.append([job.id for job in jobs])
        self.organizations += organization_ids
        for along in self.along:
            try:
                self.receipts.append((yield along))
            except GeneratorExit:
                self.closed += 1
                raise

    @hookimpl
    def sigra_started(self, waited: float, meta: Any) -> None:
        self.metas.append(meta)
        self.waited.append(waited)


def queue_of(*plugins: object, results: list[Any] | None = None) -> tuple[Host, MemoryAdapter]:
    """A host whose runs end with those results, the last one for ever, and its queue."""
    endings = results or [Ok()]
    made = Host(plugins=plugins).worker(
        lambda *_: endings.pop(0) if len(endings) > 1 else endings[0], backoff=10, max_attempts=2
    )
    return made, MemoryAdapter.of(made.workers)


def test_what_a_plugin_gives_along_comes_to_every_run_through_retries_snoozes_and_a_resend() -> None:
    gives = Gives({"ticket": "t1"})
    made, queue = queue_of(gives, results=[Error("no"), Snooze(5), Error("no"), Ok()])
    ref = made.handle.enqueue(KEYS)
    assert queue.drain(scheduled=True) == {"retry": 1, "snooze": 1, "dead": 1}
    made.workers.resend(ref.id, by="ops")
    assert queue.drain() == {"complete": 1}
    assert gives.metas == [{"ticket": "t1"}] * 4
    assert gives.jobs == [[ref.id]]


def test_what_several_plugins_give_along_goes_together() -> None:
    first, second = Gives({"ticket": "t1", "both": "1"}), Gives({"seat": "s2", "both": "2"})
    made, queue = queue_of(first, second)
    made.handle.enqueue(KEYS)
    queue.drain()
    assert first.metas == second.metas == [{"ticket": "t1", "both": "2", "seat": "s2"}]


@pytest.mark.parametrize("along", [None, {}])
def test_a_plugin_that_gives_nothing_along_leaves_the_payload_as_it_is(along: Any) -> None:
    made, queue = queue_of(Gives(along))
    made.handle.enqueue(KEYS)
    assert [payload.meta for payload in queue.payloads] == [{}]


def test_a_plugin_is_told_of_each_batch_and_what_became_of_its_jobs_in_order() -> None:
    gives = Gives({"ticket": "t1"})
    made, _ = queue_of(gives)
    jobs = [made.handle.new({"organization_id": n, "actor_id": None}) for n in range(501)]
    made.workers.enqueue_many(jobs)
    assert gives.jobs == [[job.id for job in jobs[:500]], [jobs[500].id]]
    assert gives.organizations == [*range(501)]
    assert gives.receipts == [[Sent()] * 500, [Sent()]]


def test_a_plugin_is_told_of_jobs_that_were_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    gives = Gives({"ticket": "t1"})
    made, queue = queue_of(gives)
    full = Rejected(OSError())
    monkeypatch.setattr(queue, "send", lambda jobs: [full for _ in jobs])
    with pytest.raises(EnqueueError):
        made.handle.enqueue(KEYS)
    assert gives.receipts == [[full]]


def test_a_plugin_gives_along_where_jobs_are_sent_from_a_loop() -> None:
    gives = Gives({"ticket": "t1"})
    made, queue = queue_of(gives)
    asyncio.run(made.handle.aenqueue(KEYS))
    queue.drain()
    assert (gives.metas, gives.receipts) == ([{"ticket": "t1"}], [[Sent()]])


def test_a_plugin_learns_that_the_sender_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    gives = Gives({"ticket": "t1"})
    made, queue = queue_of(gives)

    async def never(_: Any) -> Any:
        await asyncio.sleep(60)

    async def stop() -> None:
        sending = asyncio.create_task(made.handle.aenqueue(KEYS))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    monkeypatch.setattr(queue, "asend", never)
    asyncio.run(stop())
    assert (gives.closed, gives.receipts) == (1, [])


@pytest.mark.parametrize(
    ("along", "complaint"),
    [
        ((), "StopIteration"),
        (({"ticket": "t1"}, {"ticket": "t2"}), "it yields twice"),
        (({"ticket": 1},), "no mapping of str to str"),
        (({1: "t1"},), "no mapping of str to str"),
        ((["ticket"],), "no mapping of str to str"),
        (("ticket",), "no mapping of str to str"),
    ],
)
def test_a_plugin_that_gives_along_what_cannot_travel_is_logged_and_the_job_is_sent(
    along: tuple[Any, ...], complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = Gives({"seat": "s2"})
    made, queue = queue_of(Gives(*along), other)
    made.handle.enqueue(KEYS)
    (record,) = caplog.records
    assert complaint in record.getMessage()
    assert queue.drain() == {"complete": 1}
    assert other.metas[0]["seat"] == "s2"


def test_a_plugin_that_raises_once_the_jobs_are_sent_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Raises:
        @hookimpl
        def sigra_sending(self) -> Along:
            yield {"ticket": "t1"}
            raise SystemExit

    other = Gives({"seat": "s2"})
    made, queue = queue_of(Raises(), other)
    made.handle.enqueue(KEYS)
    assert "a lifecycle hook raised SystemExit" in caplog.text
    assert queue.drain() == {"complete": 1}
    assert (other.receipts, other.metas) == ([[Sent()]], [{"ticket": "t1", "seat": "s2"}])


def test_a_sending_hook_that_is_no_generator_is_refused_when_it_is_registered() -> None:
    class Returns:
        @hookimpl
        def sigra_sending(self) -> dict[str, str]:
            return {"ticket": "t1"}

    with pytest.raises(InvalidSettingsError, match="its sigra_sending is no generator"):
        Workers(plugins=[Returns()])


@pytest.mark.parametrize("carried", [None, "ticket", ["ticket"], {"ticket": 1}, {"ticket": {"a": "b"}}])
def test_what_a_payload_made_by_hand_carries_is_text_by_name_or_nothing(carried: Any) -> None:
    gives = Gives()
    made, _ = queue_of(gives)
    payload = made.payload()
    assert isinstance(
        made.deliver(Payload.parse(payload.again(None, meta={"carried": carried}).dump())), Complete
    )
    assert gives.metas == [{}]


# -- the context of a run --------------------------------------------------------------------------------

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("MARK", default="none")


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.mark.parametrize("builder", ["def", "async def"])
def test_what_a_hook_sets_in_the_context_is_seen_by_all_of_the_run_and_is_gone_behind_it(
    mode: Mode, builder: Any
) -> None:
    seen: list[tuple[str, str]] = []

    def note(where: str) -> None:
        seen.append((where, MARK.get()))

    class Marks:
        @hookimpl
        def sigra_started(self, job: Any) -> None:
            note("started")
            MARK.set(job.id)

        @hookimpl
        def sigra_finished(self) -> None:
            note("finished")

        @hookimpl
        def sigra_dead(self) -> None:
            note("dead")

    def build(args: Any) -> Any:
        note("builder")
        return AuditScopeBuilder().build(args)

    made = Host(mode, plugins=(Marks(),), scope_builder=Builder(builder, build))

    @made.workers.around
    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        note("around")
        yield
        note("around")

    def perform(scope: Any, args: Any) -> Cancel:
        note("perform")
        return Cancel("no")

    made.worker(perform)
    for _ in range(2):
        payload = made.payload()
        made.deliver(payload)
        steps = ["builder", "around", "perform", "around", "finished", "dead"]
        assert seen == [("started", "none"), *((step, payload.id) for step in steps)]
        assert MARK.get() == "none"
        seen.clear()


def test_a_run_is_told_for_how_long_it_waited_since_it_could_have_run() -> None:
    gives = Gives()
    made, queue = queue_of(gives, results=[Error("no"), Snooze(5), Error("no"), Ok()])
    ref = made.handle.enqueue(KEYS, schedule_in=100)
    for pause in (103, 10, 6):  # after 100 s, the backoff of 10 s and the snooze of 5 s
        made.clock.advance(pause)
        queue.drain()
    made.clock.advance(1_000)
    made.workers.resend(ref.id, by="ops")
    made.clock.advance(7)
    queue.drain()
    assert gives.waited == [3, 0, 1, 7]


@pytest.mark.parametrize("resent", [None, [], [{}], [{"at": "noon"}], "at"])
def test_a_job_made_by_hand_waited_since_it_was_enqueued(resent: Any) -> None:
    gives = Gives()
    made, _ = queue_of(gives)
    payload = made.payload().again(None, meta={"resent": resent})
    made.clock.advance(4)
    made.deliver(payload)
    assert gives.waited == [4]


def test_a_clock_that_was_set_back_makes_no_negative_wait() -> None:
    gives = Gives()
    made, _ = queue_of(gives)
    payload = made.payload()
    made.clock.now = NOW - 60
    made.deliver(payload)
    assert gives.waited == [0]


def test_a_job_that_dies_before_it_runs_is_the_current_one_for_those_who_are_told() -> None:
    seen: list[Any] = []

    class Notes:
        @hookimpl
        def sigra_dead(self, job: Any) -> None:
            seen.append((job, current_job()))

    made, _ = queue_of(Notes())
    made.deliver(made.payload(), crashes=9)
    ((job, current),) = seen
    assert job is current
    assert current_job() is None


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
    "trail_shop": (
        "from sigra_workers import hookimpl\n"
        "@hookimpl\n"
        "def sigra_audit_reader(url, table):\n"
        "    return ('reader', url, table)\n"
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
    "trail = trail_shop\n"
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
    with pytest.raises(AdapterNotFoundError, match="there is no adapter 'shy' among") as caught:
        Workers(adapter="shy").adapter  # noqa: B018
    assert "install it" not in str(caught.value)


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


@pytest.mark.usefixtures("installed")
def test_an_audit_reader_is_made_by_the_distribution_of_that_name_alone() -> None:
    made: Any = Plugins(()).audit_reader("trail", "sqlite:///a.db", "audit.events")
    assert made == ("reader", "sqlite:///a.db", "audit.events")
    assert {*PLUGINS} & {*sys.modules} == {"trail_shop"}


@pytest.mark.usefixtures("installed")
def test_a_plugin_of_the_host_may_supply_the_audit_reader() -> None:
    mine: Any = object()
    told: list[tuple[str, str]] = []

    class Mine:
        @hookimpl
        def sigra_audit_reader(self, url: str, table: str) -> Any:
            told.append((url, table))
            return mine

    assert Plugins([Mine()]).audit_reader("trail", "sqlite:///a.db", "events") is mine
    assert told == [("sqlite:///a.db", "events")]
    assert not {*PLUGINS} & {*sys.modules}


@pytest.mark.usefixtures("installed")
def test_an_audit_reader_that_is_not_there_is_told_with_the_command_that_installs_it() -> None:
    for name, is_installed in (("warehouse", False), ("toy", True)):  # one that reads no trail
        with pytest.raises(AdapterNotFoundError) as caught:
            Plugins(()).audit_reader(name, "sqlite:///a.db", "events")
        assert (f"pip install 'sigra-workers[{name}]'" in str(caught.value)) is not is_installed
        assert "a.db" not in str(caught.value)


def test_settings_that_the_adapter_cannot_use_are_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="adapter 'memory'"):
        Workers(settings={"clock": 5}).adapter  # noqa: B018


def test_a_plugin_that_marks_no_hook_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="marks no method with hookimpl"):
        Workers(plugins=[object()])


def test_a_plugin_class_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="plugin Watcher: it is a class, expected an instance"):
        Workers(plugins=[Watcher])
