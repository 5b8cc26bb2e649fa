"""Web handlers: who acts, and for which organization, is known here and goes along as args."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from app.jobs import close_account, workers
from app.workers import CloseAccountArgs
from sigra_workers import JobRef, organization_args


@dataclass(frozen=True)
class User:
    """Somebody who is logged in."""

    id: str
    may_close: bool = False


@dataclass(frozen=True)
class Organization:
    """The organization somebody works in."""

    id: str


@dataclass(frozen=True)
class Scope:
    """What the session of a request allows. It ends with the request; workers never get one."""

    user: User
    active_organization: Organization
    impersonating_from: User | None = None
    sigra_authorizes: ClassVar[Literal[True]] = True


@dataclass(frozen=True)
class Request:
    """A request, past the log-in."""

    scope: Scope


def authorize(scope: Scope) -> None:
    """Refuse who may not close accounts. A worker's `AuditScope` is a type error here."""
    if not scope.user.may_close:
        raise PermissionError(f"user {scope.user.id!r} may not close accounts")


def close(request: Request, account_id: str) -> JobRef:
    """Close one account, a minute from now."""
    authorize(request.scope)
    args = CloseAccountArgs(**organization_args(request.scope), account_id=account_id)
    return close_account.enqueue(args, schedule_in=60)


async def aclose(request: Request, account_id: str) -> JobRef:
    """Close one account, from an async handler."""
    authorize(request.scope)
    args = CloseAccountArgs(**organization_args(request.scope), account_id=account_id)
    return await close_account.aenqueue(args)


def close_many(request: Request, account_ids: Iterable[str]) -> list[JobRef]:
    """Close many: every job is checked before the first is sent, as after a transaction's commit."""
    authorize(request.scope)
    keys = organization_args(request.scope)
    jobs = [close_account.new(CloseAccountArgs(**keys, account_id=account_id)) for account_id in account_ids]
    return workers.enqueue_many(jobs)
