"""What the background jobs do. No queue in sight."""

from datetime import timedelta

from app.accounts import Accounts
from sigra_workers import Audit, AuditScope, Cancel, Ok, OrganizationArgs, Result, Snooze


class CloseAccountArgs(OrganizationArgs):
    """Args of `CloseAccount`: the tenant keys and one of its own."""

    account_id: str


class CloseAccount:
    """Closes an account, once nothing stands against it."""

    def __init__(self, accounts: Accounts, audit: Audit) -> None:
        self.accounts, self.audit = accounts, audit

    def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
        """Running it again does no harm: what is closed stays closed."""
        account = self.accounts.find(args["account_id"])
        if account is None:
            return Ok("account_not_found")  # gone is done, not an error
        if account.legal_hold:
            return Cancel("legal hold")
        if account.has_open_invoices():
            return Snooze(timedelta(hours=1))  # costs no attempt
        self.accounts.close(account)
        self.audit.log_safe("account.closed", scope, target_type="account", target_id=account.id)
        return Ok("closed")


class ReportArgs(OrganizationArgs):
    """Args of the monthly report."""

    month: str
