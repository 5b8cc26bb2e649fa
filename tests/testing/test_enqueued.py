"""`assert_enqueued`, `refute_enqueued` and `all_enqueued`: which jobs fit, and which filters can't be."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Generic, NotRequired, TypeVar
from uuid import UUID

import pytest
from tests.support import KEYS, NOW, Host
from tests.testing.support import Kit, Make

from sigra_workers import (
    InvalidOptionError,
    Ok,
    OrganizationArgs,
    TenantArgs,
    UnknownQueueError,
    WorkerHandle,
    Workers,
    tenant_args,
)
from sigra_workers.testing import JobFilters, testing


def ok(scope: Any, args: Any) -> Ok[None]:
    return Ok()


def fits(kit: Kit, worker: Any = None, **filters: Any) -> bool:
    """Whether the filters find the one job that waits; all three helpers say the same."""
    found = kit.sigra.all_enqueued(worker, **filters)
    if found:
        assert kit.sigra.assert_enqueued(worker, **filters) == found[0]
        with pytest.raises(AssertionError, match="expected none"):
            kit.sigra.refute_enqueued(worker, **filters)
    else:
        kit.sigra.refute_enqueued(worker, **filters)
        with pytest.raises(AssertionError, match="no job waits with"):
            kit.sigra.assert_enqueued(worker, **filters)
    return bool(found)


ARGS = {
    **tenant_args(organization_id=7, actor_id="ann", impersonating_from="root"),
    "account_id": "a1",
    "count": 1,
    "flag": True,
    "none": None,
    "lines": [{"id": 1, "tags": ["x", "y"]}, {"id": 2}],
    "deep": {"a": {"b": [1, 2], "c": "d"}},
}


@pytest.fixture
def kit(made: Make) -> Kit:
    """A host with one job that waits."""
    kit = made(ok, queue="lifecycle", aliases=["accounts.end"])
    kit.other("reports.build", ok, queue="reports")
    kit.enqueue(ARGS, job_id="j1", schedule_in=60)
    return kit


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"args": {}}, True),
        ({"args": {"account_id": "a1"}}, True),
        ({"args": {"account_id": "a2"}}, False),
        ({"args": {"absent": None}}, False),
        ({"args": {"none": None}}, True),
        ({"args": {"none": False}}, False),
        ({"args": {"count": 1}}, True),
        ({"args": {"count": 1.0}}, True),
        ({"args": {"count": True}}, False),
        ({"args": {"flag": True}}, True),
        ({"args": {"flag": 1}}, False),
        ({"args": {"deep": {"a": {"c": "d"}}}}, True),
        ({"args": {"deep": {"a": {"b": [1, 2]}}}}, True),
        ({"args": {"deep": {"a": {"b": [1]}}}}, False),
        ({"args": {"deep": {"a": {"b": [1, True]}}}}, False),
        ({"args": {"deep": {"a": {"b": (1, 2)}}}}, True),
        ({"args": {"deep": {"a": "d"}}}, False),
        ({"args": {"deep": ["a"]}}, False),
        ({"args": {"lines": [{"tags": ["x", "y"]}, {}]}}, True),
        ({"args": {"lines": [{"id": True}, {"id": 2}]}}, False),
        ({"args": {"lines": {"id": 1}}}, False),
        ({"args": MappingProxyType({"deep": MappingProxyType({})})}, True),
        ({"args": {"account_id": "a1", "count": 2}}, False),
        ({"organization_id": 7}, True),
        ({"organization_id": "7"}, False),
        ({"organization_id": None}, False),
        ({"real_actor": "root"}, True),
        ({"real_actor": "ann"}, False),
        ({"effective_user": "ann"}, True),
        ({"effective_user": "root"}, False),
        ({"queue": "lifecycle"}, True),
        ({"queue": "reports"}, False),
        ({"job_id": "j1"}, True),
        ({"job_id": "j2"}, False),
        ({"due_in": 60}, True),
        ({"due_in": timedelta(minutes=1)}, True),
        ({"due_in": 59}, True),
        ({"due_in": 58.9}, False),
        ({"due_in": 0}, False),
        ({"due_at": datetime.fromtimestamp(NOW + 60, UTC)}, True),
        ({"due_at": datetime.fromtimestamp(NOW + 61, timezone(timedelta(hours=2)))}, True),
        ({"due_at": datetime.fromtimestamp(NOW, UTC)}, False),
        ({"organization_id": 7, "real_actor": "root", "queue": "lifecycle", "due_in": 60}, True),
        ({"organization_id": 7, "real_actor": "ann"}, False),
    ],
    ids=str,
)
def test_a_job_is_found_by_what_fits(kit: Kit, filters: JobFilters, expected: bool) -> None:
    assert fits(kit, **filters) is expected
    assert fits(kit, kit.handle, **filters) is expected


def test_a_job_is_found_by_its_worker(kit: Kit) -> None:
    assert fits(kit, kit.handle)
    assert fits(kit, "accounts.close")
    assert fits(kit, "accounts.end")
    assert not fits(kit, "reports.build")
    assert not fits(kit, kit.workers.find("reports.build"))


def test_a_job_that_still_has_a_workers_former_name_is_one_of_it(kit: Kit) -> None:
    kit.sigra.queue.clear()
    kit.sigra.queue.put(kit.payload().dump().replace("accounts.close", "accounts.end"))
    assert fits(kit, kit.handle)
    assert fits(kit, "accounts.end")


def test_a_job_of_a_worker_that_is_no_more_is_there_too(kit: Kit) -> None:
    kit.sigra.queue.clear()
    kit.sigra.queue.put(kit.payload().dump().replace("accounts.close", "accounts.lost"))
    assert not fits(kit, kit.handle)
    assert [payload.worker for payload in kit.sigra.all_enqueued()] == ["accounts.lost"]


def test_a_payload_that_can_not_be_read_is_no_job(kit: Kit) -> None:
    kit.sigra.queue.clear()
    kit.sigra.queue.put("{}")
    assert not fits(kit)
    assert kit.drain() == {"dead": 1}


def test_where_nobody_acts_there_is_no_actor(kit: Kit) -> None:
    kit.sigra.queue.clear()
    kit.enqueue(tenant_args(organization_id=None, actor_id=None))
    assert fits(kit, organization_id=None, real_actor=None, effective_user=None)


def test_ids_that_the_host_has_as_uuids_are_found(kit: Kit) -> None:
    kit.sigra.queue.clear()
    one, two = UUID(int=1), UUID(int=2)
    kit.enqueue(tenant_args(organization_id=one, actor_id=two))
    assert fits(kit, organization_id=one, real_actor=two, effective_user=two)
    assert not fits(kit, organization_id=two)


def test_a_job_that_is_due_is_due_in_no_time(kit: Kit) -> None:
    kit.sigra.clock.advance(100)
    assert fits(kit, due_in=0)
    assert not fits(kit, due_in=60)
    assert fits(kit, due_at=datetime.fromtimestamp(NOW + 60, UTC))


def test_a_job_without_a_due_time_is_due_since_it_was_sent(kit: Kit) -> None:
    kit.sigra.queue.clear()
    kit.enqueue()
    kit.sigra.clock.advance(100)
    assert fits(kit, due_in=0)
    assert fits(kit, due_at=datetime.fromtimestamp(NOW, UTC))


def test_the_latest_comes_first(made: Make) -> None:
    kit = made(ok)
    sent = [kit.enqueue(schedule_in=seconds) for seconds in (0, 60, 30)]
    assert [payload.id for payload in kit.sigra.all_enqueued()] == sent[::-1]
    assert kit.sigra.assert_enqueued(kit.handle).id == sent[-1]


def test_only_jobs_that_wait_are_there(made: Make) -> None:
    kit = made(ok)
    kit.enqueue()
    kit.drain()
    assert not fits(kit)


def test_a_job_is_not_there_while_it_runs(make: Make) -> None:
    host: Kit = make(lambda scope, args: Ok(len(host.sigra.all_enqueued())))
    first, _ = host.enqueue(), host.enqueue()
    host.drain()
    assert host.sigra.queue.results[first] == 1


# -- filters that can't be -------------------------------------------------------------------------------

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  # as a host might give it


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"arg": {}}, "'arg': there is no such option, known are .*'args', 'due_at'"),
        ({"organization": 7}, "'organization': there is no such option, known are .*'organization_id'"),
        ({"worker": "accounts.close"}, "'worker': there is no such option"),
        ({"args": [1]}, r"'args': expected a mapping, got \[1\]"),
        ({"args": {"a": UUID(int=1)}}, "'args': expected JSON values, .*: a UUID is none"),
        ({"args": {"a": float("nan")}}, "'args': expected JSON values"),
        ({"args": {(1,): 2}}, "'args': expected JSON values"),
        ({"organization_id": True}, "'organization_id': expected an id or None, got True"),
        ({"real_actor": ["ann"]}, "'real_actor': expected an id or None"),
        ({"effective_user": 1.5}, "'effective_user': expected an id or None"),
        ({"queue": None}, "'queue': expected a str, got None"),
        ({"job_id": None}, "'job_id': expected 1 to 128 letters"),
        ({"job_id": 1}, "'job_id': expected 1 to 128 letters"),
        ({"job_id": "not an id!"}, "'job_id': expected 1 to 128 letters"),
        ({"due_at": NAIVE}, "'due_at': expected a datetime with a time zone, got datetime"),
        ({"due_at": NOW}, "'due_at': expected a datetime with a time zone"),
        ({"due_in": "60"}, "'due_in': expected seconds or a timedelta, got '60'"),
        ({"due_in": True}, "'due_in': expected seconds"),
        ({"due_in": float("nan")}, "'due_in': expected seconds"),
        ({"due_in": -5}, "'due_in': expected seconds or a timedelta from 0 on, got -5"),
        ({"due_in": timedelta(seconds=-5)}, "'due_in': expected seconds or a timedelta from 0 on"),
        ({"wait": -1}, "'wait': expected 0 to"),
        ({"wait": "1"}, "'wait': expected a number of seconds"),
    ],
    ids=str,
)
def test_a_filter_that_nothing_ever_fits_is_refused(kit: Kit, filters: Any, named: str) -> None:
    for helper in (kit.sigra.assert_enqueued, kit.sigra.refute_enqueued):
        with pytest.raises(InvalidOptionError, match=named):
            helper(**filters)


def test_a_worker_that_nobody_declared_is_refused(kit: Kit) -> None:
    expected = (
        r"'worker': there is no worker 'accounts\.clse', known are \['accounts\.close', 'reports\.build'\]"
    )
    with pytest.raises(InvalidOptionError, match=expected):
        kit.sigra.refute_enqueued("accounts.clse")


class CountArgs(TenantArgs):
    account_id: str
    count: NotRequired[int]


class OpenArgs(TenantArgs, extra_items=Any):  # type: ignore[call-arg]
    account_id: str


class NoMoreArgs(TenantArgs, closed=True):
    account_id: str


Row = TypeVar("Row")


class RowArgs(TenantArgs, Generic[Row]):
    row: Row


@pytest.mark.parametrize("args_type", [CountArgs, NoMoreArgs, RowArgs[int]])
def test_a_key_that_the_args_of_the_worker_do_not_have_is_refused(made: Make, args_type: Any) -> None:
    kit = made(ok)
    handle = kit.workers.declare("reports.count", args_type, aliases=["reports.add"])
    for worker in (handle, "reports.count", "reports.add"):
        for helper in (kit.sigra.assert_enqueued, kit.sigra.refute_enqueued, kit.sigra.all_enqueued):
            with pytest.raises(InvalidOptionError, match=r"'args': \w+Args has no key 'acount', known are"):
                helper(worker, args={"acount": 1})
    for key in args_type.__annotations__ if args_type is CountArgs else TenantArgs.__annotations__:
        kit.sigra.refute_enqueued(handle, args={key: 1})


@pytest.mark.parametrize("args_type", [TenantArgs, OrganizationArgs, OpenArgs])
def test_any_key_may_be_there_where_the_args_of_the_worker_say_none(made: Make, args_type: Any) -> None:
    kit = made(ok)
    handle = kit.workers.declare("reports.count", args_type)
    handle.enqueue({**KEYS, "account_id": "a1", "count": 1})
    assert fits(kit, handle, args={"count": 1})
    assert fits(kit, args={"count": 1})
    assert not fits(kit, handle, args={"acount": 1})


def test_a_handle_of_other_workers_is_refused(kit: Kit) -> None:
    with pytest.raises(InvalidOptionError, match="is of another Workers object than the one under test"):
        kit.sigra.refute_enqueued(Host().worker(ok).handle)


def test_a_queue_that_nobody_declares_is_refused(kit: Kit) -> None:
    with pytest.raises(UnknownQueueError, match="'report', known are"):
        kit.sigra.refute_enqueued(queue="report")


# -- jobs that come from elsewhere -----------------------------------------------------------------------


def later(handle: WorkerHandle[Any, Any, Any], seconds: float) -> threading.Thread:
    def send() -> None:
        time.sleep(seconds)
        handle.enqueue(KEYS)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_job_of_another_thread_is_waited_for(made: Make) -> None:
    kit = made(ok)
    thread = later(kit.handle, 0.05)
    kit.sigra.refute_enqueued(kit.handle)
    started = time.perf_counter()
    kit.sigra.assert_enqueued(kit.handle, wait=10, organization_id="org-1")
    assert time.perf_counter() - started < 5
    thread.join()


def test_no_job_is_waited_for_longer_than_asked(made: Make) -> None:
    kit = made(ok)
    with pytest.raises(AssertionError, match="no job waits with"):
        kit.sigra.assert_enqueued(kit.handle, wait=0.01)
    kit.sigra.refute_enqueued(kit.handle, wait=0.01)


def test_a_job_that_comes_while_none_should_is_told(made: Make) -> None:
    kit = made(ok)
    thread = later(kit.handle, 0.05)
    with pytest.raises(AssertionError, match="1 job waits with"):
        kit.sigra.refute_enqueued(kit.handle, wait=10)
    thread.join()


def test_waiting_in_a_loop_is_refused_as_it_would_block_it() -> None:
    workers = Workers()
    handle = workers.declare("accounts.close", TenantArgs)

    async def main() -> None:
        with testing(workers) as sigra:
            with pytest.raises(InvalidOptionError, match="'wait': it would block this event loop"):
                sigra.assert_enqueued(handle, wait=1)
            task = asyncio.create_task(handle.aenqueue(KEYS))
            await asyncio.to_thread(sigra.assert_enqueued, handle, wait=10)
            await task

    asyncio.run(main())
