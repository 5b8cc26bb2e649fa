"""What sends jobs."""

from shop import tasks
from shop.scopes import RequestScope


def remind_customer(scope: RequestScope, invoice_id: str) -> None:
    """Have a customer reminded of an invoice."""
    tasks.remind.send(invoice_id)
