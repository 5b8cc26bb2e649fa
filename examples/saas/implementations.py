"""What does the jobs: imported by worker processes only. Run again, each does no harm.

What a run changes, its audit event included, is in the one transaction of `jobs.unit_of_work`.
"""

import time
from datetime import timedelta

from sqlalchemy import update

from saas import config
from saas.audit import audit
from saas.database import TenantSession, job_session
from saas.jobs import InvoiceArgs, ReportArgs, build_report, call_webhook, collect_payment, send_invoice
from saas.models import JobRow, Organization
from saas.scopes import JobScope
from sigra_workers import Error, Ok, Result, Snooze, current_job


@build_report.implement
def build(scope: JobScope, args: ReportArgs) -> Result[str]:
    """Works, and takes its time. Kill its process meanwhile: it runs again, and its event is written once."""
    time.sleep(config.PACE)  # hard work, with no lock held on the database
    session = note(f"{scope.active_organization.name} sold more than ever")
    audit.log("report.built", scope, transaction=session, target_type="report", target_id=args["month"])
    return Ok("built")


@collect_payment.implement
def collect(scope: JobScope, args: InvoiceArgs) -> Result[str]:
    """Looks again later, at no attempt's cost: the bank is ready at the second look."""
    job = current_job()
    if job is not None and job.snoozes == 0:
        note("the bank is not ready yet")
        return Snooze(timedelta(seconds=max(1, config.PACE)))
    session = note("the money is there")
    audit.log(
        "payment.collected", scope, transaction=session, target_type="invoice", target_id=args["invoice_id"]
    )
    return Ok("collected")


@send_invoice.implement
def send(scope: JobScope, args: InvoiceArgs) -> Result[str]:
    """Fails twice: the mail server answers at the third attempt."""
    job = current_job()
    if job is not None and job.attempt < 3:
        # Outside of the transaction, which is rolled back. Both failures are one event: it is the same again.
        audit.log_safe(
            "invoice.sent", scope, outcome="failure", target_type="invoice", target_id=args["invoice_id"]
        )
        raise ConnectionError("the mail server does not answer")
    session = note("the customer has it")
    audit.log("invoice.sent", scope, transaction=session, target_type="invoice", target_id=args["invoice_id"])
    return Ok("sent")


@call_webhook.implement
def call(scope: JobScope, args: InvoiceArgs) -> Result[str]:
    """Dies, unless the organization has repaired its endpoint."""
    organization = job_session.get().get_one(Organization, scope.active_organization.id)
    if not organization.endpoint_up:
        audit.log_safe(
            "webhook.called", scope, outcome="failure", target_type="invoice", target_id=args["invoice_id"]
        )
        return Error("the endpoint answers 410 Gone")
    session = note("the endpoint answers 200 OK")
    audit.log(
        "webhook.called", scope, transaction=session, target_type="invoice", target_id=args["invoice_id"]
    )
    return Ok("called")


def note(text: str) -> TenantSession:
    """Write what came of the running job into its row; returns the session of this run, to go on with."""
    session, job = job_session.get(), current_job()
    if job is not None:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(note=text))
    return session
