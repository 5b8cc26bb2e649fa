"""Who is who: from a request in which an admin acts as Ann to the audit trail."""

# begin request
from dataclasses import dataclass


@dataclass(frozen=True)
class Named:
    id: str


@dataclass(frozen=True)
class RequestScope:  # your own: its parts are found by their names
    user: Named
    active_organization: Named
    impersonating_from: Named | None = None


request = RequestScope(
    user=Named("ann"),
    active_organization=Named("northwind"),
    impersonating_from=Named("admin"),
)
# end request

# begin worker
from sigra_workers import (
    AuditScope,
    MemorySink,
    Ok,
    OrganizationArgs,
    Result,
    Workers,
    organization_args,
)
from sigra_workers.memory import MemoryAdapter


class CloseAccountArgs(OrganizationArgs):
    account_id: str


workers = Workers[AuditScope]()
seen: list[AuditScope] = []


@workers.worker(name="accounts.close")
def close_account(scope: AuditScope, args: CloseAccountArgs) -> Result[None]:
    seen.append(scope)
    workers.audit.log("account.closed", scope, target_id=args["account_id"])
    return Ok()
    # end worker


# begin run
args = CloseAccountArgs(**organization_args(request), account_id="acc_1")
assert args["actor_id"] == "ann"  # the account that the job acts as
assert args.get("impersonating_from") == "admin"

trail = MemorySink()
with workers.audit.using(trail):
    close_account.enqueue(args)
    MemoryAdapter.of(workers).drain()

(scope,), (event,) = seen, trail.events
assert scope.user is not None
assert scope.user.id == "ann"
assert event.actor_id == "admin"  # who really acted
assert event.effective_user_id == "ann"  # as whom
# end run
