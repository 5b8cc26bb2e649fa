"""The scope of a job, and what makes it."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from app.models import Organization, User
from sigra_workers import AuditScope, AuditScopeBuilder, Cancel, Snooze, TenantArgs


# begin scope
@dataclass(frozen=True, slots=True, kw_only=True)
class TenantScope(AuditScope):
    """Who a job acts as and where, with names to print."""

    organization_name: str | None
    user_name: str | None


# end scope
# begin decide
def decide(
    args: TenantArgs, organization: Organization | None, user: User | None
) -> TenantScope | Cancel | Snooze:
    """What is to become of a job, given what there is of its organization and of who asked for it."""
    if args["organization_id"] is not None:
        if organization is None:
            return Cancel("the organization is gone")
        if organization.is_suspended:
            return Snooze(timedelta(hours=1))
    ids = AuditScopeBuilder().build(args)
    return TenantScope(
        user=ids.user,
        active_organization=ids.active_organization,
        impersonating_from=ids.impersonating_from,
        organization_name=organization.name if organization else None,
        user_name=user.name if user else None,  # somebody who left has asked for it all the same
    )


# end decide
# begin sync
class TenantScopes:
    """Makes the scope of each run anew, from the database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def build(self, args: TenantArgs, /) -> TenantScope | Cancel | Snooze:
        """Read, decide, and let go of the session."""
        with Session(self.engine) as session:
            organization = session.scalar(
                select(Organization).where(Organization.id == args["organization_id"])
            )
            user = session.scalar(select(User).where(User.id == args["actor_id"]))
            return decide(args, organization, user)


# end sync
# begin async
class AsyncTenantScopes:
    """The same for async workers."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def build(self, args: TenantArgs, /) -> TenantScope | Cancel | Snooze:
        """Read, decide, and let go of the session."""
        async with AsyncSession(self.engine) as session:
            organization = await session.scalar(
                select(Organization).where(Organization.id == args["organization_id"])
            )
            user = await session.scalar(select(User).where(User.id == args["actor_id"]))
            return decide(args, organization, user)


# end async
