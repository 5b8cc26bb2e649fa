"""What happened, one JSON line a fact, in a file that all processes of a run append to."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Final, TypeAlias

Record: TypeAlias = dict[str, Any]
"""`what` happened, to which `job`, `at` which time (epoch seconds), in which process (`pid`), and more."""

_LOOPS: Final[list[asyncio.AbstractEventLoop]] = []


def here() -> dict[str, Any]:
    """The thread, and the event loop and task that runs in it: numbers, or None."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return {"thread": threading.get_ident(), "loop": None, "task": None}
    if loop not in _LOOPS:
        _LOOPS.append(loop)  # kept: another loop never gets its number
    return {"thread": threading.get_ident(), "loop": _LOOPS.index(loop), "task": id(asyncio.current_task())}


class Records:
    """The file, for writers in many processes and one reader."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "records.jsonl"
        self._jobs: dict[str | None, list[Record]] = {}
        self._offset = 0
        self._lock = threading.Lock()
        self.changed = 0.0
        """When there was last something new to read, by the monotonic clock."""

    def add(self, what: str, job: str | None, **facts: Any) -> None:
        """Append one record in one write, so that records of several processes don't mix."""
        record = {"what": what, "job": job, "at": time.time(), "pid": os.getpid(), **facts}
        line = json.dumps(record, default=repr) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def count(self, what: str, job: str) -> int:
        """How many such records a job has so far."""
        mark = json.dumps({"what": what, "job": job})[:-1].encode()
        return self.path.read_bytes().count(mark + b",") if self.path.exists() else 0

    def of(self, job: str) -> list[Record]:
        """The records of a job so far, in the order in which they were written."""
        return self.read().get(job, [])

    def read(self) -> dict[str | None, list[Record]]:
        """All records so far, by job."""
        with self._lock:
            if self.path.exists():
                with self.path.open("rb") as file:
                    file.seek(self._offset)
                    whole, newline, _ = file.read().rpartition(b"\n")
                self._offset += len(whole) + len(newline)
                if whole:
                    self.changed = time.monotonic()
                for line in whole.splitlines():
                    record = json.loads(line)
                    self._jobs.setdefault(record["job"], []).append(record)
            return {job: [*records] for job, records in self._jobs.items()}
