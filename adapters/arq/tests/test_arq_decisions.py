"""The decision table on the real `arq` worker, with every count read back from Redis."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from adapters.arq.tests.support import Harness, harness
from tests.queues.harness import DELAYS, LATER, Process, check_lateness, eventually, script

from sigra_workers import DeadJob, DeadJobError

pytestmark = pytest.mark.integration
KINDS: Final = ("sync", "async")


@dataclass(frozen=True)
class Row:
    """What a job's runs do, and what is then in Redis. `runs` are (attempt, snoozes) of each."""

    steps: list[str]
    status: str
    runs: list[tuple[int, int]]
    attempt: int = 1
    snoozes: int = 0
    value: object = None
    reason: str = ""
    trace: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    organization: str | None = None


def finished(steps: list[str], runs: list[tuple[int, int]], **more: Any) -> Row:
    """A job that completes."""
    return Row(steps, "finished", runs, *runs[-1], **more)


def dead(steps: list[str], runs: list[tuple[int, int]], reason: str, **more: Any) -> Row:
    """A job that dies with its last run."""
    return Row(steps, "failed", runs, *runs[-1], reason=reason, **more)


def waiting(steps: list[str], attempt: int, snoozes: int, **options: Any) -> Row:
    """A job that waits for its second run."""
    return Row(steps, "waiting", [(1, 0)], attempt, snoozes, options=options)


# Every worker has three attempts.
ROWS: Final = {
    "ok": finished(["ok"], [(1, 0)]),
    "ok with a value": finished(["ok:done"], [(1, 0)], value="done"),
    "ok with a value that can't be stored": finished(["lambda"], [(1, 0)]),
    "error, then ok": finished(["error:no", "ok"], [(1, 0), (2, 0)]),
    "raises, then ok": finished(["raise:no", "ok"], [(1, 0), (2, 0)]),
    "error, waiting": waiting(["error:no"], attempt=2, snoozes=0, backoff=900),
    "error on the last attempt": dead(["error:store is full"], [(1, 0), (2, 0), (3, 0)], "store is full"),
    "raises on the last attempt": dead(
        ["raise:boom"], [(1, 0), (2, 0), (3, 0)], "RuntimeError: boom", trace="implementations.py"
    ),
    "one attempt alone": dead(["error:no"], [(1, 0)], "no", options={"max_attempts": 1}),
    "timed out": dead(
        ["sleep:60"], [(1, 0)], "JobTimeoutError: the job ran longer than its timeout of 0.3 s",
        options={"timeout": 0.3, "max_attempts": 1},
    ),
    "timed out, then ok": finished(["sleep:60", "ok"], [(1, 0), (2, 0)], options={"timeout": 0.3}),
    "exits": dead(["exit"], [(1, 0)], "SystemExit: 3", options={"max_attempts": 1}),
    "exits, then ok": finished(["exit", "ok"], [(1, 0), (2, 0)]),
    "snoozed, waiting": waiting(["snooze:900"], attempt=1, snoozes=1),
    "snoozed, then ok": finished(["snooze:1", "snooze:1", "ok"], [(1, 0), (1, 1), (1, 2)]),
    "snoozed, then all attempts": dead(
        ["snooze:1", "snooze:1", "error:no"], [(1, 0), (1, 1), (1, 2), (2, 2), (3, 2)], "no"
    ),
    "snoozed on the last attempt": finished(
        ["error:no", "error:no", "snooze:1", "ok"], [(1, 0), (2, 0), (3, 0), (3, 1)]
    ),
    "cancel": dead(["cancel:legal hold"], [(1, 0)], "cancelled: legal hold"),
    "cancel_on": dead(
        ["gone"], [(1, 0)], "cancelled: Gone: its account was closed", trace="implementations.py"
    ),
    "no result": dead(["none"], [(1, 0)], "InvalidResultError: "),
    "scope builder cancels": Row(
        ["ok"], "failed", [], reason="cancelled: organization is gone", organization="org-deleted"
    ),
    "scope builder snoozes": finished(["ok"], [(1, 2)], organization="org-suspended"),
}  # fmt: skip


@dataclass
class Table:
    """Every row, sync and async, in one run of one worker process."""

    arq: Harness
    ids: dict[tuple[str, str], str]
    process: Process
    dead: dict[str, DeadJob]


@pytest.fixture(scope="module", params=["pickle", "json"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The table under arq's own serializer, and under one of the host's."""
    with harness(tmp_path_factory.mktemp("host"), serializer=request.param) as arq:
        ids: dict[tuple[str, str], str] = {}
        for name, row in ROWS.items():
            for kind in KINDS:
                organization = row.organization or f"org {name} {kind}"
                args = script(*row.steps, organization_id=organization)
                ids[name, kind] = arq.host.handles[kind].enqueue(args, **row.options).id
        process = arq.worker(max_jobs=30)
        for (name, _), job_id in ids.items():
            arq.wait(job_id, ROWS[name].status)
        yield Table(arq, ids, process, {job.id: job for job in arq.host.workers.dead(ids=[*ids.values()])})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_each_row_of_the_decision_table(table: Table, name: str, kind: str) -> None:
    arq, row, job_id = table.arq, ROWS[name], table.ids[name, kind]
    assert arq.turns(job_id) == row.runs
    assert arq.status(job_id) == row.status
    found, result = table.dead.get(job_id), arq.result(job_id)
    match row.status:
        case "waiting":
            payload = arq.payload(job_id)
            assert (payload.attempt, payload.snoozes, payload.resends) == (row.attempt, row.snoozes, 0)
            assert result is None
            assert not arq.connection.exists(f"arq:retry:{job_id}")
            assert arq.connection.ttl(f"arq:job:{job_id}") == -1  # nothing may drop it meanwhile
        case "finished":
            assert result is not None
            assert (result.success, result.result) == (True, row.value)
        case _:
            assert found is not None
            assert found.reason.startswith(row.reason)
            assert (found.attempts, found.max_attempts) == (row.attempt, row.options.get("max_attempts", 3))
            assert (row.trace or "") in (found.traceback or "")
    assert (found is not None) == (row.status == "failed")
    if row.status != "waiting":
        kept = {f"arq:result:{job_id}", f"sigra-workers:arq:run:{job_id}"}
        assert arq.keys(job_id) == kept
        assert all(arq.connection.ttl(key) > 0 for key in kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_each_run_is_in_the_audit_trail_with_the_ids_of_its_job(table: Table, name: str, kind: str) -> None:
    row, job_id = ROWS[name], table.ids[name, kind]
    trail = table.arq.audit(job_id)
    assert [event["attempt"] for event in trail] == [attempt for attempt, _ in row.runs]
    for event in trail:
        assert event["organization_id"] == (row.organization or f"org {name} {kind}")
        assert (event["actor_id"], event["actor_type"], event["effective_user_id"]) == ("ann", "user", "ann")
        assert (event["worker"], event["queue"]) == (f"steps.{kind}", table.arq.queue)


def test_arq_keeps_a_dead_job_as_failed_and_logs_it_once(table: Table) -> None:
    job_id = table.ids["error on the last attempt", "sync"]
    assert table.process.log.count(f"job '{job_id}' of worker 'steps.sync'") >= 1
    assert table.process.log.count(f"! {job_id}:sigra_workers_arq.dispatch failed, DeadJobError: ") == 1
    if table.arq.serializer == "pickle":
        result = table.arq.result(job_id)
        assert result is not None
        assert isinstance(result.result, DeadJobError)
        assert result.result.reason == "store is full"


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_cannot_be_stored_is_dropped_with_a_warning(table: Table, kind: str) -> None:
    job_id = table.ids["ok with a value that can't be stored", kind]
    warning = f"the result of job {job_id} is of type function and can't be stored ("
    assert table.process.log.count(warning) == 1


def test_the_worker_process_lives_through_every_row(table: Table) -> None:
    assert table.process.alive


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"organization_id": "o1", "actor_id": None}, ("system:host", "system", None, "o1")),
        ({"organization_id": None, "actor_id": 7}, (7, "user", 7, None)),
        (
            {"organization_id": "o1", "actor_id": "ann", "impersonating_from": "admin"},
            ("admin", "user", "ann", "o1"),
        ),
    ],
    ids=["system", "before sign-in", "impersonated"],
)
def test_who_acted_reaches_the_audit_trail(table: Table, keys: Any, expected: tuple[object, ...]) -> None:
    ref = table.arq.host.sync.enqueue(script("ok", **keys))
    table.arq.wait(ref.id)
    (event,) = table.arq.audit(ref.id)
    found = (event["actor_id"], event["actor_type"], event["effective_user_id"], event["organization_id"])
    assert found == expected


# -- never early -----------------------------------------------------------------------------------------


def test_no_delay_ends_early(table: Table, record_property: Any) -> None:
    arq = table.arq
    refs = [arq.host.later.enqueue(LATER, schedule_in=delay) for delay in DELAYS]
    arq.wait_all([ref.id for ref in refs])
    check_lateness(arq, refs, 6, record_property)


def test_a_job_that_is_started_early_waits_for_its_time(table: Table) -> None:
    arq = table.arq
    ref = arq.host.sync.enqueue(script("ok"), schedule_in=2.5)
    arq.connection.zadd(arq.queue, {ref.id: 1})  # as arq's own abort does
    eventually(lambda: (arq.score(ref.id) or 0) > 1, "the job to be put back")
    assert (arq.runs(ref.id), arq.payload(ref.id).attempt) == ([], 1)
    arq.wait(ref.id, "finished")
    (run,) = arq.runs(ref.id)
    assert ref.due_at is not None
    assert (run["at"] >= ref.due_at.timestamp(), run["attempt"]) == (True, 1)


def test_the_longest_snooze_keeps_its_time(table: Table) -> None:
    arq, seconds, before = table.arq, 366 * 86_400, time.time()
    ref = arq.host.sync.enqueue(script(f"snooze:{seconds}"))
    arq.wait(ref.id, "waiting")
    at = arq.score(ref.id)
    assert at is not None
    assert before + seconds <= at <= time.time() + seconds + 0.001
    assert arq.connection.ttl(f"arq:job:{ref.id}") == -1
    assert arq.connection.ttl(arq.queue) == -1


# -- dead jobs ---------------------------------------------------------------------------------------------


def test_a_dead_job_that_is_sent_again_begins_anew(table: Table) -> None:
    arq = table.arq
    steps = ["snooze:1", "error:no", "error:no", "error:no"]
    ref = arq.host.sync.enqueue(script(*steps))
    arq.wait(ref.id, "failed")
    (sent,) = arq.host.workers.resend(ref.id, by="olga")
    assert sent.id == ref.id
    eventually(lambda: len(arq.runs(ref.id)) == 7, "three attempts more")
    again = f"{ref.id}:1"
    arq.wait(again, "failed")
    assert arq.turns(ref.id) == [(1, 0), (1, 1), (2, 1), (3, 1), (1, 1), (2, 1), (3, 1)]
    (job,) = arq.host.workers.dead(ids=[ref.id])
    assert (job.attempts, job.snoozes, job.resends) == (3, 1, 1)
    events = [event["event_id"] for event in arq.audit(ref.id)]
    assert len({*events[:4]} & {*events[4:]}) == 0  # what it does again is new in the audit trail
    assert arq.host.workers.purge(ref.id) == 1
    assert arq.host.workers.dead(ids=[ref.id]) == []
    leftover = {f"arq:result:{ref.id}", f"arq:result:{again}", f"sigra-workers:arq:run:{ref.id}"}
    assert arq.keys(ref.id) == leftover
