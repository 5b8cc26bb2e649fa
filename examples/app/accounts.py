"""The application's own data: accounts, which a session of one organization can see and no other."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_tenant: ContextVar[str | int | None] = ContextVar("tenant", default=None)


@contextmanager
def session_for(organization_id: str | int | None) -> Generator[None]:
    """A database session whose rows are those of one organization."""
    token = _tenant.set(organization_id)
    try:
        yield
    finally:
        _tenant.reset(token)


@dataclass
class Account:
    """One account."""

    id: str
    organization_id: str
    legal_hold: bool = False
    open_invoices: int = 0
    closed: bool = False

    def has_open_invoices(self) -> bool:
        """Whether somebody still has to pay."""
        return self.open_invoices > 0


class Accounts:
    """A table with row-level security, in a dict."""

    def __init__(self, *accounts: Account) -> None:
        self._rows = {account.id: account for account in accounts}

    def find(self, account_id: str) -> Account | None:
        """The account, if the session may see it."""
        account = self._rows.get(account_id)
        return account if account is not None and account.organization_id == _tenant.get() else None

    def close(self, account: Account) -> None:
        """Close it for good."""
        account.closed = True

    def count(self) -> int:
        """How many accounts the session sees."""
        return sum(account.organization_id == _tenant.get() for account in self._rows.values())


accounts = Accounts(
    Account("acc_1", "org_1"),
    Account("acc_2", "org_1", legal_hold=True),
    Account("acc_3", "org_2", open_invoices=1),
    Account("acc_4", "org_2"),
)
