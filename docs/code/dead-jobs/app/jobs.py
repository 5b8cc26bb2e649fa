"""The registry."""

import os

from app.alerts import Alerts
from sigra_workers import AuditScope, OrganizationArgs, Workers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
RABBITMQ_URL = os.environ.get("RABBITMQ_URL")

workers = Workers[AuditScope](
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": RABBITMQ_URL, "store": REDIS_URL} if RABBITMQ_URL else {"url": REDIS_URL},
    plugins=[Alerts()],
)


class SendInvoiceArgs(OrganizationArgs):
    """Args of `SendInvoice`."""

    invoice_id: str


send_invoice = workers.declare("invoices.send", SendInvoiceArgs, queue="invoices", max_attempts=2, backoff=1)
