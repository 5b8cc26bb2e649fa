"""What sends jobs."""

import logging

from shop import tasks
from shop.jobs import ReminderArgs, remind_shadow
from shop.queues import mail
from shop.scopes import RequestScope
from sigra_workers import EnqueueError, InvalidArgsError, organization_args


def remind_customer(scope: RequestScope, invoice_id: str) -> None:
    """Have a customer reminded of an invoice, and see what the new job makes of it."""
    mail.enqueue(tasks.remind, invoice_id)
    try:
        remind_shadow.enqueue(ReminderArgs(**organization_args(scope), invoice_id=invoice_id))
    except (EnqueueError, InvalidArgsError):  # no reason to fail a request
        logging.getLogger("shop").exception("a reminder has no shadow")
