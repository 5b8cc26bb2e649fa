"""What there is to do."""

from app.registry import workers
from sigra_workers import OrganizationArgs


class CloseAccountsArgs(OrganizationArgs):
    """Args of a job that closes accounts."""

    account_ids: list[str]


class CloseAccountArgs(OrganizationArgs):
    """As they were."""

    account_id: str


close_accounts = workers.declare("accounts.close_many", CloseAccountsArgs, queue="lifecycle", max_attempts=5)
close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle")  # nobody sends it now
