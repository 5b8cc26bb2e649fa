"""The host whose worker processes are watched: what each run of a job does is a script in its args.

Worker processes find in the environment variable WATCHED what they serve; `make_host` is the sender's.
"""

import json
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from opentelemetry.trace import get_tracer
from tests.observability.watchers import WATCHERS, write_line

from sigra_workers import (
    AuditScope,
    Cancel,
    Error,
    Ok,
    Result,
    Snooze,
    TenantArgs,
    WorkerHandle,
    Workers,
    current_job,
)

VARIABLE: Final = "WATCHED"
COLORS: Final = ("sync", "async")
LOG: Final = logging.getLogger("app.steps")


class StepArgs(TenantArgs):
    """A step for each run: ok, error, raise, snooze, cancel, kill or nothing; and what nobody is to see."""

    steps: list[str]
    token: str


class Served(TypedDict):
    """What a worker process serves, and by whom it is watched."""

    adapter: str
    settings: Mapping[str, Any]
    queue: str
    folder: str
    """Where watchers write to."""
    watcher: str


@dataclass(frozen=True)
class Host:
    """The workers, and a handle of each color."""

    workers: Workers[AuditScope]
    handles: Mapping[str, WorkerHandle[AuditScope, StepArgs, object]]


def make_host(served: Served, *plugins: object) -> Host:
    """An application with a worker of each color, whose jobs have two attempts."""
    workers = Workers[AuditScope](adapter=served["adapter"], settings=served["settings"], plugins=plugins)
    handles = {
        color: workers.declare(f"steps.{color}", StepArgs, queue=served["queue"], backoff=1, max_attempts=2)
        for color in COLORS
    }
    return Host(workers, handles)


def step(folder: str, args: StepArgs) -> Result[object]:
    """Note the run, and do what the script says of it."""
    job = current_job()
    assert job is not None
    now = args["steps"][job.attempt - 1 + job.snoozes]
    write_line(Path(folder) / "runs.jsonl", job=job.id, step=now)
    with get_tracer("app").start_as_current_span("work"):
        LOG.info("performed")
    match now:
        case "ok":
            return Ok()
        case "error":
            return Error("refused")
        case "raise":
            raise ValueError("refused")
        case "snooze":
            return Snooze(1)
        case "cancel":
            return Cancel("withdrawn")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            return Ok()
        case _:
            return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def serve() -> Workers[AuditScope]:
    """The workers of this worker process."""
    served: Served = json.loads(os.environ[VARIABLE])
    host = make_host(served, *WATCHERS[served["watcher"]](served["folder"], served["adapter"]))

    @host.handles["sync"].implement
    def sync(scope: AuditScope, args: StepArgs) -> Result[object]:
        return step(served["folder"], args)

    @host.handles["async"].implement
    async def asynchronous(scope: AuditScope, args: StepArgs) -> Result[object]:
        return step(served["folder"], args)

    return host.workers
