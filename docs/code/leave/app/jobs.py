"""The registry."""

import os

from app.accounts import CloseAccountArgs
from sigra_workers import AuditScope, Workers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
workers = Workers[AuditScope](adapter=os.environ.get("APP_QUEUE", "memory"), settings={"url": REDIS_URL})
close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5)
