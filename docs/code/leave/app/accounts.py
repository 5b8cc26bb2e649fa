"""What is done, on any queue."""

from app import ledger
from app.results import Ok, OrganizationArgs, Result, Scope, Snooze


class CloseAccountArgs(OrganizationArgs):
    """Args of `CloseAccount`."""

    account_id: str


class CloseAccount:
    """Closes an account, once nothing is open."""

    def perform(self, scope: Scope, args: CloseAccountArgs) -> Result[str]:
        """A plain method: whoever has the two can call it."""
        if not ledger.is_settled(args["account_id"]):
            return Snooze(2)
        ledger.close(args["organization_id"], args["account_id"], scope)
        return Ok("closed")
