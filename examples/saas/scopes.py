"""Who acts, and where: in a request, with all rights, and in a job, for the audit trail alone."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from saas.database import session_for
from saas.models import Organization, Person
from sigra_workers import AuditOnly, AuditRef, Cancel, TenantArgs


@dataclass(frozen=True)
class RequestScope:
    """What the session of a request allows. It ends with the request; workers never get one."""

    user: Person
    """Whom the request acts as."""
    active_organization: Organization
    impersonating_from: Person | None = None
    """The admin who really acts, if it is not the user."""
    sigra_authorizes: ClassVar[Literal[True]] = True

    @property
    def real_actor(self) -> Person:
        """Who really acts."""
        return self.impersonating_from or self.user


@dataclass(frozen=True, slots=True)
class JobOrganization(AuditOnly):
    """The organization of a job, as it is when the job runs."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class JobScope(AuditOnly):
    """Who a job acts as, and where. Passing it to an authorization function is a type error."""

    user: AuditRef | None
    active_organization: JobOrganization
    impersonating_from: AuditRef | None


class JobScopeBuilder:
    """Makes the scope of each run anew, from the ids that the job carries."""

    def build(self, args: TenantArgs, /) -> JobScope | Cancel:
        """Look up the organization: a job of one that is gone ends here, dead and not run."""
        organization_id = args["organization_id"]
        with session_for(organization_id) as session:
            organization = session.get(Organization, organization_id)
        if organization is None:
            return Cancel("the organization was deleted")
        return JobScope(
            user=_ref(args["actor_id"]),
            active_organization=JobOrganization(organization.id, organization.name),
            impersonating_from=_ref(args.get("impersonating_from")),
        )


def _ref(found: str | int | None) -> AuditRef | None:
    return None if found is None else AuditRef(found)
