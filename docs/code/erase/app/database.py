"""The application's database: its organizations, and the audit trail."""

import os
from datetime import UTC, datetime

from sqlalchemy import Column, DateTime, MetaData, String, Table, create_engine, insert, select, update

from sigra_workers import Id
from sigra_workers_sqlalchemy import audit_events

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///app.db")
engine = create_engine(DATABASE_URL, hide_parameters=True)
metadata = MetaData()
organizations = Table(
    "organizations",
    metadata,
    Column("id", String(50), primary_key=True),
    Column("left_at", DateTime(timezone=True)),
)
events = audit_events(metadata)


def join(organization_id: str) -> None:
    """An organization begins."""
    with engine.begin() as connection:
        connection.execute(insert(organizations).values(id=organization_id))


def leave(organization_id: str) -> None:
    """An organization has left: from now on none of its jobs begins."""
    change = update(organizations).where(organizations.c.id == organization_id)
    with engine.begin() as connection:
        connection.execute(change.values(left_at=datetime.now(UTC)))


def is_here(organization_id: Id) -> bool:
    """Whether there is such an organization, and it has not left."""
    here = select(organizations.c.id).where(
        organizations.c.id == organization_id, organizations.c.left_at.is_(None)
    )
    with engine.connect() as connection:
        return connection.scalar(here) is not None


def left_before(moment: datetime) -> list[str]:
    """The organizations that left before then."""
    gone = select(organizations.c.id).where(organizations.c.left_at < moment)
    with engine.connect() as connection:
        return [*connection.scalars(gone)]
