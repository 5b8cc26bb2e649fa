"""What does the jobs of this app: found by `config.boot`, imported by worker processes only."""

from django.db import connection, transaction

from accounts.jobs import CloseAccountArgs, close_account, remind
from accounts.models import Account
from config.jobs import audit
from sigra_workers import Audit, AuditScope, Ok, OrganizationArgs, Result


class CloseAccount:
    """Closes an account; what is closed stays closed, however often it runs."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
        """Close it and record that, or neither."""
        ours = Account.objects.filter(organization_id=args["organization_id"])
        with transaction.atomic():
            closed = ours.filter(pk=args["account_id"], state="closing").update(state="closed")
            if closed:
                self.audit.log(
                    "account.closed",
                    scope,
                    transaction=connection,
                    target_type="account",
                    target_id=args["account_id"],
                )
        return Ok("closed" if closed else "nothing to close")


class Remind:
    """Reminds an organization of its open accounts."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    async def perform(self, scope: AuditScope, args: OrganizationArgs) -> Result[int]:
        """Count them, and say so."""
        ours = Account.objects.filter(organization_id=args["organization_id"])
        found = await ours.filter(state="open").acount()
        await self.audit.alog_safe("reminder.sent", scope, metadata={"accounts": found})
        return Ok(found)


close_account.implement(CloseAccount(audit))
remind.implement(Remind(audit))
