"""The host whose jobs audit and are killed: what each run does is a script in the job's args.

Worker processes find in the environment variable AUDITED what they serve; `make_host` is the sender's.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict

from sqlalchemy import Column, MetaData, Select, String, Table, create_engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sigra_workers import (
    Audit,
    AuditOutcome,
    AuditScope,
    Error,
    Ok,
    Result,
    Snooze,
    TenantArgs,
    WorkerHandle,
    Workers,
    current_job,
)
from sigra_workers.audit import AuditFields
from sigra_workers_sqlalchemy import AuditTrail, audit_events

VARIABLE: Final = "AUDITED"
ACTION: Final = "account.closed"
PATIENCE: Final = 30.0
"""Seconds that an event is waited for: a machine that runs all queues at once is slow."""


class Kind(NamedTuple):
    """How a worker audits, and what kind of function it is."""

    way: str
    """safe, or required: committed with the work."""
    color: str


KINDS: Final = [Kind(way, color) for way in ("safe", "required") for color in ("sync", "async")]


class StepArgs(TenantArgs):
    """A step for each run: success or failure for an event, and at last ok, error, snooze or kill."""

    steps: list[str]


class Served(TypedDict):
    """What a worker process serves."""

    adapter: str
    settings: Mapping[str, Any]
    queue: str
    folder: str
    """Where notes of its runs go."""
    database: str
    async_database: str
    table: str
    together: int
    """A job kills its process when so many of those that do are ready to: none takes another along before."""


@dataclass(frozen=True)
class Host:
    """The workers, and a handle of each kind."""

    workers: Workers[AuditScope]
    handles: Mapping[Kind, WorkerHandle[AuditScope, StepArgs, object]]


def make_host(served: Served, audit: Audit | None = None) -> Host:
    """An application with each kind of worker."""
    workers = Workers[AuditScope](
        adapter=served["adapter"], settings=served["settings"], audit=audit or Audit()
    )
    handles = {
        kind: workers.declare(f"{kind.way}.{kind.color}", StepArgs, queue=served["queue"], backoff=1)
        for kind in KINDS
    }
    return Host(workers, handles)


def work_table(metadata: MetaData, name: str) -> Table:
    """Where the work of the jobs goes: a row for each that did it."""
    return Table(f"{name}_work", metadata, Column("job_id", String(128), primary_key=True))


class Run:
    """One run of a job, as runs.jsonl tells it."""

    def __init__(self, served: Served, args: StepArgs) -> None:
        job = current_job()
        assert job is not None
        self.job_id = job.id
        step = args["steps"][job.attempt - 1 + job.snoozes].split()
        outcomes: list[AuditOutcome] = ["failure" if word == "failure" else "success" for word in step[:-1]]
        self.events = [AuditFields(outcome=outcome, target_id=f"account of {job.id}") for outcome in outcomes]
        self._end, self._attempt = step[-1], job.attempt
        self._folder, self._together = Path(served["folder"]), served["together"]

    def note(self, rows: int) -> None:
        """Tell of it, and how many rows of the job there are by now."""
        note(self._folder, "runs", job=self.job_id, attempt=self._attempt, rows=rows, end=self._end)
        if self._end == "kill":
            (self._folder / f"ready-{self.job_id}").touch()

    def waits(self) -> bool:
        """Whether others are not ready yet to be killed with it."""
        return self._end == "kill" and len([*self._folder.glob("ready-*")]) < self._together

    def end(self) -> Result[object]:
        """Do the last word of the step."""
        match self._end:
            case "kill":
                os.kill(os.getpid(), 9)
            case "error":
                return Error("refused")
            case "snooze":
                return Snooze(1)
            case _:
                pass
        return Ok(None)


def note(folder: Path, name: str, **facts: object) -> None:
    """A line in a file, in one write, so that processes don't mix theirs."""
    descriptor = os.open(folder / f"{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(facts) + "\n").encode())
    finally:
        os.close(descriptor)


class Database:
    """The host's tables, its engines, and a facade for either kind of function."""

    def __init__(self, served: Served) -> None:
        metadata = MetaData()
        self._events = audit_events(metadata, served["table"])
        self._work = work_table(metadata, served["table"])
        self.engine = create_engine(served["database"])
        self.aengine = create_async_engine(served["async_database"])
        self.audit = Audit(AuditTrail(self.engine, self._events, timeout=PATIENCE))
        self.aaudit = Audit(AuditTrail(self.aengine, self._events, timeout=PATIENCE))
        for facade in (self.audit, self.aaudit):
            facade.on_failure(
                lambda action, fields, error: note(Path(served["folder"]), "lost", why=f"{fields}: {error}")
            )

    def work(self, run: Run) -> Any:
        """The statement that does the work of a job, once however often it is done."""
        return insert(self._work).values(job_id=run.job_id).on_conflict_do_nothing()

    def rows(self, run: Run) -> Select[int]:
        """How many rows the job has."""
        return select(func.count()).where(self._events.c.job_id == run.job_id)


def implement(host: Host, served: Served, database: Database) -> None:
    """The worker process's side."""
    audit, aaudit = database.audit, database.aaudit

    @host.handles[Kind("safe", "sync")].implement
    def safe(scope: AuditScope, args: StepArgs) -> Result[object]:
        run = Run(served, args)
        for fields in run.events:
            audit.log_safe(ACTION, scope, **fields)
        return end(run)

    @host.handles[Kind("required", "sync")].implement
    def required(scope: AuditScope, args: StepArgs) -> Result[object]:
        run = Run(served, args)
        with Session(database.engine) as session, session.begin():
            session.execute(database.work(run))
            for fields in run.events:
                audit.log(ACTION, scope, transaction=session, **fields)
        return end(run)

    def end(run: Run) -> Result[object]:
        with database.engine.connect() as connection:
            run.note(connection.execute(database.rows(run)).scalar_one())
        while run.waits():
            time.sleep(0.05)
        return run.end()

    @host.handles[Kind("safe", "async")].implement
    async def asafe(scope: AuditScope, args: StepArgs) -> Result[object]:
        run = Run(served, args)
        for fields in run.events:
            await aaudit.alog_safe(ACTION, scope, **fields)
        return await aend(run)

    @host.handles[Kind("required", "async")].implement
    async def arequired(scope: AuditScope, args: StepArgs) -> Result[object]:
        run = Run(served, args)
        async with AsyncSession(database.aengine) as session, session.begin():
            await session.execute(database.work(run))
            for fields in run.events:
                await aaudit.alog(ACTION, scope, transaction=session, **fields)
        return await aend(run)

    async def aend(run: Run) -> Result[object]:
        async with database.aengine.connect() as connection:
            run.note((await connection.execute(database.rows(run))).scalar_one())
        while run.waits():  # noqa: ASYNC110  # for a file
            await asyncio.sleep(0.05)
        return run.end()


def serve() -> Workers[AuditScope]:
    """The workers of this worker process."""
    served: Served = json.loads(os.environ[VARIABLE])
    database = Database(served)
    host = make_host(served, database.audit)
    implement(host, served, database)
    return host.workers
