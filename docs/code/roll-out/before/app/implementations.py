"""What does the jobs: imported by worker processes only."""

from app import accounts
from app.jobs import CloseAccountArgs, close_account
from app.registry import workers
from sigra_workers import AuditScope, Ok, Result


@close_account.implement
def close(scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
    """Close an account."""
    accounts.close(args["organization_id"], args["account_id"], "none")
    workers.audit.log_safe("account.closed", scope, target_type="account", target_id=args["account_id"])
    return Ok("closed")
