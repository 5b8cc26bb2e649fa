"""An application of a page on one of the queues: its worker process, a terminal, servers of its own."""

import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.application import BIN
from tests.docs.terminal import Terminal, commands, fits
from tests.losses.processes import Supervised
from tests.losses.servers import RedisServer

WORKERS: Final = {
    "rq": "rq worker -c app.rq_lifecycle --serializer json --with-scheduler",
    "arq": "arq app.arq_lifecycle.WorkerSettings",
    "dramatiq": "dramatiq app.dramatiq_app --processes 1",
}
"""The queues, and the command of a worker process on each; RQ's takes a queue in the end."""


class Place:
    """A copy of a page's code in a folder, on one queue."""

    def __init__(self, folder: Path, code: Path, name: str, queue: str, redis: RedisServer) -> None:
        self.name: Final = name
        self.folder: Final = folder
        self.redis: Final = redis
        shutil.copytree(code, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.environment: Final = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "APP_QUEUE": name,
            "REDIS_URL": redis.url,
            "RUNS": str(folder / "runs"),
            "TZ": "UTC",
        }
        command = [*WORKERS[name].split(), *([queue] if name == "rq" else [])]
        self.worker: Final = Supervised(command, self.environment, folder / "log", folder)
        self.terminal: Final = Terminal(folder, self.environment, folder / "printed")

    def run(self, command: str) -> str:
        """Type a command, which succeeds; what it prints."""
        printed, status = self.terminal.run(command)
        assert status == 0, printed
        return printed

    def show(self, console: str) -> None:
        """Type what a block shows, and see what it says."""
        for command, shown in commands(console):
            if command.startswith("export APP_QUEUE"):  # the environment says it
                continue
            printed, _ = self.terminal.run(command)
            expected = re.sub(r"\n\.\.\.\n\Z", "...", shown)  # one queue tells more of itself than another
            assert fits(expected, self.as_shown(printed)), printed

    def as_shown(self, text: str) -> str:
        """A text of this machine, as a page has it."""
        text = re.sub(r"\d{4}-\d\d-\d\d([ T])[\d:]{8}(\.\d+)?\+00:00", r"2026-01-31\g<1>12:00:00+00:00", text)
        return text.replace(str(self.folder), "/srv/app")

    def ask(self, script: str) -> Any:
        """Run a script in the application's folder; what its `answer` is."""
        (self.folder / "ask.py").write_text(f"{script}\nimport json\nprint(json.dumps(answer))\n")
        return json.loads(self.run("python ask.py").splitlines()[-1])

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def edit(self, name: str, theirs: str, ours: str) -> None:
        text = (self.folder / name).read_text()
        assert theirs in text
        (self.folder / name).write_text(text.replace(theirs, ours))

    @property
    def log(self) -> str:
        """What the worker process has logged."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def runs(self) -> list[str]:
        """What the application's own work has noted."""
        file = self.folder / "runs"
        return file.read_text().splitlines() if file.exists() else []


@contextmanager
def place(request: pytest.FixtureRequest, code: Path, queue: str, folder: Path) -> Generator[Place]:
    """The place on the queue that is `request.param`; the worker process is not started."""
    redis = RedisServer(folder / "redis")
    redis.start()
    found = Place(folder / "site", code, request.param, queue, redis)
    try:
        yield found
    finally:
        found.terminal.close()
        found.worker.end()
        print(found.log if (found.folder / "log").exists() else "")
        redis.kill()
