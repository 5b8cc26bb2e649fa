"""An application in a folder, deployed again and again, with real worker processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest
from tests.losses.processes import kill_session

BIN: Final = Path(sys.executable).parent
SECONDS: Final = 60.0
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """What `look` returns as soon as it is true; fails the test when it is not in time.

    A look that takes long, as one that starts a process, is followed by a longer pause.
    """
    begin = now = time.monotonic()
    while not (found := look()):
        before, now = now, time.monotonic()
        if now > begin + seconds:
            pytest.fail(f"waited {seconds:g} s for {what}")
        pause = min(max(0.05, 3 * (now - before)), 2)
        time.sleep(pause)
        now += pause
    return found


@dataclass
class Process:
    """A process and all that it starts, its output in a file."""

    popen: "subprocess.Popen[bytes]"
    file: Path

    @property
    def log(self) -> str:
        return self.file.read_text(errors="replace")

    def logged(self, text: str) -> None:
        """Wait until its log holds the text."""
        eventually(lambda: text in self.log or self.popen.poll() is not None, f"{text!r}")
        assert text in self.log, self.log

    def stop(self) -> int:
        """SIGTERM, as a supervisor does it on a deploy; its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(SECONDS)

    def kill(self) -> None:
        kill_session(self.popen.pid)
        self.popen.wait()


@dataclass
class Application:
    """What is deployed in a folder."""

    folder: Path
    environment: Mapping[str, str]
    processes: list[Process] = field(default_factory=list[Process])

    def deploy(self, *versions: Path) -> None:
        """Put files over those that are there."""
        for version in versions:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(version, self.folder, dirs_exist_ok=True, ignore=ignored)

    def start(self, command: str) -> Process:
        """Start a command that goes on."""
        file = self.folder / f"process-{len(self.processes)}.log"
        with file.open("wb") as output:
            popen = subprocess.Popen(
                command.split(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
        self.processes.append(Process(popen, file))
        return self.processes[-1]

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command to its end, which has that exit status; what it prints."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        """Kill what runs, and print the logs."""
        for process in self.processes:
            process.kill()
            print(f"---- {process.popen.args!r}\n{process.log}")

    @property
    def _environment(self) -> dict[str, str]:
        ours = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **ours, **self.environment}
