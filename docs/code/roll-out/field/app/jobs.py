"""What there is to do."""

from typing import NotRequired

from app.registry import workers
from sigra_workers import OrganizationArgs


# begin args
class CloseAccountArgs(OrganizationArgs):
    """Args of a job that closes an account."""

    account_id: str
    reason: NotRequired[str]  # jobs of former days have none


# end args
close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5)
