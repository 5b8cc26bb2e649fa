"""The registry, and what is around every job."""

import os
from collections.abc import AsyncGenerator, Generator

from app.database import async_session_of, session_of
from sigra_workers import AuditScope, JobInfo, OrganizationArgs, TenantArgs, Workers

workers = Workers[AuditScope](
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")},
)


# begin around
def tenant_session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """Each job has a transaction of its own, on the rows of its organization."""
    with session_of(args["organization_id"]):
        yield


# end around
# begin async
async def async_tenant_session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> AsyncGenerator[None]:
    """The same for async workers."""
    async with async_session_of(args["organization_id"]):
        yield


workers.around(tenant_session, async_tenant_session)
# end async
export_notes = workers.declare("notes.export", OrganizationArgs, max_attempts=5)
aexport_notes = workers.declare("notes.export_async", OrganizationArgs, max_attempts=5)
