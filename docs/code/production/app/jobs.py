"""The registry. Importing it opens nothing, in web processes and in worker processes alike."""

import os

from sigra_workers import AuditScope, OrganizationArgs, Workers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
RABBITMQ_URL = os.environ.get("RABBITMQ_URL")  # for Dramatiq on RabbitMQ, whose store is the Redis then

workers = Workers[AuditScope](
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": RABBITMQ_URL, "store": REDIS_URL} if RABBITMQ_URL else {"url": REDIS_URL},
)


class CloseAccountArgs(OrganizationArgs):
    """Args of `CloseAccount`."""

    account_id: str


class ReportArgs(OrganizationArgs):
    """Args of `BuildReport`."""

    month: str


close_account = workers.declare(
    "accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5, timeout=60
)
build_report = workers.declare("reports.build", ReportArgs, queue="reports", max_attempts=5, timeout=600)
