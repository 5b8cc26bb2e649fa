"""The database: sessions that see one organization's rows. Importing it opens nothing."""

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

URL = os.environ.get("DATABASE_URL", "postgresql+psycopg://app@localhost/app")
SET_ORGANIZATION = text("SELECT set_config('app.organization_id', :id, true)")  # true: for this transaction


class Base(DeclarativeBase):
    """Of all tables."""


class Note(Base):
    """A note of an organization."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    body: Mapped[str]


# begin session
engine = create_engine(URL)
session: ContextVar[Session] = ContextVar("session")


@contextmanager
def session_of(organization_id: str | int | None) -> Generator[Session]:
    """One transaction, which sees the rows of one organization; of none for None."""
    with Session(engine) as found, found.begin():
        found.execute(SET_ORGANIZATION, {"id": "" if organization_id is None else str(organization_id)})
        token = session.set(found)
        try:
            yield found
        finally:
            session.reset(token)


# end session
# begin async
async_engine = create_async_engine(URL)
async_session: ContextVar[AsyncSession] = ContextVar("async_session")


@asynccontextmanager
async def async_session_of(organization_id: str | int | None) -> AsyncGenerator[AsyncSession]:
    """The same for async code."""
    async with AsyncSession(async_engine) as found, found.begin():
        await found.execute(SET_ORGANIZATION, {"id": "" if organization_id is None else str(organization_id)})
        token = async_session.set(found)
        try:
            yield found
        finally:
            async_session.reset(token)


# end async
