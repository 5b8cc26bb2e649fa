"""The registry."""

import os

from app.database import DATABASE_URL, events, is_here
from sigra_workers import Audit, AuditScope, AuditScopeBuilder, Cancel, OrganizationArgs, TenantArgs, Workers
from sigra_workers_sqlalchemy import AuditTrail

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
RABBITMQ_URL = os.environ.get("RABBITMQ_URL")


class Builder:
    """Lets no job of an organization begin that has left."""

    def build(self, args: TenantArgs, /) -> AuditScope | Cancel:
        """Called at the beginning of each run, before any other code of the application."""
        organization_id = args["organization_id"]
        if organization_id is not None and not is_here(organization_id):
            return Cancel("the organization has left")
        return AuditScopeBuilder().build(args)


audit = Audit(AuditTrail.at(DATABASE_URL, events))
workers = Workers[AuditScope](
    scope_builder=Builder(),
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": RABBITMQ_URL, "store": REDIS_URL} if RABBITMQ_URL else {"url": REDIS_URL},
    audit=audit,
)


class ReportArgs(OrganizationArgs):
    """Args of `BuildReport`: ids alone, no names and no addresses."""

    report_id: str


build_report = workers.declare("reports.build", ReportArgs, queue="reports", timeout=60)
