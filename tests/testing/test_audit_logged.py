"""`assert_audit_logged`, `refute_audit_logged`, `all_audited`: what fits, and which filters can't be."""

import asyncio
import threading
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.support import Host
from tests.testing.support import Kit, Make

from sigra_workers import Audit, AuditError, InvalidOptionError, LoggingSink, MemorySink, Ok, tenant_args
from sigra_workers.testing import EventFilters, testing


def fits(kit: Kit, **filters: Any) -> bool:
    """Whether the filters find the one event; all three helpers say the same."""
    found = kit.sigra.all_audited(**filters)
    if found:
        assert kit.sigra.assert_audit_logged(**filters) == found[0]
        with pytest.raises(AssertionError, match="expected none"):
            kit.sigra.refute_audit_logged(**filters)
    else:
        kit.sigra.refute_audit_logged(**filters)
        with pytest.raises(AssertionError, match="no audit event was logged with"):
            kit.sigra.assert_audit_logged(**filters)
    return bool(found)


@pytest.fixture
def kit(made: Make) -> Kit:
    """A host with one event, of a job."""

    def body(scope: Any, args: Any) -> Ok[None]:
        metadata = {"n": 1, "lines": [{"id": 1}], "deep": {"a": "b", "flag": True}}
        fields: Any = {"target_type": "account", "target_id": UUID(int=3), "metadata": metadata}
        host.audit.log_safe("account.closed", scope, outcome="failure", **fields)
        return Ok()

    host = made(body, aliases=["accounts.end"])
    host.other("reports.build", body)
    who = tenant_args(organization_id=UUID(int=1), actor_id="ann", impersonating_from="root")
    host.perform(who, job_id="j1")
    return host


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"action": "account.closed"}, True),
        ({"action": "account.opened"}, False),
        ({"action": "account."}, True),
        ({"action": "account.closed."}, False),
        ({"action": "acc."}, False),
        ({"organization_id": UUID(int=1)}, True),
        ({"organization_id": str(UUID(int=1))}, True),
        ({"organization_id": None}, False),
        ({"real_actor": "root"}, True),
        ({"real_actor": "ann"}, False),
        ({"effective_user": "ann"}, True),
        ({"effective_user": "root"}, False),
        ({"outcome": "failure"}, True),
        ({"outcome": "success"}, False),
        ({"target_type": "account"}, True),
        ({"target_type": None}, False),
        ({"target_id": UUID(int=3)}, True),
        ({"target_id": 3}, False),
        ({"metadata": {}}, True),
        ({"metadata": {"deep": {"a": "b"}}}, True),
        ({"metadata": {"deep": {"flag": 1}}}, False),
        ({"metadata": {"lines": [{"id": 1}]}}, True),
        ({"metadata": {"lines": [{"id": 2}]}}, False),
        ({"metadata": {"n": True}}, False),
        ({"metadata": {"absent": None}}, False),
        ({"job_id": "j1"}, True),
        ({"job_id": None}, False),
        ({"worker": "accounts.close"}, True),
        ({"worker": "accounts.end"}, True),
        ({"worker": "reports.build"}, False),
        ({"worker": None}, False),
        ({"action": "account.closed", "real_actor": "root", "effective_user": "ann"}, True),
        ({"action": "account.closed", "real_actor": "ann"}, False),
    ],
    ids=str,
)
def test_an_event_is_found_by_what_fits(kit: Kit, filters: EventFilters, expected: bool) -> None:
    assert fits(kit, **filters) is expected


def test_an_event_is_found_by_a_handle(kit: Kit) -> None:
    assert fits(kit, worker=kit.handle)
    assert not fits(kit, worker=kit.workers.find("reports.build"))


def test_an_event_of_a_job_with_a_workers_former_name_is_one_of_it(kit: Kit) -> None:
    kit.perform_payload(kit.payload(job_id="j2").dump().replace("accounts.close", "accounts.end"))
    for worker in (kit.handle, "accounts.close", "accounts.end"):
        assert [event.job_id for event in kit.sigra.all_audited(worker=worker)] == ["j2", "j1"]
        with pytest.raises(AssertionError, match="expected none"):
            kit.sigra.refute_audit_logged(worker=worker, job_id="j2")


def test_an_event_of_a_worker_that_is_no_more_is_there_too(kit: Kit) -> None:
    kit.sigra.trail.write(replace(kit.sigra.trail.events[0], worker="accounts.lost", event_id="e2"))
    assert [event.worker for event in kit.sigra.all_audited()] == ["accounts.lost", "accounts.close"]
    assert len(kit.sigra.all_audited(worker=kit.handle)) == 1


def test_an_event_from_outside_of_a_job_has_none(made: Make) -> None:
    kit = made(lambda scope, args: Ok())
    kit.audit.log_safe("account.closed", None)
    assert fits(kit, job_id=None, worker=None, real_actor=None, organization_id=None, target_id=None)


def test_the_latest_comes_first(made: Make) -> None:
    kit = made(lambda scope, args: Ok())
    for n in range(3):
        kit.audit.log_safe("account.closed", None, target_id=n)
    assert [event.target_id for event in kit.sigra.all_audited()] == [2, 1, 0]
    assert kit.sigra.assert_audit_logged(action="account.closed").target_id == 2


def test_the_time_of_an_event_of_a_job_is_the_held_clocks(make: Make) -> None:
    host: Kit = make(lambda scope, args: Ok(host.audit.log("account.closed", scope).action))
    host.enqueue(schedule_in=3_600)
    host.drain(scheduled=True)
    assert host.sigra.assert_audit_logged().occurred_at.timestamp() == host.clock()


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"actor_id": "ann"}, "'actor_id': there is no such option, known are .*'real_actor'"),
        ({"organization": 1}, "'organization': there is no such option, known are .*'organization_id'"),
        ({"action": None}, "'action': expected a str, got None"),
        ({"action": "Account Closed!"}, "'action': a filter can't be"),
        ({"outcome": "ok"}, "'outcome': expected 'success' or 'failure', got 'ok'"),
        ({"metadata": None}, "'metadata': expected a mapping, got None"),
        ({"metadata": {"at": UUID(int=1)}}, "'metadata': expected JSON values"),
        ({"target_id": True}, "'target_id': expected an id or None, got True"),
        ({"target_type": 1}, "'target_type': expected a str or None, got 1"),
        ({"job_id": 1}, "'job_id': expected 1 to 128 letters"),
        ({"job_id": "not an id!"}, "'job_id': expected 1 to 128 letters"),
        ({"worker": "accounts.clse"}, "'worker': there is no worker 'accounts.clse'"),
        ({"worker": Host().worker(lambda scope, args: Ok()).handle}, "of another Workers object"),
    ],
    ids=str,
)
def test_a_filter_that_nothing_ever_fits_is_refused(kit: Kit, filters: Any, named: str) -> None:
    for helper in (kit.sigra.assert_audit_logged, kit.sigra.refute_audit_logged, kit.sigra.all_audited):
        with pytest.raises(InvalidOptionError, match=named):
            helper(**filters)


# -- which audits ----------------------------------------------------------------------------------------


def test_only_the_audit_of_the_workers_is_swapped(made: Make) -> None:
    kit, sink = made(lambda scope, args: Ok()), MemorySink()
    Audit(sink).log_safe("account.closed", None)
    kit.sigra.refute_audit_logged()
    assert len(sink.events) == 1


def test_other_audits_are_swapped_where_they_are_named() -> None:
    host, sink = Host().worker(lambda scope, args: Ok()), MemorySink()
    other = Audit(sink)
    with testing(host.workers, audits=[other, host.audit]) as sigra:
        for audit in (other, host.audit):
            audit.log_safe("account.closed", None)
            audit.log_safe("account.closed", None, metadata={"token": "x"})
    assert (len(sigra.all_audited()), sink.events, host.events) == (2, [], [])
    assert sigra.refused == ["account.closed, metadata.token: such a key may hold a secret"] * 2
    other.log_safe("account.closed", None)
    other.log_safe("account.closed", None, metadata={"token": "x"})
    assert (len(sink.events), len(sigra.refused)) == (1, 2)


def test_an_event_that_raises_otherwise_is_noted_by_its_kind() -> None:
    class Scope:
        @property
        def user(self) -> Any:
            raise ConnectionError("s3cr3t")

    class BrokenSink(MemorySink):
        def write(self, event: Any, /) -> None:
            raise ConnectionError("s3cr3t")

    host = Host().worker(lambda scope, args: Ok())
    with testing(host.workers) as sigra:
        host.audit.log_safe("account.closed", Scope())
        with host.audit.using(BrokenSink()):
            host.audit.log_safe("account.closed", None)
    assert sigra.refused == [
        "account.closed, scope: it raised while it was read",
        "account.closed, sink: ConnectionError",
    ]


def test_a_required_event_of_a_transaction_is_kept(made: Make) -> None:
    kit = made(lambda scope, args: Ok())
    kit.audit.log("account.closed", None, transaction=object())
    assert fits(kit, action="account.closed")


def test_a_transaction_is_refused_as_the_sink_in_production_refuses_it() -> None:
    workers = Host().workers
    with workers.audit.using(LoggingSink()), testing(workers) as sigra:
        with pytest.raises(AuditError, match="a LoggingSink can't write in one"):
            workers.audit.log("account.closed", None, transaction=object())
        with pytest.raises(AuditError, match="a LoggingSink can't write in one"):
            asyncio.run(workers.audit.alog("account.closed", None, transaction=object()))
        workers.audit.log("account.closed", None)
    assert len(sigra.trail.events) == 1


def test_events_of_many_threads_are_kept(made: Make) -> None:
    host: Kit = made(lambda scope, args: Ok(host.audit.log("account.closed", scope).action))
    threads = [threading.Thread(target=host.perform) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(host.sigra.all_audited(action="account.closed")) == 8
