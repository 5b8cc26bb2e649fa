"""What there is to do."""

import logging
from collections.abc import Generator

from app.registry import workers
from sigra_workers import AuditScope, JobInfo, OrganizationArgs, TenantArgs


class CloseAccountArgs(OrganizationArgs):
    """Args of a job that closes an account."""

    account_id: str


# begin declare
close_account = workers.declare(
    "accounts.shut", CloseAccountArgs, aliases=["accounts.close"], queue="lifecycle", max_attempts=5
)
# end declare


# begin former
@workers.around
def tell_former_names(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """Tell of each job that has a former name of its worker."""
    handle = workers.find(job.worker)
    if handle is not None and handle.name != job.worker:
        logging.getLogger("app").info("job %s of %r was sent as %r", job.id, handle.name, job.worker)
    yield


# end former
