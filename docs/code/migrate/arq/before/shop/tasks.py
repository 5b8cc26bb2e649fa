"""The old jobs."""

import asyncio
from typing import Any

from shop import invoices, queues


async def remind(ctx: dict[Any, Any], invoice_id: str) -> None:
    """Remind a customer of an invoice."""
    await asyncio.to_thread(invoices.remind, invoice_id)


class WorkerSettings:
    """What arq read until now."""

    functions = (remind,)
    job_completion_wait = 30
    redis_settings = queues.redis_settings
