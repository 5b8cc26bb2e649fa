"""What the kit is told of an adapter, and the worker processes it makes of that."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from sigra_workers.conformance.host import ENVIRONMENT, Setup
from sigra_workers.errors import InvalidSettingsError
from sigra_workers.workers import Workers

MISSING: Final = """\
{name} has no fixture 'harness', which tells the kit how the adapter is reached and run. Write it:

    class {name}(AdapterConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def harness(cls, tmp_path_factory):
            return Harness(
                adapter="myqueue",
                settings={{"url": "..."}},
                command=["myqueue", "worker", "my_boot_module", "{{queue}}"],
                unreachable_settings={{"url": "... of a server that is not there"}},
            )

my_boot_module imports sigra_workers.conformance.workers and then binds the worker process to
"sigra_workers.conformance.app:workers"."""
MAX_ENDS: Final = 12
"""How often a worker process is started again before the kit gives it up."""
StopInside: TypeAlias = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Harness:
    """How the kit reaches an adapter and runs its worker processes. Times are in seconds.

    Give either `command` or, for an adapter that runs jobs inside the sender's process, `start`.
    """

    adapter: str
    """Its name, as in ``Workers(adapter=...)``."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As in ``Workers(settings=...)``; for worker processes they travel as JSON."""
    command: Sequence[str] = ()
    """The command of a worker process, or of a tree of them, that serves the queue "{queue}".

    Its boot module finds the queue's name in `sigra_workers.conformance.app.QUEUE` too.
    """
    processes: int = 1
    """How many serve the main queue: the kit needs two jobs at a time there."""
    cwd: Path | None = None
    """Where the command runs; the folder of the run where none is given."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the command finds in its environment, beside what is there."""
    start: Callable[[Workers[Any]], StopInside] | None = None
    """Starts running jobs of these workers inside this process; what it returns stops that."""
    unreachable_settings: Mapping[str, Any] | None = None
    """Settings that lead to a server that is not there."""
    result: Callable[[Workers[Any], str], object] | None = None
    """The value kept of a job, by its id; None where there is none. For adapters that declare "results"."""
    clean: Callable[[Sequence[str]], object] | None = None
    """Removes what is left of the queues of these names, when all is over."""
    recovery: float = 30.0
    """How long it may take until a job of a killed worker process runs again."""
    patience: float = 30.0
    """How long anything else may take while no job gets on."""
    plugins: Sequence[object] = ()
    """Further plugins of the kit's `Workers` in this process, such as one that makes the adapter."""

    def __post_init__(self) -> None:
        if bool(self.command) == (self.start is not None):
            problem = "give it either 'command', of the worker processes, or 'start', for an adapter inside"
            raise InvalidSettingsError("Harness", problem)

    @property
    def inside(self) -> bool:
        """Whether jobs run inside this process."""
        return self.start is not None


class Tree:
    """The worker processes of one queue: started again when they end, as by a supervisor, unless stopped."""

    def __init__(self, harness: Harness, setup: Setup, queue: str, folder: Path) -> None:
        self.log = folder / f"{queue}.log"
        self._cwd = harness.cwd or folder
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            ENVIRONMENT: setup.dump(),
            f"{ENVIRONMENT}_QUEUE": setup.queues[queue],
            **harness.env,
        }
        self._command = [word.replace("{queue}", setup.queues[queue]) for word in harness.command]
        self._count = harness.processes if queue == "main" else 1
        self._running: list[subprocess.Popen[bytes]] = []
        self._ends = 0
        self._lock = threading.Lock()
        self._wanted = False
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="sigra-workers-kit", daemon=True)

    def start(self) -> None:
        """Start them; once more after `stop` or `kill`."""
        with self._lock:
            self._wanted = True
            self._running = [self._run() for _ in range(self._count)]
        if not self._supervisor.is_alive():
            self._supervisor.start()

    def stop(self, seconds: float) -> None:
        """End them as a supervisor does, by SIGTERM to the one it started; they may take so many seconds."""
        with self._lock:
            self._wanted = False
            for process in self._running:
                process.send_signal(signal.SIGTERM)
            try:
                for process in self._running:
                    process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"a worker process did not end {seconds:g} s after SIGTERM") from None
            finally:
                self._kill()

    def kill(self) -> None:
        """kill -9 them, and whatever they started."""
        with self._lock:
            self._wanted = False
            self._kill()

    def close(self) -> None:
        """Kill them for good."""
        self._over.set()
        self.kill()
        if self._supervisor.is_alive():
            self._supervisor.join()

    @property
    def text(self) -> str:
        """What they wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def problem(self) -> str | None:
        """Why there is nobody to run jobs, if so."""
        if self._ends <= MAX_ENDS:
            return None
        return f"the worker process ends again and again: {' '.join(self._command)}"

    def _run(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603  # the adapter's author gave the command
                self._command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self._cwd,
                env=self._environment,
                start_new_session=True,
            )

    def _kill(self) -> None:
        sessions = {process.pid for process in self._running}
        while ours := living(sessions):
            for pid in ours:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for process in self._running:
            process.wait()

    def _supervise(self) -> None:
        while not self._over.wait(0.1):
            with self._lock:
                for index, process in enumerate(self._running):
                    if self._wanted and process.poll() is not None and self.problem is None:
                        self._ends += 1
                        self._running[index] = self._run()


def living(sessions: set[int], proc: Path = Path("/proc")) -> list[int]:
    """The processes of these sessions, but for zombies, which their parent may never reap."""
    found: list[int] = []
    for pid in _pids(proc):
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) in sessions:
                found.append(pid)
    return found


def _pids(proc: Path) -> list[int]:
    """Every process there is, but for zombies; from ps where there is no /proc."""
    if not (proc / "self").exists():
        command = ["ps", "-A", "-o", "pid=,state="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        rows = [line.split() for line in listed.stdout.splitlines()]
        return [int(pid) for pid, state in rows if not state.startswith("Z")]
    found: list[int] = []
    for stat in proc.glob("[0-9]*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(stat.parent.name))
    return found
