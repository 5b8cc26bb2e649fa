"""Sessions of one organization: in a request and in a job alike, no row of another one can be seen."""

import os
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy import ColumnElement, create_engine, event
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from saas import config
from saas.models import Organization, Owned
from sigra_workers import Id

engine: Final = create_engine(config.DATABASE_URL, hide_parameters=True)
# A connection must not be used on both sides of a fork, as `rq worker` forks for each job.
os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))


class TenantSession(Session):
    """A session of one organization."""


def session_for(organization_id: Id | None) -> TenantSession:
    """A session that reads, changes and deletes rows of that organization alone."""
    return TenantSession(engine, info={"organization_id": organization_id})


job_session: Final[ContextVar[TenantSession]] = ContextVar("job_session")
"""The session of the running job, which the around in `jobs` opens and commits."""


@event.listens_for(TenantSession, "do_orm_execute")
def _filter(state: ORMExecuteState) -> None:
    """Add the organization to the WHERE of every statement, joins and lazy loads included."""
    own = state.session.info["organization_id"]

    def is_own(model: type[Owned]) -> ColumnElement[bool]:
        found: ColumnElement[bool] = model.organization_id == own
        return found

    state.statement = state.statement.options(
        with_loader_criteria(Owned, is_own, include_aliases=True),
        with_loader_criteria(Organization, Organization.id == own, include_aliases=True),
    )


@event.listens_for(TenantSession, "before_flush")
def _refuse(session: TenantSession, *_: object) -> None:
    """Write no row for another organization."""
    for row in (*session.new, *session.dirty):
        if isinstance(row, Owned) and row.organization_id != session.info["organization_id"]:
            raise PermissionError(f"a row of {type(row).__name__} is for another organization")


@event.listens_for(engine, "connect")
def _share_the_file(connection: Any, _: object) -> None:
    """SQLite: let readers and the one writer of all processes go on side by side, and wait for each other."""
    if engine.dialect.name == "sqlite":
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("PRAGMA synchronous = NORMAL")
