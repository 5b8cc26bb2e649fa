"""A host application for the tests of a queue's adapter: what it declares; `steps` is what it does."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired

from tests.queues.files import JsonLinesSink

from sigra_workers import (
    Audit,
    AuditScope,
    AuditScopeBuilder,
    Cancel,
    Snooze,
    TenantArgs,
    WorkerHandle,
    Workers,
    current_job,
)

QUEUE = os.environ.get("HOST_QUEUE", "default")
"""Where a worker process finds the jobs."""


class StepArgs(TenantArgs):
    """A script: what each run is to do, the last step repeating. See `steps.Steps.step`."""

    steps: list[str]
    token: NotRequired[str]


class Gone(Exception):
    """Means `Cancel`."""


class Builder:
    """Knows an organization that was deleted, and one that is suspended for two runs of a job."""

    def build(self, args: TenantArgs, /) -> AuditScope | Cancel | Snooze:
        job = current_job()
        if args["organization_id"] == "org-deleted":
            return Cancel("organization is gone")
        if args["organization_id"] == "org-suspended" and job is not None and job.snoozes < 2:
            return Snooze(1)
        return AuditScopeBuilder().build(args)


@dataclass(frozen=True)
class Host:
    """The workers and their handles."""

    workers: Workers[AuditScope]
    sync: WorkerHandle[AuditScope, StepArgs, Any]
    asynchronous: WorkerHandle[AuditScope, StepArgs, Any]
    later: WorkerHandle[AuditScope, StepArgs, Any]

    @property
    def handles(self) -> "Mapping[str, WorkerHandle[AuditScope, StepArgs, Any]]":
        return {"sync": self.sync, "async": self.asynchronous}


def declare(
    adapter: str,
    settings: Mapping[str, Any],
    queue: str = "default",
    queues: Iterable[str] = (),
    *,
    aliases: Sequence[str] = (),
    plugins: Iterable[object] = (),
) -> Host:
    """An application on that adapter, with its jobs on that queue; `aliases` are of ``steps.sync``."""
    workers = Workers[AuditScope](
        scope_builder=Builder(),
        adapter=adapter,
        settings=settings,
        audit=Audit(JsonLinesSink()),
        queues=queues,
        cancel_on=[Gone],
        plugins=plugins,
        system_actor="system:host",
    )
    return Host(
        workers,
        workers.declare("steps.sync", StepArgs, queue=queue, max_attempts=3, backoff=0, aliases=aliases),
        workers.declare("steps.async", StepArgs, queue=queue, max_attempts=3, backoff=0),
        workers.declare("steps.later", StepArgs, queue=queue, max_attempts=3, backoff=1.25),
    )
