"""What an event costs on its way to a SQL database, beside a bare insert of the same row."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select

from benchmarks import places, servers
from benchmarks.host import SCOPE
from benchmarks.measuring import Row, Target, Timer, ratio
from sigra_workers import Audit
from sigra_workers_sqlalchemy import AuditTrail

ACTION: Final = "account.closed"
ROW: Final[dict[str, Any]] = {
    "action": ACTION,
    "outcome": "success",
    "actor_id": "user_19c3e2",
    "actor_type": "user",
    "effective_user_id": "user_19c3e2",
    "organization_id": "org_5f0c7a",
    "target_type": "account",
    "target_id": "acc_77b1",
    "metadata": {},
    "schema_version": 1,
}


class Database:
    """One database: the audit facade in front of it, and its engine by itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def _audit(self) -> Audit:
        engine, table = servers.audit_table(self.name)
        return Audit(AuditTrail(engine, table))

    @cached_property
    def _insert(self) -> Any:
        return insert(servers.audit_table(self.name)[1])

    def ours(self, loops: int) -> float:
        """Seconds of `log_safe`, which writes in a transaction of its own."""
        audit = self._audit

        def write() -> None:
            audit.log_safe(ACTION, SCOPE, target_type="account", target_id="acc_77b1")

        return self._timed(loops, write)

    def bare(self, loops: int) -> float:
        """Seconds of an insert in a transaction of its own."""
        engine, _ = servers.audit_table(self.name)

        def write() -> None:
            with engine.begin() as connection:
                connection.execute(self._insert, _row())

        return self._timed(loops, write)

    def ours_within(self, loops: int) -> float:
        """Seconds of `log` in the host's transaction."""
        audit = self._audit

        def write(connection: Connection) -> None:
            audit.log(ACTION, SCOPE, target_type="account", target_id="acc_77b1", transaction=connection)

        return self._timed_within(loops, write)

    def bare_within(self, loops: int) -> float:
        """Seconds of an insert there."""
        return self._timed_within(loops, lambda connection: connection.execute(self._insert, _row()))

    def _timed_within(self, loops: int, write: Callable[[Connection], object]) -> float:
        engine, _ = servers.audit_table(self.name)
        with engine.begin() as connection:
            return self._timed(loops, lambda: write(connection), connection)

    def _timed(self, loops: int, write: Callable[[], object], connection: Connection | None = None) -> float:
        engine, table = servers.audit_table(self.name)
        begun = perf_counter()
        for _ in range(loops):
            write()
        seconds = perf_counter() - begun
        if connection is None:
            with engine.begin() as own:
                _forget(own, table, loops)
        else:
            _forget(connection, table, loops)
        return seconds


def _forget(connection: Connection, table: Any, expected: int) -> None:
    """Delete the events: a safe audit tells nobody here that one is missing."""
    found = connection.execute(select(func.count()).select_from(table)).scalar_one()
    if found != expected:
        raise RuntimeError(f"{found} of {expected} events are in {table.name}")
    connection.execute(delete(table))


def _row() -> dict[str, Any]:
    return {**ROW, "event_id": str(uuid4()), "occurred_at": datetime.now(UTC)}


def rows() -> Iterator[Row]:
    """The rows of the SQL sink."""
    for name in places.DATABASES:
        found = Database(name)
        yield _against_insert(f"`log_safe` to {name}", Target(1.1, "x"), found.ours, found.bare)
    for name in places.DATABASES:
        found = Database(name)
        what = f"`log` in a transaction of yours on {name}"
        yield _against_insert(what, Target(None, "x"), found.ours_within, found.bare_within)


def _against_insert(what: str, target: Target, ours: Timer, bare: Timer) -> Row:
    works = {"ours": ours, "bare": bare}
    return Row("audit", f"{what}, against a bare insert", target, works, ratio(), 50, rounds=61)
