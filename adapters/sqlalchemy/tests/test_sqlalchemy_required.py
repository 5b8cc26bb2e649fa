"""Audit in the transaction of a job's work: both are kept, once, or neither, however the runs end."""

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, cast

import pytest
from adapters.sqlalchemy.tests.support import DRIVERS, PATIENCE, Database, database_for, pragma
from sqlalchemy import Column, ForeignKey, String, Table, delete, insert, select, text
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from tests.support import Host, Mode, again, completed, dead

from sigra_workers import (
    AuditError,
    AuditEvent,
    AuditScope,
    Error,
    JobInfo,
    Ok,
    Outcome,
    Payload,
    Result,
    TenantArgs,
    current_job,
    loops,
    tenant_args,
)
from sigra_workers.memory import MemoryAdapter
from sigra_workers_sqlalchemy import AuditTrail

pytestmark = pytest.mark.integration
ACTION: Final = "account.closed"
MARK: Final = "velvet"
"""The account."""
Style = Literal["its own", "an around"]
"""Whose the session is: the worker's, or that of an around, which is a unit of work."""
Fault = Literal["", "raises", "returns an error", "commit fails", "refused", "raises later"]


class CloseArgs(TenantArgs):
    account: str
    faults: NotRequired[list[Fault]]
    """What goes wrong in each attempt: in the transaction behind the event, at its commit or after it."""


def closing(*faults: Fault, **keys: Any) -> CloseArgs:
    """Args of a job that closes an account."""
    given: Any = {"organization_id": "org-1", "actor_id": "ann", "account": MARK, "faults": [*faults]}
    return cast("CloseArgs", {**given, **keys})


class Late(Exception):
    """What goes wrong after the commit."""


def work_table(database: Database) -> Table:
    """The host's own table. What a closed account goes to has to be there in the end, when it commits."""
    names: list[Any] = [Column("account", String(64), primary_key=True)]
    after = ForeignKey(f"{database.name}_work.account", deferrable=True, initially="DEFERRED")
    keys = [] if database.kind == "mariadb" else [after]  # which knows no such thing
    return Table(f"{database.name}_work", database.metadata, *names, Column("after", String(64), *keys))


def with_foreign_keys(connection: Any, record: object) -> None:
    pragma(connection, "foreign_keys = ON")


class Accounts(Host):
    """A host that closes accounts; it is sync or async as its driver."""

    def __init__(self, database: Database, style: Style = "its own", **options: Any) -> None:
        super().__init__(Mode("dispatch", "async def" if database.is_async else "def"), **options)
        self.database, self.style = database, style
        self.work = database.metadata.tables[f"{database.name}_work"]
        self.engine: Any = database.new_engine()
        if database.kind == "sqlite":
            listen(getattr(self.engine, "sync_engine", self.engine), "connect", with_foreign_keys)
        self.trail = AuditTrail(self.engine, database.table, timeout=PATIENCE)
        self.session: ContextVar[Any] = ContextVar("session")
        if style == "an around":
            self.workers.around(self._aunit_of_work if database.is_async else self._unit_of_work)
        self.exact(self._aclose_account if database.is_async else self._close_account, CloseArgs)

    # -- sessions ----------------------------------------------------------------------------------------

    def _unit_of_work(self, job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
        with Session(self.engine) as session, session.begin():
            self.session.set(session)
            yield

    async def _aunit_of_work(self, job: JobInfo, scope: AuditScope, args: TenantArgs) -> AsyncGenerator[None]:
        async with AsyncSession(self.engine) as session, session.begin():
            self.session.set(session)
            yield

    # -- the worker --------------------------------------------------------------------------------------

    def _close_account(self, scope: AuditScope, args: CloseArgs) -> Result[object]:
        if self.style == "an around":
            return self._transact(self.session.get(), scope, args)
        with Session(self.engine) as session, session.begin():
            result = self._transact(session, scope, args)
        return self._later(args, result)

    async def _aclose_account(self, scope: AuditScope, args: CloseArgs) -> Result[object]:
        if self.style == "an around":
            return await self._atransact(self.session.get(), scope, args)
        async with AsyncSession(self.engine) as session, session.begin():
            result = await self._atransact(session, scope, args)
        return self._later(args, result)

    def _transact(self, session: Session, scope: object, args: CloseArgs) -> Result[object]:
        self._close(session, args)
        self.audit.log(ACTION, scope, transaction=session, **self._fields(args))
        return self._fail(session, args)

    async def _atransact(self, session: AsyncSession, scope: object, args: CloseArgs) -> Result[object]:
        await session.run_sync(self._close, args)
        await self.audit.alog(ACTION, scope, transaction=session, **self._fields(args))
        return await session.run_sync(self._fail, args)

    @staticmethod
    def _fault(args: CloseArgs) -> Fault:
        job = current_job()
        faults = args.get("faults", [])
        return faults[job.attempt - 1] if job and job.attempt <= len(faults) else ""

    def _fields(self, args: CloseArgs) -> Any:
        secret = {"password": "x"} if self._fault(args) == "refused" else {}
        return {"target_type": "account", "target_id": args["account"], "metadata": secret}

    def _close(self, session: Session, args: CloseArgs) -> None:
        """The work, which is done once however often it is done."""
        after = "nowhere" if self._fault(args) == "commit fails" and self.work.foreign_keys else None
        if session.execute(select(self.work).where(self.work.c.account == args["account"])).first() is None:
            session.execute(insert(self.work).values(account=args["account"], after=after))

    def _fail(self, session: Session, args: CloseArgs) -> Result[object]:
        match self._fault(args):
            case "raises":
                raise LookupError
            case "returns an error":
                return Error("refused")
            case "commit fails" if not self.work.foreign_keys:
                number = session.execute(text("SELECT connection_id()")).scalar_one()
                with self.database.engine.connect() as other:
                    other.execute(text(f"KILL {number}"))
            case _:
                pass
        return Ok(None)

    def _later(self, args: CloseArgs, result: Result[object]) -> Result[object]:
        if self._fault(args) == "raises later":
            raise Late
        return result

    # -- what tests do -----------------------------------------------------------------------------------

    def deliver(self, payload: Any, crashes: int = 0, worker: str | None = None) -> Outcome:
        """One delivery, its events to the database."""
        with self.audit.using(self.trail):
            return super().deliver(payload, crashes, worker)

    def close_account(self, *faults: Fault, **keys: Any) -> list[tuple[int, list[int | None]]]:
        """Run a job until it is done; what is `left` after each run."""
        outcome, left = self.run(closing(*faults, **keys)), [self.left()]
        while len(left) <= len(faults):
            due = again(outcome)
            self.clock.now = due.due_at
            outcome = self.deliver(due.payload)
            left.append(self.left())
        completed(outcome)
        return left

    def request(self, scope: object) -> None:
        """The same in a request, outside of a job."""
        if not self.database.is_async:
            with Session(self.engine) as session, session.begin():
                self._transact(session, scope, closing())
            return

        async def main() -> None:
            async with AsyncSession(self.engine) as session, session.begin():
                await self._atransact(session, scope, closing())

        loops.run(main())

    def errors(self) -> list[BaseException]:
        """What each run failed with, so far."""
        told = [facts["exception"] for name, facts in self.told.calls if name == "finished"]
        return [error for error in told if error is not None]

    def left(self) -> tuple[int, list[int | None]]:
        """How often the work is done, and the attempts that its events are of."""
        with self.database.engine.connect() as connection:
            done = len(connection.execute(select(self.work)).all())
        return done, [event.attempt for event in self.database.events]

    def dispose(self) -> None:
        """Close the connections."""
        if isinstance(self.engine, AsyncEngine):
            loops.run(self.engine.dispose())
        else:
            self.engine.dispose()


@contextmanager
def database_with_work(driver: str, folder: Path) -> Generator[Database]:
    """A database of the host's for a block."""
    with database_for(driver, folder) as found:
        work_table(found).create(found.engine)
        yield found


@contextmanager
def accounts_on(database: Database, style: Style = "its own", **options: Any) -> Generator[Accounts]:
    """A host for a block; `options` are those of its workers."""
    accounts = Accounts(database, style, **options)
    try:
        yield accounts
    finally:
        accounts.dispose()


@pytest.fixture(scope="module", params=DRIVERS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of the host's, with each driver."""
    with database_with_work(request.param, tmp_path_factory.mktemp("database")) as found:
        yield found


@pytest.fixture
def database(shared: Database) -> Database:
    """The same, empty."""
    with shared.engine.begin() as connection:
        connection.execute(delete(shared.table))
        connection.execute(delete(shared.metadata.tables[f"{shared.name}_work"]))
    return shared


@pytest.fixture(params=["its own", "an around"])
def accounts(request: pytest.FixtureRequest, database: Database) -> Iterator[Accounts]:
    """The host, its session the worker's own or an around's."""
    with accounts_on(database, request.param) as found:
        yield found


@pytest.fixture
def own(database: Database) -> Iterator[Accounts]:
    """The host whose workers have sessions of their own."""
    with accounts_on(database) as found:
        yield found


# -- jobs ----------------------------------------------------------------------------------------------


def test_a_commit_leaves_work_and_event(accounts: Accounts) -> None:
    assert accounts.close_account() == [(1, [1])]


def test_an_exception_behind_the_event_leaves_neither_and_the_next_attempt_both(accounts: Accounts) -> None:
    assert accounts.close_account("raises") == [(0, []), (1, [2])]


def test_a_commit_that_fails_leaves_neither_and_the_next_attempt_both(accounts: Accounts) -> None:
    assert accounts.close_account("commit fails") == [(0, []), (1, [2])]
    (error,) = accounts.errors()
    assert isinstance(error, SQLAlchemyError)


def test_an_event_that_is_refused_fails_the_run_and_takes_the_work_back(accounts: Accounts) -> None:
    assert accounts.close_account("refused") == [(0, []), (1, [2])]
    (error,) = accounts.errors()
    assert isinstance(error, AuditError)
    assert error.fields == ("metadata.password",)


def test_a_returned_error_leaves_both_and_the_retry_adds_nothing(accounts: Accounts) -> None:
    assert accounts.close_account("returns an error") == [(1, [1]), (1, [1])]


def test_a_run_that_fails_behind_its_commit_leaves_both_and_the_retry_adds_nothing(own: Accounts) -> None:
    assert own.close_account("raises later") == [(1, [1]), (1, [1])]


def test_many_attempts_that_fail_in_many_ways_leave_both_once(own: Accounts) -> None:
    assert own.close_account("raises", "commit fails", "raises later", "refused", "returns an error") == [
        (0, []),
        (0, []),
        (1, [3]),
        (1, [3]),
        (1, [3]),
        (1, [3]),
    ]


def test_a_job_that_is_delivered_again_leaves_both_once(accounts: Accounts) -> None:
    payload = accounts.payload(closing())
    for crashes in (0, 0, 1):
        completed(accounts.deliver(payload, crashes))
        assert accounts.left() == (1, [1])


@pytest.mark.parametrize("style", ["its own", "an around"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_table_that_is_missing_fails_the_run_and_takes_the_work_back(
    driver: str, style: Style, tmp_path: Path
) -> None:
    with database_with_work(driver, tmp_path) as database, accounts_on(database, style) as accounts:
        database.table.drop(database.engine)
        last = dead(accounts.run(closing(), max_attempts=1))
        assert isinstance(last.error, AuditError)
        assert "AuditError" in (last.traceback or "")
        assert MARK not in (last.traceback or "")
        database.table.create(database.engine)
        assert accounts.left() == (0, [])
        assert accounts.close_account() == [(1, [1])]


# -- without a transaction -----------------------------------------------------------------------------


def test_a_required_event_without_a_transaction_is_kept_though_its_run_fails(own: Accounts) -> None:
    payload = note(own, LookupError())
    assert own.left() == (0, [1])
    again(own.deliver(payload))
    assert own.left() == (0, [1])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_required_event_without_a_transaction_fails_the_run_where_its_table_is_missing(
    driver: str, tmp_path: Path
) -> None:
    with database_with_work(driver, tmp_path) as database, accounts_on(database) as own:
        database.table.drop(database.engine)
        note(own, None)
        (error,) = own.errors()
        assert isinstance(error, AuditError)


def note(own: Accounts, error: Exception | None) -> Payload:
    """Run a job that audits without a transaction and then fails with the error; it is to run again."""
    handle = own.workers.declare("accounts.note", TenantArgs)

    def perform(scope: AuditScope, args: TenantArgs) -> Result[object]:
        own.audit.log("account.noted", scope)
        if error:
            raise error
        return Ok(None)

    async def aperform(scope: AuditScope, args: TenantArgs) -> Result[object]:
        await own.audit.alog("account.noted", scope)
        if error:
            raise error
        return Ok(None)

    handle.implement(cast("Any", aperform if own.database.is_async else perform))
    due = again(own.deliver(handle.new(TenantArgs(organization_id=1, actor_id=2)).payload(own.clock())))
    own.clock.now = due.due_at
    return due.payload


# -- who, for whom, where ------------------------------------------------------------------------------


@dataclass
class Party:
    """A person or an organization of the host's."""

    id: str


@dataclass
class Request:
    """A request scope of the host's."""

    user: Party
    active_organization: Party
    impersonating_from: Party | None = None


def told(event: AuditEvent) -> tuple[object, ...]:
    return event.actor_id, event.actor_type, event.effective_user_id, event.organization_id


ANN: Final = Request(Party("ann"), Party("org-1"))
ADMIN_AS_ANN: Final = Request(Party("ann"), Party("org-1"), Party("admin"))


def test_a_request_leaves_work_and_event_or_neither(own: Accounts) -> None:
    with own.audit.using(own.trail):
        with pytest.raises(AuditError):
            own.request({"user": {"id": object()}})
        assert own.left() == (0, [])
        own.request(ANN)
    assert own.left() == (1, [None])
    (event,) = own.database.events
    assert told(event) == ("ann", "user", "ann", "org-1")
    assert (event.job_id, event.worker, event.queue) == (None, None, None)


def test_each_request_is_an_event_of_its_own(own: Accounts) -> None:
    with own.audit.using(own.trail):
        for _ in range(3):
            own.request(ANN)
    assert own.left() == (1, [None] * 3)


def test_who_impersonates_is_the_actor_in_the_request_and_in_the_job_it_enqueues(accounts: Accounts) -> None:
    with accounts.audit.using(accounts.trail):
        accounts.request(ADMIN_AS_ANN)
        ref = accounts.handle.enqueue(CloseArgs(**tenant_args(ADMIN_AS_ANN), account=MARK))
        assert MemoryAdapter.of(accounts.workers).drain() == {"complete": 1}
    request, job = accounts.database.events
    assert told(request) == told(job) == ("admin", "user", "ann", "org-1")
    assert (request.job_id, job.job_id) == (None, ref.id)


def test_a_job_of_nobody_names_the_system_as_its_workers_do(database: Database) -> None:
    with accounts_on(database, system_actor="scheduler") as accounts:
        accounts.close_account(actor_id=None)
        (event,) = database.events
        assert told(event) == ("scheduler", "system", None, "org-1")


def test_a_job_of_nobody_has_no_actor_where_the_system_has_no_name(own: Accounts) -> None:
    own.close_account(actor_id=None)
    (event,) = own.database.events
    assert told(event) == (None, "system", None, "org-1")
