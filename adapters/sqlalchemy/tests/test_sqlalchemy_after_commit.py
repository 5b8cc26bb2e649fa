"""Jobs sent after a commit: with it, once, in order; and never after anything else."""

import asyncio
import gc
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from adapters.sqlalchemy.tests.support import Database, open_engine, url_of
from sqlalchemy import Engine, String, UniqueConstraint, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, InvalidRequestError, ProgrammingError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    SessionTransaction,
    mapped_column,
    object_session,
    scoped_session,
    sessionmaker,
)

from sigra_workers import (
    Audit,
    AuditScope,
    DuplicateJobError,
    EnqueueError,
    InvalidArgsError,
    InvalidOptionError,
    Job,
    Outgoing,
    Receipt,
    Rejected,
    TenantArgs,
    Workers,
    hookimpl,
    tenant_args,
)
from sigra_workers.memory import MemoryAdapter
from sigra_workers_sqlalchemy import AuditTrail, enqueue_after_commit

Given: TypeAlias = Session | scoped_session[Session] | AsyncSession | async_scoped_session[AsyncSession]
Scenario: TypeAlias = Callable[[Session, Given], None]
"""What a test does: with the plain session, and with what a host would hand to `enqueue_after_commit`."""
Run: TypeAlias = Callable[[Scenario], None]

POSTGRES: Final = "postgresql+psycopg"
ASYNCPG: Final = "postgresql+asyncpg"


class Base(DeclarativeBase):
    """The host's models."""


class Note(Base):
    """What a transaction writes."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")


class Once(Base):
    """A table whose commit fails where a text is there twice; PostgreSQL alone checks so late."""

    __tablename__ = f"once_{uuid.uuid4().hex[:10]}"
    __table_args__ = (UniqueConstraint("text", deferrable=True, initially="DEFERRED"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20))


class NumberArgs(TenantArgs):
    n: int


class Queue(MemoryAdapter):
    """A real queue that notes what is sent together, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[int]] = []
        self.ways: list[str] = []
        self.down = False

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        return self._note("send", jobs)

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        await asyncio.sleep(0)
        return self._note("asend", jobs)

    def _note(self, way: str, jobs: Sequence[Outgoing]) -> list[Receipt]:
        if self.down:
            return [Rejected(ConnectionError()) for _ in jobs]
        self.ways.append(way)
        self.sent.append([sent.payload.args["n"] for sent in jobs])
        return super().send(jobs)


class Host:
    """An application with one worker, and a plugin that gives it its queue."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.workers = Workers[AuditScope](plugins=[self])
        self.handle = self.workers.declare("numbers.note", NumberArgs)

    @hookimpl
    def sigra_adapter(self, name: str, settings: Mapping[str, Any]) -> MemoryAdapter:
        return self.queue

    def job(self, n: int = 0, **options: Any) -> Job[NumberArgs]:
        keys = tenant_args(organization_id="org-1", actor_id="ann")
        return self.handle.new(NumberArgs(**keys, n=n), **options)

    @property
    def sent(self) -> list[list[int]]:
        """The numbers of the jobs that were sent, a list for each send."""
        return self.queue.sent


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Base.metadata.create_all(engine, tables=[Base.metadata.tables["notes"]])
    yield engine
    engine.dispose()


@pytest.fixture(params=["Session", "scoped_session", "AsyncSession", "async_scoped_session"])
def run(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Run:
    """Runs a scenario with each kind of session, which is closed at the end."""

    def run_sync(scenario: Scenario) -> None:
        if request.param == "Session":
            with Session(engine) as session:
                scenario(session, session)
        else:
            scoped = scoped_session(sessionmaker(engine))
            scenario(scoped(), scoped)
            scoped.remove()

    async def run_async(scenario: Scenario) -> None:
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        factory = async_sessionmaker(async_engine)
        try:
            if request.param == "AsyncSession":
                async with factory() as session:
                    await session.run_sync(lambda plain: scenario(plain, session))
            else:
                scoped = async_scoped_session(factory, scopefunc=asyncio.current_task)
                await scoped().run_sync(lambda plain: scenario(plain, scoped))
                await scoped.remove()
        finally:
            await async_engine.dispose()

    if "async" in request.param.lower():
        return lambda scenario: asyncio.run(run_async(scenario))
    return run_sync


def notes(engine: Engine) -> int:
    """How many are committed."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(Note)).scalar_one()


# -- with the commit -----------------------------------------------------------------------------------


def test_a_job_is_sent_by_the_commit_and_not_before(host: Host, engine: Engine, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        session.add(Note())
        enqueue_after_commit(host.job(7), given)
        session.flush()
        assert host.sent == []
        session.commit()
        assert host.sent == [[7]]

    run(scenario)
    assert notes(engine) == 1
    assert host.sent == [[7]]


def test_when_a_job_is_sent_the_data_is_there_for_others_to_see(host: Host, engine: Engine) -> None:
    seen: list[int] = []

    class Watcher:
        @hookimpl
        def sigra_enqueued(self) -> None:
            seen.append(notes(engine))

    host.workers.plugins.add(Watcher())
    with Session(engine) as session:
        session.add(Note())
        enqueue_after_commit(host.job(), session)
        session.commit()
    assert seen == [1]


def test_the_jobs_of_a_transaction_are_sent_together_and_in_order(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), given)
        enqueue_after_commit([host.job(2), host.job(3)], given)
        enqueue_after_commit((host.job(n) for n in (4, 5)), given)
        session.commit()

    run(scenario)
    assert host.sent == [[1, 2, 3, 4, 5]]


def test_each_transaction_of_a_session_sends_its_own_jobs_once(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        for n in (1, 2, 3):
            enqueue_after_commit(host.job(n), given)
            if n == 2:
                session.rollback()
            else:
                session.commit()
        session.add(Note())
        session.commit()
        session.commit()

    run(scenario)
    assert host.sent == [[1], [3]]


def test_the_jobs_of_two_sessions_are_their_own(host: Host, engine: Engine) -> None:
    with Session(engine) as one, Session(engine) as two:
        enqueue_after_commit(host.job(1), one)
        enqueue_after_commit(host.job(2), two)
        two.commit()
        assert host.sent == [[2]]
        one.commit()
        assert host.sent == [[2], [1]]


def test_a_block_that_begins_a_transaction_sends_at_its_end(host: Host, engine: Engine) -> None:
    with sessionmaker(engine).begin() as session:
        enqueue_after_commit(host.job(1), session)
    with Session(engine) as session, session.begin():
        enqueue_after_commit(host.job(2), session)
        assert host.sent == [[1]]
    with Session(engine, autobegin=False) as session, session.begin():
        enqueue_after_commit(host.job(3), session)
    assert host.sent == [[1], [2], [3]]


def test_an_event_of_a_flush_may_ask_for_a_job(host: Host, engine: Engine) -> None:
    def inserted(mapper: object, connection: object, note: Note) -> None:
        session = object_session(note)
        assert session is not None
        enqueue_after_commit(host.job(note.id), session)

    event.listen(Note, "after_insert", inserted)
    try:
        with Session(engine) as session:
            session.add_all([Note(), Note()])
            session.commit()
            session.add(Note())
            session.flush()
            session.rollback()
    finally:
        event.remove(Note, "after_insert", inserted)
    assert host.sent == [[1, 2]]


def test_a_job_for_a_savepoint_inside_of_a_flush_waits_for_the_commit(host: Host, engine: Engine) -> None:
    def flushed(session: Session, context: object) -> None:
        with session.begin_nested():
            enqueue_after_commit(host.job(1), session)

    with Session(engine) as session:
        event.listen(session, "after_flush", flushed)
        session.add(Note())
        session.flush()
        assert host.sent == []
        session.commit()
    assert host.sent == [[1]]


def test_no_jobs_are_no_reason_to_begin_a_transaction(host: Host, engine: Engine) -> None:
    with Session(engine) as session:
        enqueue_after_commit([], session)
        assert not session.in_transaction()


# -- before a transaction has begun --------------------------------------------------------------------


def test_a_job_begins_a_transaction_where_there_is_none(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), given)
        assert session.in_transaction()
        with pytest.raises(InvalidRequestError, match="already begun"):
            session.begin()  # as after session.add
        session.add(Note())
        session.commit()

    run(scenario)
    assert host.sent == [[1]]


@pytest.mark.parametrize("end", [Session.rollback, Session.close, Session.invalidate])
def test_a_job_that_came_before_any_statement_is_forgotten_like_others(
    host: Host, run: Run, end: Callable[[Session], None]
) -> None:
    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), given)
        end(session)
        session.add(Note())
        session.commit()

    run(scenario)
    assert host.sent == []


# -- not committed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Session.rollback, Session.close, Session.invalidate])
def test_nothing_is_sent_without_a_commit(host: Host, run: Run, end: Callable[[Session], None]) -> None:
    def scenario(session: Session, given: Given) -> None:
        session.add(Note())
        session.flush()
        enqueue_after_commit(host.job(1), given)
        end(session)
        session.commit()

    run(scenario)
    assert host.sent == []


def test_nothing_is_sent_by_a_session_that_is_left_open(host: Host, run: Run) -> None:
    run(lambda session, given: enqueue_after_commit(host.job(1), given))
    assert host.sent == []


def test_nothing_is_sent_where_a_block_raises(host: Host, engine: Engine) -> None:
    def work(session: Session) -> None:
        enqueue_after_commit(host.job(1), session)
        raise ZeroDivisionError

    factory = sessionmaker(engine)
    with pytest.raises(ZeroDivisionError), factory.begin() as session:
        work(session)
    with pytest.raises(ZeroDivisionError), factory() as session, session.begin():
        work(session)
    assert host.sent == []


def test_nothing_is_sent_where_the_flush_of_a_commit_fails(host: Host, engine: Engine, run: Run) -> None:
    with Session(engine) as session, session.begin():
        session.add(Note(id=1))

    def scenario(session: Session, given: Given) -> None:
        session.add_all([Note(id=1), Note(id=2)])
        enqueue_after_commit(host.job(1), given)
        with pytest.raises(IntegrityError):
            session.commit()
        enqueue_after_commit(host.job(2), given)  # still the failed one
        session.rollback()
        enqueue_after_commit(host.job(3), given)
        session.commit()

    run(scenario)
    assert host.sent == [[3]]
    assert notes(engine) == 1


@pytest.fixture
def once(tmp_path: Path) -> Iterator[None]:
    """The table whose commits may fail, on PostgreSQL."""
    engine = open_engine(url_of(POSTGRES, tmp_path))
    table = Base.metadata.tables[Once.__tablename__]
    table.create(engine)
    yield
    table.drop(engine)
    engine.dispose()


@pytest.mark.integration
@pytest.mark.usefixtures("once")
def test_nothing_is_sent_where_the_database_refuses_the_commit(host: Host, tmp_path: Path) -> None:
    engine = open_engine(url_of(POSTGRES, tmp_path))
    with Session(engine) as session:
        session.add_all([Once(text="a"), Once(text="a")])
        enqueue_after_commit(host.job(1), session)
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        session.add(Once(text="a"))
        enqueue_after_commit(host.job(2), session)
        session.commit()
    engine.dispose()
    assert host.sent == [[2]]


@pytest.mark.integration
@pytest.mark.usefixtures("once")
def test_nothing_is_sent_where_the_transaction_failed_and_is_committed_all_the_same(
    host: Host, tmp_path: Path
) -> None:
    engine = open_engine(url_of(POSTGRES, tmp_path))
    with Session(engine) as session:
        enqueue_after_commit(host.job(1), session)
        with pytest.raises(ProgrammingError):
            session.execute(text("SELECT nothing"))
        with pytest.raises(InternalError):
            session.commit()
        session.rollback()
        enqueue_after_commit(host.job(2), session)
        session.commit()
    engine.dispose()
    assert host.sent == [[2]]


@pytest.mark.integration
@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("others_too", [False, True])
@pytest.mark.parametrize("by", ["today", "SQLAlchemy 2.0"])
def test_nothing_is_sent_where_it_failed_in_one_of_the_sessions_databases(
    host: Host, engine: Engine, tmp_path: Path, others_too: bool, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by != "today":
        monkeypatch.delattr(SessionTransaction, "connections", raising=False)
    postgres = open_engine(url_of(POSTGRES, tmp_path))
    with Session(engine if others_too else None, binds={Once: postgres, Note: engine}) as session:
        session.execute(select(Once))
        session.execute(select(Note))
        enqueue_after_commit(host.job(1), session)
        with pytest.raises(ProgrammingError):
            session.execute(text("SELECT nothing"), bind_arguments={"mapper": Once})
        with pytest.raises(InternalError):
            session.commit()
        session.rollback()
        session.add_all([Once(text="a"), Note()])
        enqueue_after_commit(host.job(2), session)
        session.commit()
    postgres.dispose()
    assert host.sent == [[2]]
    assert notes(engine) == 1


@pytest.mark.integration
def test_nothing_is_sent_where_a_failed_async_transaction_is_committed(host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = create_async_engine(url_of(ASYNCPG, tmp_path))
        async with AsyncSession(engine) as session:
            enqueue_after_commit(host.job(1), session)
            with pytest.raises(ProgrammingError):
                await session.execute(text("SELECT nothing"))
            with pytest.raises(DBAPIError):
                await session.commit()
        await engine.dispose()

    asyncio.run(scenario())
    assert host.sent == []


@pytest.mark.integration
@pytest.mark.usefixtures("once")
def test_nothing_is_sent_where_the_database_refuses_an_async_commit(host: Host, tmp_path: Path) -> None:
    async def work(session: AsyncSession, n: int, *texts: str) -> None:
        async with session.begin():
            session.add_all(Once(text=text) for text in texts)
            enqueue_after_commit(host.job(n), session)

    async def scenario() -> None:
        engine = create_async_engine(url_of(ASYNCPG, tmp_path))
        async with AsyncSession(engine) as session:
            with pytest.raises(IntegrityError):
                await work(session, 1, "a", "a")
            await work(session, 2, "a")
        await engine.dispose()

    asyncio.run(scenario())
    assert host.sent == [[2]]


# -- savepoints ----------------------------------------------------------------------------------------


def test_the_jobs_of_a_released_savepoint_wait_for_the_commit(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), given)
        with session.begin_nested():
            enqueue_after_commit(host.job(2), given)
        enqueue_after_commit(host.job(3), given)
        assert host.sent == []
        session.commit()

    run(scenario)
    assert host.sent == [[1, 2, 3]]


def test_a_savepoint_that_is_rolled_back_takes_its_own_jobs_along(host: Host, run: Run) -> None:
    def fail(given: Given) -> None:
        enqueue_after_commit(host.job(4), given)
        raise ZeroDivisionError

    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), given)
        savepoint = session.begin_nested()
        enqueue_after_commit(host.job(2), given)
        savepoint.rollback()
        enqueue_after_commit(host.job(3), given)
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            fail(given)
        session.commit()

    run(scenario)
    assert host.sent == [[1, 3]]


def test_a_job_for_a_savepoint_that_begins_the_transaction_waits_for_the_commit(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        with session.begin_nested():
            enqueue_after_commit(host.job(1), given)
        assert host.sent == []
        session.commit()

    run(scenario)
    assert host.sent == [[1]]


@pytest.mark.parametrize(
    ("inner_ends", "outer_ends", "sent"),
    [
        ("commit", "commit", [1, 2, 3, 4, 5]),
        ("rollback", "commit", [1, 2, 4, 5]),
        ("commit", "rollback", [1, 5]),  # released, and then rolled back to further out
        ("rollback", "rollback", [1, 5]),
    ],
)
def test_savepoints_two_deep_keep_what_is_kept(
    host: Host, run: Run, inner_ends: str, outer_ends: str, sent: list[int]
) -> None:
    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), given)
        outer = session.begin_nested()
        enqueue_after_commit(host.job(2), given)
        inner = session.begin_nested()
        enqueue_after_commit(host.job(3), given)
        getattr(inner, inner_ends)()
        enqueue_after_commit(host.job(4), given)
        getattr(outer, outer_ends)()
        enqueue_after_commit(host.job(5), given)
        session.commit()

    run(scenario)
    assert host.sent == [sent]


def test_a_commit_ends_the_savepoints_that_are_open(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        session.begin_nested()
        enqueue_after_commit(host.job(1), given)
        session.begin_nested()
        enqueue_after_commit(host.job(2), given)
        session.commit()

    run(scenario)
    assert host.sent == [[1, 2]]


def test_a_rollback_of_all_forgets_the_jobs_of_savepoints_too(host: Host, run: Run) -> None:
    def scenario(session: Session, given: Given) -> None:
        with session.begin_nested():
            enqueue_after_commit(host.job(1), given)
        session.begin_nested()
        enqueue_after_commit(host.job(2), given)
        session.rollback()
        session.commit()

    run(scenario)
    assert host.sent == []


# -- the queue refuses ---------------------------------------------------------------------------------


def test_what_the_queue_refuses_comes_out_of_the_commit_and_the_data_stays(
    host: Host, engine: Engine, run: Run
) -> None:
    host.workers.enqueue(host.job(0, job_id="taken"))

    def scenario(session: Session, given: Given) -> None:
        session.add(Note())
        enqueue_after_commit([host.job(1), host.job(2, job_id="taken")], given)
        with pytest.raises(DuplicateJobError) as caught:
            session.commit()
        assert caught.value.duplicates == ("taken",)
        assert len(caught.value.accepted) == 1
        assert not session.in_transaction()
        assert session.scalars(select(Note)).one().id == 1
        session.add(Note())
        enqueue_after_commit(host.job(3), given)
        session.commit()

    run(scenario)
    assert notes(engine) == 2
    assert host.sent[1:] == [[1, 2], [3]]
    assert [payload.args["n"] for payload in host.queue.payloads] == [0, 1, 3]


def test_a_job_that_waits_already_is_refused_and_the_others_are_sent(host: Host, run: Run) -> None:
    job = host.job(1)

    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(job, given)
        with pytest.raises(InvalidOptionError, match="waits already"):
            enqueue_after_commit([host.job(2), job], given)
        session.commit()

    run(scenario)
    assert host.sent == [[1]]


def test_a_job_whose_id_is_there_may_be_left_out(host: Host, run: Run) -> None:
    host.workers.enqueue(host.job(0, job_id="taken"))

    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1, job_id="taken"), given, on_duplicate="skip")
        enqueue_after_commit(host.job(2), given)
        session.commit()

    run(scenario)
    assert [payload.args["n"] for payload in host.queue.payloads] == [0, 2]


def test_what_the_queue_refuses_comes_out_of_a_block_with_the_data_committed(
    host: Host, engine: Engine
) -> None:
    def work(session: Session, n: int) -> None:
        session.add(Note())
        enqueue_after_commit(host.job(n), session)

    host.queue.down = True
    with pytest.raises(EnqueueError) as caught, sessionmaker(engine).begin() as session:
        work(session, 1)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert notes(engine) == 1
    with Session(engine) as session:
        with pytest.raises(EnqueueError), session.begin():
            work(session, 2)
        host.queue.down = False
        with session.begin():
            work(session, 3)
    assert host.sent == [[3]]
    assert notes(engine) == 3


def test_an_async_block_raises_what_the_queue_refuses_with_the_data_committed(
    host: Host, engine: Engine, tmp_path: Path
) -> None:
    async def work(session: AsyncSession, n: int) -> None:
        async with session.begin():
            session.add(Note())
            enqueue_after_commit(host.job(n), session)

    async def scenario() -> None:
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        host.queue.down = True
        async with AsyncSession(async_engine) as session:
            with pytest.raises(EnqueueError):
                await work(session, 1)
            host.queue.down = False
            await work(session, 2)
        await async_engine.dispose()

    asyncio.run(scenario())
    assert host.sent == [[2]]
    assert notes(engine) == 2


# -- async ---------------------------------------------------------------------------------------------


def test_the_methods_of_an_async_session_send_and_forget_alike(
    host: Host, engine: Engine, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        factory = async_sessionmaker(async_engine)
        async with factory() as session:
            session.add(Note())
            enqueue_after_commit(host.job(1), session)
            await session.commit()
            enqueue_after_commit(host.job(2), session)
            await session.rollback()
            enqueue_after_commit(host.job(3), session)
            async with session.begin_nested():
                enqueue_after_commit(host.job(4), session)
            savepoint = await session.begin_nested()
            enqueue_after_commit(host.job(5), session)
            await savepoint.rollback()
            await session.commit()
            enqueue_after_commit(host.job(6), session)
            await session.close()
            await session.commit()
        async with factory.begin() as session:
            enqueue_after_commit(host.job(7), session)
        async with factory() as session:
            enqueue_after_commit(host.job(8), session)
        await async_engine.dispose()

    asyncio.run(scenario())
    assert host.sent == [[1], [3, 4], [7]]


def test_async_code_sends_without_blocking_its_loop_and_sync_code_without_a_loop(
    host: Host, run: Run, request: pytest.FixtureRequest
) -> None:
    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit(host.job(1), session)  # the plain one, as run_sync hands it to a function
        enqueue_after_commit(host.job(2), given)
        session.commit()

    run(scenario)
    is_async = "async" in request.node.callspec.params["run"].lower()
    assert host.queue.ways == ["asend" if is_async else "send"]


def test_other_tasks_go_on_while_an_async_commit_sends(engine: Engine, tmp_path: Path) -> None:
    class Waiting(Queue):
        async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
            sending.set()
            await asyncio.wait_for(answered.wait(), 10)
            return await super().asend(jobs)

    host = Host()
    host.queue = Waiting()
    sending, answered = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        await sending.wait()
        assert notes(engine) == 1
        answered.set()

    async def scenario() -> None:
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
        answering = asyncio.create_task(answer())
        async with AsyncSession(async_engine) as session:
            session.add(Note())
            enqueue_after_commit(host.job(1), session)
            await session.commit()
        await answering
        await async_engine.dispose()

    asyncio.run(scenario())
    assert host.sent == [[1]]


# -- several Workers objects ---------------------------------------------------------------------------


def test_each_job_is_sent_by_the_workers_that_made_it(host: Host, run: Run) -> None:
    other = Host()

    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit([host.job(1), other.job(2), host.job(3)], given)
        session.commit()

    run(scenario)
    assert (host.sent, other.sent) == ([[1, 3]], [[2]])


def test_a_queue_that_refuses_keeps_nothing_from_another(host: Host, run: Run) -> None:
    other = Host()
    host.queue.down = True

    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit([host.job(1), other.job(2)], given)
        with pytest.raises(EnqueueError):
            session.commit()

    run(scenario)
    assert (host.sent, other.sent) == ([], [[2]])


def test_what_two_queues_refuse_comes_as_a_group(host: Host, run: Run) -> None:
    other = Host()
    host.queue.down = other.queue.down = True

    def scenario(session: Session, given: Given) -> None:
        enqueue_after_commit([host.job(1), other.job(2)], given)
        with pytest.raises(ExceptionGroup) as caught:
            session.commit()
        assert [type(error) for error in caught.value.exceptions] == [EnqueueError, EnqueueError]
        assert not session.in_transaction()

    run(scenario)


# -- what is refused -----------------------------------------------------------------------------------


def test_a_job_that_was_pickled_is_refused_and_none_of_its_list_is_sent(host: Host, run: Run) -> None:
    pickled = pickle.loads(pickle.dumps(host.job(2)))

    def scenario(session: Session, given: Given) -> None:
        with pytest.raises(InvalidOptionError, match=f"job {pickled.id!r} was pickled") as caught:
            enqueue_after_commit([host.job(1), pickled], given)
        assert caught.value.option == "job"
        session.commit()

    run(scenario)
    assert host.sent == []


@pytest.mark.parametrize("wrong", [{"n": 1}, "job", [None]])
def test_what_is_no_job_is_refused_at_once(engine: Engine, wrong: Any) -> None:
    with Session(engine) as session, pytest.raises(InvalidArgsError, match="expected a Job"):
        enqueue_after_commit(wrong, session)


def test_what_is_no_session_is_refused_at_once(host: Host, engine: Engine) -> None:
    with engine.connect() as connection:
        wrong: Any
        for wrong in (connection, sessionmaker(engine), None):
            with pytest.raises(InvalidOptionError, match="expected a Session or AsyncSession") as caught:
                enqueue_after_commit(host.job(), wrong)
            assert caught.value.option == "session"


# -- others' transactions, threads, memory ---------------------------------------------------------------


def test_a_session_in_a_transaction_of_its_connection_sends_with_its_own_commit(
    host: Host, engine: Engine
) -> None:
    with engine.connect() as connection, connection.begin() as transaction:
        with Session(connection) as session:
            session.add(Note())
            enqueue_after_commit(host.job(1), session)
            session.commit()  # commits nothing: the connection's owner does
        assert host.sent == [[1]]
        transaction.rollback()
    assert notes(engine) == 0


def test_two_threads_with_a_session_each_send_their_own_jobs(host: Host, engine: Engine) -> None:
    together = threading.Barrier(2, timeout=10)

    def work(first: int) -> None:
        scoped.remove()
        for n in range(first, first + 20):
            enqueue_after_commit(host.job(n), scoped)
            together.wait()
            (scoped.rollback if n % 2 else scoped.commit)()
        scoped.remove()

    scoped = scoped_session(sessionmaker(engine))
    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [n for (n,) in host.sent]
    assert [n for n in found if n < 100] == [*range(0, 20, 2)]
    assert [n for n in found if n >= 100] == [*range(100, 120, 2)]


def alive(kind: type) -> int:
    """How many objects of a type there are."""
    gc.collect()
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


def test_a_session_keeps_nothing_of_a_thousand_transactions(host: Host) -> None:
    def two_transactions(session: Session, n: int) -> None:
        job = host.job(n)
        with session.begin(), session.begin_nested():
            enqueue_after_commit(job, session)
        enqueue_after_commit(job, session)
        session.rollback()

    engine = create_engine("sqlite://")
    with Session(engine) as session:
        before, jobs = alive(SessionTransaction), alive(Job)
        for n in range(500):
            two_transactions(session, n)
        assert alive(SessionTransaction) <= before
        assert alive(Job) <= jobs
        assert len(session.info) == 1
    assert len(host.sent) == 500
    engine.dispose()


def test_nothing_is_kept_of_sessions_that_are_gone(host: Host, engine: Engine) -> None:
    def one_session(n: int) -> None:
        with Session(engine) as session:
            enqueue_after_commit(host.job(n), session)
            session.commit()

    before = alive(Session)
    for n in range(100):
        one_session(n)
    assert alive(Session) <= before


# -- beside the audit trail ------------------------------------------------------------------------------


@pytest.mark.integration
def test_work_audit_and_job_come_together_or_not_at_all_on_every_database(
    host: Host, database: Database
) -> None:
    audit = Audit(AuditTrail(database.engine, database.table))
    with Session(database.engine) as session:
        for number, end in ((1, session.rollback), (2, session.commit)):
            audit.log("number.noted", None, transaction=session, target_id=number)
            enqueue_after_commit(host.job(number), session)
            end()
    assert database.targets == [2]
    assert host.sent == [[2]]
