"""Who acts, and for which organization, in a web request."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class User:
    """Somebody who is signed in."""

    id: str


@dataclass(frozen=True)
class Organization:
    """The organization that somebody works in."""

    id: str


@dataclass(frozen=True)
class RequestScope:
    """What a request may do."""

    user: User
    active_organization: Organization
    impersonating_from: User | None = None
    sigra_authorizes: ClassVar[Literal[True]] = True
