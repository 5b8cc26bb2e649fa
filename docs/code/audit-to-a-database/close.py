"""Closes an account that is there, and one that is not, in one process."""

from sqlalchemy.orm import Session

import app.implementations
from app.database import Account, engine
from app.jobs import CloseAccountArgs, close_account, workers
from sigra_workers import organization_args
from sigra_workers.memory import MemoryAdapter

with Session(engine) as session, session.begin():
    session.add(Account(id="acc_1", organization_id="northwind"))
who = organization_args(organization_id="northwind", actor_id="ann")
for account_id in ("acc_1", "acc_2"):
    close_account.enqueue(CloseAccountArgs(**who, account_id=account_id))
print(MemoryAdapter.of(workers).drain())
