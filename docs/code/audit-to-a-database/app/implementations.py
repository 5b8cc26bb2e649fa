"""What does the jobs: imported by worker processes only."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Account, engine
from app.jobs import CloseAccountArgs, audit, close_account
from sigra_workers import AuditScope, Cancel, Ok, Result


@close_account.implement
def close(scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
    """Close an account of the organization."""
    with Session(engine) as session, session.begin():
        of_the_tenant = select(Account).where(Account.organization_id == args["organization_id"])
        account = session.scalar(of_the_tenant.where(Account.id == args["account_id"]))
        if account is None:
            audit.log_safe("account.closed", scope, outcome="failure", target_id=args["account_id"])
            return Cancel("there is no such account")
        account.state = "closed"
        audit.log("account.closed", scope, transaction=session, target_id=account.id)
    return Ok("closed")
