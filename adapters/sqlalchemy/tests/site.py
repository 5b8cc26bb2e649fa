"""A host whose jobs audit to a database, with every kind of worker and engine."""

import asyncio
import contextlib
import re
import time
import traceback
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, NotRequired, TypeVar, cast

import pytest
from adapters.sqlalchemy.tests.proxy import Proxy
from adapters.sqlalchemy.tests.support import ASYNC, SYNC, Database, hasten
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool
from tests.support import Host, Kind, Mode

from sigra_workers import (
    AuditScope,
    Cancel,
    Delivery,
    Error,
    Ok,
    Outcome,
    Payload,
    Result,
    Snooze,
    TenantArgs,
    adispatch,
    dispatch,
    hookimpl,
    loops,
)
from sigra_workers_sqlalchemy import AuditTrail

T = TypeVar("T")
ACTION: Final = "account.closed"
MARK: Final = "velvet"
"""Part of every value of an event."""
KEYS: Final = TenantArgs(
    organization_id=f"organization {MARK}", actor_id=f"ann {MARK}", impersonating_from=f"admin {MARK}"
)
OVERDUE: Final = r"the database did not answer within [\d.]+ s, it may still be written"
REFUSED: Final = "refused at once, as the database does not answer"
CODE: Final = r"[A-Za-z]+( \w+)?"
"""The class of a driver's error, and its code."""
SECONDS: Final = 20.0
"""How long anything may take that a test waits for."""


DECISIONS: Final = {
    "ok": "complete",
    "error": "retry",
    "raise": "retry",
    "snooze": "snooze",
    "cancel": "cancel",
}
"""How jobs end, and what is decided then."""


class EndArgs(TenantArgs):
    """How the job ends, and the key of its event."""

    end: str
    key: NotRequired[str]


def end(args: EndArgs) -> Result[object]:
    """Do as the args say."""
    match args["end"]:
        case "raise":
            raise LookupError
        case "error":
            return Error("refused")
        case "snooze":
            return Snooze(5)
        case "cancel":
            return Cancel("gone")
        case _:
            return Ok(None)


class Case(NamedTuple):
    """How a job is dispatched, what its worker is, and the host's engine."""

    way: Literal["dispatch", "adispatch"]
    kind: Kind
    engine: Literal["sync", "async"]

    def __str__(self) -> str:
        return f"{self.way}, {self.kind}, {self.engine} engine"

    def driver(self, dialect: str) -> str:
        """That of the engine."""
        drivers = SYNC if self.engine == "sync" else ASYNC
        return drivers[["postgresql", "mariadb", "sqlite"].index(dialect)]


CASES: Final = [
    Case("dispatch", "def", "sync"),
    Case("adispatch", "def", "sync"),
    Case("dispatch", "async def", "sync"),
    Case("adispatch", "async def", "sync"),
    Case("dispatch", "async def", "async"),
    Case("adispatch", "async def", "async"),
]


def eventually(look: Callable[[], T], what: str, every: float = 0.02) -> T:
    """What `look` returns as soon as it is true; fails the test when it is not in time."""
    end = time.monotonic() + SECONDS
    while not (found := look()):
        if time.monotonic() > end:
            pytest.fail(f"waited {SECONDS:g} s for {what}, last saw {found!r}")
        time.sleep(every)
    return found


@dataclass
class Lost:
    """A plugin that is told of events that were not written."""

    told: list[tuple[str, tuple[str, ...], BaseException]] = field(
        default_factory=list[tuple[str, tuple[str, ...], BaseException]]
    )

    @hookimpl
    def sigra_audit_failed(self, action: str, fields: tuple[str, ...], exception: BaseException) -> None:
        self.told.append((action, fields, exception))


class Site(Host):
    """Workers that audit to a table, over an engine of the case's kind."""

    def __init__(
        self,
        case: Case,
        database: Database,
        proxy: Proxy | None = None,
        *,
        timeout: float,
        declares: bool,
        owning: bool,
        **options: Any,
    ) -> None:
        """`proxy` is the way to the server; `options` are the engine's, or a ``url``.

        With `owning` the engine is not the host's but the trail's own.
        """
        self.lost = Lost()
        super().__init__(Mode(case.way, case.kind), plugins=(self.lost,))
        self.case, self.database, self.proxy = case, database, proxy
        url: URL = options.pop("url", make_url(database.url))
        url = url if proxy is None else url.set(port=proxy.port)
        url = url.set(drivername=case.driver(database.kind))
        if owning:
            own = url.render_as_string(hide_password=False)
            self.trail = AuditTrail.at(own, database.table, timeout=timeout)
        else:
            create = create_async_engine if case.engine == "async" else create_engine
            self.trail = AuditTrail(create(url, **options), database.table, timeout=timeout)
        self.engine: Engine | AsyncEngine = self.trail.engine
        hasten(self.engine.sync_engine if isinstance(self.engine, AsyncEngine) else self.engine)
        self.took: list[float] = []
        """Seconds of each event."""
        self.ticked: list[int] = []
        """How often another task of the event loop had its turn meanwhile; there is one in `adispatch`."""
        self._ticks = 0
        self._runner = asyncio.Runner()
        if declares:
            self._declare()

    # -- jobs --------------------------------------------------------------------------------------------

    def _declare(self) -> None:
        """A worker that audits and then ends as its args say."""
        facts: Any = {"target_type": "account", "target_id": f"account {MARK}"}
        facts["metadata"] = {"note": MARK * 1_000}

        def perform(scope: AuditScope, args: EndArgs) -> Result[object]:
            with self._timed():
                self.audit.log_safe(ACTION, scope, **facts, event_key=args.get("key"))
            return end(args)

        async def aperform(scope: AuditScope, args: EndArgs) -> Result[object]:
            with self._timed():
                await self.audit.alog_safe(ACTION, scope, **facts, event_key=args.get("key"))
            return end(args)

        self.exact(perform if self.case.kind == "def" else aperform, EndArgs)

    @contextmanager
    def _timed(self) -> Generator[None]:
        begun, ticks = time.monotonic(), self._ticks
        yield
        self.took.append(time.monotonic() - begun)
        self.ticked.append(self._ticks - ticks)

    def job(self, ending: str = "ok", **more: Any) -> EndArgs:
        """Args of a job that ends like this."""
        return cast("EndArgs", {**KEYS, "end": ending, **more})

    def check_decisions(self, *endings: str) -> None:
        """Jobs that end like these decide as they do with a trail that is well."""
        begun = len(self.told.calls)
        for ending in endings:
            self.run(self.job(ending))
        told = [facts["decision"] for name, facts in self.told.calls[begun:] if name == "finished"]
        assert told == [DECISIONS[ending] for ending in endings]

    def check_well(self) -> None:
        """An event comes through, however busy this machine is."""
        told, calls = len(self.lost.told), self.trail._bounded
        seconds, calls._seconds = calls._seconds, SECONDS
        try:
            self.check_decisions("ok")
        finally:
            calls._seconds = seconds
        assert len(self.lost.told) == told

    def deliver(self, payload: object, crashes: int = 0, worker: str | None = None) -> Outcome:
        """Dispatch one delivery, its events to the database."""
        text = payload.dump() if isinstance(payload, Payload) else payload
        delivery = Delivery(text, crashes, worker, self.outside)
        with self.audit.using(self.trail):
            if self.case.way == "dispatch":
                return dispatch(self.workers, delivery)
            return self._runner.run(self._watched(delivery))

    async def _watched(self, delivery: Delivery) -> Outcome:
        ticker = asyncio.create_task(self._tick())
        try:
            return await adispatch(self.workers, delivery)
        finally:
            ticker.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self._ticks += 1

    def on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the event loop of the jobs."""
        return loops.run(coroutine) if self.case.way == "dispatch" else self._runner.run(coroutine)

    def close(self) -> None:
        """End what is stuck, and close the engine's connections."""
        if self.proxy is not None:
            self.proxy.close()
        eventually(self._is_idle, "the writes to end")
        if isinstance(self.engine, AsyncEngine):
            self.on_loop(self.engine.dispose())
        else:
            self.engine.dispose()
        self._runner.close()

    def _is_idle(self) -> bool:
        kill_writers(self.database)
        return not self.is_busy()

    def is_busy(self) -> bool:
        """Whether a write has not come to its end."""
        if isinstance(self.engine, AsyncEngine):
            self.on_loop(asyncio.sleep(0.01))
            return bool(self.trail._bounded._tasks)
        return cast("QueuePool", self.engine.pool).checkedout() > 0

    # -- what is told ------------------------------------------------------------------------------------

    def check_lost(self, caplog: pytest.LogCaptureFixture, reason: str, times: int) -> None:
        """So many events were lost, for that reason, and nobody is told what was in them."""
        lines = [record.getMessage() for record in caplog.records if record.name == "sigra_workers.audit"]
        assert len(lines) == len(self.lost.told) == times
        for line, (action, fields, exception) in zip(lines, self.lost.told, strict=True):
            assert re.fullmatch(f"audit event {ACTION} was not written: sink \\((?:{reason})\\)", line), line
            assert (action, fields) == (ACTION, ("sink",))
            told = "".join(traceback.format_exception(exception))
            assert MARK not in told + line
            url = self.engine.url
            for secret in filter(None, (url.password, url.host, url.port)):
                # As a word of its own: the name of a table, made of hex digits, may hold those of the port.
                assert re.search(rf"(?<!\w){re.escape(str(secret))}(?!\w)", told + line) is None, told


@contextmanager
def site(
    case: Case,
    database: Database,
    proxy: Proxy | None = None,
    *,
    timeout: float = SECONDS,
    declares: bool = True,
    owning: bool = False,
    **options: Any,
) -> Generator[Site]:
    """A host for a block; see `Site`."""
    found = Site(case, database, proxy, timeout=timeout, declares=declares, owning=owning, **options)
    try:
        yield found
    finally:
        found.close()


def kill_writers(database: Database) -> None:
    """End the sessions of the server that still do something with the table."""
    find = {
        "postgresql": "SELECT pid FROM pg_stat_activity WHERE query LIKE :name AND pid <> pg_backend_pid()",
        "mariadb": "SELECT id FROM information_schema.processlist"
        " WHERE info LIKE :name AND id <> connection_id()",
    }
    kill = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}
    if database.kind not in find:
        return
    with database.engine.connect() as connection:
        found = connection.execute(text(find[database.kind]), {"name": f"%{database.name}%"}).scalars().all()
        for number in found:
            with contextlib.suppress(Exception):  # it ended meanwhile
                connection.execute(text(kill[database.kind].format(int(number))))
