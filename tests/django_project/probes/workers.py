"""What the probes do: found by the project's autodiscovery."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from probes.jobs import ProbeArgs, aquery, bare_aquery, bare_query, hold, query
from sigra_workers import AuditScope, Ok, Result, current_job

FOLDER = Path(os.environ["PROBES"])


def note(label: str, **facts: Any) -> None:
    """Write a line for the test."""
    job = current_job()
    line = {"label": label, "attempt": job and job.attempt, "pid": os.getpid(), **facts}
    with (FOLDER / "notes.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def backend() -> int:
    """The process of PostgreSQL behind the connection of this thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def ask(scope: AuditScope, args: ProbeArgs) -> Result[None]:
    """Ask the database something."""
    note(args["label"], backend=backend())
    return Ok()


async def aask(scope: AuditScope, args: ProbeArgs) -> Result[None]:
    """The same from async code, and again once the test says so: others run meanwhile."""
    note(args["label"], backend=await sync_to_async(backend)())
    while not (FOLDER / "gate").exists():  # noqa: ASYNC110  # it is another process's
        await asyncio.sleep(0.02)
    note(args["label"], backend=await sync_to_async(backend)())
    return Ok()


def wait(scope: AuditScope, args: ProbeArgs) -> Result[None]:
    """Begin, and go on once the test says so."""
    note(args["label"], at=time.time())
    while not (FOLDER / "gate").exists():
        time.sleep(0.02)
    return Ok()


query.implement(ask)
aquery.implement(aask)
hold.implement(wait)
bare_query.implement(ask)
bare_aquery.implement(aask)
