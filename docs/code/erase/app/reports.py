"""The application's own work."""

from sigra_workers import Id


def build(organization_id: Id, report_id: str) -> None:
    """Build a report from the organization's rows."""
