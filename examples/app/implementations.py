"""What does the jobs: imported by worker processes only."""

from app.accounts import accounts
from app.jobs import audit, close_account, workers
from app.workers import CloseAccount, ReportArgs
from sigra_workers import AuditScope, Ok, Result

close_account.implement(CloseAccount(accounts, audit))


@workers.worker(name="reports.build", queue="reports")
async def build_report(scope: AuditScope, args: ReportArgs) -> Result[None]:
    """Build one organization's report of a month."""
    metadata = {"accounts": accounts.count()}
    await audit.alog_safe(
        "report.built", scope, target_type="report", target_id=args["month"], metadata=metadata
    )
    return Ok()
