"""Filters and pages of an audit trail: what can be asked, and what is refused before any reader sees it."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from sigra_workers import EVERY_ORGANIZATION, AuditFilters, InvalidOptionError
from sigra_workers.trail import MAX_PAGE, PAGE, check_audit_filters, check_limit

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ELSEWHERE = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))
IDS = ("organization", "real_actor", "effective_user", "target_id")

GOOD: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(IDS, ("org-1", "", 0, -5, 2**70, None)),
    "action": ("account.closed", "account.", "account", "a.b.c", "app2.mail_sent."),
    "outcome": ("success", "failure"),
    "target_type": ("account", "", None),
    "job": ("job-1", "", None),
    "since": (NOW, ELSEWHERE),
    "until": (NOW, ELSEWHERE),
}
BAD: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(IDS, (True, False, 1.0, b"a", ["a"], object())),
    "action": ("", ".", "Account.closed", "account..", ".closed", "a b", "a%", "a\n", None, 5),
    "outcome": ("maybe", "", None, True),
    "target_type": (5, True, b"account", ["account"]),
    "job": (5, True, b"job-1"),
    "since": (datetime(2030, 1, 1), NOW.isoformat(), NOW.date(), 0, None),  # noqa: DTZ001
    "until": (datetime(2030, 1, 1), NOW.isoformat(), NOW.date(), 0, None),  # noqa: DTZ001
}


def check(**filters: Any) -> dict[str, object]:
    return {**check_audit_filters(cast("AuditFilters", filters))}


def refused(**filters: Any) -> InvalidOptionError:
    """Why the filters are refused."""
    with pytest.raises(InvalidOptionError) as caught:
        check(**filters)
    return caught.value


def test_these_tests_know_every_filter() -> None:
    assert {*GOOD} == {*BAD} == {*AuditFilters.__annotations__}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GOOD for value in GOOD[name]])
def test_a_filter_that_can_be_is_passed_on_as_it_is(name: str, value: object) -> None:
    given = {"organization": "org-1", name: value}
    assert check(**given) == given


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_a_filter_of_a_wrong_type_or_value_is_refused_by_name_without_the_value(
    name: str, value: object
) -> None:
    error = refused(**{"organization": "org-1", name: value})
    assert error.option == name
    if isinstance(value, datetime):
        assert error.problem == "a time needs a time zone, such as datetime.now(UTC) has"
    else:
        assert error.problem == f"a filter can't be of type {type(value).__name__} or that value"


def test_the_organization_has_to_be_said() -> None:
    error = refused(action="account.closed")
    assert error.option == "organization"
    assert "EVERY_ORGANIZATION" in str(error)


def test_every_organization_is_asked_for_by_name_and_nowhere_else() -> None:
    assert check(organization=EVERY_ORGANIZATION) == {"organization": EVERY_ORGANIZATION}
    assert refused(organization="org-1", real_actor=EVERY_ORGANIZATION).option == "real_actor"


def test_a_filter_that_does_not_exist_is_refused_with_those_that_do() -> None:
    error = refused(organization="org-1", actor="ann")
    assert error.option == "actor"
    assert all(name in str(error) for name in AuditFilters.__annotations__)


def test_filters_may_be_given_together() -> None:
    given = {name: values[0] for name, values in GOOD.items()}
    assert check(**given) == given


@pytest.mark.parametrize("limit", [1, PAGE, MAX_PAGE])
def test_a_page_has_one_to_ten_thousand_events(limit: int) -> None:
    assert check_limit(limit) == limit


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1, True, 1.0, "5", None])
def test_another_size_of_a_page_is_refused(limit: object) -> None:
    with pytest.raises(InvalidOptionError, match="expected an int from 1 to 10000") as caught:
        check_limit(limit)
    assert caught.value.option == "limit"
