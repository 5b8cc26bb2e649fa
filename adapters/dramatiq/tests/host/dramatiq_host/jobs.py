"""The registry; importing it opens nothing."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired

from dramatiq_host.files import JsonLinesSink, append
from sigra_workers import (
    Audit,
    AuditScope,
    AuditScopeBuilder,
    Cancel,
    Decision,
    JobInfo,
    Snooze,
    TenantArgs,
    WorkerHandle,
    Workers,
    current_job,
    hookimpl,
)


class StepArgs(TenantArgs):
    """A script: what each run is to do, the last step repeating. See `implementations.step`."""

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


class Diary:
    """Notes how each run ended, and what died."""

    @hookimpl
    def sigra_finished(self, job: JobInfo, decision: Decision | None) -> None:
        append("finished.jsonl", {"job": job.id, "decision": decision})

    @hookimpl
    def sigra_dead(self, job: JobInfo, reason: str) -> None:
        append("dead.jsonl", {"job": job.id, "reason": reason})


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


def make_host(settings: Mapping[str, Any], queue: str = "default", queues: Iterable[str] = ()) -> Host:
    """An application on those servers, with its jobs on that queue."""
    workers = Workers[AuditScope](
        scope_builder=Builder(),
        adapter="dramatiq",
        settings=settings,
        audit=Audit(JsonLinesSink()),
        queues=queues,
        cancel_on=[Gone],
        plugins=[Diary()],
        system_actor="system:host",
    )
    return Host(
        workers,
        workers.declare(
            "steps.sync", StepArgs, queue=queue, max_attempts=3, backoff=0, aliases=["steps.old"]
        ),
        workers.declare("steps.async", StepArgs, queue=queue, max_attempts=3, backoff=0),
        workers.declare("steps.later", StepArgs, queue=queue, max_attempts=3, backoff=1.25),
    )


def settings() -> dict[str, Any]:
    """What the test says, or the host's own broker where it says so."""
    found: dict[str, Any] = json.loads(os.environ.get("HOST_SETTINGS", '{"url": "redis://127.0.0.1:6379/9"}'))
    if os.environ.get("HOST_OWN_BROKER"):
        from dramatiq_host.brokers import make_broker

        found["broker"] = make_broker(found.pop("url"))
    return found


host = make_host(
    settings(), os.environ.get("HOST_QUEUE", "default"), os.environ.get("HOST_QUEUES", "").split()
)
workers = host.workers
