"""What there is to do."""

from app.registry import workers
from sigra_workers import OrganizationArgs


class CloseAccountArgs(OrganizationArgs):
    """Args of a job that closes an account."""

    account_id: str


close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle", max_attempts=5)
