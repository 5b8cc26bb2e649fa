"""The application's own work."""

from typing import NamedTuple


class Invoice(NamedTuple):
    """An invoice of some items."""

    total: float
    items: int


INVOICES = {"inv_7": Invoice(total=20.0, items=0), "inv_8": Invoice(total=20.0, items=4)}


def text(invoice_id: str) -> str:
    """What stands in the mail."""
    invoice = INVOICES[invoice_id]
    return f"{invoice.items} items of {invoice.total / invoice.items:.2f} on average"
