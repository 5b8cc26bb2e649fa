"""Reading an audit trail back: which events, and a page of them at a time."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal, Protocol, Required, TypeAlias, cast

from typing_extensions import ReadOnly, TypedDict, Unpack

from sigra_workers.args import Id
from sigra_workers.errors import InvalidOptionError, refuse_unknown
from sigra_workers.events import AuditEvent, AuditOutcome
from sigra_workers.records import record

PAGE: Final = 100
"""Events in a page where no limit is given."""
MAX_PAGE: Final = 10_000
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.?")


class Every(Enum):
    """Says that a filter is left open on purpose."""

    ORGANIZATION = "every organization"


EVERY_ORGANIZATION: Final = Every.ORGANIZATION
"""For operators: events of all organizations, where each query otherwise is about one."""

OrganizationFilter: TypeAlias = Id | Literal[Every.ORGANIZATION] | None


class AuditFilters(TypedDict, total=False):
    """Which events; all that are given have to fit. Ids are exact: 1 is not "1"."""

    organization: Required[ReadOnly[OrganizationFilter]]
    """One organization's; None is the events of none. For all of them say `EVERY_ORGANIZATION`."""
    real_actor: ReadOnly[Id | None]
    """Who really acted, the admin under impersonation; None is the system without a name."""
    effective_user: ReadOnly[Id | None]
    """The account that it was done as."""
    action: ReadOnly[str]
    """An action such as ``"account.closed"``, or with a dot at its end all below: ``"account."``."""
    outcome: ReadOnly[AuditOutcome]
    target_type: ReadOnly[str | None]
    target_id: ReadOnly[Id | None]
    job: ReadOnly[str | None]
    """The id of the job that wrote them; None is those from outside of a job."""
    since: ReadOnly[datetime]
    """Happened then or later; with a time zone."""
    until: ReadOnly[datetime]
    """Happened before; with a time zone."""


@record(frozen=True, slots=True)
class AuditPage:
    """Some events, latest first. `older` and `newer` are the cursors of the pages beside it.

    `older` is None where no older event fits. `newer` is None on the first page, where one that asks again
    without a cursor sees what has happened since.
    """

    events: list[AuditEvent]
    older: str | None
    newer: str | None


class AuditReader(Protocol):
    """An audit trail that can be read.

    Laws: filters are checked with `check_audit_filters`; events come latest first, those of one time in a
    fixed order; a page costs the same wherever it is; a cursor is of the reader's own making, is refused
    with `InvalidOptionError` where it is not, and widens no filter.
    """

    def query(
        self, *, limit: int = PAGE, cursor: str | None = None, **filters: Unpack[AuditFilters]
    ) -> AuditPage:
        """A page of the events that fit: the latest, or those beside another page."""
        ...

    def count(self, **filters: Unpack[AuditFilters]) -> int:
        """How many events fit."""
        ...

    def stream(self, **filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        """All events that fit, oldest first, however many they are, in flat memory."""
        ...

    def close(self) -> None:
        """Close what was opened to read."""
        ...


def check_audit_filters(filters: AuditFilters, /) -> AuditFilters:
    """Filters that can be, or `InvalidOptionError`."""
    found = cast("Mapping[str, Any]", filters)
    if "organization" not in found:
        problem = "it is absent, expected an organization's id, None, or EVERY_ORGANIZATION"
        raise InvalidOptionError("organization", problem)
    refuse_misfits(found, AuditFilters, _fits)
    return filters


def refuse_misfits(filters: Mapping[str, Any], form: Any, fits: Callable[[str, Any], bool]) -> None:
    """Refuse filters that a TypedDict does not list, or whose values can't be."""
    refuse_unknown(filters, form, "filter")
    for name, value in filters.items():
        if fits(name, value):
            continue
        problem = f"a filter can't be of type {type(value).__name__} or that value"
        if isinstance(value, datetime) and value.tzinfo is None:
            problem = "a time needs a time zone, such as datetime.now(UTC) has"
        raise InvalidOptionError(name, problem)


def check_limit(limit: object, /) -> int:
    """How many events a page has, or `InvalidOptionError`."""
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidOptionError("limit", f"expected an int from 1 to {MAX_PAGE}")
    return limit


def _fits(name: str, value: Any) -> bool:
    match name:
        case "organization" if value is EVERY_ORGANIZATION:
            return True
        case "organization" | "real_actor" | "effective_user" | "target_id":
            return value is None or type(value) in (str, int)
        case "target_type" | "job":
            return value is None or isinstance(value, str)
        case "action":
            return isinstance(value, str) and _ACTION.fullmatch(value) is not None
        case "outcome":
            return value in ("success", "failure")
        case _:
            return isinstance(value, datetime) and value.tzinfo is not None
