"""Processes: a supervised worker, and all that it started."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

RESTART_SECONDS: Final = 1.0
"""How long the supervisor waits before it starts anew what ended."""


def session(leader: int) -> list[int]:
    """The processes of a session, which outlives its leader and is more than a process group."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its, *_ = stat.read_text().rpartition(")")[2].split()
            if int(its) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def kill_session(leader: int) -> None:
    """kill -9 of all of them, this process last."""
    while found := session(leader):  # again, for what was just being forked
        for pid in sorted(found, key=lambda pid: pid == os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


class Supervised:
    """A worker's command, started anew whenever it ends, as systemd or a container does.

    Where it ends by itself, what it left behind is ended too.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path
    ) -> None:
        self.log: Final = log
        self._start = (command, environment, folder)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the worker that was started last; it leads a session of its own."""
        return None if self._popen is None else self._popen.pid

    def start(self) -> None:
        """Start it, or again after `end`."""
        self._over.clear()
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def kill(self) -> None:
        """kill -9 of its whole tree."""
        if self._popen is not None:
            kill_session(self._popen.pid)

    def stop(self, seconds: float, *, for_good: bool = False) -> None:
        """SIGTERM to the worker alone, and kill -9 of its tree where that takes longer than `seconds`."""
        if for_good:
            self._over.set()
        popen = self._popen
        if popen is not None:
            popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(seconds)
            kill_session(popen.pid)

    def end(self) -> None:
        """Kill it for good."""
        self._over.set()
        while self._thread is not None and self._thread.is_alive():
            self.kill()
            self._thread.join(0.1)

    def _supervise(self) -> None:
        command, environment, folder = self._start
        while not self._over.is_set():
            with self.log.open("ab") as output:
                self._popen = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                )
            status = self._popen.wait()
            kill_session(self._popen.pid)
            with self.log.open("a") as output:
                output.write(f"---- it ended with {status}\n")
            self._over.wait(RESTART_SECONDS)
