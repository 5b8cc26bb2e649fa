"""What sends jobs."""

from shop.jobs import ReminderArgs, remind
from shop.scopes import RequestScope
from sigra_workers import organization_args


def remind_customer(scope: RequestScope, invoice_id: str) -> None:
    """Have a customer reminded of an invoice."""
    remind.enqueue(ReminderArgs(**organization_args(scope), invoice_id=invoice_id))
