"""A trail in trouble: what a job decides stays as it is, what is lost is told, and nobody waits for long."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.sqlalchemy.tests.proxy import Proxy, proxy_to
from adapters.sqlalchemy.tests.site import (
    ACTION,
    CASES,
    CODE,
    DECISIONS,
    KEYS,
    OVERDUE,
    REFUSED,
    Case,
    EndArgs,
    Site,
    eventually,
    site,
)
from adapters.sqlalchemy.tests.support import ASYNC, SYNC, Database, database_for
from sqlalchemy import Engine, ExceptionContext, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session
from tests.support import again, completed

from sigra_workers import Audit, AuditError, AuditScope, Delivery, JobTimeoutError, Ok, Result, adispatch
from sigra_workers_sqlalchemy import AuditTrail, bounded

pytestmark = pytest.mark.integration
BOUND: Final = 0.4
"""Seconds that an event is waited for here."""
LATE: Final = 3 * BOUND + 2
"""Seconds that it may take on a busy machine."""
SERVERS: Final = tuple(driver for driver in SYNC if "sqlite" not in driver)
each_case = pytest.mark.parametrize("case", CASES, ids=str)
EACH_WAY: Final = [CASES[0], *CASES[3::2]]
"""Of writing an event: a sync engine, that in a thread, an async engine."""
each_way = pytest.mark.parametrize("case", EACH_WAY, ids=str)
each_engine = pytest.mark.parametrize("case", CASES[::5], ids=str)
on_loop = pytest.mark.parametrize("case", [case for case in CASES if case.way == "adispatch"], ids=str)
on_each = pytest.mark.parametrize("database", SYNC, indirect=True)
on_servers = pytest.mark.parametrize("database", SERVERS, indirect=True)
on_postgresql = pytest.mark.parametrize("database", SYNC[:1], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty audit table, each time anew: these tests break it."""
    with database_for(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    """A way to the server."""
    with proxy_to(database.engine.url.port or 0) as found:
        yield found


def run_sql(database: Database, *statements: str) -> None:
    """Run them; ``{table}`` is that of the events."""
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement.format(table=database.name)))


def sync_engine(on: Site) -> Engine:
    """The one that SQLAlchemy's events are told of."""
    return on.engine.sync_engine if isinstance(on.engine, AsyncEngine) else on.engine


# -- decisions -----------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def down(database: Database) -> dict[str, Any]:
    return {"url": make_url(database.url).set(port=free_port(), password="pa55word")}


def wrong_password(database: Database) -> dict[str, Any]:
    return {"url": make_url(database.url).set(password="pa55word")}


def broken(**statements: str) -> Callable[[Database], dict[str, Any]]:
    """A table that is not what it should be."""

    def break_it(database: Database) -> dict[str, Any]:
        run_sql(database, statements.get(database.kind) or statements["every"])
        return {}

    return break_it


TROUBLES: Final[dict[str, tuple[Callable[[Database], dict[str, Any]], tuple[str, ...]]]] = {
    "down": (down, SERVERS),
    "wrong password": (wrong_password, SERVERS[1:]),
    "no table": (broken(every="DROP TABLE {table}"), SYNC),
    "no column": (broken(every="ALTER TABLE {table} DROP COLUMN attempt"), SYNC),
    "narrow column": (
        broken(
            postgresql="ALTER TABLE {table} ALTER COLUMN action TYPE varchar(5)",
            mariadb="ALTER TABLE {table} MODIFY action varchar(5)",
        ),
        SERVERS,
    ),
    "wrong type": (
        broken(
            postgresql="ALTER TABLE {table} ALTER COLUMN organization_id TYPE integer USING 1",
            mariadb="ALTER TABLE {table} MODIFY organization_id integer",
        ),
        SERVERS,
    ),
    "value out of the question": (
        broken(
            postgresql="ALTER TABLE {table} ADD CHECK (actor_id = 'nobody')",
            mariadb="ALTER TABLE {table} ADD CHECK (actor_id = 'nobody')",
        ),
        SERVERS,
    ),
}
"""What is wrong, and with which databases."""


@each_engine
@pytest.mark.parametrize(
    ("database", "trouble"),
    [(driver, name) for name, (_, drivers) in TROUBLES.items() for driver in drivers],
    indirect=["database"],
)
def test_a_job_decides_as_ever_while_its_events_are_lost(
    case: Case, database: Database, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    with site(case, database, **TROUBLES[trouble][0](database)) as on:
        on.check_decisions(*DECISIONS)
        on.check_lost(caplog, CODE, len(DECISIONS))


@each_way
@pytest.mark.parametrize("database", SYNC[2:], indirect=True)
def test_a_job_decides_as_ever_while_the_disk_is_full(
    case: Case, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()

    def limit(connection: Any, _: object) -> None:
        connection.cursor().execute(f"PRAGMA max_page_count = {pages}")

    with site(case, database) as on:
        event.listen(sync_engine(on), "connect", limit)
        on.check_decisions(*DECISIONS)
        on.check_lost(caplog, "OperationalError SQLITE_FULL", len(DECISIONS))
    assert database.rows() == []


FULL: Final = {
    "postgresql": (
        """CREATE FUNCTION {table}_full() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE 'no space left' USING ERRCODE = '53100'; END$$""",
        "CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_full()",
    ),
    "mariadb": (
        """CREATE TRIGGER {table}_full BEFORE INSERT ON {table} FOR EACH ROW
        SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'the table is full'""",
    ),
}
"""What a server says that has no room; MariaDB's own 1114 is of a full table."""


@each_engine
@on_servers
def test_a_job_decides_as_ever_while_its_server_has_no_room(
    case: Case, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    run_sql(database, *FULL[database.kind])
    try:
        with site(case, database) as on:
            on.check_decisions(*DECISIONS)
            on.check_lost(caplog, r"DiskFull(Error)? 53100|OperationalError 1114", len(DECISIONS))
    finally:
        if database.kind == "postgresql":
            run_sql(database, "DROP FUNCTION {table}_full CASCADE")


@pytest.mark.parametrize("database", SYNC[:1], indirect=True)
def test_a_def_worker_with_an_async_engine_is_told_of_it_and_decides_as_ever(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with site(Case("dispatch", "def", "async"), database) as on:
        on.check_decisions(*DECISIONS)
        on.check_lost(caplog, "its engine is async: await alog or alog_safe", len(DECISIONS))


# -- a server that is slow -----------------------------------------------------------------------------

SLOW: Final = {
    "postgresql": (
        """CREATE FUNCTION {table}_slow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(10); RETURN NEW; END'""",
        "CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_slow()",
    ),
    "mariadb": (
        "CREATE TRIGGER {table}_slow BEFORE INSERT ON {table} FOR EACH ROW SET @{table} = SLEEP(10)",
    ),
}


@pytest.mark.slow
@each_way
@on_servers
def test_a_job_waits_no_longer_than_its_bound_where_an_insert_takes_10_s(
    case: Case, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    run_sql(database, *SLOW[database.kind])
    try:
        with site(case, database, timeout=BOUND) as on:
            on.check_decisions("error")
            on.check_lost(caplog, OVERDUE, 1)
            assert BOUND <= on.took[-1] < LATE
            assert case.way == "dispatch" or on.ticked[-1] > 3
    finally:
        if database.kind == "postgresql":
            run_sql(database, "DROP FUNCTION {table}_slow CASCADE")


@pytest.mark.slow
@each_way
@on_servers
def test_a_job_waits_no_longer_than_its_bound_for_a_server_that_is_frozen(
    case: Case, database: Database, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with site(case, database, proxy, timeout=BOUND) as on:
        on.check_well()
        proxy.freeze()
        on.check_decisions("error")
        on.check_lost(caplog, OVERDUE, 1)
        assert BOUND <= on.took[-1] < LATE
        assert case.way == "dispatch" or on.ticked[-1] > 3


QUICK: Final = 0.3
"""Seconds that an event is waited for where many are late."""
JOBS: Final = 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "case", "owning"),
    [
        *((SYNC[0], case, False) for case in EACH_WAY),
        (SYNC[0], CASES[-1], True),
        (SYNC[1], CASES[0], True),
    ],
    indirect=["database"],
    ids=str,
)
def test_many_jobs_are_not_held_up_by_a_frozen_server_and_audit_again_once_it_is_back(
    case: Case,
    database: Database,
    proxy: Proxy,
    owning: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded, "STUCK", 5)  # it is 8
    with site(case, database, proxy, timeout=QUICK, owning=owning) as on:
        on.check_well()
        proxy.freeze()
        on.check_decisions(*["ok"] * JOBS)
        assert bounded.STUCK <= sum(took >= QUICK for took in on.took[1:]) < JOBS / 2
        on.check_lost(caplog, f"{OVERDUE}|{REFUSED}|{CODE}", JOBS)
        if owning:
            monkeypatch.setattr(bounded, "AGAIN", QUICK)  # its driver gave up, and would not know before 10 s
        proxy.open()

        def is_back() -> bool:
            told = len(on.lost.told)
            on.check_decisions("ok")
            return len(on.lost.told) == told

        eventually(is_back, "an event to be written")


@pytest.mark.slow
@each_way
@on_postgresql
def test_a_server_in_the_place_of_one_that_is_gone_without_a_word_is_found(
    case: Case, database: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "AGAIN", 60)  # it is 10 s
    monkeypatch.setattr(bounded, "STUCK", 3)  # and 8
    with site(case, database, proxy, timeout=QUICK) as on:
        on.check_well()
        proxy.freeze()
        on.check_decisions(*["ok"] * bounded.STUCK)
        proxy.abandon()
        on.check_decisions("ok")
        assert len(on.lost.told) == bounded.STUCK + 1  # though there was an answer
        monkeypatch.setattr(bounded, "AGAIN", 0)
        for _ in range(3):
            on.check_well()
        assert len(database.rows()) == 4


@each_way
@on_servers
def test_events_are_lost_while_the_server_is_away_and_none_before_or_after(
    case: Case, database: Database, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with site(case, database, proxy) as on:
        on.check_well()
        proxy.close()
        on.check_decisions("ok", "error")
        proxy.open()
        on.check_well()
        on.check_lost(caplog, CODE, 2)
        assert len(database.rows()) == 2


@each_way
@on_servers
def test_no_event_is_lost_where_the_server_dropped_idle_connections(
    case: Case, database: Database, proxy: Proxy
) -> None:
    with site(case, database, proxy) as on:
        on.check_well()
        proxy.close()
        proxy.open()
        on.check_well()
        assert on.lost.told == []
        assert len(database.rows()) == 2


# -- locks ---------------------------------------------------------------------------------------------


WAITING: Final = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :name",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_trx"
    " WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE :name",
}
LOCK: Final = {
    "postgresql": "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    "mariadb": "SELECT * FROM {table} FOR UPDATE",
}


def waits(database: Database) -> bool:
    """Whether a write to the table waits for a lock."""
    with database.engine.connect() as connection:
        found = connection.execute(text(WAITING[database.kind]), {"name": f"INSERT%{database.name}%"})
        return bool(found.scalar_one())


@pytest.mark.slow
@each_engine
@on_servers
def test_an_event_that_is_the_victim_of_a_deadlock_is_written_after_it(
    case: Case, database: Database
) -> None:
    told: list[str] = []

    def tell(context: ExceptionContext) -> None:
        told.append(str(context.original_exception))

    audit = Audit(AuditTrail(database.engine, database.table))
    scope = {"active_organization": {"id": KEYS["organization_id"]}}
    with site(case, database) as on, database.engine.connect() as host, ThreadPoolExecutor() as threads:
        event.listen(sync_engine(on), "handle_error", tell)
        for key in ("same", *map(str, range(20))):  # MariaDB's victim is who wrote less
            audit.log(ACTION, scope, transaction=host, event_key=key)
        job = threads.submit(on.run, on.job(key="same"))
        # InnoDB answers with what it last said, unless it was not asked for 0.1 s.
        eventually(lambda: waits(database), "the event to wait for the host", every=0.15)
        host.execute(text(LOCK[database.kind].format(table=database.name)))  # which waits for the event
        host.rollback()
        completed(job.result())
        assert len(told) == 1
        assert "deadlock" in told[0].lower()
        assert on.lost.told == []
        (row,) = database.rows()
        assert row["job_id"] is not None


@pytest.mark.slow
@on_servers
def test_a_required_event_that_is_the_victim_of_a_deadlock_fails_its_run_and_the_next_writes_all_once(
    database: Database,
) -> None:
    organization = {"active_organization": {"id": KEYS["organization_id"]}}
    with (
        site(CASES[0], database, declares=False) as on,
        database.engine.connect() as other,
        ThreadPoolExecutor() as threads,
    ):
        audit = Audit(on.trail)

        def others(*keys: str) -> None:
            for key in keys:
                audit.log(ACTION, organization, transaction=other, event_key=key)

        def perform(scope: AuditScope, args: EndArgs) -> Result[object]:
            with Session(database.engine) as session, session.begin():
                on.audit.log(ACTION, scope, transaction=session, event_key="ours")
                if not waiting:
                    waiting.append(threads.submit(others, "ours"))
                    # InnoDB answers with what it last said, unless it was not asked for 0.1 s.
                    eventually(lambda: waits(database), "the other to wait for the job", every=0.15)
                on.audit.log(ACTION, scope, transaction=session, event_key="theirs")
            return Ok(None)

        waiting: list[Future[None]] = []
        if database.kind == "postgresql":  # whose victim is who looks first
            other.execute(text("SET LOCAL deadlock_timeout = '1min'"))
        others("theirs", *map(str, range(20)))  # MariaDB's is who wrote less
        on.exact(perform, EndArgs)
        due = again(on.run(on.job()))
        assert isinstance(on.told.calls[-1][1]["exception"], AuditError)
        waiting[0].result()
        other.rollback()
        assert database.rows() == []
        on.clock.now = due.due_at
        completed(on.deliver(due.payload))
        assert [row["attempt"] for row in database.rows()] == [2, 2]


@each_engine
@on_each
def test_an_event_that_waits_for_a_transaction_of_the_same_job_is_told_to_be_lost(
    case: Case, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with site(case, database, timeout=BOUND, declares=False) as on:

        def perform(scope: AuditScope, args: EndArgs) -> Result[object]:
            with Session(database.engine) as session, session.begin():
                on.audit.log(ACTION, scope, transaction=session, event_key="same")
                on.audit.log_safe(ACTION, scope, event_key="same")
            return Ok(None)

        async def aperform(scope: AuditScope, args: EndArgs) -> Result[object]:
            with Session(database.engine) as session, session.begin():
                on.audit.log(ACTION, scope, transaction=session, event_key="same")
                await on.audit.alog_safe(ACTION, scope, event_key="same")
            return Ok(None)

        on.exact(perform if case.kind == "def" else aperform, EndArgs)
        begun = time.monotonic()
        completed(on.run(on.job()))
        assert time.monotonic() - begun < LATE
        on.check_lost(caplog, OVERDUE, 1)
        eventually(lambda: not on.is_busy(), "the event to come through")
        assert len(database.rows()) == 1  # the one of the transaction


# -- jobs that end meanwhile ---------------------------------------------------------------------------


@each_case
@on_postgresql
def test_a_time_out_that_strikes_while_an_event_is_waited_for_ends_the_job_and_leaves_the_trail_usable(
    case: Case, database: Database, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with site(case, database, proxy, timeout=BOUND) as on:
        on.check_well()
        proxy.freeze()
        begun = time.monotonic()
        again(on.run(on.job(), timeout=BOUND / 2))
        assert time.monotonic() - begun < LATE
        assert isinstance(on.told.calls[-1][1]["exception"], JobTimeoutError)
        on.check_lost(caplog, "JobInterrupted|CancelledError", 1)
        proxy.open()
        on.check_well()


@on_loop
@on_postgresql
def test_a_job_that_is_cancelled_while_an_event_is_waited_for_ends_and_leaves_the_trail_usable(
    case: Case, database: Database, proxy: Proxy
) -> None:
    with site(case, database, proxy, timeout=BOUND) as on:
        on.check_well()
        proxy.freeze()
        payload = on.payload(on.job())

        async def cancel() -> float:
            with on.audit.using(on.trail):
                job = asyncio.create_task(adispatch(on.workers, Delivery(payload.dump())))
                await asyncio.sleep(BOUND / 2)
                begun = time.monotonic()
                job.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await job
                return time.monotonic() - begun

        assert on.on_loop(cancel()) < LATE
        assert len(on.lost.told) == 1
        proxy.open()
        on.check_well()


# -- the end of a process ------------------------------------------------------------------------------

PROCESS: Final = """
import asyncio, sys
from sqlalchemy import MetaData, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sigra_workers import Audit
from sigra_workers_sqlalchemy import AuditTrail, audit_events

url, table, is_async = sys.argv[1], audit_events(MetaData(), sys.argv[2]), "async" in sys.argv
engine = create_async_engine(url) if is_async else create_engine(url)
patient, audit = (Audit(AuditTrail(engine, table, timeout=seconds)) for seconds in (30, 0.5))

def say(what):
    print(what, flush=True)
    sys.stdin.readline()

def main():
    patient.log_safe("account.closed", None)
    say("ready")
    audit.log_safe("account.closed", None)
    audit.log_safe("account.closed", None)

async def amain():
    await patient.alog_safe("account.closed", None)
    say("ready")
    await audit.alog_safe("account.closed", None)
    await audit.alog_safe("account.closed", None)

asyncio.run(amain()) if is_async else main()
"""


def seconds_to_end(folder: Path, driver: str) -> float:
    """How long a process lives whose server freezes when it is about to write two more events."""
    with database_for(driver, folder) as database, proxy_to(database.engine.url.port or 0) as proxy:
        url = make_url(database.url).set(port=proxy.port).render_as_string(hide_password=False)
        arguments = [url, database.name, "async" if database.is_async else "sync"]
        with subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            proxy.freeze()
            begun = time.monotonic()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(timeout=30) == 0
            took = time.monotonic() - begun
        assert len(database.rows()) == 1
    return took


@pytest.mark.slow
def test_a_process_ends_while_its_events_are_stuck(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        took = threads.map(partial(seconds_to_end, tmp_path), [SYNC[0], *ASYNC[:2]])
        assert max(took) < 10  # and 1 s where there is nothing else to do
