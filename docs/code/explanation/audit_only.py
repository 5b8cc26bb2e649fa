"""What a worker's scope refuses, and what to do instead."""

from typing import Any, Protocol

import pytest

# begin refused
from sigra_workers import AuditOnlyScopeError, AuditRef, AuditScope, forbid_audit_scope

scope: Any = AuditScope(user=AuditRef("ann"), active_organization=AuditRef("northwind"))
with pytest.raises(AuditOnlyScopeError, match="AuditScope has no 'membership'"):
    role = scope.membership.role
with pytest.raises(AuditOnlyScopeError, match="a worker's scope is audit-only"):
    forbid_audit_scope(scope)
# end refused

# begin protocol
from sigra_workers import Authorizes


class CanClose(Authorizes, Protocol):  # your scope says: sigra_authorizes = True
    user: Any
    active_organization: Any
    # end protocol


# begin member
from sigra_workers import Cancel, Ok, OrganizationArgs, Result


class ExportArgs(OrganizationArgs):
    year: int


class Export:
    def __init__(self, members: set[tuple[object, object]]) -> None:
        self.members = members

    def perform(self, scope: AuditScope, args: ExportArgs) -> Result[str]:
        if (args["organization_id"], args["actor_id"]) not in self.members:
            return Cancel("no longer a member")
        return Ok("exported")
        # end member


args = ExportArgs(organization_id="northwind", actor_id="ann", year=2026)
audit_scope = AuditScope(user=AuditRef("ann"), active_organization=AuditRef("northwind"))
assert Export({("northwind", "ann")}).perform(audit_scope, args) == Ok("exported")
assert Export(set()).perform(audit_scope, args) == Cancel("no longer a member")
