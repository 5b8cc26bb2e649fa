"""The registry of jobs. Importing it opens nothing, in web processes and in workers' alike."""

from collections.abc import Generator

from app import config
from app.accounts import session_for
from app.workers import CloseAccountArgs
from sigra_workers import Audit, AuditScope, JobInfo, TenantArgs, Workers

audit = Audit()

workers = Workers[AuditScope](
    adapter=config.queue,
    settings={"url": config.redis_url},
    audit=audit,
    queues=["reports"],
)


@workers.around
def tenant_session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """Every job sees its own organization's rows, and no others."""
    with session_for(args["organization_id"]):
        yield


close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5)
