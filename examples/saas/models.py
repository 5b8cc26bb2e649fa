"""The tables. All but the organizations themselves belong to one organization, row by row."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import DateTime, ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sigra_workers_sqlalchemy import audit_events


class Base(DeclarativeBase):
    """Where Alembic would look for the tables."""


class Owned:
    """Rows of one organization: a session of `database.session_for` sees those of its own alone."""

    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), index=True)


class Organization(Base):
    """A customer of the application: a tenant."""

    __tablename__ = "organizations"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    endpoint_up: Mapped[bool] = mapped_column(default=False)
    """Whether its webhook endpoint answers: a stand-in for the world outside."""


class Person(Owned, Base):
    """Somebody who can sign in. An admin may act as others of the same organization."""

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    role: Mapped[str] = mapped_column(String(80))
    is_admin: Mapped[bool] = mapped_column(default=False)


class JobRow(Owned, Base):
    """What the application knows of a job it has asked for: see `tracking`."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    worker: Mapped[str] = mapped_column(String(128))
    subject: Mapped[str] = mapped_column(String(80))
    actor_id: Mapped[str] = mapped_column(String(40))
    effective_user_id: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20), default="saved")
    attempt: Mapped[int] = mapped_column(default=0)
    snoozes: Mapped[int] = mapped_column(default=0)
    note: Mapped[str] = mapped_column(Text, default="")
    """What came of it, or why the last run failed."""
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), default=lambda: datetime.now(UTC), index=True
    )


audit_table: Final = audit_events(Base.metadata)
