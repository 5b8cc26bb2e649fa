"""Who there is: people of two organizations, and how one of them is found before anybody has signed in."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from saas.database import engine, session_for
from saas.models import Base, Organization, Person
from saas.scopes import RequestScope

_ORGANIZATIONS: Final = {"northwind": "Northwind", "acme": "Acme"}
_PEOPLE: Final[Sequence[dict[str, Any]]] = (
    {"id": "ann", "organization_id": "northwind", "name": "Ann", "role": "Accounting"},
    {"id": "ada", "organization_id": "northwind", "name": "Ada", "role": "Admin", "is_admin": True},
    {"id": "bob", "organization_id": "acme", "name": "Bob", "role": "Accounting"},
    {"id": "cleo", "organization_id": "acme", "name": "Cleo", "role": "Sales"},
)


def prepare() -> None:
    """Make the tables and the people, where they are not there. A real application has Alembic for it."""
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        if session.get(Organization, "northwind") is None:
            session.add_all(Organization(id=key, name=name) for key, name in _ORGANIZATIONS.items())
            session.flush()
            session.add_all(Person(**facts) for facts in _PEOPLE)


def everybody() -> list[tuple[Organization, list[Person]]]:
    """For the sign-in page: it is nobody's yet, and so its session is no organization's."""
    with Session(engine) as session:
        organizations = session.scalars(select(Organization).order_by(Organization.name.desc())).all()
        people = session.scalars(select(Person).order_by(Person.name)).all()
    return [(each, [one for one in people if one.organization_id == each.id]) for each in organizations]


def request_scope(person_id: str | None, acting_as: str | None) -> RequestScope | None:
    """The scope of somebody who has signed in; None for nobody.

    Looked up for each request, so that a right which was taken away is gone at once.
    """
    with Session(engine) as session:
        person = None if person_id is None else session.get(Person, person_id)
    if person is None:
        return None
    with session_for(person.organization_id) as session:
        organization = session.get_one(Organization, person.organization_id)
        other = session.get(Person, acting_as) if acting_as is not None and person.is_admin else None
    if other is None:
        return RequestScope(person, organization)
    return RequestScope(other, organization, impersonating_from=person)
