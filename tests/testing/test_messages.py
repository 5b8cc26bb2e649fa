"""What a failed assertion says, word for word: who reads it has to act on it."""

import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

import pytest
from tests.support import KEYS
from tests.testing.support import Kit, Make

from sigra_workers import Cancel, Error, Ok, Snooze, TenantArgs, tenant_args


def said(function: Callable[..., object], *args: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        function(*args, **options)
    return str(caught.value) + "\n"


def text(expected: str) -> str:
    return textwrap.dedent(expected).lstrip("\n")


def body(scope: Any, args: Any) -> Any:
    match args.get("account_id"):
        case "hold":
            return Cancel("legal hold")
        case "busy":
            return Error("busy\nand more")
        case "open":
            return Snooze(60)
        case "broken":
            raise LookupError("no such account")
        case _:
            return Ok()


@pytest.fixture
def kit(made: Make) -> Kit:
    kit = made(body, queue="lifecycle", backoff=30)
    kit.other("reports.build", body, queue="reports")
    return kit


def enqueue(kit: Kit, account: str, **options: Any) -> None:
    args = {"organization_id": "o1", "actor_id": "u1", "account_id": account}
    kit.enqueue(args, job_id=f"job-{account}", **options)


# -- jobs ------------------------------------------------------------------------------------------------


def test_nothing_waits_and_nothing_ran(kit: Kit) -> None:
    assert said(kit.sigra.assert_enqueued, kit.handle) == text("""
        no job waits with worker='accounts.close'
        no job waits at all
        none ran in this test
        """)
    assert said(kit.sigra.assert_enqueued).startswith("no job waits with anything\n")


def test_other_jobs_wait(kit: Kit) -> None:
    enqueue(kit, "a1", schedule_in=60)
    enqueue(kit, "a2")
    kit.enqueue(handle=kit.workers.find("reports.build"), job_id="report")
    wanted = {"args": {"account_id": "a1", "to": {"bank": "x"}}, "due_in": 60}
    assert said(kit.sigra.assert_enqueued, kit.handle, **wanted) == text("""
        no job waits with worker='accounts.close', args={'account_id': 'a1', 'to': {'bank': 'x'}}, due_in=60 s
        waiting, nearest first:
          accounts.close on lifecycle, due in 60 s (job job-a1): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a1'}
              args['to'] is absent, expected {'bank': 'x'}
          accounts.close on lifecycle, due (job job-a2): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a2'}
              args['account_id'] is 'a2', expected 'a1'
              args['to'] is absent, expected {'bank': 'x'}
              due_in is 0 s, expected 60 s
          reports.build on reports, due (job report): {'organization_id': 'org-1', 'actor_id': 'ann'}
              worker is 'reports.build', expected 'accounts.close'
              args['account_id'] is absent, expected 'a1'
              args['to'] is absent, expected {'bank': 'x'}
              due_in is 0 s, expected 60 s
        none ran in this test
        """)  # noqa: E501


def test_who_acts_is_told_apart(kit: Kit) -> None:
    keys = tenant_args(organization_id="o1", actor_id="u1", impersonating_from="admin")
    kit.enqueue(keys, job_id="j1")
    assert said(kit.sigra.assert_enqueued, organization_id="o2", real_actor="u1", effective_user="u2") == (
        text("""
        no job waits with organization_id='o2', real_actor='u1', effective_user='u2'
        waiting, nearest first:
          accounts.close on lifecycle, due (job j1): {'organization_id': 'o1', 'actor_id': 'u1', 'impersonating_from': 'admin'}
              organization_id is 'o1', expected 'o2'
              real_actor is 'admin', expected 'u1'
              effective_user is 'u1', expected 'u2'
        none ran in this test
        """)  # noqa: E501
    )


def test_jobs_of_other_workers_come_last_however_near_they_are(kit: Kit) -> None:
    enqueue(kit, "a1", schedule_in=60)
    kit.enqueue({**KEYS, "account_id": "a2"}, handle=kit.workers.find("reports.build"), job_id="report")
    assert said(kit.sigra.assert_enqueued, kit.handle, args={"account_id": "a2"}, due_in=0) == text("""
        no job waits with worker='accounts.close', args={'account_id': 'a2'}, due_in=0 s
        waiting, nearest first:
          accounts.close on lifecycle, due in 60 s (job job-a1): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a1'}
              args['account_id'] is 'a1', expected 'a2'
              due_in is 60 s, expected 0 s
          reports.build on reports, due (job report): {'organization_id': 'org-1', 'actor_id': 'ann', 'account_id': 'a2'}
              worker is 'reports.build', expected 'accounts.close'
        none ran in this test
        """)  # noqa: E501


def test_due_times_are_told_in_utc(kit: Kit) -> None:
    enqueue(kit, "a1")
    at = datetime(2027, 1, 15, 8, 0, tzinfo=timezone(timedelta(hours=1)))
    assert said(kit.sigra.assert_enqueued, due_at=at) == text("""
        no job waits with due_at=2027-01-15T07:00:00+00:00
        waiting, nearest first:
          accounts.close on lifecycle, due (job job-a1): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a1'}
              due_at is 2027-01-15T08:00:00+00:00, expected 2027-01-15T07:00:00+00:00
        none ran in this test
        """)  # noqa: E501


def test_a_job_that_fits_ran_already(kit: Kit) -> None:
    for account in ("a1", "a2"):
        enqueue(kit, account)
    kit.drain()
    assert said(kit.sigra.assert_enqueued, kit.handle, args={"account_id": "a1"}, due_in=0) == text("""
        no job waits with worker='accounts.close', args={'account_id': 'a1'}, due_in=0 s
        no job waits at all
        ran already, nearest first:
          accounts.close: complete (job job-a1): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a1'}
          accounts.close: complete (job job-a2): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a2'}
              args['account_id'] is 'a2', expected 'a1'
        a job that fits ran already: look for it before drain(), and not in run_inline()
        """)  # noqa: E501


def test_runs_are_told_with_how_they_ended(kit: Kit) -> None:
    for account in ("hold", "busy", "open", "broken"):
        enqueue(kit, account)
    kit.enqueue(handle=kit.workers.declare("lost", TenantArgs), job_id="job-lost")
    kit.sigra.queue.put("{}")
    kit.drain()
    assert said(kit.sigra.assert_enqueued, job_id="x") == text("""
        no job waits with job_id='x'
        waiting, nearest first:
          lost on default, due in 5 s (job job-lost): {'organization_id': 'org-1', 'actor_id': 'ann'}
              job_id is 'job-lost', expected 'x'
          accounts.close on lifecycle, due in 30 s, attempt 2 of 20 (job job-broken): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'broken'}
              job_id is 'job-broken', expected 'x'
          accounts.close on lifecycle, due in 60 s, snoozes 1 (job job-open): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'open'}
              job_id is 'job-open', expected 'x'
          accounts.close on lifecycle, due in 30 s, attempt 2 of 20 (job job-busy): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'busy'}
              job_id is 'job-busy', expected 'x'
        ran already, nearest first:
          a payload that can't be read: dead, InvalidPayloadError: the job's payload is broken: field 'v' is of type NoneType, expected 1
              it can't be read
          lost: unknown_worker, WorkerNotImplementedError: worker 'lost' is not implemented in this process (job job-lost): {'organization_id': 'org-1', 'actor_id': 'ann'}
              job_id is 'job-lost', expected 'x'
          accounts.close: retry, LookupError: no such account (job job-broken): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'broken'}
              job_id is 'job-broken', expected 'x'
          accounts.close: snooze (job job-open): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'open'}
              job_id is 'job-open', expected 'x'
          accounts.close: retry, JobFailedError: busy (job job-busy): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'busy'}
              job_id is 'job-busy', expected 'x'
          accounts.close: cancel, JobCancelledError: legal hold (job job-hold): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'hold'}
              job_id is 'job-hold', expected 'x'
        """)  # noqa: E501


def test_of_many_jobs_the_nearest_ten_are_shown(kit: Kit) -> None:
    for n in range(12):
        enqueue(kit, f"a{n}")
    lines = said(kit.sigra.assert_enqueued, args={"account_id": "b"}).splitlines()
    assert [line for line in lines if line.startswith("  accounts")] == [
        f"  accounts.close on lifecycle, due (job job-a{n}):"
        f" {{'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a{n}'}}"
        for n in range(11, 1, -1)
    ]
    assert lines[-2:] == ["  and 2 more", "none ran in this test"]


def test_of_a_long_line_the_beginning_is_shown(kit: Kit) -> None:
    kit.enqueue({**KEYS, "account_id": "a" * 10_000})
    lines = said(kit.sigra.assert_enqueued, args={"account_id": "b"}).splitlines()
    assert [len(line) for line in lines[2:4]] == [1_004, 1_004]
    assert lines[2].endswith("aaa ...")
    assert lines[3].startswith("      args['account_id'] is 'aaa")


def test_jobs_wait_that_should_not(kit: Kit) -> None:
    enqueue(kit, "a1")
    kit.enqueue(handle=kit.workers.find("reports.build"))
    assert said(kit.sigra.refute_enqueued, kit.handle) == text("""
        1 job waits with worker='accounts.close', expected none:
          accounts.close on lifecycle, due (job job-a1): {'organization_id': 'o1', 'actor_id': 'u1', 'account_id': 'a1'}
        """)  # noqa: E501
    assert said(kit.sigra.refute_enqueued).startswith("2 jobs wait with anything, expected none:\n  reports")


# -- audit events ----------------------------------------------------------------------------------------


def test_nothing_was_logged(kit: Kit) -> None:
    assert said(kit.sigra.assert_audit_logged, action="account.closed", real_actor=None) == text("""
        no audit event was logged with action='account.closed', real_actor=None
        no audit event was logged at all
        """)


def test_other_events_were_logged(kit: Kit) -> None:
    audit = kit.audit
    audit.log_safe("account.opened", None, metadata={"n": 1})
    audit.log_safe(
        "account.closed",
        {
            "user": {"id": "u1"},
            "active_organization": {"id": "o1"},
            "impersonating_from": {"id": "admin"},
        },
        outcome="failure",
        target_type="account",
        target_id="a1",
    )
    wanted: dict[str, Any] = {"action": "account.closed", "outcome": "success", "real_actor": "u1"}
    assert said(kit.sigra.assert_audit_logged, **wanted) == text("""
        no audit event was logged with action='account.closed', outcome='success', real_actor='u1'
        logged, nearest first:
          account.closed failure on account 'a1': real_actor='admin' as 'u1', organization_id='o1', metadata={}
              outcome is 'failure', expected 'success'
              real_actor is 'admin', expected 'u1'
          account.opened success: real_actor=None, organization_id=None, metadata={'n': 1}
              action is 'account.opened', expected 'account.closed'
              real_actor is None, expected 'u1'
        """)  # noqa: E501


def test_an_event_of_a_job_is_told_with_it(made: Make) -> None:
    host: Kit = made(lambda scope, args: Ok(host.audit.log("account.closed", scope).action))
    host.perform(KEYS, job_id="j1")
    assert said(host.sigra.refute_audit_logged, worker=host.handle) == text("""
        1 audit event was logged with worker='accounts.close', expected none:
          account.closed success: real_actor='ann', organization_id='org-1', worker='accounts.close' (job j1), metadata={}
        """)  # noqa: E501
    host.perform(KEYS)
    assert said(host.sigra.refute_audit_logged).startswith("2 audit events were logged with anything")


def test_an_event_that_could_not_be_written_is_told(kit: Kit) -> None:
    kit.audit.log_safe("account.closed", None, metadata={"api_token": "s3cr3t"})
    assert said(kit.sigra.assert_audit_logged, action="account.closed") == text("""
        no audit event was logged with action='account.closed'
        no audit event was logged at all
        could not be written:
          account.closed, metadata.api_token: such a key may hold a secret
        """)


# -- drains that never end -------------------------------------------------------------------------------


def test_a_job_that_snoozes_for_ever(made: Make) -> None:
    kit = made(lambda scope, args: Snooze(60))
    kit.enqueue(job_id="j1")
    assert said(kit.drain, scheduled=True) == text("""
        job j1 of worker 'accounts.close' snoozed 1000 times in one drain
        does it wait for something that the test has to bring about? drain() without scheduled=True leaves it waiting
        """)  # noqa: E501


def test_a_job_that_enqueues_itself_for_ever(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigra_workers.testing.runs.MAX_RUNS", 50)
    host: Kit = made(lambda scope, args: Ok(host.handle.enqueue(KEYS).id))
    host.enqueue()
    assert said(host.drain) == text("""
        still not drained after 50 runs, 50 of them of worker 'accounts.close'
        does it enqueue itself for ever? drain(recursion=False) runs what waits now and no more
        """)


def test_the_last_line_of_a_traceback_is_the_tests_own(kit: Kit) -> None:
    """pytest shows no frame of the kit."""

    def run(function: Callable[..., object]) -> NoReturn:
        function(kit.handle)
        pytest.fail("it passed")

    with pytest.raises(AssertionError) as caught:
        run(kit.sigra.assert_enqueued)
    assert [*caught.traceback.filter(caught)][-1].name == "run"
