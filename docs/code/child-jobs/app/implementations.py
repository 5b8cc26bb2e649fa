"""What does the jobs: imported by worker processes only."""

from app import data
from app.jobs import BillAllArgs, BillArgs, InvoiceArgs, bill, bill_all, send_invoice, workers
from sigra_workers import AuditScope, Ok, Result, organization_args


# begin bill
@bill.implement
def bill_organization(scope: AuditScope, args: BillArgs) -> Result[int]:
    """Send a job for each customer; how many are new."""
    who = organization_args(scope)
    about = f"{who['organization_id']}-{args['month']}"
    jobs = [
        send_invoice.new(
            InvoiceArgs(**who, customer_id=customer_id, month=args["month"]),
            job_id=f"invoice-{about}-{customer_id}",
        )
        for customer_id in data.customers(who["organization_id"])
    ]
    refs = workers.enqueue_many(jobs, on_duplicate="skip")
    return Ok(sum(not ref.duplicate for ref in refs))


# end bill
# begin send
@send_invoice.implement
def send_to_customer(scope: AuditScope, args: InvoiceArgs) -> Result[None]:
    """Send one invoice, once, however often this runs."""
    if data.invoice(args["organization_id"], args["customer_id"], args["month"]):
        workers.audit.log_safe("invoice.sent", scope, target_type="customer", target_id=args["customer_id"])
    return Ok()


# end send
# begin all
@bill_all.implement
def bill_every_organization(scope: AuditScope, args: BillAllArgs) -> Result[int]:
    """Send a job for each organization; how many are new."""
    month = args["month"]
    jobs = [
        bill.new(
            BillArgs(organization_id=organization_id, actor_id=None, month=month),
            job_id=f"bill-{organization_id}-{month}",
        )
        for organization_id in data.organizations()
    ]
    refs = workers.enqueue_many(jobs, on_duplicate="skip")
    return Ok(sum(not ref.duplicate for ref in refs))


# end all
