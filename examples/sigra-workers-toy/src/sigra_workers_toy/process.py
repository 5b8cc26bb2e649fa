"""The worker process: takes jobs, brings each to the core, and carries out what the core decides."""

import json
import logging
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from sigra_workers import Again, Complete, Dead, Delivery, Outcome, Workers, dispatch
from sigra_workers.adapters import report, storable
from sigra_workers_toy.adapter import ToyAdapter

LEASE: Final = 5.0
"""Seconds that a job stays with a process that is not heard of; renewed four times as often."""
PAUSE: Final = 0.1
"""Seconds between two looks for a job, where none is due."""
RESULTS_SECONDS: Final = 86_400
"""How long results are kept."""
_log: Final = logging.getLogger("sigra_workers.toy")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one job, and what the queue knows of it. `token` tells this run from every other."""

    job_id: str
    text: str
    crashes: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


class WorkerProcess:
    """Runs the jobs of some queues in threads; `queues` empty is all that the workers declare."""

    def __init__(self, workers: Workers[Any], queues: Iterable[str] = (), threads: int = 4) -> None:
        self._workers = workers
        self._database = ToyAdapter.of(workers).database
        self._queues = json.dumps([*queues] or [*workers.queues])
        self._threads = threads
        self._held: dict[str, Run] = {}
        self._asked = False
        self._stopping = threading.Event()

    def run(self) -> None:
        """Run jobs until SIGTERM or SIGINT; the running ones end first, and another thread renews them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        threading.Thread(target=self._renew, name="sigra-workers-toy-leases", daemon=True).start()
        with ThreadPoolExecutor(self._threads) as pool:
            threads = [pool.submit(self._work) for _ in range(self._threads)]
            try:
                # Python sees a signal that came to another thread when this one next wakes up.
                while not self._asked:
                    for ended in wait(threads, 0.5, FIRST_COMPLETED).done:
                        ended.result()  # a thread ends only by a bug: then the process does
            finally:
                self._stopping.set()

    def _stop(self, *_: object) -> None:
        """A signal has come: no more than a note of it, as whatever it interrupts may hold a lock."""
        self._asked = True

    def _work(self) -> None:
        while not self._stopping.is_set():
            run = None
            try:
                run = self._database.transaction(self._take)
            except sqlite3.Error as error:
                _log.error("no job can be taken: %s", error)
            if run is None:
                self._stopping.wait(PAUSE)
            else:
                self._perform(run)

    def _take(self, db: sqlite3.Connection) -> Run | None:
        """The job that is due longest: ours from now on for `LEASE` seconds, and one start more."""
        now = time.time()
        held = json.dumps([run.job_id for run in self._running])
        row = db.execute(_DUE, (now, self._queues, held)).fetchone()
        if row is None:
            return None
        run = Run(*row)
        db.execute(_TAKE, (run.token, now + LEASE, run.job_id))
        return run

    def _renew(self) -> None:
        def renew(db: sqlite3.Connection) -> None:
            until = time.time() + LEASE
            db.executemany(_RENEW, [(until, run.job_id, run.token) for run in self._running])

        while True:
            time.sleep(LEASE / 4)
            try:
                if self._held:
                    self._database.transaction(renew)
            except sqlite3.Error as error:
                _log.error("%d leases were not renewed: %s", len(self._held), error)

    @property
    def _running(self) -> list[Run]:
        return [*self._held.values()]  # a copy, as other threads go on

    def _perform(self, run: Run) -> None:
        self._held[run.token] = run
        outcome = None
        try:
            outcome = dispatch(self._workers, Delivery(run.text, run.crashes))
        except BaseException as error:  # stopped from outside: no decision
            _log.warning("job %s was stopped by %s: it runs again", run.job_id, type(error).__name__)
        written = self._write(run, outcome)
        del self._held[run.token]
        if written and isinstance(outcome, Dead):
            report(outcome, run.job_id, _log)

    def _write(self, run: Run, outcome: Outcome | None) -> bool:
        while True:
            try:
                if self._database.transaction(lambda db: _carry_out(db, run, outcome)):
                    return True
                _log.warning("job %s went on without this run, whose decision is dropped", run.job_id)
                return False
            except sqlite3.Error as error:
                _log.error("the decision on job %s is not written yet: %s", run.job_id, error)
                if self._stopping.wait(1):
                    return False  # it runs again, when the lease is over


def _carry_out(db: sqlite3.Connection, run: Run, outcome: Outcome | None) -> bool:
    """Write what follows from the run; False where the job is another run's by now, or nobody's."""
    now = time.time()
    mine = (run.job_id, run.token)
    match outcome:
        case Complete(value):
            changed = db.execute("DELETE FROM jobs WHERE id = ? AND owner = ?", mine)
            if changed.rowcount:
                db.execute("DELETE FROM results WHERE kept_at < ?", (now - RESULTS_SECONDS,))
                kept = json.dumps(storable(value, json.dumps, run.job_id, _log))
                db.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (run.job_id, kept, now))
        case Again(payload, due_at):
            changed = db.execute(_AGAIN, (payload.dump(), due_at, *mine))
        case Dead(payload, reason, traceback):
            text = run.text if payload is None else payload.dump()
            changed = db.execute(_DIE, (text, now, reason, traceback, *mine))
        case _:
            changed = db.execute(_RELEASE, (now, *mine))
    return changed.rowcount == 1


_DUE: Final = """
SELECT id, payload, starts FROM jobs
WHERE died_at IS NULL AND ready_at <= ? AND queue IN (SELECT value FROM json_each(?))
AND id NOT IN (SELECT value FROM json_each(?)) -- a job runs once at a time here, whatever became of its lease
ORDER BY ready_at LIMIT 1
"""
_TAKE: Final = "UPDATE jobs SET owner = ?, ready_at = ?, starts = starts + 1 WHERE id = ?"
_RENEW: Final = "UPDATE jobs SET ready_at = ? WHERE id = ? AND owner = ?"
_AGAIN: Final = """
UPDATE jobs SET payload = ?, ready_at = ?, owner = '', starts = 0 WHERE id = ? AND owner = ?
"""
_DIE: Final = """
UPDATE jobs SET payload = ?, died_at = ?, reason = ?, traceback = ?, owner = '', starts = 0
WHERE id = ? AND owner = ?
"""
_RELEASE: Final = "UPDATE jobs SET ready_at = ?, owner = '' WHERE id = ? AND owner = ?"
