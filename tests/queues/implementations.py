"""What the workers of the host do, in worker processes only."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.queues.files import append, folder
from tests.queues.host import Gone, Host, StepArgs

from sigra_workers import AuditScope, Cancel, Error, Ok, Result, Snooze, current_job

CHILD: StepArgs = {"organization_id": "org-1", "actor_id": "ann", "steps": ["ok"]}


def held(step: str) -> tuple[Callable[[], bool], str]:
    """What ``hold:FILE STEP`` waits for, a file that the test makes, and the step that follows."""
    if not step.startswith("hold:"):
        return lambda: False, step
    name, _, rest = step.partition(":")[2].partition(" ")
    return lambda: not (folder() / name).exists(), rest


class Steps:
    """Implements the host's workers; `more` are steps of one queue's own, by name."""

    def __init__(self, host: Host, **more: Callable[[], Any]) -> None:
        self._host, self._more = host, more
        host.sync.implement(self.sync)
        host.asynchronous.implement(self.asynchronous)
        host.later.implement(self.later)

    def begin(self, scope: AuditScope, args: StepArgs) -> str:
        """Note the run, in runs.jsonl and in the audit trail; the step it is to do."""
        job = current_job()
        assert job is not None
        steps = args["steps"]
        step = steps[min(job.attempt - 1 + job.snoozes, len(steps) - 1)]
        append(
            "runs.jsonl",
            {
                "job": job.id,
                "at": time.time(),
                "pid": os.getpid(),
                "attempt": job.attempt,
                "snoozes": job.snoozes,
                "step": step,
                "organization": args["organization_id"],
                "actor": args["actor_id"],
            },
        )
        self._host.workers.audit.log("host.ran", scope, target_type="step", target_id=step)
        return step

    def step(self, name: str) -> Any:
        """Do one step: ok, ok:VALUE, object, error:REASON, raise:TEXT, none, cancel:REASON, gone, exit, kill,
        enqueue, snooze:SECONDS or one of the queue's own; the workers know sleep:SECONDS and hold:FILE STEP.
        """
        verb, _, rest = name.partition(":")
        match verb:
            case "ok":
                return Ok(rest or None)
            case "error":
                return Error(rest)
            case "raise":
                raise RuntimeError(rest)
            case "cancel":
                return Cancel(rest)
            case "gone":
                raise Gone("its account was closed")
            case "exit":
                raise SystemExit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "snooze":
                return Snooze(int(rest))
            case "none":
                return None
            case "object":
                return Ok(object())
            case "enqueue":
                return Ok(self._host.sync.enqueue(CHILD).id)
            case _ if name in self._more:
                return self._more[name]()
            case _:
                pass
        raise AssertionError(name)

    def sync(self, scope: AuditScope, args: StepArgs) -> Result[object]:
        waits, found = held(self.begin(scope, args))
        while waits():
            time.sleep(0.005)
        if found.startswith("sleep:"):
            end = time.monotonic() + float(found.partition(":")[2])
            while time.monotonic() < end:
                time.sleep(0.005)
            found = "ok:slept"
        result: Result[object] = self.step(found)
        return result

    async def asynchronous(self, scope: AuditScope, args: StepArgs) -> Result[object]:
        waits, found = held(self.begin(scope, args))
        while waits():  # noqa: ASYNC110  # for a file
            await asyncio.sleep(0.005)
        if found.startswith("sleep:"):
            await asyncio.sleep(float(found.partition(":")[2]))
            found = "ok:slept"
        if found == "enqueue":
            return Ok((await self._host.sync.aenqueue(CHILD)).id)
        result: Result[object] = self.step(found)
        return result

    def later(self, scope: AuditScope, args: StepArgs) -> Result[object]:
        result: Result[object] = self.step(self.begin(scope, args))
        return result
