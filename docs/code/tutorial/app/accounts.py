"""The application's own data: the accounts of two organizations, in a file."""

import sqlite3
from contextlib import closing

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    organization_id TEXT, id TEXT, state TEXT, PRIMARY KEY (organization_id, id)
);
INSERT OR IGNORE INTO accounts VALUES ('acme', 'acc_1', 'open'), ('northwind', 'acc_1', 'open');
"""


def run(sql: str, *values: str | int) -> list[tuple[str, str, str]]:
    """Run one statement; the rows that it finds."""
    with closing(sqlite3.connect("accounts.db")) as database, database:
        database.executescript(SCHEMA)
        return database.execute(sql, values).fetchall()


def close(organization_id: str | int, account_id: str) -> None:
    """Close an account of an organization. Closing it again does no harm."""
    run(
        "UPDATE accounts SET state = 'closed' WHERE organization_id = ? AND id = ?",
        organization_id,
        account_id,
    )


if __name__ == "__main__":
    for row in run("SELECT * FROM accounts ORDER BY organization_id"):
        print(*row)
