"""The Django project of examples/django on a database and a Redis of its own, with real worker processes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from tests.losses.servers import free_port
from tests.queues.harness import SECONDS, Process, RedisServer, eventually

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = ROOT / "examples/django"
BIN: Final = Path(sys.executable).parent
POSTGRES: Final = f"127.0.0.1:{os.environ.get('POSTGRES_PORT', '5432')}"
"""The server that `make servers` starts."""
SIGN_IN: Final = """
from accounts.models import Account, Organization
from django.contrib.auth.models import User
from django.test import Client

ann, _ = User.objects.get_or_create(username="ann")
northwind, _ = Organization.objects.get_or_create(name="Northwind")
northwind.members.add(ann)
client = Client()
client.force_login(ann)
session = client.session
session["organization"] = northwind.pk
session.save()


def accounts(count):
    return [Account.objects.create(organization=northwind).pk for _ in range(count)]


def close(ids):
    assert client.post("/accounts/close", {"account": ids}).status_code == 202


"""
"""Lets a program send requests of Ann, of organization Northwind."""


SEND: Final = """
import json
import sys

from probes import jobs

for line in sys.stdin:
    worker, labels, options = json.loads(line)
    for label in labels:
        getattr(jobs, worker).enqueue(dict(organization_id=None, actor_id=None, label=label), **options)
    print("sent", flush=True)
"""
"""Sends probes, as they are told."""


class Launch(NamedTuple):
    """How a worker process is started, and what it says when it is ready."""

    command: list[str]
    ready: str


@dataclass
class Django:
    """The project in a folder: its environment, its processes, and what they wrote."""

    folder: Path
    redis: RedisServer
    database: str | None
    """The name of a PostgreSQL database; None is SQLite."""
    settings: str = "probes.settings"
    variables: dict[str, str] = field(default_factory=dict[str, str])
    processes: list[Process] = field(default_factory=list[Process])
    senders: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict[str, "subprocess.Popen[str]"])
    """What sends probes, by the adapter."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process of the project finds in its environment."""
        found = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": self.settings,
            "JOBS_ADAPTER": "rq",
            "PROBES": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error::ResourceWarning",
            "REDIS_URL": self.redis.url,
            "SQLITE_PATH": str(self.folder / "db.sqlite3"),
            **self.variables,
        }
        if self.database is not None:
            found["POSTGRES_DB"] = self.database
        return found

    # -- processes -------------------------------------------------------------------------------------

    def manage(self, *arguments: str, **variables: str) -> str:
        """What ``manage.py`` says to both outputs; the test fails where it fails."""
        command = [sys.executable, "manage.py", *arguments]
        return self.run(command, **variables)

    def run(self, command: list[str], **variables: str) -> str:
        """What a command says, once it has ended well."""
        environment = {**self.environment, **variables}
        ran = subprocess.run(
            command, cwd=PROJECT, env=environment, check=False, text=True, capture_output=True, timeout=100
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def python(self, code: str, **variables: str) -> str:
        """What a program in a process of the project prints."""
        return self.manage("shell", "-v0", "-c", code, **variables)

    def start(self, launch: "Launch", **variables: str) -> Process:
        """Start a worker process; returns once it says that it is ready."""
        file = self.folder / f"process-{len(self.processes)}.log"
        with file.open("wb") as output:
            popen = subprocess.Popen(
                launch.command,
                cwd=PROJECT,
                env={**self.environment, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen, file)
        self.processes.append(process)
        eventually(lambda: launch.ready in process.log or not process.alive, f"{launch.command} to start")
        assert process.alive, process.log
        return process

    def close(self) -> None:
        """Kill what was started here, orphans too, and print the logs."""
        for sender in self.senders.values():
            sender.communicate()
        while ours := self._alive():  # again, for what was just being forked
            for pid in ours:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.processes:
                process.popen.wait()
        for process in self.processes:
            print(f"---- {process.popen.args!r}\n{process.log}")

    def _alive(self) -> list[int]:
        """The processes that were started here, known by their environment."""
        found: list[int] = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"PROBES={self.folder}".encode() in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return found

    # -- what is there -----------------------------------------------------------------------------------

    def notes(self, label: str) -> list[dict[str, Any]]:
        """What probes of that label wrote, in order."""
        file = self.folder / "notes.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if line["label"] == label]

    def noted(self, label: str, count: int = 1, seconds: float = SECONDS) -> list[dict[str, Any]]:
        """The same, as soon as there are so many."""

        def enough() -> list[dict[str, Any]]:
            found = self.notes(label)
            return found if len(found) >= count else []

        return eventually(enough, f"{count} notes of {label}", seconds)

    def open_gate(self) -> None:
        """Let the probes go on that wait for it."""
        (self.folder / "gate").touch()

    def probe(self, adapter: str, worker: str, *labels: str, **options: Any) -> None:
        """Send probes by that adapter, one a label."""
        sender = self.senders.get(adapter)
        if sender is None:  # it is kept: to set Django up takes long
            sender = self.senders[adapter] = subprocess.Popen(
                [sys.executable, "manage.py", "shell", "-v0", "-c", SEND],
                cwd=PROJECT,
                env={**self.environment, "JOBS_ADAPTER": adapter},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert sender.stdin is not None
        assert sender.stdout is not None
        sender.stdin.write(json.dumps([worker, labels, options]) + "\n")
        sender.stdin.flush()
        assert sender.stdout.readline() == "sent\n"

    def sql(self, query: str, *parameters: object) -> list[Any]:
        """Rows of the database, by another way than Django."""
        if self.database is None:
            with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=5)) as file:
                return file.execute(query, parameters).fetchall()
        with connect(self.database) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def states(self) -> list[str]:
        """Of each account."""
        return [state for (state,) in self.sql("SELECT state FROM accounts_account ORDER BY id")]

    def backends(self) -> set[int]:
        """The connections to the database that there are, but for that of this question."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        return {pid for (pid,) in self.sql(query, self.database)}

    def end_backends(self) -> None:
        """End all of them, as a restart of the database does."""
        for pid in self.backends():
            self.sql("SELECT pg_terminate_backend(%s)", pid)
        eventually(lambda: not self.backends(), "the connections to end")


def connect(database: str) -> psycopg.Connection:
    """A connection to a PostgreSQL database."""
    return psycopg.connect(f"postgresql://postgres@{POSTGRES}/{database}", autocommit=True)


@contextmanager
def postgres(template: str = "template1") -> Generator[str]:
    """A database for a block, made as a copy of another one."""
    name = f"sigra_django_{uuid.uuid4().hex[:10]}"
    try:
        server = connect("postgres")
    except psycopg.OperationalError as error:
        pytest.fail(f"no PostgreSQL ({error}): run `make servers`")
    with server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        try:
            yield name
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def project(folder: Path, database: str | None) -> Generator[Django]:
    """The project for a block, with a Redis of its own."""
    redis = RedisServer(free_port(), folder, ())
    found = Django(folder, redis, database)
    try:
        yield found
    finally:
        found.close()
        redis.process.kill()


def rq(*options: str, boot: str = "config.rq_lifecycle") -> list[str]:
    """The plain command of RQ."""
    return [str(BIN / "rq"), "worker", "-c", boot, "--serializer", "json", "--with-scheduler", *options]
