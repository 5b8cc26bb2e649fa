"""Audit-only scopes: who a job acts as and where, for the audit trail and for nothing else."""

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol

from sigra_workers.args import Id, TenantArgs
from sigra_workers.errors import AuditOnlyScopeError
from sigra_workers.records import record


class AuditOnly:
    """Nominal base of every worker scope: good for audit, never for authorization.

    A subclass may not also inherit from another class, as a request scope would let it pass for one.
    """

    __slots__ = ()
    sigra_authorizes: ClassVar[Literal[False]] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        mixed = [
            base.__qualname__
            for base in cls.__mro__[1:]
            if base is not object and base is not Generic and not issubclass(base, AuditOnly)
        ]
        if mixed:
            raise TypeError(
                f"{cls.__qualname__} is audit-only and may not also inherit from {', '.join(mixed)}"
            )

    if not TYPE_CHECKING:  # a visible __getattr__ would let the scope pass any structural Protocol

        def __getattr__(self, name: str) -> Any:
            raise AuditOnlyScopeError(type(self).__qualname__, name)


class Authorizes(Protocol):
    """Add it to a structural authorization contract: no `AuditOnly` can ever satisfy it."""

    sigra_authorizes: ClassVar[Literal[True]]
    """True: this scope may authorize."""


@record(frozen=True, slots=True)
class AuditRef(AuditOnly):
    """An id for the audit trail. Deliberately neither a str nor the host's own user."""

    id: Id


@record(frozen=True, slots=True)
class AuditScope(AuditOnly):
    """The scope that the default builder makes: each part is None only where its id is None."""

    user: AuditRef | None
    active_organization: AuditRef | None
    impersonating_from: AuditRef | None = None


class AuditScopeBuilder:
    """The default scope builder: from the ids alone, without any I/O."""

    def build(self, args: TenantArgs, /) -> AuditScope:
        """Build the scope of one job from its args."""
        return AuditScope(
            user=_ref(args["actor_id"]),
            active_organization=_ref(args["organization_id"]),
            impersonating_from=_ref(args.get("impersonating_from")),
        )


def _ref(value: Id | None) -> AuditRef | None:
    return None if value is None else AuditRef(value)


def forbid_audit_scope(scope: object, /) -> None:
    """Raise `AuditOnlyScopeError` for a worker's scope: the first line of an untyped authorization check."""
    if isinstance(scope, AuditOnly):
        raise AuditOnlyScopeError(type(scope).__qualname__, None)
