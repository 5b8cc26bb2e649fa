"""That no job sees a row of another organization."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.database import Note, engine, session_of
from app.jobs import aexport_notes, export_notes
from sigra_workers import AuditScope, Ok, OrganizationArgs, WorkerHandle
from sigra_workers.testing import SigraTesting


@pytest.fixture(autouse=True)
def _notes() -> None:
    for organization in ("acme", "northwind"):
        with session_of(organization) as session:
            session.query(Note).delete()
            session.add(Note(organization_id=organization, body=f"of {organization}"))


@pytest.mark.parametrize("handle", [export_notes, aexport_notes])
@pytest.mark.parametrize("organization", ["acme", "northwind", "nobody"])
def test_a_job_sees_its_own_organization(
    sigra: SigraTesting, handle: WorkerHandle[AuditScope, OrganizationArgs], organization: str
) -> None:
    found = sigra.perform_job(handle, OrganizationArgs(organization_id=organization, actor_id="ann"))
    assert found == Ok([] if organization == "nobody" else [f"of {organization}"])


def test_without_an_organization_nothing_is_seen_or_written() -> None:
    for _ in range(2):  # on a connection that has served others
        with Session(engine) as session:
            assert session.scalars(select(Note)).all() == []
            session.add(Note(organization_id="acme", body="no policy lets it in"))
            with pytest.raises(ProgrammingError, match="row-level security"):
                session.flush()


def test_a_row_of_another_organization_can_not_be_written() -> None:
    with session_of("northwind") as session:
        session.add(Note(organization_id="acme", body="of northwind"))
        with pytest.raises(ProgrammingError, match="row-level security"):
            session.flush()
        session.rollback()
