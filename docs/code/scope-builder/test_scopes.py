"""What becomes of the jobs of an organization."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from app.jobs import engine, send_report
from app.models import Base, Organization, User
from sigra_workers import Cancel, Ok, Snooze, TenantArgs
from sigra_workers.testing import SigraTesting


@pytest.fixture(autouse=True)
def _data() -> Iterator[None]:
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(User(id="ann", name="Ann"))
        session.add(Organization(id="northwind", name="Northwind"))
        session.add(Organization(id="acme", name="Acme", is_suspended=True))
    yield
    Base.metadata.drop_all(engine)


def test_a_worker_knows_the_names(sigra: SigraTesting) -> None:
    found = sigra.perform_job(send_report, TenantArgs(organization_id="northwind", actor_id="ann"))
    assert found == Ok("The report of Northwind that Ann asked for")
    sigra.assert_audit_logged(action="report.sent", organization_id="northwind", real_actor="ann")


def test_who_left_is_named_in_the_audit_trail_still(sigra: SigraTesting) -> None:
    found = sigra.perform_job(send_report, TenantArgs(organization_id="northwind", actor_id="bob"))
    assert found == Ok("The report of Northwind that somebody asked for")
    sigra.assert_audit_logged(action="report.sent", organization_id="northwind", real_actor="bob")


def test_a_job_of_an_organization_that_is_gone_is_cancelled(sigra: SigraTesting) -> None:
    found = sigra.perform_job(send_report, TenantArgs(organization_id="initech", actor_id="ann"))
    assert found == Cancel("the organization is gone")
    sigra.refute_audit_logged(action="report.sent")


def test_a_job_of_a_suspended_organization_waits(sigra: SigraTesting) -> None:
    found = sigra.perform_job(send_report, TenantArgs(organization_id="acme", actor_id="ann"))
    assert found == Snooze(3600)
