"""Stands for a web request, which knows who acts and for which organization."""

from app.jobs import CloseAccountArgs, close_account
from sigra_workers import organization_args

who = organization_args(organization_id="northwind", actor_id="ann")
ref = close_account.enqueue(CloseAccountArgs(**who, account_id="acc_1"))
print("enqueued", ref.worker, "on", ref.queue)
