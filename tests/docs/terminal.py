"""A terminal, in which a test types what a page shows, and sees what the page says it prints."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from tests.losses.processes import kill_session

SECONDS: Final = 120.0
_END: Final = "---- ended with "


def commands(console: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and what it prints there."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.replace("\\\n", "").partition("\n")
        yield command, printed


def fits(shown: str, printed: str) -> bool:
    """Whether this is what a page shows, where ``...`` stands for anything, some lines too."""
    parts = (re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(".*?".join(parts), printed.strip(), re.DOTALL) is not None


class Terminal:
    """bash, in a session of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str], output: Path) -> None:
        self._output = output
        self._seen = 0
        with output.open("wb") as file:
            self._bash = subprocess.Popen(
                ["bash", "--norc", "--noprofile"],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        """What was printed since the last command ended."""
        return self._output.read_text(errors="replace")[self._seen :]

    def run(self, command: str) -> tuple[str, int]:
        """Type a command and wait for its end: what it printed, and its status."""
        self.begin(command)
        return self.end()

    def begin(self, command: str) -> None:
        """Type a command that goes on."""
        self._seen += len(self.printed)
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\necho '{_END}'$?\n".encode())
        self._bash.stdin.flush()

    def end(self) -> tuple[str, int]:
        """Wait for its end."""
        self._until(lambda: re.search(_END + r"\d+\n$", self.printed), "it to end")
        printed, _, status = self.printed.rpartition(_END)
        return printed, int(status)

    def see(self, shown: str) -> None:
        """Wait until what it printed begins with what a page shows."""
        self._until(lambda: fits(f"{shown}...", self.printed), f"what the page shows:\n{shown}")

    def _until(self, look: Callable[[], object], what: str) -> None:
        end = time.monotonic() + SECONDS
        while not look():
            if time.monotonic() > end:
                pytest.fail(f"waited {SECONDS:g} s for {what}\nIt printed:\n{self.printed}")
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._bash.pid, signal.SIGINT)

    def close(self) -> None:
        """Close its window."""
        kill_session(self._bash.pid)
        self._bash.communicate()
