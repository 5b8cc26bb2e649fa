"""Dead jobs through `Workers`: listed, sent again and purged, on the embedded queue."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import pytest
from tests.support import KEYS, MODES, NOW, Host, Mode

from sigra_workers import (
    DeadFilters,
    DeadJob,
    EnqueueError,
    Error,
    InvalidOptionError,
    InvalidPayloadError,
    JobRef,
    NotDeadError,
    NotSupportedError,
    Ok,
    Payload,
    Receipt,
    Rejected,
    Unknown,
    UnknownQueueError,
    current_job,
    workers,
)
from sigra_workers.dead import MAX_NOTED
from sigra_workers.memory import MemoryAdapter

Way = Literal["sync", "async"]


class Queue(Host):
    """A host whose jobs die, or not once `mended`."""

    def __init__(self, way: Way = "sync", mode: Mode = MODES[0], **options: Any) -> None:
        super().__init__(mode)
        self.way = way
        self.mended = False
        self.ran: list[Any] = []
        self.adapter = MemoryAdapter.of(self.workers)
        self.worker(self.body, **{"max_attempts": 1, **options})

    def body(self, scope: Any, args: Any) -> Any:
        self.ran.append((current_job(), args))
        return Ok() if self.mended else Error("no")

    def call(self, name: str, /, *args: Any, **more: Any) -> Any:
        """A method of `Workers`, or its async twin."""
        if self.way == "sync":
            return getattr(self.workers, name)(*args, **more)
        twin: Callable[..., Coroutine[Any, Any, Any]] = getattr(self.workers, f"a{name}")
        return asyncio.run(twin(*args, **more))

    def dead(self, **filters: Any) -> list[DeadJob]:
        found: list[DeadJob] = self.call("dead", **filters)
        return found

    def ids(self, **filters: Any) -> list[str]:
        return [job.id for job in self.dead(**filters)]

    def die(self, args: Any = KEYS, **options: Any) -> str:
        """The id of a job that died just now; a second goes by."""
        job_id = self.handle.enqueue(args, **options).id
        self.adapter.drain(scheduled=True)
        self.clock.advance(1)
        return job_id

    def break_payload(self, job_id: str, payload: str = "{") -> None:
        (job,) = (job for job in self.adapter.dead if job.id == job_id)
        self.change(job_id, replace(job, payload=payload))

    def change(self, job_id: str, changed: DeadJob) -> None:
        found = [changed if job.id == job_id else job for job in self.adapter.dead]
        self.adapter.dead.clear()
        self.adapter.dead.extend(found)


def changed(text: str, **changes: str) -> str:
    """A payload, as another application would have sent it."""
    return replace(Payload.parse(text), **cast("Any", changes)).dump()


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


# -- listed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_a_dead_job_tells_what_is_known_of_it(way: Way, mode: Mode) -> None:
    host = Queue(way, mode, max_attempts=2, backoff=5, queue="lifecycle")
    job_id = host.die({**KEYS, "organization_id": 7, "actor_id": "s3cr3t"})
    (job,) = host.dead()
    assert (job.id, job.worker, job.queue, job.organization_id) == (job_id, "accounts.close", "lifecycle", 7)
    assert (job.attempts, job.max_attempts, job.snoozes, job.resends) == (2, 2, 0, 0)
    assert (job.reason, job.died_at) == ("no", datetime.fromtimestamp(NOW + 5, UTC))
    assert job.args == {"organization_id": 7, "actor_id": "s3cr3t"}
    assert "s3cr3t" not in repr(job)


def test_a_dead_job_whose_payload_can_not_be_read_tells_what_is_known(way: Way) -> None:
    host = Queue(way)
    host.adapter.put("{")
    host.adapter.drain()
    (job,) = host.dead()
    assert (job.worker, job.queue, job.organization_id, job.attempts, job.resends) == (None,) * 5
    assert job.reason.startswith("InvalidPayloadError: ")
    with pytest.raises(InvalidPayloadError):
        _ = job.args
    assert host.dead(organization=None) == []  # it is nobody's, rather than no organization's


def test_jobs_of_another_application_are_found_by_their_ids_alone(way: Way) -> None:
    host = Queue(way, queue="lifecycle")
    ours, moved, removed, theirs = (host.die() for _ in range(4))
    for job_id, changes in {
        moved: {"queue": "old"},
        removed: {"worker": "accounts.open"},
        theirs: {"worker": "crm.sync", "queue": "crm"},
    }.items():
        (found,) = host.dead(ids=[job_id])
        host.change(job_id, DeadJob.of(job_id, changed(found.payload, **changes), "no", None, NOW))
    assert {*host.ids()} == {ours, moved, removed}
    assert {*host.ids(organization="org-1")} == {ours, moved, removed}
    assert len(host.ids(limit=3)) == 3
    assert host.ids(worker="crm.sync") == []
    assert host.ids(ids=[theirs]) == [theirs]
    assert host.call("purge", host.dead()) == 3
    assert host.ids(ids=[theirs]) == [theirs]


def test_filters_all_have_to_fit(way: Way) -> None:
    host = Queue(way)
    one = host.die({**KEYS, "organization_id": 1})
    text = host.die({**KEYS, "organization_id": "1"})
    since = datetime.fromtimestamp(host.clock(), UTC)
    none = host.die({**KEYS, "organization_id": None})
    assert host.ids() == [none, text, one]
    assert host.ids(organization=1) == [one]
    assert host.ids(organization="1") == [text]
    assert host.ids(organization=None) == [none]
    assert host.ids(worker="accounts.close") == [none, text, one]
    assert host.ids(worker="accounts") == []
    assert host.ids(since=since) == [none]
    assert host.ids(since=since + timedelta(seconds=1)) == []
    assert host.ids(limit=2) == [none, text]
    assert host.ids(limit=0) == []
    assert host.ids(ids=[one, none, "other"], limit=1) == [none]
    assert host.ids(ids=[one], organization="1") == []


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"tenant": 1}, "'tenant': there is no such filter, known are ['ids', 'limit', 'organization',"),
        ({"ids": "one"}, "'ids'"),
        ({"ids": 1}, "'ids'"),
        ({"organization": True}, "'organization'"),
        ({"organization": ["org-1"]}, "'organization'"),
        ({"worker": None}, "'worker'"),
        ({"since": "2026-01-01"}, "'since'"),
        ({"since": datetime(2026, 1, 1)}, "'since'"),  # noqa: DTZ001  # that is the fault
        ({"limit": -1}, "'limit'"),
        ({"limit": True}, "'limit'"),
        ({"limit": None}, "'limit'"),
    ],
    ids=str,
)
def test_a_filter_that_can_not_be_is_refused(way: Way, filters: Any, named: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        Queue(way).dead(**filters)
    assert named in str(caught.value)


# -- sent again --------------------------------------------------------------------------------------


def test_a_job_sent_again_is_the_same_job_with_all_its_attempts(way: Way) -> None:
    host = Queue(way, max_attempts=2, backoff=0)
    args = {**KEYS, "impersonating_from": "admin"}
    job_id = host.die(args)
    host.told.calls.clear()
    refs: list[JobRef] = host.call("resend", host.dead(), by="operator")
    assert [(ref.id, ref.due_at) for ref in refs] == [(job_id, None)]
    assert host.told.of("enqueued") == {"job": refs[0], "organization_id": "org-1"}
    assert host.dead() == []
    host.mended = True
    assert host.adapter.drain() == {"complete": 1}
    info, found = host.ran[-1]
    assert (info.id, info.attempt, info.max_attempts) == (job_id, 1, 2)
    assert found == args  # its actor, and never the operator


def test_who_sent_it_again_and_when_is_kept_of_the_latest(way: Way) -> None:
    host = Queue(way)
    job_id = host.die()
    for number in range(MAX_NOTED + 2):
        host.call("resend", job_id, by=f"operator {number}")
        host.adapter.drain()
        host.clock.advance(1)
    (job,) = host.dead()
    assert job.resends == MAX_NOTED + 2
    noted = Payload.parse(job.payload).meta["resent"]
    assert [note["by"] for note in noted] == [f"operator {number}" for number in range(2, MAX_NOTED + 2)]
    assert noted[-1]["at"] == host.clock() - 1


@pytest.mark.parametrize("noted", [None, "ann", {"by": "ann"}], ids=str)
def test_what_a_queue_noted_of_its_death_is_not_sent_along(noted: object) -> None:
    host = Queue()
    host.die()
    (job,) = host.dead()
    payload = Payload.parse(job.payload)
    meta = {"dead": "no", "unknown_since": 1.0, "resent": noted, "other": 1}
    again = replace(job, payload=replace(payload, meta=meta, snoozes=3, attempt=9).dump()).again("ann", 5.0)
    assert again.meta == {"other": 1, "resent": [{"by": "ann", "at": 5.0}]}
    assert (again.attempt, again.snoozes, again.resends, again.due_at) == (1, 3, 1, None)


def test_sending_again_is_logged_with_who_did(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    host = Queue(way)
    job_id = host.die()
    with caplog.at_level(logging.INFO):
        host.call("resend", job_id, by="ann")
    assert f"job {job_id} is sent again by 'ann'" in caplog.messages


def test_jobs_are_sent_again_in_bulk_in_pages(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BATCH", 2)
    host = Queue(way)
    ids = [host.die() for _ in range(5)]
    refs = host.call("resend", [*ids, ids[0]], by="ann")
    assert sorted(ref.id for ref in refs) == sorted(ids)
    assert len(host.adapter.payloads) == 5
    assert host.call("resend", [], by="ann") == []


def test_however_many_send_a_job_again_it_is_sent_once() -> None:
    host = Queue()
    found = [host.die() for _ in range(20)]

    def resend(_: int) -> int:
        try:
            return len(host.workers.resend(found, by="ann"))
        except NotDeadError as error:
            return len(error.accepted)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(resend, range(8))) == 20
    assert len(host.adapter.payloads) == 20


def test_those_that_are_not_dead_are_told_behind_sending_the_others(way: Way) -> None:
    host = Queue(way)
    job_id = host.die()
    with pytest.raises(NotDeadError) as caught:
        host.call("resend", ["nobody", job_id], by="ann")
    error = caught.value
    assert (error.accepted, error.rejected, error.unknown, error.missing) == (
        (job_id,), ("nobody",), (), ("nobody",),
    )  # fmt: skip
    with pytest.raises(NotDeadError) as caught:
        host.call("resend", job_id, by="ann")
    assert caught.value.missing == (job_id,)


def test_one_that_another_operator_takes_meanwhile_is_not_dead_any_more(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Queue(way)
    job_id, other = host.die(), host.die()
    resend = host.adapter.resend

    def late(jobs: Any) -> list[Receipt]:
        host.adapter.purge([job_id])
        return resend(jobs)

    monkeypatch.setattr(host.adapter, "resend", late)
    with pytest.raises(NotDeadError) as caught:
        host.call("resend", [job_id, other], by="ann")
    assert (caught.value.missing, caught.value.accepted) == ((job_id,), (other,))


def test_what_the_queue_did_not_take_or_may_have_is_told(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Queue(way)
    ids = [host.die() for _ in range(3)]
    lost, full, resend = ConnectionError("lost"), OSError("full"), host.adapter.resend

    def answer(jobs: Any) -> list[Receipt]:
        return [Rejected(full), *resend(jobs[1:2]), Unknown(lost)]

    monkeypatch.setattr(host.adapter, "resend", answer)
    with pytest.raises(EnqueueError) as caught:
        host.call("resend", ids, by="ann")
    error = caught.value
    assert (error.rejected, error.accepted, error.unknown) == ((ids[2],), (ids[1],), (ids[0],))
    assert error.__cause__ is lost
    assert not isinstance(error, NotDeadError)


def test_a_server_that_goes_away_on_the_way_leaves_the_rest_rejected(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Queue(way)
    ids, down, find = (
        [host.die() for _ in range(workers.BATCH + 1)],
        ConnectionError("down"),
        host.adapter.dead_jobs,
    )

    def once(filters: DeadFilters) -> list[DeadJob]:
        monkeypatch.setattr(host.adapter, "dead_jobs", fail)
        return find(filters)

    def fail(filters: DeadFilters) -> list[DeadJob]:
        raise down

    monkeypatch.setattr(host.adapter, "dead_jobs", once)
    with pytest.raises(EnqueueError) as caught:
        host.call("resend", ids, by="ann")
    assert (len(caught.value.accepted), caught.value.rejected) == (workers.BATCH, (ids[-1],))
    assert caught.value.__cause__ is down


@pytest.mark.parametrize("others", [[], ["nobody"]], ids=["alone", "beside one that is not dead"])
def test_a_payload_that_can_not_be_read_is_not_sent_again(way: Way, others: list[str]) -> None:
    host = Queue(way)
    broken, fine = host.die(), host.die()
    host.break_payload(broken)
    with pytest.raises(EnqueueError) as caught:
        host.call("resend", [broken, fine, *others], by="ann")
    assert isinstance(caught.value.__cause__, InvalidPayloadError)
    assert (caught.value.accepted, caught.value.rejected) == ((fine,), (*others, broken))
    assert host.ids() == [broken]


def test_a_job_of_a_queue_that_nobody_reads_is_not_sent_again(way: Way) -> None:
    host = Queue(way, queue="lifecycle")
    moved, fine = host.die(), host.die()
    (job,) = (job for job in host.adapter.dead if job.id == moved)
    host.change(moved, replace(job, payload=changed(job.payload, queue="former")))
    with pytest.raises(EnqueueError) as caught:
        host.call("resend", [moved, fine], by="ann")
    assert isinstance(caught.value.__cause__, UnknownQueueError)
    assert (caught.value.accepted, caught.value.rejected) == ((fine,), (moved,))
    assert host.ids(ids=[moved]) == [moved]


@pytest.mark.parametrize("by", ["", " ", "x" * 201, None, 7], ids=repr)
def test_who_sends_again_has_to_be_named(way: Way, by: Any) -> None:
    host = Queue(way)
    host.die()
    with pytest.raises(InvalidOptionError, match="'by': expected the operator's name"):
        host.call("resend", host.dead(), by=by)
    assert len(host.dead()) == 1


@pytest.mark.parametrize("jobs", [7, None, [7], [None], [b"x"]], ids=repr)
@pytest.mark.parametrize("what", ["resend", "purge"])
def test_what_are_no_dead_jobs_is_refused(way: Way, jobs: Any, what: str) -> None:
    more = {"by": "ann"} if what == "resend" else {}
    with pytest.raises(InvalidOptionError, match="'jobs': expected job ids or dead jobs, got"):
        Queue(way).call(what, jobs, **more)


# -- purged ------------------------------------------------------------------------------------------


def test_purging_forgets_dead_jobs_and_tells_how_many(way: Way) -> None:
    host = Queue(way)
    first, second, third = (host.die({**KEYS, "organization_id": n}) for n in (1, 2, 2))
    assert host.call("purge", host.dead(organization=2)) == 2
    assert host.ids() == [first]
    assert host.call("purge", [second, third, "nobody"]) == 0
    assert host.call("purge", first) == 1
    assert host.dead() == []


# -- adapters without --------------------------------------------------------------------------------


def test_an_adapter_without_dead_jobs_says_so(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryAdapter, "capabilities", frozenset({"bulk"}))
    host = Queue(way)
    for call in (
        lambda: host.dead(),
        lambda: host.call("resend", "x", by="ann"),
        lambda: host.call("purge", "x"),
    ):
        with pytest.raises(NotSupportedError) as caught:
            call()
        assert (caught.value.adapter, caught.value.capability) == ("memory", "dead_jobs")
