"""The boot file of a host with a broker of its own, and plain actors on it."""

import asyncio

from tests.queues.files import append
from tests.queues.host import StepArgs

import dramatiq_host.implementations  # pyright: ignore[reportUnusedImport]
import dramatiq_host.plain  # noqa: F401  # pyright: ignore[reportUnusedImport]
from dramatiq_host.jobs import workers
from sigra_workers import AuditScope, Ok, Result
from sigra_workers_dramatiq import boot


@workers.worker(name="steps.loop")
async def loop(scope: AuditScope, args: StepArgs) -> Result[None]:
    append("loops.jsonl", {"loop": id(asyncio.get_running_loop())})
    return Ok()


boot("dramatiq_host.jobs:workers")
