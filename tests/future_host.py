"""A host module whose annotations are strings at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, Optional, Required

from typing_extensions import ReadOnly, TypedDict

from sigra_workers import AuditScope, Id, Ok, OrganizationArgs, Result, TenantArgs

if TYPE_CHECKING:
    from decimal import Decimal as Money


class ResolvableArgs(TenantArgs):
    account_id: str
    note: NotRequired[str]
    read: ReadOnly[NotRequired[str]]


class PartlyArgs(TenantArgs, total=False):
    account_id: Required[str]
    note: str


class CheckersAloneArgs(OrganizationArgs):
    amount: Money
    note: NotRequired[Money]


class CheckersAlonePartlyArgs(TenantArgs, total=False):
    amount: Required[Money]
    note: Money


class FromScratchArgs(TypedDict):
    organization_id: Id
    actor_id: Optional[Id]  # noqa: UP045  # typing.Union is another class before 3.14
    amount: Money


class Resolvable:
    def perform(self, scope: AuditScope, args: ResolvableArgs) -> Result[str]:
        return Ok(args["account_id"])


class CheckersAlone:
    def perform(self, scope: AuditScope, args: Money) -> Result[None]:
        return Ok()


class ReturnsNone:
    def perform(self, scope: AuditScope, args: ResolvableArgs) -> None:
        return None


def function(scope: AuditScope, args: ResolvableArgs) -> Result[None]:
    return Ok()
