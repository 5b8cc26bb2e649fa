"""What the pages on production show, carried out: units as by systemd, containers in a PID namespace."""

import configparser
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

import pytest
import yaml
from tests.docs import application
from tests.docs.application import BIN
from tests.docs.blocks import ROOT, code, texts
from tests.docs.terminal import commands, fits
from tests.losses.processes import Supervised, kill_session
from tests.losses.servers import RabbitServer, RedisServer

CODE: Final = code("docs/code/production")
QUEUES: Final = ("lifecycle", "reports")
T = TypeVar("T")

# In place of the application's own work. What a job is about ends in seconds, which it takes.
WORK: Final = """
import asyncio
import os
import time


def close(organization_id, account_id):
    note("begin", account_id)
    end = time.monotonic() + float(account_id.partition("-")[2])
    while time.monotonic() < end:
        time.sleep(0.02)
    note("end", account_id)


async def aclose(organization_id, account_id):
    note("begin", account_id)
    await asyncio.sleep(float(account_id.partition("-")[2]))
    note("end", account_id)


def report(organization_id, month):
    close(organization_id, month)
    return 0


def note(what, whose):
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{what} {whose} {os.getpid()}\\n")
"""
SEND: Final = """
import sys

from app.jobs import CloseAccountArgs, ReportArgs, build_report, close_account
from sigra_workers import EnqueueError, organization_args

queue, *names = sys.argv[1:]
who = organization_args(organization_id="northwind", actor_id="ann")
for name in names:
    try:
        if name == "--later":
            close_account.enqueue(CloseAccountArgs(**who, account_id="late-0"), schedule_in=2)
        elif queue == "lifecycle":
            close_account.enqueue(CloseAccountArgs(**who, account_id=name))
        else:
            build_report.enqueue(ReportArgs(**who, month=name))
    except EnqueueError as error:
        print(len(error.accepted), len(error.rejected), len(error.unknown))
"""
# What `systemctl` is here: it asks the test.
SYSTEMCTL: Final = """#!{python}
import socket
import sys

with socket.create_connection(("127.0.0.1", {port})) as connection:
    connection.sendall(" ".join(sys.argv[1:]).encode() + b"\\n")
    sys.exit(connection.recv(2) != b"ok")
"""


def eventually(look: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """`application.eventually`, with the patience of these pages."""
    return application.eventually(look, what, seconds)


class ConfiguredRedis(RedisServer):
    """A Redis with the configuration of the pages."""

    @property
    def command(self) -> list[str]:
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return ["redis-server", str(CODE / "redis.conf"), *where]


def heeds_sigterm(pid: int | None) -> bool:
    """Whether a process does something of its own on SIGTERM."""
    status = Path(f"/proc/{pid}/status")
    caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text() if status.exists() else "", re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & 1 << signal.SIGTERM - 1)


@dataclass(frozen=True, slots=True)
class BackEnd:
    """A queue, as its page has it."""

    adapter: str
    ready: str
    """What a worker process logs when it is ready."""
    back: float
    """Seconds within which a job is run again that was cut short."""
    processes: int = 1
    """How many of them a unit starts."""
    graces: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds that the worker itself gives the jobs of a queue, where it can be told."""
    shorter: tuple[str, str, str] | None = None
    """How a test has it give them less: in a file, what is replaced by what."""
    rabbit: bool = False

    @property
    def overlays(self) -> tuple[str, ...]:
        return ("compose.yaml", "compose.rabbitmq.yaml") if self.rabbit else ("compose.yaml",)


class Unit:
    """A service unit."""

    def __init__(self, file: Path) -> None:
        parser = configparser.RawConfigParser()
        setattr(parser, "optionxform", str)  # noqa: B010  # letters as they are
        parser.read_string(file.read_text().replace("\\\n", " "))
        self.service: Final = dict(parser["Service"])
        assert self.service["KillMode"] == "mixed"  # as it is carried out here

    @property
    def argv(self) -> list[str]:
        return shlex.split(self.service["ExecStart"])

    @property
    def stop_seconds(self) -> float:
        return float(self.service["TimeoutStopSec"])

    @property
    def environment(self) -> dict[str, str]:
        lines = Path(self.service["EnvironmentFile"]).read_text().split()
        return dict(cast("tuple[str, str]", tuple(line.split("=", 1))) for line in lines)


def compose(folder: Path, *names: str) -> dict[str, Any]:
    """A compose file and what is laid over it, as ``docker compose -f ... -f ...`` merges them."""

    def merge(into: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        for key, value in other.items():
            is_mapping = isinstance(value, dict) and isinstance(into.get(key), dict)
            into[key] = merge(into[key], cast("dict[str, Any]", value)) if is_mapping else value
        return into

    found: dict[str, Any] = {}
    for name in names:
        found = merge(found, yaml.safe_load((folder / name).read_text()))
    return found


@dataclass
class Site:
    """A machine of the pages: the application, its units, a Redis and maybe a RabbitMQ."""

    folder: Path
    back_end: BackEnd
    redis: RedisServer
    rabbit: RabbitServer | None
    services: dict[str, Supervised] = field(default_factory=dict[str, Supervised])

    def __post_init__(self) -> None:
        shutil.copytree(CODE / "app", self.folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(CODE / self.back_end.adapter, self.deploy)
        (self.folder / "app" / "accounts.py").write_text(WORK)
        (self.folder / "send.py").write_text(SEND)
        if self.rabbit is not None:
            with (self.deploy / "jobs.env").open("a") as file:
                file.write(f"RABBITMQ_URL={self.rabbit.url}\n")
        places = {
            "/srv/app/.venv/bin": str(BIN),
            "/srv/app": str(self.folder),
            "/etc/app": str(self.deploy),
            "redis://127.0.0.1:6379/0": self.redis.url,
        }
        for deployed in self.deploy.iterdir():
            text = deployed.read_text()
            for theirs, ours in places.items():
                text = text.replace(theirs, ours)
            deployed.write_text(text)

    @property
    def deploy(self) -> Path:
        return self.folder / "deploy"

    def edit(self, name: str, theirs: str, ours: str) -> None:
        """Change a file of the application, or of its deployment."""
        text = (self.folder / name).read_text()
        assert theirs in text
        (self.folder / name).write_text(text.replace(theirs, ours))

    def unit_file(self, queue: str) -> Path:
        return self.deploy / f"app-{self.back_end.adapter}-{queue}@.service"

    def unit(self, queue: str) -> Unit:
        return Unit(self.unit_file(queue))

    @property
    def containers(self) -> dict[str, Any]:
        """The services of the compose files."""
        found = compose(self.deploy, *self.back_end.overlays)["services"]
        return cast("dict[str, Any]", found)

    @property
    def environment(self) -> dict[str, str]:
        ours = {"PATH": f"{BIN}:{os.environ['PATH']}", "RUNS": str(self.folder / "runs")}
        return {**ours, **self.unit("lifecycle").environment}

    # -- what systemd does --------------------------------------------------------------------------------

    def log(self, name: str) -> str:
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def readies(self, name: str) -> int:
        """How many processes have said that they are ready."""
        return self.log(name).count(self.back_end.ready)

    def wait_ready(self, name: str, before: int = 0) -> None:
        eventually(lambda: self.readies(name) >= before + self.back_end.processes, f"{name} to be ready")
        if (service := self.services.get(name)) is not None:  # RQ says so a moment before it heeds signals
            eventually(lambda: heeds_sigterm(service.pid), f"{name} to heed SIGTERM")

    def start(self, *names: str) -> None:
        """``systemctl start`` of units such as ``lifecycle@1``; returns when they are ready."""
        for name in names:
            argv = self.unit(name.partition("@")[0]).argv
            log = self.folder / f"{name}.log"
            self.services[name] = Supervised(argv, self.environment, log, self.folder)
            self.services[name].start()
        for name in names:
            self.wait_ready(name)

    def restart(self, name: str) -> None:
        """``systemctl restart``: SIGTERM to the main process, after `TimeoutStopSec` SIGKILL to all."""
        before = self.readies(name)
        self.services[name].stop(self.unit(name.partition("@")[0]).stop_seconds)
        self.wait_ready(name, before)

    def exits(self, name: str) -> list[str]:
        """With which status its processes ended."""
        return [line.split()[-1] for line in self.log(name).splitlines() if line.startswith("---- it ended")]

    @contextmanager
    def systemctl(self) -> Generator[str]:
        """A folder with the command ``systemctl restart <unit>``, for this machine."""
        (self.folder / "bin").mkdir()
        command = self.folder / "bin" / "systemctl"
        with socket.create_server(("127.0.0.1", 0)) as server:
            command.write_text(SYSTEMCTL.format(python=sys.executable, port=server.getsockname()[1]))
            command.chmod(0o755)

            def serve() -> None:
                while line := self._asked(server):
                    connection, words = line
                    with connection:
                        assert words[0] == "restart"
                        self.restart(words[1].removeprefix(f"app-{self.back_end.adapter}-"))
                        connection.sendall(b"ok")

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield str(command.parent)
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()

    @staticmethod
    def _asked(server: socket.socket) -> tuple[socket.socket, list[str]] | None:
        try:
            connection, _ = server.accept()
        except OSError:  # it is over
            return None
        return connection, connection.makefile().readline().split()

    # -- what a container engine does ---------------------------------------------------------------------

    def image(self, dockerfile: Path) -> tuple[Path, str]:
        """Carry out a Dockerfile in a fresh environment; its folder, and the path of its commands."""
        place, python = self.folder / "image", self.folder / "python"
        venv.create(python, with_pip=True)
        pins = {"PIP_CONSTRAINT": str(ROOT / "requirements" / "dev.txt")}
        for line in dockerfile.read_text().splitlines():
            instruction, rest = line.split(maxsplit=1)
            match instruction:
                case "WORKDIR":
                    place /= rest.removeprefix("/")
                    place.mkdir(parents=True)
                case "COPY":
                    source, target = (self.folder / rest.split()[0], place / rest.split()[1])
                    if source.is_dir():
                        shutil.copytree(source, target)
                    else:
                        shutil.copy(source, target)
                case "RUN":
                    environment = {"PATH": f"{python}/bin:{os.environ['PATH']}", **pins}
                    done = subprocess.run(
                        rest,
                        shell=True,
                        cwd=place,
                        env=environment,
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                    assert done.returncode == 0, done.stdout + done.stderr
                case other:
                    assert other in ("FROM", "USER")
        return place, f"{python}/bin"

    @contextmanager
    def container(self, queue: str, folder: Path | None = None, path: str = "") -> Generator[int]:
        """A queue's container: its command as the first process of a PID namespace; its pid out here."""
        log = self.folder / "container.log"
        isolated = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        if subprocess.run([*isolated, "true"], check=False).returncode != 0:
            pytest.skip("no PID namespace can be made here")
        command = [*isolated, *shlex.split(self.containers[queue]["command"])]
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                cwd=folder or self.folder,
                env={**self.environment, "PATH": f"{path}:{self.environment['PATH']}"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self.wait_ready("container")
            children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children")
            yield int(children.read_text().split()[0])
        finally:
            kill_session(popen.pid)
            popen.wait()
            print(self.log("container"))

    def close(self) -> None:
        for name, service in self.services.items():
            service.end()
            print(f"---- {name}\n{self.log(name)}")

    # -- jobs ------------------------------------------------------------------------------------------------

    def run(self, *command: str, path: str = "") -> str:
        """Run a command in the application's folder; what it prints."""
        environment = {**self.environment, "PATH": f"{path}:{self.environment['PATH']}"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send(self, *names: str, queue: str = "lifecycle") -> str:
        return self.run(sys.executable, "send.py", queue, *names)

    def runs(self, name: str) -> list[str]:
        """What became of a job: ``begin`` and ``end``, of each run."""
        return [what for what, whose, _ in self._noted() if whose == name]

    def runner(self, name: str) -> str:
        """The unit that runs the job."""
        (pid,) = {int(pid) for what, whose, pid in self._noted() if (what, whose) == ("begin", name)}
        leaders = {service.pid: unit for unit, service in self.services.items()}
        return leaders[os.getsid(pid)]

    def _noted(self) -> list[list[str]]:
        file = self.folder / "runs"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


class Deploys:
    """What the pages promise for every broker."""

    back_end: ClassVar[BackEnd]
    doctor: ClassVar[str]
    """The page's command for the doctor, and some of what it says."""

    @pytest.fixture(scope="class")
    @classmethod
    def rabbit(cls, tmp_path_factory: pytest.TempPathFactory) -> Generator[RabbitServer | None]:
        if not cls.back_end.rabbit:
            yield None
            return
        server = RabbitServer(tmp_path_factory.mktemp("rabbit") / "server")
        server.start()
        yield server
        server.kill()

    @pytest.fixture
    def site(self, tmp_path: Path, rabbit: RabbitServer | None) -> Generator[Site]:
        redis = ConfiguredRedis(tmp_path / "redis")
        redis.start()
        (tmp_path / "site").mkdir()
        found = Site(tmp_path / "site", self.back_end, redis, rabbit)
        try:
            yield found
        finally:
            found.close()
            redis.kill()

    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_a_job_that_is_cut_short_is_run_again(self, site: Site) -> None:
        seconds = site.unit("lifecycle").stop_seconds
        site.edit(
            f"deploy/{site.unit_file('lifecycle').name}", f"TimeoutStopSec={seconds:g}", "TimeoutStopSec=3"
        )
        if self.back_end.shorter is not None:
            site.edit(*self.back_end.shorter)
        site.start("lifecycle@1", "lifecycle@2")
        site.send("long-8")
        eventually(lambda: site.runs("long-8"), "the job to begin")
        began = time.monotonic()
        site.restart(site.runner("long-8"))
        assert "end" not in site.runs("long-8")
        eventually(
            lambda: site.runs("long-8").count("begin") == 2, "the job to begin again", self.back_end.back
        )
        print(f"{time.monotonic() - began:.0f} s after SIGTERM")
        eventually(lambda: "end" in site.runs("long-8"), "the job to end")
        assert site.runs("long-8") == ["begin", "begin", "end"]

    @pytest.mark.timeout(240)
    def test_a_deploy_loses_and_repeats_no_job(self, site: Site) -> None:
        site.start("lifecycle@1", "lifecycle@2")
        names = [f"job{number}-1" for number in range(10)]
        with site.systemctl() as path:
            deploy = threading.Thread(target=site.run, args=("sh", "deploy/deploy.sh"), kwargs={"path": path})
            deploy.start()
            for name in names:
                site.send(name)
            deploy.join()
        # RQ's process may be stopped as it takes one off the queue: another begins that a minute later.
        eventually(lambda: all("end" in site.runs(name) for name in names), "all jobs to end", 100)
        assert [site.runs(name) for name in names] == [["begin", "end"]] * len(names)
        assert [site.exits(name) for name in site.services] == [["0"], ["0"]]

    def test_the_page_shows_what_the_doctor_says(self, site: Site) -> None:
        site.start(*(f"{queue}@{number}" for queue in QUEUES for number in (1, 2)))
        ((command, shown),) = commands(self.doctor)
        time.sleep(2)  # until all of them have announced themselves
        said = site.run(*shlex.split(command))
        assert fits(shown, said), said
        found = {tuple(line.split()[:2]) for line in said.splitlines() if line.startswith("ok")}
        assert found >= {("ok", "queues.consumed:"), ("ok", "redis.eviction:"), ("ok", "redis.persistence:")}
        assert re.search(r"\n1 warning, \d+ ok\n$", said)  # audit events go to the log alone

    def test_a_full_redis_refuses_what_it_is_sent(self, site: Site) -> None:
        with site.redis.client() as client:
            client.config_set("maxmemory", 1)
        assert site.send("first-0", "--later") == ("0 1 0\n" if self.back_end.rabbit else "0 1 0\n0 1 0\n")


class Production(Deploys):
    """What each of the pages promises of what it shows."""

    installing: ClassVar[str]
    """The page's commands that build and install the wheels."""

    # -- the files ---------------------------------------------------------------------------------------

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
    @pytest.mark.parametrize("queue", QUEUES)
    def test_systemd_finds_no_fault_with_the_unit(self, site: Site, queue: str) -> None:
        command = ["systemd-analyze", "verify", "--man=no", str(site.unit_file(queue))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    @pytest.mark.parametrize("queue", QUEUES)
    def test_each_waits_15_s_longer_than_what_it_waits_for(self, site: Site, queue: str) -> None:
        script = (
            "from app.jobs import workers; print(max(h.timeout for h in workers.handles if h.queue == {!r}))"
        )
        times = [float(site.run(sys.executable, "-c", script.format(queue)))]
        if self.back_end.graces:
            times.append(self.back_end.graces[queue])
        times.append(site.unit(queue).stop_seconds)
        assert [more - less for less, more in pairwise(times)] == [15.0] * (len(times) - 1), times

    @pytest.mark.parametrize("queue", QUEUES)
    def test_units_and_containers_run_the_same(self, site: Site, queue: str) -> None:
        unit, service = site.unit(queue), site.containers[queue]
        assert shlex.split(service["command"]) == [Path(unit.argv[0]).name, *unit.argv[1:]]
        assert service["stop_grace_period"] == f"{unit.stop_seconds:g}s"
        assert service["restart"] == unit.service["Restart"] == "always"
        assert {*service["environment"]} == {*unit.environment}
        assert {*site.containers} == {*QUEUES, *service["depends_on"]}

    # -- what runs ---------------------------------------------------------------------------------------

    def test_sigterm_lets_the_running_job_end(self, site: Site) -> None:
        site.start("lifecycle@1")
        site.send("first-3")
        eventually(lambda: site.runs("first-3"), "the job to begin")
        site.restart("lifecycle@1")
        assert site.runs("first-3") == ["begin", "end"]
        assert site.exits("lifecycle@1") == ["0"]
        site.send("next-0")
        eventually(lambda: site.runs("next-0") == ["begin", "end"], "the next job to end")
        assert site.runs("first-3") == ["begin", "end"]

    def test_a_container_that_is_stopped_lets_its_job_end(self, site: Site) -> None:
        with site.container("reports") as pid:
            site.send("first-3", queue="reports")
            eventually(lambda: site.runs("first-3"), "the job to begin")
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not Path(f"/proc/{pid}").exists(), "the container to stop")
            assert site.runs("first-3") == ["begin", "end"]

    def test_it_is_installed_as_on_the_page_of_rq(self) -> None:
        assert self.installing.replace(self.back_end.adapter, "rq") == texts("how-to/rq.md", "console")[0]
