"""Functions of the host's own, which know nothing of ours, but that none of our jobs runs."""

import asyncio
from typing import Any, Final

from arq import cron, func
from tests.queues.files import append

from sigra_workers import current_job


async def add(ctx: dict[str, Any], first: int, second: int) -> int:
    job = getattr(current_job(), "id", None)
    append("plain.jsonl", {"sum": first + second, "tries": ctx["job_try"], "job": job})
    return first + second


async def sleep(ctx: dict[str, Any], seconds: float) -> str:
    append("plain.jsonl", {"slept": seconds})
    await asyncio.sleep(seconds)
    return "slept"


async def fail(ctx: dict[str, Any]) -> None:
    raise RuntimeError("plain failure")


async def tick(ctx: dict[str, Any]) -> None:
    append("cron.jsonl", {"job": ctx["job_id"], "started": ctx.get("started")})


async def startup(ctx: dict[str, Any]) -> None:
    ctx["started"] = "by the host"


FUNCTIONS: Final = [
    add,
    func(sleep, timeout=0.4),
    func(sleep, name="sleep_by_default"),
    "arq_host.plain.fail",
]
CRON_JOBS: Final = [cron(tick, second=set(range(60)))]
clash: Final = func(add, name="sigra_workers_arq.dispatch")
