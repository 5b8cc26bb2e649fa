"""The registry of jobs, for web processes and worker processes. Importing it opens nothing."""

from collections.abc import AsyncGenerator, Generator

from django.conf import settings

from accounts.scopes import TenantScopes
from config.connections import atended_connections, tended_connections
from sigra_workers import Audit, AuditScope, JobInfo, TenantArgs, Workers
from trail.sink import OrmTrail

audit = Audit(OrmTrail())

workers = Workers[AuditScope](
    adapter=settings.JOBS_ADAPTER,
    settings={"url": settings.REDIS_URL},
    scope_builder=TenantScopes(),
    audit=audit,
)


def connections(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """Around each job of a `def` worker."""
    with tended_connections():
        yield


async def aconnections(job: JobInfo, scope: AuditScope, args: TenantArgs) -> AsyncGenerator[None]:
    """Around each job of an `async def` worker."""
    async with atended_connections():
        yield


workers.around(connections, aconnections)
