"""What sends jobs."""

from shop import tasks
from shop.queues import mail
from shop.scopes import RequestScope


def remind_customer(scope: RequestScope, invoice_id: str) -> None:
    """Have a customer reminded of an invoice."""
    mail.enqueue(tasks.remind, invoice_id)
