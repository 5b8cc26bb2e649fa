"""What does the jobs: imported by worker processes only."""

from app import reports
from app.jobs import ReportArgs, audit, build_report
from sigra_workers import AuditScope, Ok, Result


class BuildReport:
    """Builds a report."""

    def perform(self, scope: AuditScope, args: ReportArgs) -> Result[None]:
        """Build it, and say so in the audit trail."""
        reports.build(args["organization_id"], args["report_id"])
        audit.log_safe("report.built", scope, target_type="report", target_id=args["report_id"])
        return Ok()


build_report.implement(BuildReport())
