"""An application on PostgreSQL with row-level security; the boot file of its worker processes too.

One connection a process, as role of no privileges: it sees the rows of the organization that an around has
set, and none without.
"""

import asyncio
import functools
import os
from collections.abc import Generator
from typing import Any

import psycopg
from tests.queues.files import append

from sigra_workers import AuditScope, Ok, OrganizationArgs, Result, TenantArgs, Workers, current_job
from sigra_workers.jobs import JobInfo
from sigra_workers_rq import boot

SET_TENANT = "SELECT set_config('app.organization_id', %s, %s)"


class ReadArgs(OrganizationArgs):
    fails_first: bool


def make_workers(settings: dict[str, Any], queue: str) -> Workers[AuditScope]:
    """The registry; implemented in worker processes only."""
    workers = Workers(adapter="rq", settings=settings)
    for name in ("read.sync", "read.async"):
        workers.declare(name, ReadArgs, queue=queue, max_attempts=2, backoff=0)
    return workers


@functools.cache
def connection() -> "psycopg.Connection[Any]":
    """The connection of this process, opened by the first job that needs it."""
    return psycopg.connect(os.environ["HOST_DATABASE"], autocommit=True)


def tenant_session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """As the docs show it: the tenant is set for one transaction, which ends with the job."""
    with connection().transaction():
        connection().execute(SET_TENANT, [args["organization_id"], True])
        yield


def leaky_session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """What it must not be: set for the connection, and kept where one is set."""
    found = connection().execute("SELECT current_setting('app.organization_id', true)").fetchone()
    if found is None or not found[0]:
        connection().execute(SET_TENANT, [args["organization_id"], False])
    yield


def insert(args: ReadArgs) -> None:
    job = current_job()
    assert job is not None
    connection().execute("INSERT INTO notes VALUES (%s, %s)", [args["organization_id"], job.id])


def read(args: ReadArgs) -> Result[str]:
    """Note whose rows this job sees."""
    job = current_job()
    assert job is not None
    rows = connection().execute("SELECT DISTINCT organization_id FROM notes").fetchall()
    append(
        "seen.jsonl",
        {"job": job.id, "organization": args["organization_id"], "seen": [row[0] for row in rows]},
    )
    if args["fails_first"] and job.attempt == 1:
        raise RuntimeError("rolled back")
    return Ok("read")


def read_sync(scope: AuditScope, args: ReadArgs) -> Result[str]:
    if os.environ["HOST_AROUND"] == "tenant":
        insert(args)
    return read(args)


async def read_async(scope: AuditScope, args: ReadArgs) -> Result[str]:
    if os.environ["HOST_AROUND"] == "tenant":
        insert(args)
    await asyncio.sleep(0)
    return read(args)


def boot_here() -> None:
    """Bind a worker process."""
    settings = {"url": os.environ["HOST_REDIS_URL"], "serializer": os.environ["HOST_SERIALIZER"]}
    workers = make_workers(settings, os.environ["HOST_QUEUE"])
    session = {"tenant": tenant_session, "leaky": leaky_session}.get(os.environ["HOST_AROUND"])
    if session is not None:
        workers.around(session)
    sync, asynchronous = workers.handles
    sync.implement(read_sync)
    asynchronous.implement(read_async)
    boot(workers)


if "HOST_AROUND" in os.environ:
    boot_here()
