"""The application's database, with the table of the audit trail in it."""

import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sigra_workers_sqlalchemy import audit_events

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql+psycopg://app@db/app")


class Base(DeclarativeBase):
    """Of all tables."""


class Account(Base):
    """An account of an organization."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")


events = audit_events(Base.metadata)
engine = create_engine(DATABASE_URL, hide_parameters=True)  # or the log shows what is in the rows
