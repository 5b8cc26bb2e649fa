"""What a web handler does."""

from app.jobs import SendInvoiceArgs, send_invoice
from sigra_workers import organization_args

who = organization_args(organization_id="northwind", actor_id="ann")
args = SendInvoiceArgs(**who, invoice_id="inv_7")
ref = send_invoice.enqueue(args, job_id="invoice-inv_7")
print("enqueued", ref.id)
