"""What does the jobs: imported by worker processes only."""

from app import accounts
from app.jobs import CloseAccountArgs, CloseAccountsArgs, close_account, close_accounts
from app.registry import workers
from sigra_workers import AuditScope, Ok, Result, organization_args


@close_accounts.implement
def close(scope: AuditScope, args: CloseAccountsArgs) -> Result[str]:
    """Close accounts."""
    for account_id in args["account_ids"]:
        accounts.close(args["organization_id"], account_id, "none")
        workers.audit.log_safe("account.closed", scope, target_type="account", target_id=account_id)
    return Ok("closed")


@close_account.implement
def close_as_before(scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
    """What was sent before, done in the new way."""
    return close(scope, CloseAccountsArgs(**organization_args(scope), account_ids=[args["account_id"]]))
