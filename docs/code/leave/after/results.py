"""What a worker is given, and what it returns."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, NotRequired, TypeAlias, TypedDict, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class OrganizationArgs(TypedDict):
    """Whose job it is, who wanted it, and who acted as them."""

    organization_id: str
    actor_id: str | None
    impersonating_from: NotRequired[str | None]


@dataclass(frozen=True)
class Ref:
    """An account, or an organization."""

    id: str


@dataclass(frozen=True)
class Scope:
    """Who acts, and where, as an audit trail needs it."""

    user: Ref | None
    active_organization: Ref
    impersonating_from: Ref | None


def scope_of(args: OrganizationArgs) -> Scope:
    """From the args, whose keys have to be there: nothing checks it any more before this."""
    return Scope(
        user=_ref(args["actor_id"]),
        active_organization=Ref(args["organization_id"]),
        impersonating_from=_ref(args.get("impersonating_from")),
    )


def _ref(found: str | None) -> Ref | None:
    return None if found is None else Ref(found)


@dataclass(frozen=True)
class Ok(Generic[T_co]):
    """Done."""

    value: T_co | None = None


@dataclass(frozen=True)
class Error:
    """Not done."""

    reason: object


@dataclass
class Snooze:
    """Not yet."""

    seconds: float

    def __init__(self, seconds: int | timedelta) -> None:
        self.seconds = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds


@dataclass(frozen=True)
class Cancel:
    """Never."""

    reason: object


Result: TypeAlias = Ok[T] | Error | Snooze | Cancel
