"""The registry: what there is to do. Importing it opens nothing."""

import os

from sigra_workers import AuditScope, OrganizationArgs, Workers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
workers = Workers[AuditScope](adapter=os.environ.get("APP_QUEUE", "memory"), settings={"url": REDIS_URL})


class CloseAccountArgs(OrganizationArgs):  # organization_id and actor_id come with it
    """What a job needs to know to close an account."""

    account_id: str


close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5)
