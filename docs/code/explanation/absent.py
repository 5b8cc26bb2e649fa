"""Absent, null and system: three things that are easily one."""

import json
from typing import Any

import pytest

# begin registry
from sigra_workers import (
    AuditScope,
    InvalidArgsError,
    MissingTenantKeyError,
    Ok,
    OrganizationArgs,
    Result,
    TenantArgs,
    Workers,
)

workers = Workers[AuditScope](system_actor="scheduler")


class InviteArgs(TenantArgs):  # before anybody has signed in
    email: str


class ReportArgs(OrganizationArgs):  # OrganizationArgs: there is always an organization
    month: str


@workers.worker(name="users.invite")
def invite(scope: AuditScope, args: InviteArgs) -> Result[None]:
    workers.audit.log("user.invited", scope)
    return Ok()


@workers.worker(name="reports.build")
def build_report(scope: AuditScope, args: ReportArgs) -> Result[None]:
    workers.audit.log("report.built", scope, target_id=args["month"])
    return Ok()
    # end registry


# begin absent
by_hand: Any = json.loads('{"organization_id": "northwind", "month": "2026-03"}')
with pytest.raises(MissingTenantKeyError, match="'actor_id' is missing, pass None where there is nobody"):
    build_report.new(by_hand)
# end absent

# begin null
invite.new(InviteArgs(organization_id=None, actor_id=None, email="bob@example.com"))
by_hand = {"organization_id": None, "actor_id": None, "month": "2026-03"}
with pytest.raises(InvalidArgsError, match="'organization_id' is None"):
    build_report.new(by_hand)
# end null

# begin system
from sigra_workers import MemorySink, organization_args
from sigra_workers.memory import MemoryAdapter

trail = MemorySink()
with workers.audit.using(trail):
    keys = organization_args(organization_id="northwind", actor_id=None)
    build_report.enqueue(ReportArgs(**keys, month="2026-03"))
    MemoryAdapter.of(workers).drain()
(event,) = trail.events
assert (event.actor_type, event.actor_id) == ("system", "scheduler")
assert (event.organization_id, event.effective_user_id) == ("northwind", None)
# end system
