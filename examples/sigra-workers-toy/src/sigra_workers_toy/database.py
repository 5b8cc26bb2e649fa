"""The queue itself: one SQLite file that every process opens."""

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")
WAIT: Final = 5.0
"""Seconds that a transaction waits for another process to end its own."""

_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    ready_at REAL NOT NULL,             -- when it may be taken: it is due, or the lease of its run is over
    owner TEXT NOT NULL DEFAULT '',     -- the run that has it
    starts INTEGER NOT NULL DEFAULT 0,  -- runs begun since it was last sent
    died_at REAL,
    reason TEXT,
    traceback TEXT
);
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (ready_at) WHERE died_at IS NULL;
CREATE INDEX IF NOT EXISTS jobs_dead ON jobs (died_at) WHERE died_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS results (id TEXT PRIMARY KEY, value TEXT NOT NULL, kept_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS results_kept ON results (kept_at);
COMMIT;
"""


class Database:
    """One connection a process, made when first needed, for one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        # SQLite forbids a connection to cross a fork (https://www.sqlite.org/howtocorrupt.html, 2.6).
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )

    def transaction(self, do: Callable[[sqlite3.Connection], T]) -> T:
        """Call `do` in a transaction that has the file to itself; raises `sqlite3.Error`, nothing written.

        Both `with` are for objects made in C, so that a job's time-out can't leave them half entered.
        """
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            with self._connection as connection:  # commits, or rolls back what raised
                connection.execute("BEGIN IMMEDIATE")
                return do(connection)

    def close(self) -> None:
        """Close the connection; the next transaction makes another."""
        with self._lock:
            self._close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            with suppress(sqlite3.OperationalError):  # "locked": another process is just doing it
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._close()
