"""What does the jobs: imported by worker processes only."""

from app import accounts
from app.jobs import CloseAccountArgs, ReportArgs, build_report, close_account, workers
from sigra_workers import Audit, AuditScope, Ok, Result


class CloseAccount:
    """Closes an account; doing it again does no harm."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
        """Close it, and say so in the audit trail."""
        accounts.close(args["organization_id"], args["account_id"])
        self.audit.log_safe("account.closed", scope, target_type="account", target_id=args["account_id"])
        return Ok("closed")


class BuildReport:
    """Builds the report of a month."""

    def perform(self, scope: AuditScope, args: ReportArgs) -> Result[int]:
        """How many accounts are in it."""
        return Ok(accounts.report(args["organization_id"], args["month"]))


close_account.implement(CloseAccount(workers.audit))
build_report.implement(BuildReport())
