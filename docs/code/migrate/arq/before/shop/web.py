"""What sends jobs."""

from arq import create_pool

from shop.queues import redis_settings
from shop.scopes import RequestScope


async def remind_customer(scope: RequestScope, invoice_id: str) -> None:
    """Have a customer reminded of an invoice."""
    pool = await create_pool(redis_settings)
    await pool.enqueue_job("remind", invoice_id)
    await pool.aclose()
