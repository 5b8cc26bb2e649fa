"""The host whose jobs are in the way when something dies: what each run does is a script in the job's args.

Worker processes find in the environment variable LOSSES what they serve; `make_host` is the sender's.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.losses.processes import kill_session

from sigra_workers import (
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

VARIABLE: Final = "LOSSES"
BACKOFF: Final = 2
"""Seconds before a retry."""
KINDS: Final = ("sync", "async")


class StepArgs(TenantArgs):
    """What each run does: ok, error:REASON, snooze:SECONDS, kill (its process), kill-all (its worker's tree).

    ``hold:FILE STEP`` waits for a file before the step.
    """

    steps: list[str]


@dataclass(frozen=True)
class Host:
    """The workers, and a handle of each kind."""

    workers: Workers[AuditScope]
    handles: Mapping[str, WorkerHandle[AuditScope, StepArgs, object]]
    folder: Path


def make_host(adapter: str, settings: Mapping[str, Any], queue: str, folder: Path) -> Host:
    """An application with both kinds of workers on that queue; what its runs do is noted in the folder."""
    workers = Workers[AuditScope](adapter=adapter, settings=settings)
    handles = {
        kind: workers.declare(f"step.{kind}", StepArgs, queue=queue, backoff=BACKOFF) for kind in KINDS
    }
    return Host(workers, handles, folder)


class BareRun:
    """One run of a job, as runs.jsonl tells it. A file of its own is touched while its body lives."""

    def __init__(self, folder: Path, job: str, steps: list[str], number: int = 0, **facts: object) -> None:
        self._folder = folder
        self._facts = {"job": job, "run": os.urandom(6).hex(), "pid": os.getpid()}
        number = number or self._before() + 1
        step = steps[min(number, len(steps)) - 1]
        self._gate, self._step = "", step
        if step.startswith("hold:"):
            self._gate, _, self._step = step.removeprefix("hold:").partition(" ")
        self._note(what="begin", **{"attempt": number, "snoozes": 0, "tenant": [], **facts})

    def waits(self) -> bool:
        """Whether its gate is still closed."""
        (self._folder / f"alive-{self._facts['run']}").touch()
        return bool(self._gate) and not (self._folder / self._gate).exists()

    def end(self) -> str:
        """Do the step; returns what it decides."""
        verb = self._step.partition(":")[0]
        if verb == "kill":
            os.kill(os.getpid(), 9)
        if verb == "kill-all":
            kill_session(os.getsid(0))
        self._note(what="end", decision=verb)
        return verb

    def _before(self) -> int:
        file = self._folder / "runs.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return sum(line["what"] == "begin" and line["job"] == self._facts["job"] for line in lines)

    def _note(self, **facts: object) -> None:
        line = json.dumps({**self._facts, "at": time.time(), **facts}) + "\n"
        descriptor = os.open(self._folder / "runs.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


class Run(BareRun):
    """One run of a job of ours."""

    def __init__(self, folder: Path, scope: AuditScope, args: StepArgs) -> None:
        job = current_job()
        assert job is not None
        tenant = [scope.active_organization and scope.active_organization.id, args["actor_id"]]
        facts: dict[str, object] = {"attempt": job.attempt, "snoozes": job.snoozes, "tenant": tenant}
        super().__init__(folder, job.id, args["steps"], job.attempt + job.snoozes, **facts)

    def result(self) -> Result[object]:
        """Do the step; returns what `perform` does."""
        rest = self._step.partition(":")[2]
        match self.end():
            case "error":
                return Error(rest)
            case "snooze":
                return Snooze(int(rest))
            case _:
                return Ok(None)


def implement(host: Host) -> None:
    """The worker process's side."""

    @host.handles["sync"].implement
    def sync(scope: AuditScope, args: StepArgs) -> Result[object]:
        run = Run(host.folder, scope, args)
        while run.waits():
            time.sleep(0.05)
        return run.result()

    @host.handles["async"].implement
    async def asynchronous(scope: AuditScope, args: StepArgs) -> Result[object]:
        run = Run(host.folder, scope, args)
        while run.waits():  # noqa: ASYNC110  # for a file
            await asyncio.sleep(0.05)
        return run.result()


def serve() -> Workers[AuditScope]:
    """The workers of this worker process."""
    found = json.loads(os.environ[VARIABLE])
    host = make_host(found["adapter"], found["settings"], found["queue"], Path(found["folder"]))
    implement(host)
    return host.workers
