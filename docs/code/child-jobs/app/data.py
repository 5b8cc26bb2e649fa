"""The application's own data: customers of organizations, and the invoices that they were sent."""

import os
import sqlite3
from contextlib import closing

CUSTOMERS = {"acme": ["c1", "c2"], "northwind": ["c1", "c2", "c3"]}


def organizations() -> list[str]:
    """Those that are active."""
    return [*CUSTOMERS]


def customers(organization_id: str | int) -> list[str]:
    """Those of an organization."""
    return CUSTOMERS[str(organization_id)]


def invoice(organization_id: str | int, customer_id: str, month: str) -> bool:
    """Send an invoice, unless it was sent already; whether it is new."""
    with closing(sqlite3.connect(os.environ.get("APP_DATABASE", "app.db"), timeout=30)) as database, database:
        sql = "INSERT OR IGNORE INTO invoices VALUES (?, ?, ?)"
        return database.execute(sql, (organization_id, customer_id, month)).rowcount == 1
