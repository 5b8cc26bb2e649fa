"""What no user asks for: the actor is None, and the key is there all the same."""

from app.implementations import build_report
from app.workers import ReportArgs
from sigra_workers import JobRef, organization_args


def monthly(organization_id: str, month: str) -> JobRef:
    """Have one organization's report built; the job's id makes a second order of it an error."""
    keys = organization_args(organization_id=organization_id, actor_id=None)
    return build_report.enqueue(ReportArgs(**keys, month=month), job_id=f"report-{organization_id}-{month}")
