"""Accounts, their audit trail in a table beside them, and a worker that writes both or neither."""

import os

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sigra_workers import Audit, AuditScope, Ok, OrganizationArgs, Result, Workers
from sigra_workers.memory import MemoryAdapter
from sigra_workers_sqlalchemy import AuditTrail, audit_events

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///app.db")


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")


engine = create_engine(DATABASE_URL)
trail = AuditTrail.at(DATABASE_URL, audit_events(Base.metadata))  # Alembic finds the table
workers = Workers[AuditScope](audit=Audit(trail))


class CloseAccountArgs(OrganizationArgs):
    account_id: str


@workers.worker(name="accounts.close")
def close_account(scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
    with Session(engine) as session, session.begin():
        of_the_tenant = select(Account).where(Account.organization_id == args["organization_id"])
        account = session.scalars(of_the_tenant.where(Account.id == args["account_id"])).one()
        account.state = "closed"
        workers.audit.log("account.closed", scope, transaction=session, target_id=account.id)
    return Ok("closed")


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(id="acc_1", organization_id="northwind"))
    args = CloseAccountArgs(organization_id="northwind", actor_id="ann", account_id="acc_1")
    close_account.enqueue(args)
    print(MemoryAdapter.of(workers).drain())
    for event in trail.query(organization="northwind", action="account.").events:
        print(event.actor_id, event.action, event.target_id, "attempt", event.attempt)
