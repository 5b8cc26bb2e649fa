"""The registry."""

import os

from sigra_workers import AuditScope, Workers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
workers = Workers[AuditScope](adapter=os.environ.get("APP_QUEUE", "memory"), settings={"url": REDIS_URL})
