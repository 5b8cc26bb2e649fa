"""The doctor: its own checks, those that are brought along, which of them are run, and its page."""

import ast
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import create_engine
from tests.examined import ROOT, broken, look, sound

from sigra_workers import (
    AdapterNotFoundError,
    Audit,
    AuditEvent,
    AuditScope,
    Capability,
    InvalidOptionError,
    JsonLinesSink,
    LoggingSink,
    MemorySink,
    Ok,
    OrganizationArgs,
    Result,
    Workers,
    hookimpl,
)
from sigra_workers.checks import (
    Check,
    Finding,
    Process,
    by_queue,
    consumed,
    redis_checks,
    same_clocks,
    same_versions,
    versions,
)
from sigra_workers.doctor import examine
from sigra_workers.memory import MemoryAdapter
from sigra_workers_arq import ArqAdapter
from sigra_workers_dramatiq import DramatiqAdapter
from sigra_workers_rq import RqAdapter
from sigra_workers_sqlalchemy import AuditTrail

PAGE = "docs/how-to/doctor.md"
REDIS = "redis://127.0.0.1:1/0"


class Bringing(MemoryAdapter):
    """A third-party adapter with checks of its own, which keeps jobs."""

    capabilities: frozenset[Capability] = frozenset(("durable",))

    def __init__(self, brought: Callable[[], list[Check]]) -> None:
        super().__init__()
        self._brought = brought

    def checks(self, workers: Workers[Any], /) -> list[Check]:
        """Law: they are those of an application."""
        assert isinstance(workers, Workers)
        return self._brought()


@dataclass
class Plugin:
    """Makes the adapter named "third"."""

    brought: Callable[[], list[Check]]

    @hookimpl
    def sigra_adapter(self, name: str) -> Any:
        return Bringing(self.brought) if name == "third" else None


def workers_with(*brought: Check, **options: Any) -> Workers[Any]:
    return Workers[AuditScope](adapter="third", plugins=[Plugin(lambda: [*brought])], **options)


def check(name: str, *statuses: Any, needs: str = "", runs: list[str] | None = None) -> Check:
    """A check that finds these."""

    def run() -> Iterable[Finding]:
        if runs is not None:
            runs.append(name)
        return [Finding(status, f"{name}: {status}", "do it", PAGE) for status in statuses]

    return Check(name, run, needs)


def names(workers: Workers[Any], *only: str) -> list[str]:
    return [one.check for one in examine(workers, only)]


# -- the adapter -----------------------------------------------------------------------------------------


def test_an_adapter_that_keeps_jobs_is_sound() -> None:
    assert sound(workers_with(), "adapter.installed").startswith("adapter 'third' is ")


def test_an_adapter_that_keeps_jobs_in_the_process_is_found() -> None:
    told = broken(Workers[AuditScope](), "adapter.installed", "warning")
    assert "keeps jobs in this process: they end with it" in told


def test_an_adapter_that_is_not_installed_is_a_problem_with_the_command_that_installs_it() -> None:
    workers = Workers[AuditScope](adapter="rabbit-hole")
    assert "pip install" in broken(workers, "adapter.installed")
    assert "adapter.checks" not in names(workers)


def test_an_adapter_whose_library_is_missing_is_a_problem(site: "Site") -> None:
    site.install("sigra-workers-hole", "2.0", claims="hole")
    told = broken(Workers[AuditScope](adapter="hole"), "adapter.installed")
    assert told.startswith("it could not be checked: ModuleNotFoundError")


@dataclass
class Site:
    """A folder of installed distributions."""

    folder: Path

    def install(self, name: str, version: str, requires: Iterable[str] = (), claims: str = "") -> None:
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {requirement}" for requirement in requires]
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*head, *lines, ""]))
        if claims:
            (info / "entry_points.txt").write_text(f"[sigra_workers]\n{claims} = nowhere\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A folder on sys.path, before the others."""
    monkeypatch.syspath_prepend(tmp_path)
    return Site(tmp_path)


def test_two_distributions_that_claim_an_adapter_are_a_problem(site: Site) -> None:
    workers = Workers[AuditScope](adapter="twice")
    site.install("first-twice", "1.0", claims="twice")
    assert sound(workers, "adapter.claims") == "adapter 'twice' is that of first-twice alone"
    site.install("other-twice", "1.0", claims="twice")
    told = broken(workers, "adapter.claims")
    assert "is claimed by first-twice and other-twice: chance decides" in told
    assert "pip uninstall other-twice" in told


def test_an_adapter_of_a_plugin_is_claimed_by_nobody_else() -> None:
    assert sound(workers_with(), "adapter.claims") == "adapter 'third' is that of a plugin alone"
    assert names(workers_with(), "adapter") == ["adapter.installed", "adapter.claims"]


@pytest.mark.parametrize(
    ("range_", "version", "fits"),
    [
        (">=3.0,<4", "3.0.0", True),
        (">=3.0,<4", "3.12.1rc1", True),
        (">=3.0,<4", "4.0", False),
        (">=3.0,<4", "2.99", False),
        ("[extra] >= 3.0", "3", True),
        (">3.0", "3.0.0", False),
        ("<=3.0", "3.0.0", True),
        ("==3.0", "3.0.0", True),
        ("==3.0", "3.0.1", False),
        ("==3.0.*", "3.0.7", True),
        ("==3.0.*", "3.1", False),
        ("!=3.1", "3.1", False),
        ("!=3.1", "3.1.1", True),
        ("~=3.1", "3.9", True),
        ("~=3.1", "4.0", False),
        ("", "0.0.1", True),
        (">=3.0", "unknown", False),
    ],
)
def test_a_library_is_compared_with_the_range_that_its_adapter_was_tested_with(
    site: Site, range_: str, version: str, fits: bool
) -> None:
    site.install("sigra-workers-hole", "2.0", [f"holelib{range_}", "other>=1; extra == 'x'"], claims="hole")
    site.install("holelib", version)
    workers = Workers[AuditScope](adapter="hole")
    if fits:
        assert sound(workers, "adapter.versions").startswith(
            f"holelib {version}, as sigra-workers-hole needs it"
        )
    else:
        told = broken(workers, "adapter.versions")
        assert f"holelib {version} is not what sigra-workers-hole 2.0 was tested with" in told
        assert f"pip install 'holelib{range_}'" in told


def test_a_library_that_is_not_installed_is_a_problem(site: Site) -> None:
    site.install("sigra-workers-hole", "2.0", ["holelib-gone>=1"], claims="hole")
    told = broken(Workers[AuditScope](adapter="hole"), "adapter.versions")
    assert "sigra-workers-hole needs holelib-gone>=1, which is not installed" in told


def test_an_entry_point_of_no_distribution_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = SimpleNamespace(dist=None)
    monkeypatch.setattr("sigra_workers.doctor.entry_points", lambda **_: [lone])
    assert names(Workers[AuditScope](adapter="lone"), "adapter.claims") == ["adapter.claims"]
    assert names(Workers[AuditScope](adapter="lone"), "adapter.versions") == []


# -- the application -------------------------------------------------------------------------------------


def test_a_worker_that_is_not_implemented_here_is_found() -> None:
    workers = workers_with()
    handle = workers.declare("accounts.close", OrganizationArgs)
    told = broken(workers, "workers.implemented", "warning")
    assert "accounts.close" in told
    assert "sigra-workers doctor app.implementations:workers" in told

    @handle.implement
    def close(scope: AuditScope, args: OrganizationArgs) -> Result[None]:
        return Ok()

    assert sound(workers, "workers.implemented") == "each of the 1 workers is implemented in this process"


@pytest.mark.parametrize("kind", [LoggingSink, JsonLinesSink])
@pytest.mark.parametrize(("level", "status"), [(logging.INFO, "warning"), (logging.WARNING, "problem")])
def test_a_log_is_found_as_a_sink_and_one_that_drops_events_is_a_problem(
    kind: type[LoggingSink], level: int, status: str
) -> None:
    logger = logging.getLogger(f"app.trail.{level}")
    logger.setLevel(level)
    assert f"'app.trail.{level}'" in broken(workers_with(audit=Audit(kind(logger))), "audit.sink", status)


def test_a_log_in_a_process_where_nobody_set_logging_up_is_no_problem_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = workers_with(audit=Audit(LoggingSink("app.trail.unset")))
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    assert "which drops them: its level is above INFO in this process" in broken(
        workers, "audit.sink", "warning"
    )
    logging.getLogger("app.trail.unset").setLevel(logging.INFO)
    assert "which drops them: it has no handler for INFO in this process" in broken(
        workers, "audit.sink", "warning"
    )
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    assert "which drops them: it has no handler for INFO" in broken(workers, "audit.sink")


def test_a_sink_that_keeps_events_in_the_process_is_found() -> None:
    told = broken(workers_with(audit=Audit(MemorySink())), "audit.sink", "warning")
    assert "audit events are kept in this process: they end with it" in told


def test_another_sink_is_sound_where_it_brings_checks_and_else_nobody_knows() -> None:
    assert sound(workers_with(audit=Audit(CheckedSink())), "audit.sink").endswith(".CheckedSink")
    told = broken(workers_with(audit=Audit(UncheckedSink())), "audit.sink", "unknown")
    assert ".UncheckedSink, which brings no checks: nobody tells if they are kept" in told


# -- checks that are brought along -----------------------------------------------------------------------


class UncheckedSink:
    """A host's sink."""

    def write(self, event: AuditEvent, /) -> None: ...


class CheckedSink(UncheckedSink):
    """A host's sink with a check of its own."""

    def checks(self, workers: Workers[Any], /) -> Iterable[Check]:
        yield check("trail.disk", "warning")


def test_an_adapter_and_a_sink_bring_checks_of_their_own() -> None:
    workers = workers_with(check("third.queue", "problem", "ok"), audit=Audit(CheckedSink()))
    assert [(one.check, one.finding.status) for one in examine(workers, ["third", "trail"])] == [
        ("third.queue", "problem"),
        ("third.queue", "ok"),
        ("trail.disk", "warning"),
    ]


def test_a_check_that_raises_is_a_problem_that_tells_where_and_nothing_of_the_text() -> None:
    def fail() -> Iterable[Finding]:
        yield Finding("ok", "so far")
        raise ConnectionError("password=hunter2")

    told = broken(workers_with(Check("third.queue", fail)), "third.queue")
    assert re.match(r"it could not be checked: ConnectionError at .*test_doctor.py:\d+ -> ", told)
    assert "hunter2" not in told


def test_a_check_that_raises_an_error_of_this_library_says_what_that_says() -> None:
    def fail() -> Iterable[Finding]:
        raise AdapterNotFoundError("hole", [])

    told = broken(workers_with(Check("third.queue", fail)), "third.queue")
    assert "there is no adapter 'hole' among the plugins installed: [] -> install it: pip install" in told

    def fail_in_one_line() -> Iterable[Finding]:
        raise InvalidOptionError("only", "it is short")

    told = broken(workers_with(Check("third.queue", fail_in_one_line)), "third.queue")
    assert told.startswith("it could not be checked: option 'only': it is short -> mend what it names")


def test_an_adapter_that_fails_to_bring_its_checks_is_a_problem() -> None:
    def fail() -> list[Check]:
        raise RuntimeError("no")

    workers = Workers[AuditScope](adapter="third", plugins=[Plugin(fail)])
    assert "it could not be checked: RuntimeError" in broken(workers, "adapter.checks")


def test_a_sink_that_fails_to_bring_its_checks_is_a_problem() -> None:
    class Sink(UncheckedSink):
        def checks(self, workers: Workers[Any], /) -> list[Check]:
            raise RuntimeError("no")

    workers = workers_with(audit=Audit(Sink()))
    assert "it could not be checked: RuntimeError" in broken(workers, "audit.checks")
    assert "audit.checks" not in names(workers_with(audit=Audit(CheckedSink())))
    assert "adapter.checks" not in names(workers)


def test_a_check_is_not_run_where_the_one_that_it_needs_has_a_problem() -> None:
    runs: list[str] = []
    workers = workers_with(
        check("a.clock", "ok", needs="a.reachable", runs=runs),
        check("a.reachable", "problem", runs=runs),
        check("b.clock", "ok", needs="b.reachable", runs=runs),
        check("b.reachable", "warning", runs=runs),
        check("c.clock", "ok", needs="c.absent", runs=runs),
    )
    found = {one.check: one.finding.status for one in examine(workers, ["a", "b", "c"])}
    assert found == {
        "a.clock": "unknown",
        "a.reachable": "problem",
        "b.clock": "ok",
        "b.reachable": "warning",
        "c.clock": "ok",
    }
    assert sorted(runs) == ["a.reachable", "b.clock", "b.reachable", "c.clock"]
    assert broken(workers, "a.clock", "unknown").startswith(
        "a.reachable has a problem: this was not looked at"
    )


# -- which are run ---------------------------------------------------------------------------------------


def test_all_checks_are_run_unless_some_are_named() -> None:
    workers = workers_with(check("a.b", "ok"), check("a.c", "ok"), check("ab.c", "ok"))
    everything = names(workers)
    assert {"adapter.installed", "workers.implemented", "audit.sink", "a.b", "a.c", "ab.c"} <= {*everything}
    assert names(workers, "a") == ["a.b", "a.c"]
    assert names(workers, "a.c", "ab") == ["a.c", "ab.c"]


@pytest.mark.parametrize("name", ["", "b", "a.", "a.b.c", "adapter.install", "A"])
def test_a_name_that_is_no_checks_is_refused_with_those_that_there_are(name: str) -> None:
    workers = workers_with(check("a.b", "ok"))
    with pytest.raises(InvalidOptionError, match=r"there are a\.b, adapter\.claims, adapter\.installed"):
        names(workers, name)


# -- Redis -----------------------------------------------------------------------------------------------


class ResponseError(Exception):
    """As redis-py's is called."""


@dataclass
class Client:
    """Answers as a redis-py client does, as bytes or decoded."""

    settings: dict[Any, Any] = field(default_factory=dict[Any, Any])
    error: Exception | None = None
    skew: float = 0.0
    connection_pool: Any = field(
        default_factory=lambda: SimpleNamespace(connection_kwargs={"socket_timeout": 1.0})
    )

    def ping(self) -> None:
        if self.error is not None:
            raise self.error

    def config_get(self, name: str) -> dict[Any, Any]:
        if self.error is not None:
            raise self.error
        return {key: value for key, value in self.settings.items() if key in (name, name.encode())}

    def time(self) -> tuple[int, int]:
        now = time.time() + self.skew
        return int(now), int(now % 1 * 1_000_000)


def workers_on(client: Any) -> Workers[Any]:
    return workers_with(*redis_checks(lambda: client, PAGE))


def test_a_redis_that_answers_is_reachable_and_one_that_does_not_is_a_problem() -> None:
    assert sound(workers_on(Client()), "redis.reachable") == "Redis answers"
    told = broken(workers_on(Client(error=OSError("password=hunter2"))), "redis.reachable")
    assert "Redis does not answer (OSError" in told
    assert "hunter2" not in told


class Pool:
    """A connection pool of redis-py's shape."""

    def __init__(self, connection_class: type = object, **connection_kwargs: Any) -> None:
        self.connection_class, self.connection_kwargs = connection_class, connection_kwargs


class Pinged:
    """A client that notes with which time-outs it is asked."""

    seen: list[Any]

    def __init__(self, connection_pool: Pool) -> None:
        self.connection_pool = connection_pool

    def ping(self) -> None:
        Pinged.seen.append(self.connection_pool.connection_kwargs)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (
            {"host": "h", "retry": "often"},
            {"host": "h", "socket_timeout": 5.0, "socket_connect_timeout": 5.0, "retry": None},
        ),
        ({"socket_timeout": 60.0}, {"socket_timeout": 60.0}),
        ({"connection_pool": "a Sentinel's"}, {"connection_pool": "a Sentinel's"}),
    ],
)
def test_a_client_without_a_time_out_is_not_waited_for_without_end(
    options: dict[str, Any], asked: dict[str, Any]
) -> None:
    Pinged.seen = []
    assert look(workers_on(Pinged(Pool(**options))), "redis.reachable")
    assert Pinged.seen == [asked]


def test_a_client_without_a_time_out_is_found() -> None:
    Pinged.seen = []
    told = broken(workers_on(Pinged(Pool(socket_timeout=None))), "redis.reachable", "warning")
    assert told.endswith("enqueue waits without end -> Redis(..., socket_timeout=5)")
    assert sound(workers_on(Pinged(Pool(socket_timeout=5.0))), "redis.reachable") == "Redis answers"


@pytest.fixture
def pings_only() -> Iterator[int]:
    """The port of a Redis that answers PING and nothing else."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            while asked := self.request.recv(4096):
                said = b"+PONG\r\n" if b"PING" in asked else b"+OK\r\n" * asked.count(b"CLIENT")
                self.request.sendall(said)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_redis_that_answers_a_ping_alone_is_not_waited_for_without_end(
    pings_only: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigra_workers.checks.ROUND_TRIP", 0.2)
    with Redis(port=pings_only) as client:
        workers = workers_on(client)
        begun = time.monotonic()
        assert broken(workers, "redis.reachable", "warning")
        for name in ("redis.persistence", "redis.eviction", "redis.clock"):
            assert "it could not be checked: TimeoutError" in broken(workers, name)
        assert time.monotonic() - begun < 5
        assert client.connection_pool.connection_kwargs.get("socket_timeout") is None


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("only", "settings", "status", "said"),
    [
        ("persistence", {"appendonly": "no", "appendfsync": "always"}, "problem", "appendonly no"),
        ("persistence", {"appendonly": "yes", "appendfsync": "no"}, "warning", "half a minute"),
        ("persistence", {"appendonly": "yes", "appendfsync": "everysec"}, "warning", "the last second"),
        ("persistence", {"appendonly": "yes", "appendfsync": "always"}, "ok", "appendfsync always"),
        ("persistence", {}, "unknown", "Redis does not tell its appendonly"),
        ("eviction", {"maxmemory-policy": "allkeys-lru", "maxmemory": "1"}, "problem", "throws jobs away"),
        ("eviction", {"maxmemory-policy": "allkeys-lru", "maxmemory": "0"}, "warning", "once it has a"),
        ("eviction", {"maxmemory-policy": "allkeys-lru"}, "warning", "once it has a maxmemory"),
        ("eviction", {"maxmemory-policy": "noeviction", "maxmemory": "1"}, "ok", "noeviction"),
        ("eviction", {}, "unknown", "Redis does not tell its maxmemory-policy"),
    ],
)
def test_the_settings_of_redis_are_read(
    only: str, settings: dict[str, str], status: str, said: str, raw: bool
) -> None:
    told = {key.encode(): value.encode() for key, value in settings.items()} if raw else settings
    (found,) = look(workers_on(Client(told)), f"redis.{only}")
    assert found.status == status
    assert said in found.what


def test_a_redis_that_refuses_to_tell_its_settings_leaves_them_unknown() -> None:
    workers = workers_with(
        *[found for found in redis_checks(lambda: Client(error=ResponseError()), PAGE) if not found.needs],
        Check("redis.eviction", dict(_runs(Client(error=ResponseError())))["redis.eviction"]),
    )
    assert "does not tell its maxmemory-policy" in broken(workers, "redis.eviction", "unknown")


def test_a_redis_that_goes_away_meanwhile_is_a_problem() -> None:
    workers = workers_with(Check("redis.eviction", dict(_runs(Client(error=OSError())))["redis.eviction"]))
    assert "it could not be checked: OSError" in broken(workers, "redis.eviction")


def _runs(client: Client) -> list[tuple[str, Any]]:
    return [(found.name, found.run) for found in redis_checks(lambda: client, PAGE)]


@pytest.mark.parametrize(("skew", "way"), [(90.0, "ahead of"), (-90.0, "behind")])
def test_a_clock_that_differs_is_found(skew: float, way: str) -> None:
    assert sound(workers_on(Client()), "redis.clock")
    told = broken(workers_on(Client(skew=skew)), "redis.clock", "warning")
    assert re.search(rf"(90\.0|89\.9) s {way} this host's", told)


# -- worker processes ------------------------------------------------------------------------------------


def process(*queues: str, at: float = 0.0, clock: float = 0.0, **facts: Any) -> Process:
    return Process(at, clock, "web-1", 7, queues, facts)


def test_queues_are_consumed_by_the_processes_that_name_them() -> None:
    counts = by_queue([process("a", "b"), process("b")])
    assert counts == {"a": 1, "b": 2}
    assert [found.what for found in consumed(["a", "b"], counts, "run {}", PAGE)] == [
        "each queue is consumed by a live worker process (a by 1, b by 2)"
    ]
    (found,) = consumed(["a", "c"], counts, "run {}", PAGE)
    assert (found.status, found.mend) == ("problem", "run c")


def test_versions_of_processes_are_compared_with_those_here() -> None:
    here = versions("pluggy")
    assert [*here] == ["sigra-workers", "pluggy"]
    same, other = process(versions=here), process(versions={"pluggy": "0.1"})
    (found,) = same_versions([same], here, "run", PAGE)
    assert found.status == "ok"
    assert found.what.endswith("run what is installed here of sigra-workers, pluggy")
    (found,) = same_versions([same, other], here, "run", PAGE)
    assert found.what.startswith(f"process 7 on web-1 runs pluggy 0.1 (here {here['pluggy']}): ")
    assert [found.status for found in same_versions([], here, "run", PAGE)] == ["unknown"]


def test_clocks_of_processes_are_compared_with_that_of_the_server() -> None:
    assert [found.status for found in same_clocks([process(at=9, clock=9.5)], PAGE)] == ["ok"]
    assert [found.status for found in same_clocks([], PAGE)] == ["unknown"]
    (found,) = same_clocks([process(at=9, clock=12), process()], PAGE)
    assert found.what.startswith("the clock of process 7 on web-1 is 3.0 s ahead of that of Redis: ")


# -- the page --------------------------------------------------------------------------------------------


ROWS = re.findall(r"^\| `([a-z_.]+)` \| (.*) \| (.*) \| (.*) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)


def proven(helper: str) -> set[str]:
    """What tests give to that helper, by their source; where that is a variable, all texts of the test."""
    found = set[str]()
    for file in (Path(__file__), *ROOT.glob("adapters/*/tests/test_*_doctor.py")):
        for test in ast.iter_child_nodes(ast.parse(file.read_text())):
            calls = [node for node in ast.walk(test) if isinstance(node, ast.Call)]
            for call in calls:
                is_it = isinstance(call.func, ast.Name) and call.func.id == helper
                if is_it and "unknown" not in texts(call):
                    found |= texts(call.args[1]) or texts(test)
    return found


def texts(node: ast.AST) -> set[str]:
    constants = [found.value for found in ast.walk(node) if isinstance(found, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def test_each_check_has_a_set_up_that_it_finds_and_one_that_it_passes() -> None:
    found, passed = proven("broken"), proven("sound")
    assert [name for name, *_ in ROWS if name not in found] == []
    always = [name for name, what, *_ in ROWS if "shown only where not" not in what]
    assert [name for name in always if name not in passed] == []


def test_the_page_has_a_row_for_each_check_there_is_and_for_no_other() -> None:
    amqp = "amqp://127.0.0.1:1"
    rq, arq = RqAdapter({"url": REDIS}), ArqAdapter({"url": REDIS})
    brought = {
        "rq": rq.checks(Workers[AuditScope]()),
        "arq": arq.checks(Workers[AuditScope]()),
        "Dramatiq": [
            *DramatiqAdapter({"url": REDIS}).checks(Workers[AuditScope]()),
            *DramatiqAdapter({"url": amqp, "store": REDIS}).checks(Workers[AuditScope]()),
        ],
        "trail": AuditTrail(create_engine("sqlite://")).checks(Workers[AuditScope]()),
    }
    there = {found.name for some in brought.values() for found in some}
    there |= {*names(Workers[AuditScope]()), "adapter.checks", "audit.checks", "adapter.versions"}
    assert sorted(name for name, *_ in ROWS) == sorted(there)
    assert all(cell.strip() for row in ROWS for cell in row)
