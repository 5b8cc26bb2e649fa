"""What does the jobs: imported by worker processes only."""

from app.jobs import send_report, workers
from app.scopes import TenantScope
from sigra_workers import Ok, Result, TenantArgs


# begin worker
@send_report.implement
def send(scope: TenantScope, args: TenantArgs) -> Result[str]:
    """Send a report to who asked for it."""
    workers.audit.log_safe("report.sent", scope)
    return Ok(f"The report of {scope.organization_name} that {scope.user_name or 'somebody'} asked for")


# end worker
