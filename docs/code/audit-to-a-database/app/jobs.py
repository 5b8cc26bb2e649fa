"""The registry."""

import os

from app.database import DATABASE_URL, events
from sigra_workers import Audit, AuditScope, OrganizationArgs, Workers
from sigra_workers_sqlalchemy import AuditTrail

audit = Audit(AuditTrail.at(DATABASE_URL, events))
workers = Workers[AuditScope](
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")},
    audit=audit,
)


class CloseAccountArgs(OrganizationArgs):
    """Args of a job that closes an account."""

    account_id: str


close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5)
