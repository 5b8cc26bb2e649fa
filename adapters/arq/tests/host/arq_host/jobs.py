"""The registry; importing it opens nothing."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NotRequired

from arq_host.files import JsonLinesSink
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


def to_json(found: dict[str, Any]) -> bytes:
    """A serializer as arq wants one."""
    return json.dumps(found).encode()


SERIALIZERS: Final[dict[str, dict[str, Any]]] = {
    "pickle": {},
    "json": {"job_serializer": to_json, "job_deserializer": json.loads},
}


def make_host(settings: Mapping[str, Any], queue: str = "default", queues: Iterable[str] = ()) -> Host:
    """An application on that Redis, with its jobs on that queue."""
    workers = Workers[AuditScope](
        scope_builder=Builder(),
        adapter="arq",
        settings=settings,
        audit=Audit(JsonLinesSink()),
        queues=queues,
        cancel_on=[Gone],
        system_actor="system:host",
    )
    return Host(
        workers,
        workers.declare("steps.sync", StepArgs, queue=queue, max_attempts=3, backoff=0),
        workers.declare("steps.async", StepArgs, queue=queue, max_attempts=3, backoff=0),
        workers.declare("steps.later", StepArgs, queue=queue, max_attempts=3, backoff=1.25),
    )


host = make_host(
    {
        "url": os.environ.get("HOST_REDIS_URL", "redis://127.0.0.1:6379/8"),
        **SERIALIZERS[os.environ.get("HOST_SERIALIZER", "pickle")],
    },
    os.environ.get("HOST_QUEUE", "default"),
    [os.environ["HOST_OTHER_QUEUE"]] if "HOST_OTHER_QUEUE" in os.environ else [],
)
workers = host.workers
