"""A small host application: its workers, and the registry that worker processes load as well.

Where its jobs run and where its audit trail lies comes from the environment, as in production.
"""

import json
import os
from collections.abc import Generator
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sigra_workers import (
    Audit,
    AuditEvent,
    AuditScope,
    Cancel,
    Decision,
    Error,
    Id,
    JobInfo,
    Ok,
    OrganizationArgs,
    Result,
    Snooze,
    TenantArgs,
    Workers,
    current_job,
    event_dict,
    hookimpl,
)

ADAPTER: Final = os.environ.get("SIGRA_DEMO_ADAPTER", "memory")
SETTINGS: Final[dict[str, Any]] = json.loads(os.environ.get("SIGRA_DEMO_SETTINGS", "{}"))
QUEUE: Final = os.environ.get("SIGRA_DEMO_QUEUE", "demo")
FOLDER: Final = Path(os.environ.get("SIGRA_DEMO_FOLDER", "."))


class JsonLines:
    """Appends to a file that several processes may write to."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / name

    def append(self, line: dict[str, Any]) -> None:
        """Add one line, whole."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


class Trail(JsonLines):
    """The audit trail; an event that is written twice has one id."""

    def write(self, event: AuditEvent, /) -> None:
        """Keep one event."""
        self.append(event_dict(event))

    def read(self) -> list[dict[str, Any]]:
        """The events, each once."""
        events: dict[str, dict[str, Any]] = {}
        for line in super().read():
            events.setdefault(line["event_id"], line)
        return [*events.values()]


class Diary:
    """Notes how each run ended."""

    @hookimpl
    def sigra_finished(
        self,
        job: JobInfo,
        organization_id: Id | None,
        decision: Decision | None,
        exception: BaseException | None,
    ) -> None:
        """One line a run."""
        why = "" if exception is None else str(exception).splitlines()[0]
        runs.append(
            {
                "id": job.id,
                "worker": job.worker,
                "organization": organization_id,
                "attempt": job.attempt,
                "max_attempts": job.max_attempts,
                "snoozes": job.snoozes,
                "decision": decision,
                "why": why,
            }
        )


trail: Final = Trail("audit.jsonl")
runs: Final = JsonLines("runs.jsonl")
audit: Final = Audit(trail)
workers = Workers[AuditScope](adapter=ADAPTER, settings=SETTINGS, audit=audit, plugins=[Diary()])
_tenant: ContextVar[Id | None] = ContextVar("tenant", default=None)


@workers.around
def tenant_session(job: JobInfo, scope: AuditScope, args: TenantArgs) -> Generator[None]:
    """Every job runs in a session of its own organization; a variable stands for the database here."""
    token = _tenant.set(args["organization_id"])
    yield
    _tenant.reset(token)


class AccountArgs(OrganizationArgs):
    """Args of a job about one account."""

    account_id: str


class CloseAccount:
    """Closes an account, once its last invoice is paid."""

    def perform(self, scope: AuditScope, args: AccountArgs) -> Result[str]:
        """Wait for the invoice, then close."""
        if _snoozes() == 0:
            return Snooze(timedelta(seconds=1))  # an invoice is open: look again later, at no attempt's cost
        audit.log_safe("account.closed", scope, target_type="account", target_id=args["account_id"])
        return Ok("closed")


class SendInvoice:
    """Sends an invoice; the mail server is down at first."""

    def perform(self, scope: AuditScope, args: AccountArgs) -> Result[str]:
        """Fail once, then send."""
        if _attempt() == 1:
            audit.log_safe(
                "invoice.sent", scope, outcome="failure", target_type="account", target_id=args["account_id"]
            )
            raise ConnectionError("mail server is down")
        audit.log_safe("invoice.sent", scope, target_type="account", target_id=args["account_id"])
        return Ok("sent")


class DeliverWebhook:
    """Calls an endpoint that is gone for good."""

    def perform(self, scope: AuditScope, args: AccountArgs) -> Result[None]:
        """Fail on every attempt."""
        audit.log_safe(
            "webhook.delivered", scope, outcome="failure", target_type="account", target_id=args["account_id"]
        )
        return Error("the endpoint answers 410 Gone")


class ExportData:
    """Exports an organization's data, unless the law forbids it."""

    def perform(self, scope: AuditScope, args: AccountArgs) -> Result[str]:
        """Refuse under a legal hold."""
        audit.log_safe("export.refused", scope, target_type="account", target_id=args["account_id"])
        return Cancel("legal hold")


close_account = workers.register(CloseAccount(), name="accounts.close", queue=QUEUE, max_attempts=3)
send_invoice = workers.register(SendInvoice(), name="invoices.send", queue=QUEUE, max_attempts=3, backoff=1)
export_data = workers.register(ExportData(), name="data.export", queue=QUEUE)
deliver_webhook = workers.register(
    DeliverWebhook(), name="webhooks.deliver", queue=QUEUE, max_attempts=2, backoff=1
)


@workers.worker(name="accounts.rename", queue=QUEUE)
async def rename_account(scope: AuditScope, args: AccountArgs) -> Result[str]:
    """Rename an account."""
    await audit.alog_safe("account.renamed", scope, target_type="account", target_id=args["account_id"])
    return Ok("renamed")


@workers.worker(name="tokens.clean_up", queue=QUEUE)
def clean_up_tokens(scope: AuditScope, args: TenantArgs) -> Result[int]:
    """Remove what has expired, everywhere: no organization, no person."""
    audit.log_safe("tokens.cleaned_up", scope, metadata={"removed": 42})
    return Ok(42)


def _attempt() -> int:
    job = current_job()
    return 1 if job is None else job.attempt


def _snoozes() -> int:
    job = current_job()
    return 0 if job is None else job.snoozes
