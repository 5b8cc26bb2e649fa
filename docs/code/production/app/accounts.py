"""The application's own work, on its own database."""


def close(organization_id: str | int, account_id: str) -> None:
    """Close an account for good."""


def report(organization_id: str | int, month: str) -> int:
    """Build an organization's report of a month; how many accounts are in it."""
    return 0
