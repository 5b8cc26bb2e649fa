"""Audit-only scopes: rebuilt from the args alone, and good for nothing but audit."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Generic, TypeVar

import pytest

from sigra_workers import (
    AuditOnly,
    AuditOnlyScopeError,
    AuditRef,
    AuditScope,
    AuditScopeBuilder,
    TenantArgs,
    forbid_audit_scope,
)

T = TypeVar("T")
SCOPE = AuditScope(AuditRef("ann"), AuditRef("org-1"), AuditRef("admin"))


class RequestScope:
    """A host's own scope."""


@dataclass(frozen=True, slots=True)
class RegionScope(AuditOnly):
    """A host's worker scope."""

    region: str


def test_the_default_builder_makes_the_scope_from_the_ids_alone() -> None:
    args: TenantArgs = {"organization_id": "org-1", "actor_id": "ann", "impersonating_from": "admin"}
    assert AuditScopeBuilder().build(args) == SCOPE


def test_a_part_of_the_scope_is_none_only_where_its_id_is() -> None:
    nobody = AuditScopeBuilder().build({"organization_id": None, "actor_id": None})
    assert nobody == AuditScope(None, None, None)
    falsy = AuditScopeBuilder().build({"organization_id": 0, "actor_id": "", "impersonating_from": 0})
    assert falsy == AuditScope(AuditRef(""), AuditRef(0), AuditRef(0))
    ended = AuditScopeBuilder().build({"organization_id": 1, "actor_id": 1, "impersonating_from": None})
    assert ended.impersonating_from is None


@pytest.mark.parametrize("name", ["membership", "session", "request", "role", "is_admin", "organization"])
def test_anything_else_asked_of_the_scope_says_why_it_is_not_there(name: str) -> None:
    with pytest.raises(AuditOnlyScopeError) as caught:
        getattr(SCOPE, name)
    assert (caught.value.scope, caught.value.attribute) == ("AuditScope", name)
    assert "audit-only" in str(caught.value)


def test_the_refusal_is_an_attribute_error_so_that_hasattr_and_defaults_work() -> None:
    assert not hasattr(SCOPE, "membership")
    assert getattr(SCOPE, "membership", "none") == "none"
    assert not hasattr(SCOPE.user, "email")


def test_a_scope_is_immutable_and_holds_no_other_attributes() -> None:
    assert not hasattr(SCOPE, "__dict__")
    with pytest.raises(FrozenInstanceError):
        setattr(SCOPE, "user", None)  # noqa: B010


@pytest.mark.parametrize("scope", [SCOPE, AuditRef(1), RegionScope("eu")])
def test_a_scope_survives_pickling_and_copying(scope: AuditOnly) -> None:
    assert pickle.loads(pickle.dumps(scope)) == scope
    assert copy.deepcopy(scope) == copy.copy(scope) == scope


@pytest.mark.parametrize(("scope", "name"), [(SCOPE, "AuditScope"), (RegionScope("eu"), "RegionScope")])
def test_forbid_audit_scope_refuses_every_worker_scope(scope: object, name: str) -> None:
    with pytest.raises(AuditOnlyScopeError, match=f"^{name} can't authorize anything") as caught:
        forbid_audit_scope(scope)
    assert caught.value.attribute is None


@pytest.mark.parametrize("scope", [RequestScope(), None, {"user": None}])
def test_forbid_audit_scope_lets_every_other_scope_pass(scope: object) -> None:
    forbid_audit_scope(scope)


def test_a_worker_scope_says_at_run_time_that_it_does_not_authorize() -> None:
    assert SCOPE.sigra_authorizes is False
    assert RegionScope("eu").sigra_authorizes is False


def test_a_worker_scope_may_not_also_be_a_request_scope() -> None:
    mixed: Any = (AuditOnly, RequestScope)
    with pytest.raises(TypeError, match="Both is audit-only and may not also inherit from RequestScope"):
        type("Both", mixed, {})


def test_a_worker_scope_may_be_generic_and_may_be_subclassed() -> None:
    class Wrapped(AuditOnly, Generic[T]):
        pass

    class Further(Wrapped[int]):
        pass

    with pytest.raises(AuditOnlyScopeError, match="Further"):
        forbid_audit_scope(Further())
