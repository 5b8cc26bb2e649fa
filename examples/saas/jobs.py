"""The registry of jobs, and how one is started. Importing it opens nothing, in any process."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from saas import config
from saas.audit import audit
from saas.database import TenantSession, job_session, session_for
from saas.models import JobRow
from saas.scopes import JobScope, JobScopeBuilder, RequestScope
from saas.tracking import Tracking
from sigra_workers import Job, JobInfo, OrganizationArgs, TenantArgs, Workers, organization_args
from sigra_workers_sqlalchemy import enqueue_after_commit

_FORMS: Final = UUID("5d8f5f0e-3c1b-4a6f-9d0a-6f4f2f1a7c11")
"""The namespace of job ids that are made of forms."""

workers = Workers[JobScope](
    adapter=config.ADAPTER,
    settings=config.queue_settings(),
    scope_builder=JobScopeBuilder(),
    audit=audit,
    plugins=[Tracking()],
)


@workers.around
def unit_of_work(job: JobInfo, scope: JobScope, args: TenantArgs) -> Generator[None]:
    """Every run has a session that sees its own organization alone; what raises rolls it back."""
    with session_for(args["organization_id"]) as session, session.begin():
        job_session.set(session)  # seen by this run alone, and gone behind it
        yield


class ReportArgs(OrganizationArgs):
    """Args of a report: the tenant keys and one of its own."""

    month: str


class InvoiceArgs(OrganizationArgs):
    """Args of whatever is done with an invoice."""

    invoice_id: str


build_report = workers.declare("reports.build", ReportArgs, queue=config.QUEUE, max_attempts=5)
collect_payment = workers.declare("payments.collect", InvoiceArgs, queue=config.QUEUE, max_attempts=5)
send_invoice = workers.declare(
    "invoices.send", InvoiceArgs, queue=config.QUEUE, max_attempts=5, backoff=config.PACE
)
call_webhook = workers.declare(
    "webhooks.call", InvoiceArgs, queue=config.QUEUE, max_attempts=2, backoff=config.PACE
)


@dataclass(frozen=True)
class Kind:
    """What the page says of a worker."""

    title: str
    says: str


KINDS: Final = {
    build_report.name: Kind("Build a report", "Works, and takes a while."),
    collect_payment.name: Kind("Collect a payment", "Snoozes until the bank is ready: no attempt is spent."),
    send_invoice.name: Kind("Send an invoice", "Fails twice, and works at the third attempt."),
    call_webhook.name: Kind("Call a webhook", "Dies: the endpoint is down until somebody repairs it."),
}


def start(scope: RequestScope, name: str, key: str) -> str:
    """Ask for a job of a worker of `KINDS`; returns what it is about.

    The `key` is the form's: one that is sent twice, by a double click or a browser that lost the answer,
    makes one job, as the job's id follows from it.

    The job's row and the job are both there behind the commit, or neither. `EnqueueError` comes out of it
    where the queue does not answer: then the row says that the job was saved, and not sent.
    """
    organization = scope.active_organization.id
    job_id = str(uuid5(_FORMS, f"{organization}/{name}/{key}"))
    try:
        with session_for(organization) as session, session.begin():
            job, subject = _make(scope, name, job_id, session)
            session.add(
                JobRow(
                    id=job.id,
                    organization_id=organization,
                    worker=job.worker,
                    subject=subject,
                    actor_id=scope.real_actor.id,
                    effective_user_id=scope.user.id,
                )
            )
            enqueue_after_commit(job, session)
    except IntegrityError:  # the form was sent before
        with session_for(organization) as session:
            subject = session.get_one(JobRow, job_id).subject
    return f"{KINDS[name].title}, {subject}"


def _make(scope: RequestScope, name: str, job_id: str, session: TenantSession) -> tuple[Job[Any], str]:
    who = organization_args(scope)
    if name == build_report.name:
        month = f"{datetime.now(UTC):%Y-%m}"
        return build_report.new(ReportArgs(**who, month=month), job_id=job_id), month
    number = 1001 + session.scalars(select(func.count(JobRow.id))).one()
    args = InvoiceArgs(**who, invoice_id=f"INV-{number}")
    handles = {handle.name: handle for handle in (collect_payment, send_invoice, call_webhook)}
    return handles[name].new(args, job_id=job_id), args["invoice_id"]
