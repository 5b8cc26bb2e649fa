"""Jobs per second of the libraries' own worker processes: how fast one empties a full queue."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from benchmarks import places, servers
from benchmarks.libraries import ARQ, DRAMATIQ_RABBITMQ, DRAMATIQ_REDIS, RQ, Library
from benchmarks.measuring import Row, Target, rate
from benchmarks.places import BARE, OURS

SECONDS: Final = 60.0
"""How long a process may take for its jobs."""
WARM: Final = 0.1
"""The part of the jobs that are not timed: the process starts meanwhile."""
LOOK: Final = 0.002
"""Seconds between two looks at the queue."""
TAIL: Final = 0.3
"""Seconds for what a process has begun when its queue is empty, before it is killed."""
ROOT: Final = Path(__file__).parents[1]
BIN: Final = Path(sys.executable).parent
_RQ: Final = (
    "rq worker -c {app} --serializer json --with-scheduler --worker-ttl 20 --maintenance-interval 5"
    f" --job-monitoring-interval 5 --url {places.REDIS} "
)
_DRAMATIQ: Final = "dramatiq {app} --processes 1 --threads 8"


@dataclass(frozen=True)
class Command:
    """A worker's command, with ``{app}`` for our boot file or the bare library's, and ``{queue}``."""

    library: Library
    text: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def ours(self, count: int) -> "Emptied":
        """So many jobs with sigra-workers."""
        return self._emptied(count, "ours", OURS, self.library.fill_ours)

    def bare(self, count: int) -> "Emptied":
        """So many on the library alone."""
        return self._emptied(count, "bare", BARE, self.library.fill_bare)

    def locked(self, count: int) -> "Emptied":
        """The same, if each takes a lock in Redis and gives it back."""
        fill = partial(self.library.fill_bare, locked=True)
        return self._emptied(count, "bare", BARE, fill, {"RECOVERS": "1"})

    def _emptied(
        self,
        count: int,
        app: str,
        queue: str,
        fill: Callable[[int], object],
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> "Emptied":
        servers.redis()  # ours to use
        self.library.empty()
        fill(count)
        words = self.text.format(app=f"benchmarks.apps.{app}_{self.library.adapter}", queue=queue).split()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(  # noqa: S603  # of this environment
                [BIN / words[0], *words[1:]],
                cwd=ROOT,
                env={**os.environ, **self.environment, **environment, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                found = self._watch(count, queue, process)
            except RuntimeError as error:
                output.seek(0)
                error.add_note(output.read()[-2_000:].decode(errors="replace"))
                raise
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.library.empty()
        return found

    def _watch(self, count: int, queue: str, process: "subprocess.Popen[bytes]") -> "Emptied":
        """What all jobs took, reckoned from those that were done under watch."""
        end = time.monotonic() + SECONDS
        while (left := self._look(count, queue, process, end)) > count * (1 - WARM):
            time.sleep(LOOK)
        if not left:
            raise RuntimeError(f"{count} are too few for {self.text!r}: done between two looks")
        begun, asked, looks = time.perf_counter(), servers.asked(), 0
        while self._look(count, queue, process, end):
            looks += self.library.looks_at_redis
            time.sleep(LOOK)
        seconds = time.perf_counter() - begun
        asked = servers.asked() - asked - looks
        time.sleep(TAIL)
        if failed := self.library.failed(queue):
            raise RuntimeError(f"{failed} of {count} jobs failed on {self.text!r}")
        return Emptied(seconds / left * count, asked / left * count)

    def _look(self, count: int, queue: str, process: "subprocess.Popen[bytes]", end: float) -> int:
        left = self.library.left(queue)
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{left} of {count} jobs are left of {self.text!r}")
        return left


class Emptied(NamedTuple):
    """What all jobs of a queue took."""

    seconds: float
    asked: float
    """How often Redis was asked."""


def rows() -> Iterator[Row]:
    """The rows of the worker processes."""
    yield from _rows("`rq worker`, which forks for each job", Command(RQ, _RQ + "{queue}"), 150)
    yield from _rows("`rq worker -w rq.SimpleWorker`", Command(RQ, _RQ + "-w rq.SimpleWorker {queue}"), 400)
    for name, delay, count in (("", "0.5", 400), (" with a `poll_delay` of 0.01 s", "0.01", 2_000)):
        arq = Command(ARQ, "arq {app}.WorkerSettings", {"POLL_DELAY": delay})
        yield from _rows(f"`arq`{name}", arq, count)
    on_redis = Command(DRAMATIQ_REDIS, _DRAMATIQ, {"BROKER": places.REDIS})
    yield from _rows("`dramatiq` on Redis", on_redis, 3_000, at_least=0.9)
    on_rabbitmq = Command(DRAMATIQ_RABBITMQ, _DRAMATIQ, {"BROKER": places.RABBITMQ})
    yield from _rows("`dramatiq` on RabbitMQ", on_rabbitmq, 3_000)


def _rows(name: str, command: Command, count: int, at_least: float = 0.96) -> Iterator[Row]:
    yield Row(
        "processes",
        f"jobs/s of {name}, against the library's own jobs",
        Target(at_least, "x", at_least=True),
        {
            "ours": lambda count: command.ours(count).seconds,
            "bare": lambda count: command.bare(count).seconds,
            "floor": lambda count: command.locked(count).seconds,
        },
        rate(),
        count,
        rounds=11,
    )
    yield Row(
        "trips",
        f"how often {name} asks Redis for one job, beyond what it does for one of the library's own",
        Target(None, "times"),
        {
            "ours": lambda count: command.ours(count).asked,
            "bare": lambda count: command.bare(count).asked,
            "floor": lambda count: command.locked(count).asked,
        },
        lambda seconds: seconds["ours"] - seconds["bare"],
        count,
        rounds=1,
        warms=False,
    )
