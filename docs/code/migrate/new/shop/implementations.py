"""What does the new jobs: imported by worker processes only."""

from shop import invoices
from shop.jobs import ReminderArgs, remind, remind_shadow
from shop.registry import workers
from sigra_workers import AuditScope, Cancel, Ok, Result


class RemindShadow:
    """Looks at what `Remind` would do, and does none of it."""

    def perform(self, scope: AuditScope, args: ReminderArgs) -> Result[None]:
        """Whether the invoice is the organization's."""
        if invoices.organization_of(args["invoice_id"]) != args["organization_id"]:
            return Cancel("the invoice is another organization's")
        return Ok()


class Remind(RemindShadow):
    """Reminds a customer of an invoice."""

    def perform(self, scope: AuditScope, args: ReminderArgs) -> Result[None]:
        """The same, and then what the old job does."""
        checked = super().perform(scope, args)
        if isinstance(checked, Ok):
            invoices.remind(args["invoice_id"])
            workers.audit.log_safe(
                "invoice.reminded", scope, target_type="invoice", target_id=args["invoice_id"]
            )
        return checked


remind_shadow.implement(RemindShadow())
remind.implement(Remind())
