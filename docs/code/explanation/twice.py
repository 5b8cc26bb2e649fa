"""A worker that may run twice, and an audit event that is one row all the same."""

# begin
import sqlite3

from sigra_workers import Audit, AuditScope, Ok, OrganizationArgs, Result, Workers


class PayOutArgs(OrganizationArgs):
    payout_id: str  # made by the sender, once for this payout
    cents: int


class PayOut:
    def __init__(self, db: sqlite3.Connection, audit: Audit) -> None:
        self.db, self.audit = db, audit

    def perform(self, scope: AuditScope, args: PayOutArgs) -> Result[str]:
        organization, payout = args["organization_id"], args["payout_id"]
        mark = "INSERT INTO paid_out VALUES (?, ?) ON CONFLICT DO NOTHING"
        work = "UPDATE balance SET cents = cents - ? WHERE organization_id = ?"
        with self.db:  # one transaction: the mark and the work, or neither
            first = self.db.execute(mark, (organization, payout)).rowcount
            if first:
                self.db.execute(work, (args["cents"], organization))
        self.audit.log_safe("payout.made", scope, target_id=payout)
        return Ok("paid" if first else "paid before")
        # end


# begin run
from sigra_workers import Complete, organization_args
from sigra_workers.testing import testing

db = sqlite3.connect(":memory:")
db.executescript("""
    CREATE TABLE paid_out (organization_id, payout_id, UNIQUE (organization_id, payout_id));
    CREATE TABLE balance (organization_id, cents);
    INSERT INTO balance VALUES ('northwind', 1000);
""")
workers = Workers[AuditScope]()
pay_out = workers.register(PayOut(db, workers.audit), name="payouts.make")

who = organization_args(organization_id="northwind", actor_id="ann")
args = PayOutArgs(**who, payout_id="p1", cents=400)
with testing(workers) as sigra:
    message = sigra.payload(pay_out, args)
    assert sigra.perform_payload(message) == Complete("paid")
    # Here the process dies. The queue never hears of it, and delivers the job again.
    assert sigra.perform_payload(message, crashes=1) == Complete("paid before")
    assert db.execute("SELECT cents FROM balance").fetchall() == [(600,)]
    assert len(sigra.trail.events) == 1  # of two runs
# end run
db.close()
