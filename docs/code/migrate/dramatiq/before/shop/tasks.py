"""The old jobs."""

import dramatiq

from shop import invoices
from shop.queues import QUEUE


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def remind(invoice_id: str) -> None:
    """Remind a customer of an invoice."""
    invoices.remind(invoice_id)
