"""The same message here: the tenant is a part of it, and without it nothing runs."""

# begin
from sigra_workers import (
    AuditScope,
    Complete,
    Dead,
    MissingArgError,
    Ok,
    OrganizationArgs,
    Result,
    Workers,
)
from sigra_workers.testing import testing


class CloseAccountArgs(OrganizationArgs):
    account_id: str


workers = Workers[AuditScope]()


@workers.worker(name="accounts.close")
def close_account(scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
    return Ok(f"{args['account_id']} of {args['organization_id']}")


args = CloseAccountArgs(organization_id="northwind", actor_id="ann", account_id="acc_7")
with testing(workers) as sigra:
    message = sigra.payload(close_account, args)
    assert sigra.perform_payload(message) == Complete("acc_7 of northwind")
    del message["args"]["organization_id"]
    outcome = sigra.perform_payload(message)
    assert isinstance(outcome, Dead)
    assert isinstance(outcome.error, MissingArgError)
# end
