"""Args: making tenant keys, reading args, and the one check at `new`."""

import copy
import json
import math
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType, SimpleNamespace
from typing import Any, NotRequired, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import KEYS

from sigra_workers import (
    AuditRef,
    AuditScope,
    InvalidArgsError,
    MissingArgError,
    MissingTenantKeyError,
    OrganizationArgs,
    TenantArgs,
    WrongArgError,
    fetch_arg,
    organization_args,
    tenant_args,
    wire_id,
)
from sigra_workers.args import MAX_ARGS_BYTES, MAX_DEPTH, ArgsForm, check_args

UID = UUID("12345678-1234-5678-1234-567812345678")


class CloseArgs(TenantArgs):
    account_id: str
    note: NotRequired[str]


TENANT = ArgsForm.of(TenantArgs)
ORGANIZATION = ArgsForm.of(OrganizationArgs)
CLOSE = ArgsForm.of(CloseArgs)


def scope(**parts: Any) -> Any:
    """A request scope; each part an id or None."""
    whole = {"user": "ann", "active_organization": "org-1", **parts}
    return SimpleNamespace(
        **{part: None if value is None else SimpleNamespace(id=value) for part, value in whole.items()}
    )


def problems(args: Any, form: ArgsForm = TENANT, limit: int = MAX_ARGS_BYTES) -> tuple[str, ...]:
    """What the check at `new` finds wrong."""
    with pytest.raises(InvalidArgsError) as caught:
        check_args("accounts.close", args, form, limit)
    return caught.value.problems


# -- tenant_args ---------------------------------------------------------------------------------------


def test_tenant_args_reads_a_request_scope() -> None:
    assert dict(tenant_args(scope())) == {"organization_id": "org-1", "actor_id": "ann"}


def test_tenant_args_keeps_the_account_acted_as_apart_from_the_admin_behind_it() -> None:
    assert dict(tenant_args(scope(impersonating_from="admin"))) == {
        "organization_id": "org-1",
        "actor_id": "ann",
        "impersonating_from": "admin",
    }


def test_tenant_args_of_a_scope_with_nobody_and_nowhere_are_none() -> None:
    found = tenant_args(scope(user=None, active_organization=None, impersonating_from=None))
    assert dict(found) == {"organization_id": None, "actor_id": None}


def test_tenant_args_reads_a_worker_scope_so_that_jobs_can_enqueue_jobs() -> None:
    of_a_job = AuditScope(AuditRef("ann"), AuditRef("org-1"), AuditRef("admin"))
    assert tenant_args(of_a_job).get("impersonating_from") == "admin"


@pytest.mark.parametrize("value", [0, "", -1, "0", 2**63])
def test_falsy_and_large_ids_are_values(value: str | int) -> None:
    assert dict(tenant_args(organization_id=value, actor_id=value)) == {
        "organization_id": value,
        "actor_id": value,
    }
    assert tenant_args(scope(user=value))["actor_id"] == value
    assert tenant_args(scope(impersonating_from=value)).get("impersonating_from") == value


def test_a_uuid_becomes_its_text() -> None:
    expected = {"organization_id": str(UID), "actor_id": str(UID), "impersonating_from": str(UID)}
    assert dict(tenant_args(organization_id=UID, actor_id=UID, impersonating_from=UID)) == expected
    assert dict(tenant_args(scope(user=UID, active_organization=UID, impersonating_from=UID))) == expected
    assert wire_id(UID) == str(UID)


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        ({}, ["organization_id", "actor_id"]),
        ({"organization_id": "org-1"}, ["actor_id"]),
        ({"actor_id": None}, ["organization_id"]),
    ],
)
def test_an_id_left_out_is_an_error_that_names_each(ids: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(MissingTenantKeyError) as caught:
        tenant_args(**ids)
    assert [problem.split("'")[1] for problem in caught.value.problems] == named


def test_no_scope_at_all_is_an_error_and_not_an_anonymous_job() -> None:
    with pytest.raises(MissingTenantKeyError, match="the scope is None"):
        tenant_args(None)


def test_a_scope_without_the_parts_is_an_error_that_names_each() -> None:
    with pytest.raises(MissingTenantKeyError) as caught:
        tenant_args({"user": None})
    assert caught.value.problems == (
        "dict has no attribute 'user'",
        "dict has no attribute 'active_organization'",
    )


def test_a_part_without_an_id_is_an_error() -> None:
    with pytest.raises(InvalidArgsError, match="'user' of the scope has no attribute 'id'"):
        tenant_args(SimpleNamespace(user="ann", active_organization=None))


@pytest.mark.parametrize("value", [True, 1.5, b"org", ["org"], object()])
def test_what_is_not_an_id_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidArgsError, match=f"'actor_id' is of type {type(value).__name__}"):
        tenant_args(organization_id="org-1", actor_id=value)
    with pytest.raises(InvalidArgsError, match="'impersonating_from' is of type"):
        tenant_args(scope(impersonating_from=value))


def test_a_scope_and_ids_at_once_are_refused_as_one_of_them_would_be_dropped() -> None:
    both: Any = tenant_args
    with pytest.raises(TypeError, match="a scope or ids, not both"):
        both(scope(), actor_id="bob")
    both = organization_args
    with pytest.raises(TypeError, match="a scope or ids, not both"):
        both(scope(), impersonating_from="admin")


def test_organization_args_are_tenant_args_with_an_organization() -> None:
    assert dict(organization_args(scope())) == {"organization_id": "org-1", "actor_id": "ann"}
    found = organization_args(organization_id=0, actor_id=None)
    assert dict(found) == {"organization_id": 0, "actor_id": None}


def test_organization_args_refuse_no_organization() -> None:
    with pytest.raises(InvalidArgsError, match="'organization_id' is None"):
        organization_args(scope(active_organization=None))
    nowhere: Any = None
    with pytest.raises(InvalidArgsError, match="'organization_id' is None"):
        organization_args(organization_id=nowhere, actor_id="ann")


# -- fetch_arg -----------------------------------------------------------------------------------------


def test_fetch_arg_returns_the_value_that_is_there_also_none() -> None:
    args = {**KEYS, "actor_id": None, "account_id": "a1"}
    assert fetch_arg(args, "account_id") == "a1"
    assert fetch_arg(args, "actor_id") is None


def test_fetch_arg_of_an_absent_key_is_a_key_error_that_names_it() -> None:
    with pytest.raises(KeyError) as caught:
        fetch_arg(KEYS, "account_id")
    assert isinstance(caught.value, MissingArgError)
    assert caught.value.key == "account_id"
    assert caught.value.found == ("actor_id", "organization_id")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("a", str),
        (1, int),
        (1.5, float),
        (True, bool),
        (True, object),
        (True, bool | int),
        (None, None),
        (None, str | None),
        ("a", str | int),
        ([1], list),
        (None, Optional[str]),  # noqa: UP045  # typing.Union is another class before 3.14
    ],
)
def test_fetch_arg_of_the_right_type_is_the_value(value: Any, form: Any) -> None:
    assert fetch_arg({"key": value}, "key", form) is value


@pytest.mark.parametrize(
    ("value", "form", "found", "expected"),
    [
        ("5", int, "str", "int"),
        (5, str, "int", "str"),
        (True, int, "bool", "int"),
        (True, int | None, "bool", "int | None"),
        (None, str | int, "NoneType", "str | int"),
        ({}, Optional[int], "dict", "int | None"),  # noqa: UP045
    ],
)
def test_fetch_arg_of_another_type_says_found_and_expected(
    value: Any, form: Any, found: str, expected: str
) -> None:
    with pytest.raises(WrongArgError) as caught:
        fetch_arg({"key": value}, "key", form)
    assert (caught.value.key, caught.value.found, caught.value.expected) == ("key", found, expected)


@pytest.mark.parametrize("form", [list[str], "str", 5, TenantArgs])
def test_fetch_arg_refuses_a_form_it_cannot_check(form: Any) -> None:
    with pytest.raises(TypeError):
        fetch_arg({"key": []}, "key", form)


# -- the check at new ----------------------------------------------------------------------------------


def test_good_args_become_json_text() -> None:
    args = {**KEYS, "account_id": "a1", "deep": {"list": [1, 2.5, None, True, "é"]}}
    assert json.loads(check_args("accounts.close", args, CLOSE)) == args


@pytest.mark.parametrize("value", [None, 0, "", "org-1", 7])
def test_every_id_and_none_is_a_tenant_key(value: Any) -> None:
    args = {"organization_id": value, "actor_id": value, "impersonating_from": value}
    assert json.loads(check_args("accounts.close", args, TENANT)) == args


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        (["organization_id"], ["'organization_id'"]),
        (["actor_id"], ["'actor_id'"]),
        (["organization_id", "actor_id"], ["'organization_id'", "'actor_id'"]),
    ],
)
def test_an_absent_tenant_key_is_an_error_of_its_own_that_names_each(
    absent: list[str], named: list[str]
) -> None:
    args = {key: value for key, value in KEYS.items() if key not in absent}
    with pytest.raises(MissingTenantKeyError) as caught:
        check_args("accounts.close", args, TENANT)
    assert caught.value.problems == tuple(
        f"key {key} is missing, pass None where there is nobody" for key in named
    )


def test_an_absent_key_of_the_worker_is_an_error_that_is_not_about_tenants() -> None:
    with pytest.raises(InvalidArgsError) as caught:
        check_args("accounts.close", KEYS, CLOSE)
    assert caught.value.problems == ("key 'account_id' is missing",)
    assert not isinstance(caught.value, MissingTenantKeyError)


@pytest.mark.parametrize("key", ["organization_id", "actor_id", "impersonating_from"])
@pytest.mark.parametrize("value", [True, False, 1.0, [], {}])
def test_a_tenant_key_of_another_type_is_refused(key: str, value: Any) -> None:
    assert problems({**KEYS, key: value}) == (
        f"{key!r} is of type {type(value).__name__}, expected str, int or None",
    )


def test_an_organization_that_is_none_is_refused_where_the_worker_needs_one() -> None:
    args = {**KEYS, "organization_id": None}
    assert problems(args, ORGANIZATION) == ("'organization_id' is None, expected the id of an organization",)


def test_an_actor_that_is_none_is_refused_where_the_worker_needs_one() -> None:
    class ActorArgs(TenantArgs):
        actor_id: str

    assert problems({**KEYS, "actor_id": None}, ArgsForm.of(ActorArgs)) == (
        "'actor_id' is None, expected an id",
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "{} is NaN or infinite, which JSON has no number for"),
        (math.inf, "{} is NaN or infinite, which JSON has no number for"),
        (-math.inf, "{} is NaN or infinite, which JSON has no number for"),
        (b"bytes", "{} is of type bytes, expected a JSON value"),
        (datetime(2030, 1, 1, tzinfo=UTC), "{} is of type datetime, expected a JSON value"),
        ((1, 2), "{} is of type tuple, expected a JSON value"),
        ({1, 2}, "{} is of type set, expected a JSON value"),
        (UID, "{} is of type UUID, expected a JSON value"),
        (1 + 2j, "{} is of type complex, expected a JSON value"),
        (MappingProxyType({}), "{} is of type mappingproxy, expected a JSON value"),
        ({1: "a"}, "a key of {} is of type int, expected str"),
        ({None: "a"}, "a key of {} is of type NoneType, expected str"),
        ({True: "a"}, "a key of {} is of type bool, expected str"),
        ({(1,): "a"}, "a key of {} is of type tuple, expected str"),
    ],
)
@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda value: {"key": value}, "key"),
        (lambda value: {"key": [0, {"inner": value}]}, "key[1].inner"),
        (lambda value: {"key": {"a": [[value]]}}, "key.a[0][0]"),
    ],
)
def test_a_value_that_is_not_json_is_named_by_its_place_at_any_depth(
    value: Any, problem: str, wrap: Any, place: str
) -> None:
    assert problems({**KEYS, **wrap(value)}) == (problem.format(place),)


def test_a_top_level_key_that_is_not_a_string_is_refused() -> None:
    assert problems({**KEYS, 5: "five"}) == ("a key of args is of type int, expected str",)


def test_an_int_too_long_for_json_text_is_refused() -> None:
    assert problems({**KEYS, "n": [10**5_000]}) == ("n[0] is an int of more digits than Python writes",)


def test_a_big_int_is_a_value() -> None:
    args = {**KEYS, "n": 10**40}
    assert json.loads(check_args("accounts.close", args, TENANT)) == args


def test_an_enum_of_strings_travels_as_its_text() -> None:
    class Plan(StrEnum):
        PRO = "pro"

    assert json.loads(check_args("accounts.close", {**KEYS, "plan": Plan.PRO}, TENANT))["plan"] == "pro"


def nested(levels: int, of: type = list) -> Any:
    """Args of so many levels, the args themselves the first."""
    value: Any = "leaf"
    for _ in range(levels - 1):
        value = [value] if of is list else {"a": value}
    return {**KEYS, "deep": value}


@pytest.mark.parametrize("of", [list, dict])
def test_nesting_is_allowed_up_to_the_limit_and_refused_beyond_it(of: type) -> None:
    args = nested(MAX_DEPTH, of)
    assert json.loads(check_args("accounts.close", args, TENANT)) == args
    (problem,) = problems(nested(MAX_DEPTH + 1, of))
    assert problem.endswith(f"is nested deeper than {MAX_DEPTH} levels")


def test_many_containers_side_by_side_are_not_deep() -> None:
    args = {**KEYS, "rows": [[row, {"n": row}] for row in range(MAX_DEPTH)]}
    assert json.loads(check_args("accounts.close", args, TENANT)) == args


def test_a_leaf_at_the_depth_limit_is_not_blamed_for_another_fault() -> None:
    assert problems({**nested(MAX_DEPTH), "bad": b""}) == ("bad is of type bytes, expected a JSON value",)


def test_nesting_beyond_the_stack_is_refused_and_not_a_recursion_error() -> None:
    (problem,) = problems(nested(100_000))
    assert problem.endswith(f"is nested deeper than {MAX_DEPTH} levels")


def test_a_value_that_holds_itself_is_refused() -> None:
    itself: list[Any] = [1]
    itself.append(itself)
    (problem,) = problems({**KEYS, "itself": itself})
    assert problem.endswith(f"is nested deeper than {MAX_DEPTH} levels")


def test_a_value_that_holds_itself_many_times_ends_the_search_early() -> None:
    itself: list[Any] = []
    itself += [itself, itself, itself]
    assert len(problems({**KEYS, "itself": itself})) == 20


@pytest.mark.parametrize(
    "args",
    [
        None,
        "organization_id actor_id",
        ["organization_id", "actor_id"],
        MappingProxyType(dict(KEYS)),
        SimpleNamespace(**KEYS),
    ],
)
def test_args_that_are_no_dict_are_refused(args: Any) -> None:
    assert problems(args) == (f"they are of type {type(args).__name__}, expected a dict",)


def test_a_dict_of_another_class_is_a_dict() -> None:
    class Mine(dict[str, Any]):
        pass

    assert json.loads(check_args("accounts.close", Mine(KEYS), TENANT)) == KEYS


def test_args_beyond_the_limit_are_refused_with_both_sizes() -> None:
    text = json.dumps({**KEYS, "blob": ""}, separators=(",", ":"))
    blob = "x" * (MAX_ARGS_BYTES - len(text))
    args = {**KEYS, "blob": blob}
    assert len(check_args("accounts.close", args, TENANT)) == MAX_ARGS_BYTES
    (problem,) = problems({**KEYS, "blob": blob + "x"})
    assert problem.startswith(f"they take {MAX_ARGS_BYTES + 1} bytes as JSON, at most {MAX_ARGS_BYTES} are")


def test_the_limit_is_in_bytes_of_the_wire_and_not_in_characters() -> None:
    args = {**KEYS, "text": "é" * 20}
    assert "bytes as JSON" in problems(args, limit=len(json.dumps(args, ensure_ascii=False)))[0]


def test_everything_wrong_is_named_in_one_message() -> None:
    found = problems({"organization_id": True, "when": datetime.now(UTC), 5: None, "x": math.nan}, CLOSE)
    assert found == (
        "key 'actor_id' is missing, pass None where there is nobody",
        "key 'account_id' is missing",
        "'organization_id' is of type bool, expected str, int or None",
        "when is of type datetime, expected a JSON value",
        "a key of args is of type int, expected str",
        "x is NaN or infinite, which JSON has no number for",
    )


def test_the_check_never_changes_the_args() -> None:
    for args in ({**KEYS, "rows": [{"n": 1}]}, {"actor_id": True, "rows": [{"n": (1,)}]}):
        before = copy.deepcopy(args)
        with suppress(InvalidArgsError):
            check_args("accounts.close", args, TENANT)
        assert args == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
wild = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.sets(st.integers(), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_every_json_value_is_accepted_and_comes_back_equal(extra: dict[str, Any]) -> None:
    args = {**extra, **KEYS}
    args.pop("impersonating_from", None)
    assert json.loads(check_args("accounts.close", args, TENANT)) == args


def accepted_or_refused(args: Any) -> InvalidArgsError | None:
    """Check args; what is accepted must come back equal."""
    try:
        text = check_args("accounts.close", args, TENANT)
    except InvalidArgsError as error:
        return error
    assert json.loads(text) == args
    return None


@given(wild)
def test_anything_at_all_is_accepted_as_equal_json_or_refused_with_a_reason(args: Any) -> None:
    error = accepted_or_refused(args)
    assert error is None or error.problems


@given(wild)
def test_a_value_beside_the_tenant_keys_is_accepted_as_equal_json_or_named(value: Any) -> None:
    error = accepted_or_refused({**KEYS, "key": value})
    assert error is None or all("key" in problem for problem in error.problems)


# -- the check at run time -----------------------------------------------------------------------------


def test_at_run_time_an_absent_key_is_a_missing_arg_the_tenant_keys_first() -> None:
    for args, key in (({}, "organization_id"), ({"organization_id": None}, "actor_id"), (KEYS, "account_id")):
        with pytest.raises(MissingArgError) as caught:
            CLOSE.check_present("accounts.close", args)
        assert caught.value.key == key


def test_at_run_time_a_tenant_key_that_is_no_id_is_refused_and_the_worker_named() -> None:
    with pytest.raises(InvalidArgsError, match="'actor_id' is of type bool") as caught:
        TENANT.check_present("accounts.close", {**KEYS, "actor_id": True})
    assert caught.value.worker == "accounts.close"
    with pytest.raises(InvalidArgsError, match="'organization_id' is None"):
        ORGANIZATION.check_present("accounts.close", {**KEYS, "organization_id": None})


def test_at_run_time_good_args_pass() -> None:
    CLOSE.check_present("accounts.close", {**KEYS, "account_id": "a1"})
