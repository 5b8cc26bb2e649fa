"""What does the jobs. Only worker processes import this."""

from app import accounts
from app.jobs import CloseAccountArgs, close_account, workers
from sigra_workers import Audit, AuditScope, Ok, Result


class CloseAccount:  # no base class: anything with a fitting perform is a worker
    """Closes an account."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
        """Close it, and note who did."""
        accounts.close(args["organization_id"], args["account_id"])
        self.audit.log_safe("account.closed", scope, target_type="account", target_id=args["account_id"])
        return Ok("closed")


close_account.implement(CloseAccount(workers.audit))
