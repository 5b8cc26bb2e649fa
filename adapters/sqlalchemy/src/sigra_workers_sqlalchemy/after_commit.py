"""Jobs that are sent when a session's transaction has been committed, and never when it is rolled back."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import Connection, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from sigra_workers import InvalidArgsError, InvalidOptionError, Job, OnDuplicate
from sigra_workers.loops import outlast

try:
    from sqlalchemy.util import await_
except ImportError:  # its name before SQLAlchemy 2.1
    from sqlalchemy.util import await_only as await_

_KEY: Final = "sigra_workers.after_commit"
_Waiting: TypeAlias = tuple[Job[Any], OnDuplicate]


def enqueue_after_commit(
    job: Job[Any] | Iterable[Job[Any]],
    session: Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any],
    /,
    *,
    on_duplicate: OnDuplicate = "raise",
) -> None:
    """Send the job, or jobs, once the transaction that the session is in has been committed.

    Like ``session.add`` it begins one where there is none. All jobs of a transaction are sent together, by
    the ``commit()`` that ends it: an `EnqueueError` comes out of that, with the transaction committed. A
    rollback forgets them; that of a savepoint, those since then. `on_duplicate` is that of `enqueue_many`.

    It is no outbox: a process that dies between the commit and the sending loses the jobs.
    """
    jobs: list[Job[Any]] = [job] if isinstance(job, Job) else [*job]
    for one in jobs:
        _check(one)
    current = session() if isinstance(session, (scoped_session, async_scoped_session)) else session
    found: object = current.sync_session if isinstance(current, AsyncSession) else current
    if not isinstance(found, Session):
        problem = f"it is of type {type(found).__name__}, expected a Session or AsyncSession"
        raise InvalidOptionError("session", problem)
    if jobs:
        if _KEY not in found.info:
            found.info[_KEY] = _Pending(found)
        found.info[_KEY].add([(one, on_duplicate) for one in jobs], _current(found) or found.begin())


def _check(job: Job[Any]) -> None:
    if not isinstance(cast("object", job), Job):
        problem = f"they are a {type(job).__name__}, expected a Job: handle.new(args)"
        raise InvalidArgsError("enqueue_after_commit", [problem])
    if job.sender is None:
        raise InvalidOptionError("job", f"job {job.id!r} was pickled: make it here, with handle.new(args)")


class _Pending:
    """The jobs of a session, by the transaction or savepoint they wait for."""

    def __init__(self, session: Session) -> None:
        self._jobs: dict[SessionTransaction, list[_Waiting]] = {}
        self._committed: set[SessionTransaction] = set()
        event.listen(session, "before_commit", self._before_commit)
        event.listen(session, "after_commit", self._commit)
        event.listen(session, "after_transaction_end", self._end)

    def add(self, jobs: list[_Waiting], transaction: SessionTransaction) -> None:
        """They wait for that one; raises `InvalidOptionError` for a job that waits already."""
        waiting = {job.id for others in self._jobs.values() for job, _ in others}
        for job, _ in jobs:
            if not job.given_id and job.id in waiting:
                raise InvalidOptionError("job", f"job {job.id!r} waits already, expected each job once")
            waiting.add(job.id)
        self._jobs.setdefault(transaction, []).extend(jobs)

    def _before_commit(self, session: Session) -> None:
        """Ask first: PostgreSQL answers the commit of a failed transaction with a rollback, and no error."""
        transaction = session.get_transaction()
        if self._jobs and transaction is not None:
            for connection in _connections(transaction):
                if connection.dialect.name == "postgresql":
                    connection.execute(select(1))

    def _commit(self, session: Session) -> None:
        transaction = _current(session)
        if transaction is not None:
            self._committed.add(transaction)

    def _end(self, session: Session, transaction: SessionTransaction) -> None:
        """What is sent is sent from here, where the session is whole again, whatever comes of it."""
        jobs, committed = self._jobs.pop(transaction, []), transaction in self._committed
        self._committed.discard(transaction)
        if not (jobs and committed):
            return
        outer = _current(session)
        if transaction.parent is not None and outer is not None:
            self.add(jobs, outer)
        else:
            _send(jobs, is_async=async_session(session) is not None)


def _current(session: Session) -> SessionTransaction | None:
    """The savepoint or transaction that the session is in; the one of a flush is neither."""
    return session.get_nested_transaction() or session.get_transaction()


def _connections(transaction: SessionTransaction) -> Collection[Connection]:
    """Those that it has begun on so far: a session may have a database for each model."""
    try:
        return transaction.connections
    except AttributeError:  # before SQLAlchemy 2.1.7
        return {entry[0] for entry in transaction._connections.values()}  # pyright: ignore[reportPrivateUsage]


def _send(jobs: list[_Waiting], *, is_async: bool) -> None:
    errors: list[Exception] = []
    batches: dict[tuple[Any, OnDuplicate], None]
    batches = dict.fromkeys((job.sender, on_duplicate) for job, on_duplicate in jobs)
    for sender, on_duplicate in batches:
        its = [job for job, other in jobs if job.sender is sender and other == on_duplicate]
        try:
            if is_async:
                await_(_whole(sender.aenqueue_many(its, on_duplicate=on_duplicate)))
            else:
                sender.enqueue_many(its, on_duplicate=on_duplicate)
        except Exception as error:  # the others' jobs are sent all the same
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("jobs of a committed transaction were not sent", errors)


async def _whole(sending: Coroutine[Any, Any, object]) -> None:
    """Send though the commit is cancelled meanwhile: it is done."""
    task = asyncio.ensure_future(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await outlast(task)
        raise
