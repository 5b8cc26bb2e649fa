"""Who acts, and for which organization: in a request, and in a job."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.models import Organization
from config.connections import tended_connections
from sigra_workers import AuditScope, AuditScopeBuilder, Cancel, TenantArgs


@dataclass(frozen=True)
class Scope:
    """What a request may do. It ends with the request; jobs never get one."""

    user: User
    active_organization: Organization
    impersonating_from: User | None = None
    sigra_authorizes: ClassVar[Literal[True]] = True


def scope_of(request: HttpRequest) -> Scope:
    """The scope of a request; raises `PermissionDenied` where nobody is signed in, or is no member.

    The session holds the ids of the organization that was chosen, and for staff of whom they act as.
    """
    user, admin = request.user, None
    if not isinstance(user, User):
        raise PermissionDenied
    if user.is_staff and "acting_as" in request.session:
        user, admin = User.objects.get(pk=request.session["acting_as"]), user
    chosen = request.session.get("organization", 0)
    organization = Organization.objects.filter(pk=chosen, members=user).first()
    if organization is None:
        raise PermissionDenied
    return Scope(user, organization, admin)


class TenantScopes:
    """Makes the scope of a job, unless its organization is gone."""

    def build(self, args: TenantArgs, /) -> AuditScope | Cancel:
        """The scope of one job. No around is entered yet, so connections are tended here too."""
        organization = args["organization_id"]
        with tended_connections():
            if organization is not None and not Organization.objects.filter(pk=organization).exists():
                return Cancel("the organization is gone")
        return AuditScopeBuilder().build(args)
