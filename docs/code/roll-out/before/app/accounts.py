"""The application's own data."""


def close(organization_id: str | int, account_id: str, reason: str) -> None:
    """Close an account; closing it again does no harm."""
    with open("closed", "a") as file:
        file.write(f"{organization_id} {account_id} {reason}\n")
