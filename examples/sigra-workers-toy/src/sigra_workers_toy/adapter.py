"""The sending side, and dead jobs."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from sigra_workers import (
    Capability,
    DeadFilters,
    DeadJob,
    Duplicate,
    InvalidOptionError,
    InvalidSettingsError,
    Job,
    Outgoing,
    Receipt,
    Rejected,
    Resend,
    Sent,
    Unknown,
    Workers,
)
from sigra_workers.boot import adapter_of
from sigra_workers.checks import Check, Finding
from sigra_workers.dead import fits
from sigra_workers.loops import in_thread
from sigra_workers_toy.database import Database

T = TypeVar("T")


class ToyAdapter:
    """A queue in a SQLite file behind `Workers(adapter="toy")`. Settings: ``path`` of the file."""

    capabilities: frozenset[Capability] = frozenset(
        ("bulk", "dead_jobs", "durable", "results", "stops_sync", "unique_ids")
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        path = settings.get("path")
        if {*settings} != {"path"} or not isinstance(path, str) or path in ("", ":memory:"):
            problem = f"it takes one setting, {{'path': 'jobs.sqlite'}}, got the settings {sorted(settings)}"
            raise InvalidSettingsError("adapter 'toy'", problem)
        self.database: Final = Database(path)

    @classmethod
    def of(cls, workers: Workers[Any]) -> "ToyAdapter":
        """The toy adapter of `workers`; raises `InvalidSettingsError` where they use another one."""
        return adapter_of(workers, cls, "toy")

    # -- the Adapter protocol --------------------------------------------------------------------------

    def clock(self) -> float:
        """The time of day: all processes are on one machine."""
        return time.time()

    def check(self, job: Job) -> None:
        """Refuse native options: there are none."""
        if job.native:
            raise InvalidOptionError("native", f"the toy adapter has none, got {sorted(job.native)}")

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """Insert the jobs in one transaction."""
        return self._receipts(_insert, jobs)

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """`send` in a thread, as SQLite blocks."""
        return await in_thread(self.send, jobs)

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def _receipts(
        self, write: Callable[[sqlite3.Connection, T], Receipt], jobs: Sequence[T]
    ) -> list[Receipt]:
        receipts: list[Receipt] = []
        try:
            self.database.transaction(lambda db: receipts.extend(write(db, job) for job in jobs))
        except sqlite3.Error as error:
            if len(receipts) == len(jobs):  # all were written: it was the commit that failed
                return [Unknown(error) for _ in jobs]
            return [Rejected(error) for _ in jobs]
        return receipts

    # -- the DeadJobs protocol -------------------------------------------------------------------------

    def dead_jobs(self, filters: DeadFilters, /) -> list[DeadJob]:
        """The dead jobs that fit, latest first; raises `sqlite3.Error`."""
        ids = json.dumps([*filters["ids"]]) if "ids" in filters else None

        def find(db: sqlite3.Connection) -> list[DeadJob]:
            found = (DeadJob.of(*row) for row in db.execute(_FIND_DEAD, (ids, ids)))
            return [*islice((job for job in found if fits(job, filters)), filters.get("limit"))]

        return self.database.transaction(find)

    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        """Make the dead jobs due again, in one transaction."""
        return self._receipts(_revive, jobs)

    def purge(self, ids: Sequence[str], /) -> int:
        """Delete dead jobs; raises `sqlite3.Error`."""
        rows = [(job_id,) for job_id in ids]
        return self.database.transaction(lambda db: db.executemany(_PURGE, rows).rowcount)

    # -- results ---------------------------------------------------------------------------------------

    def result(self, job_id: str) -> Any:
        """What a job of the last day returned in `Ok`; None where there is none. Raises `sqlite3.Error`."""
        query = "SELECT value FROM results WHERE id = ?"
        row = self.database.transaction(lambda db: db.execute(query, (job_id,)).fetchone())
        return None if row is None else json.loads(row[0])

    # -- the Checks protocol ---------------------------------------------------------------------------

    def checks(self, workers: Workers[Any], /) -> list[Check]:
        """For ``sigra-workers doctor``: whether a worker process takes what is due."""
        return [Check("toy.taken", self._taken)]

    def _taken(self) -> Iterable[Finding]:
        late = (time.time() - 60,)
        (count,) = self.database.transaction(lambda db: db.execute(_LATE, late).fetchone())
        if count:
            what = f"{count} jobs have been due for a minute: no worker process takes them"
            yield Finding("problem", what, "python -m sigra_workers_toy app.jobs:workers", _README)
        else:
            yield Finding("ok", "no job has been due for a minute")


def _insert(db: sqlite3.Connection, sent: Outgoing) -> Receipt:
    payload = sent.payload
    ready_at = payload.enqueued_at if payload.due_at is None else payload.due_at
    row = (payload.id, payload.queue, payload.dump(), ready_at)
    return Sent() if db.execute(_INSERT, row).rowcount else Duplicate()


def _revive(db: sqlite3.Connection, job: Resend) -> Receipt:
    row = (job.payload.dump(), time.time(), job.dead.id, job.dead.payload)
    return Sent() if db.execute(_REVIVE, row).rowcount else Duplicate()


_INSERT: Final = "INSERT OR IGNORE INTO jobs (id, queue, payload, ready_at) VALUES (?, ?, ?, ?)"
_FIND_DEAD: Final = """
SELECT id, payload, reason, traceback, died_at FROM jobs
WHERE died_at IS NOT NULL AND (? IS NULL OR id IN (SELECT value FROM json_each(?)))
ORDER BY died_at DESC
"""
_REVIVE: Final = """
UPDATE jobs SET payload = ?, ready_at = ?, died_at = NULL, reason = NULL, traceback = NULL
WHERE id = ? AND died_at IS NOT NULL AND payload = ?
"""
_PURGE: Final = "DELETE FROM jobs WHERE id = ? AND died_at IS NOT NULL"
_LATE: Final = "SELECT count(*) FROM jobs WHERE died_at IS NULL AND ready_at < ?"
_README: Final = "examples/sigra-workers-toy/README.md"
