"""What checkers see of the kit: every line type-checks, and those that are ignored must stay errors."""

from typing import assert_type

import pytest
from tests.support import Host

from sigra_workers import (
    Audit,
    AuditEvent,
    AuditScope,
    Ok,
    OrganizationArgs,
    Outcome,
    Payload,
    Result,
    TenantArgs,
    WorkerHandle,
    Workers,
    organization_args,
    tenant_args,
)
from sigra_workers.memory import HeldClock
from sigra_workers.testing import EventFilters, JobFilters, RunFacts, SigraTesting, testing


class CloseArgs(OrganizationArgs):
    account_id: str


class Close:
    def perform(self, scope: AuditScope, args: CloseArgs) -> Result[str]:
        return Ok("closed")


workers = Workers[AuditScope]()
close = workers.register(Close(), name="accounts.close")
declared = workers.declare("accounts.open", CloseArgs)
declared.implement(Close())
ARGS: CloseArgs = {"organization_id": "o1", "actor_id": "u1", "account_id": "a1"}


@workers.worker(name="reports.build")
async def build(scope: AuditScope, args: TenantArgs) -> Result[int]:
    return Ok(1)


def test_results_have_the_type_that_the_worker_returns() -> None:
    with testing(workers) as sigra:
        assert_type(sigra, SigraTesting[AuditScope])
        assert_type(sigra.perform_job(close, ARGS), Result[str])
        assert_type(sigra.perform_job(declared, ARGS), Result[object])
        assert_type(sigra.perform_job(build, ARGS), Result[int])  # its args may have more
        assert_type(sigra.perform_payload({}), Outcome)
        assert_type(sigra.all_enqueued(), list[Payload])
        assert_type(sigra.all_audited(), list[AuditEvent])


async def awaited(sigra: SigraTesting[AuditScope]) -> None:
    assert_type(await sigra.aperform_job(close, ARGS), Result[str])
    assert_type(await sigra.aperform_payload("{}"), Outcome)


def test_options_and_filters_can_be_kept_in_variables() -> None:
    facts: RunFacts = {"attempt": 2, "timeout": 5}
    jobs: JobFilters = {"args": {"account_id": "a1"}, "organization_id": "o1", "due_in": 0}
    events: EventFilters = {"action": "account.closed", "worker": close, "real_actor": None}
    handle: WorkerHandle[AuditScope, CloseArgs, object] = declared
    with testing(workers, replace={handle: Close(), build: build.function}, audits=[Audit()]) as sigra:
        sigra.perform_job(close, ARGS, **facts)
        close.enqueue(ARGS)
        sigra.assert_enqueued(close, **jobs)
        sigra.assert_enqueued(close, args=ARGS)
        sigra.assert_enqueued("accounts.close", wait=1, **jobs)
        sigra.refute_audit_logged(**events)


def test_the_fixtures_type_needs_no_parameter() -> None:
    with testing(Host().workers, clock=HeldClock()) as found:
        kit: SigraTesting = found
        assert kit.all_enqueued() == []


def test_args_may_be_a_literal_or_made_of_keys() -> None:
    with testing(workers) as sigra:
        literal = sigra.perform_job(close, {"organization_id": "o1", "actor_id": None, "account_id": "a1"})
        assert_type(literal, Result[str])
        made = CloseArgs(**organization_args(organization_id="o1", actor_id="u1"), account_id="a1")
        assert_type(sigra.perform_job(close, made), Result[str])
        assert sigra.payload(close, {"organization_id": 1, "actor_id": 2, "account_id": "a1"})


def test_what_a_checker_refuses_is_refused_when_it_runs_too() -> None:
    with testing(workers) as sigra:
        with pytest.raises(ValueError, match="'actor_id' is missing"):
            sigra.perform_job(close, {"organization_id": "o1", "account_id": "a1"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'account_id' is missing"):
            sigra.perform_job(close, {"organization_id": "o1", "actor_id": None})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'account_id' is missing"):
            sigra.perform_job(close, tenant_args(organization_id="o1", actor_id=None))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'attempts'"):
            sigra.perform_job(close, ARGS, attempts=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        with pytest.raises(ValueError, match="'attempt'"):
            sigra.perform_job(close, ARGS, attempt="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'handle'"):
            sigra.perform_job(Close(), ARGS)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'organisation_id'"):
            sigra.refute_enqueued(close, organisation_id="o1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        with pytest.raises(ValueError, match="'due_at'"):
            sigra.refute_enqueued(close, due_at=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'real_actor'"):
            sigra.refute_enqueued(close, real_actor=["u1"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'outcome'"):
            sigra.refute_audit_logged(outcome="ok")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="'handle'"):
            testing(workers, replace={"a": Close()}).__enter__()  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
