"""The old jobs."""

from shop import invoices


def remind(invoice_id: str) -> None:
    """Remind a customer of an invoice."""
    invoices.remind(invoice_id)
