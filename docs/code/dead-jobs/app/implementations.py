"""What does the jobs: imported by worker processes only."""

from app import invoices
from app.jobs import SendInvoiceArgs, send_invoice, workers
from sigra_workers import Audit, AuditScope, Ok, Result


class SendInvoice:
    """Sends an invoice by mail."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    def perform(self, scope: AuditScope, args: SendInvoiceArgs) -> Result[str]:
        """Send it, and say so in the audit trail."""
        mail = invoices.text(args["invoice_id"])
        # ... hand it to the mail server ...
        self.audit.log_safe("invoice.sent", scope, target_type="invoice", target_id=args["invoice_id"])
        return Ok(mail)


send_invoice.implement(SendInvoice(workers.audit))
