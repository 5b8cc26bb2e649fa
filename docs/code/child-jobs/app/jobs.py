"""The registry."""

import os

from sigra_workers import AuditScope, OrganizationArgs, TenantArgs, Workers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
# begin registry
workers = Workers[AuditScope](
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": REDIS_URL},
    system_actor="cron",  # how the audit trail names who acts where nobody does
)


class InvoiceArgs(OrganizationArgs):
    """An invoice of one customer."""

    customer_id: str
    month: str


class BillArgs(OrganizationArgs):
    """The invoices of one organization."""

    month: str


class BillAllArgs(TenantArgs):
    """Those of all organizations."""

    month: str


send_invoice = workers.declare("invoices.send", InvoiceArgs, queue="invoices")
bill = workers.declare("invoices.bill", BillArgs, queue="invoices")
bill_all = workers.declare("invoices.bill_all", BillAllArgs, queue="invoices")
# end registry
