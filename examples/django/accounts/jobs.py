"""The jobs of this app: what senders need."""

from config.jobs import workers
from sigra_workers import OrganizationArgs


class CloseAccountArgs(OrganizationArgs):
    """Which account; organization and actor come with it."""

    account_id: int


close_account = workers.declare("accounts.close", CloseAccountArgs, queue="accounts", max_attempts=5)
remind = workers.declare("accounts.remind", OrganizationArgs, queue="accounts")
