"""The application's own data: invoices, and the reminders that were sent."""

import os
import sqlite3
import time
from contextlib import closing


def organization_of(invoice_id: str) -> str:
    """Whose invoice it is: northwind's n-1, acme's a-1."""
    return {"n": "northwind", "a": "acme"}[invoice_id.partition("-")[0]]


def remind(invoice_id: str) -> None:
    """Send a reminder; a second call sends a second one."""
    organization = organization_of(invoice_id)
    time.sleep(float(os.environ.get("SHOP_MAIL_SECONDS", "0")))
    with (
        closing(sqlite3.connect(os.environ.get("SHOP_DATABASE", "shop.db"), timeout=30)) as database,
        database,
    ):
        database.execute("INSERT INTO reminders VALUES (?, ?)", (organization, invoice_id))
