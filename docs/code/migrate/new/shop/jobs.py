"""The new jobs, in the old queue."""

from shop.queues import QUEUE
from shop.registry import workers
from sigra_workers import OrganizationArgs


class ReminderArgs(OrganizationArgs):
    """Args of a reminder."""

    invoice_id: str


remind = workers.declare("invoices.remind", ReminderArgs, queue=QUEUE, max_attempts=1)
remind_shadow = workers.declare("invoices.remind.shadow", ReminderArgs, queue=QUEUE, max_attempts=1)
