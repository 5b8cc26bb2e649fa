"""The decision table on the real `rq worker`, with every count read back from Redis."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from adapters.rq.tests.support import Harness
from tests.queues.harness import DELAYS, LATER, Process, check_lateness, eventually, script

pytestmark = pytest.mark.integration
KINDS: Final = ("sync", "async")
Table = tuple[Mapping[tuple[str, str], str], Process]


@dataclass(frozen=True)
class Row:
    """What a job's runs do, and what is then in Redis. `runs` are (attempt, snoozes) of each."""

    steps: list[str]
    status: str
    runs: list[tuple[int, int]]
    results: list[str]
    attempt: int = 1
    snoozes: int = 0
    retries_left: int = 0
    number_of_retries: int = 0
    value: object = None
    error: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    organization: str | None = None


def finished(steps: list[str], runs: list[tuple[int, int]], **more: Any) -> Row:
    """A job that completes: its last attempt and what follows it is left."""
    (attempt, snoozes), again = runs[-1], len(runs) - 1
    more = {"attempt": attempt, "snoozes": snoozes, "number_of_retries": again, **more}
    return Row(
        steps, "finished", runs, ["RETRIED"] * again + ["SUCCESSFUL"], retries_left=4 - attempt, **more
    )


def dead(steps: list[str], runs: list[tuple[int, int]], *error: str, **more: Any) -> Row:
    """A job that dies with its last run: nothing of its budget is left."""
    (attempt, snoozes), again = runs[-1], len(runs) - 1
    more = {"attempt": attempt, "snoozes": snoozes, "number_of_retries": again, **more}
    return Row(steps, "failed", runs, ["RETRIED"] * again + ["FAILED"], error=error, **more)


def waiting(steps: list[str], attempt: int, snoozes: int, retries_left: int, **options: Any) -> Row:
    """A job that waits for its second run."""
    return Row(steps, "scheduled", [(1, 0)], ["RETRIED"], attempt, snoozes, retries_left, 1, options=options)


# Every worker has three attempts; RQ's retries_left is one more than those left, the next one included.
ROWS: Final = {
    "ok": finished(["ok"], [(1, 0)]),
    "ok with a value": finished(["ok:done"], [(1, 0)], value="done"),
    "ok with a value that can't be stored": finished(["object"], [(1, 0)]),
    "error, then ok": finished(["error:no", "ok"], [(1, 0), (2, 0)]),
    "raises, then ok": finished(["raise:no", "ok"], [(1, 0), (2, 0)]),
    "error, waiting": waiting(["error:no"], attempt=2, snoozes=0, retries_left=3 - 1, backoff=900),
    "error on the last attempt": dead(
        ["error:store is full"], [(1, 0), (2, 0), (3, 0)], "is dead: store is full"
    ),
    "raises on the last attempt": dead(
        ["raise:boom"], [(1, 0), (2, 0), (3, 0)], "is dead: RuntimeError: boom", "implementations.py"
    ),
    "one attempt alone": dead(["error:no"], [(1, 0)], "is dead: no", options={"max_attempts": 1}),
    "timed out": dead(
        ["sleep:60"], [(1, 0)], "JobTimeoutError: the job ran longer than its timeout of 0.3 s",
        options={"timeout": 0.3, "max_attempts": 1},
    ),
    "timed out, then ok": finished(["sleep:60", "ok"], [(1, 0), (2, 0)], options={"timeout": 0.3}),
    "exits": dead(["exit"], [(1, 0)], "is dead: SystemExit: 3", options={"max_attempts": 1}),
    "exits, then ok": finished(["exit", "ok"], [(1, 0), (2, 0)]),
    "snoozed, waiting": waiting(["snooze:900"], attempt=1, snoozes=1, retries_left=3),
    "snoozed, then ok": finished(["snooze:1", "snooze:1", "ok"], [(1, 0), (1, 1), (1, 2)]),
    "snoozed, then all attempts": dead(
        ["snooze:1", "snooze:1", "error:no"], [(1, 0), (1, 1), (1, 2), (2, 2), (3, 2)], "is dead: no"
    ),
    "snoozed on the last attempt": finished(
        ["error:no", "error:no", "snooze:1", "ok"], [(1, 0), (2, 0), (3, 0), (3, 1)]
    ),
    "cancel": dead(["cancel:legal hold"], [(1, 0)], "is dead: cancelled: legal hold"),
    "cancel_on": dead(
        ["gone"], [(1, 0)], "is dead: cancelled: Gone: its account was closed", "implementations.py"
    ),
    "no result": dead(["none"], [(1, 0)], "InvalidResultError", "returned None"),
    "scope builder cancels": Row(
        ["ok"], "failed", [], ["FAILED"],
        error=("cancelled: organization is gone",), organization="org-deleted",
    ),
    "scope builder snoozes": Row(
        ["ok"], "finished", [(1, 2)], ["RETRIED", "RETRIED", "SUCCESSFUL"], 1, 2, 3, 2,
        organization="org-suspended",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def table(shared_rq: Harness) -> Table:
    """Every row, sync and async, in one run of one worker process."""
    ids: dict[tuple[str, str], str] = {}
    for name, row in ROWS.items():
        for kind in KINDS:
            organization = row.organization or f"org {name} {kind}"
            ids[name, kind] = shared_rq.host.handles[kind].enqueue(
                script(*row.steps, organization_id=organization), **row.options
            ).id  # fmt: skip
    process = shared_rq.worker()
    for (name, _), job_id in ids.items():
        shared_rq.wait(job_id, ROWS[name].status)
    return ids, process


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_each_row_of_the_decision_table(shared_rq: Harness, table: Table, name: str, kind: str) -> None:
    row, job_id = ROWS[name], table[0][name, kind]
    job, payload, results = shared_rq.job(job_id), shared_rq.payload(job_id), shared_rq.results(job_id)

    assert (payload.attempt, payload.snoozes, payload.resends) == (row.attempt, row.snoozes, 0)
    assert (job.retries_left, job.number_of_retries or 0) == (row.retries_left, row.number_of_retries)
    assert shared_rq.status(job_id) == row.status
    assert shared_rq.places(job_id) == {row.status}
    assert [result.type.name for result in results] == row.results
    assert results[-1].return_value == row.value or row.status == "scheduled"
    for text in row.error:
        assert text in (results[-1].exc_string or "")
    assert [(run["attempt"], run["snoozes"]) for run in shared_rq.runs(job_id)] == row.runs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_each_run_is_in_the_audit_trail_with_the_ids_of_its_job(
    shared_rq: Harness, table: Table, name: str, kind: str
) -> None:
    row, job_id = ROWS[name], table[0][name, kind]
    trail = shared_rq.audit(job_id)

    assert [event["attempt"] for event in trail] == [attempt for attempt, _ in row.runs]
    for event in trail:
        assert event["organization_id"] == (row.organization or f"org {name} {kind}")
        assert (event["actor_id"], event["actor_type"], event["effective_user_id"]) == ("ann", "user", "ann")
        assert (event["worker"], event["queue"]) == (f"steps.{kind}", shared_rq.queue)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_cannot_be_stored_is_dropped_with_a_warning(table: Table, kind: str) -> None:
    ids, process = table
    job_id = ids["ok with a value that can't be stored", kind]
    assert (
        f"the result of job {job_id} is of type object and can't be stored (TypeError): dropped"
        in process.log
    )


def test_the_worker_process_lives_through_every_row(table: Table) -> None:
    assert table[1].alive


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
def test_who_acted_reaches_the_audit_trail(rq: Harness, keys: Any, expected: tuple[object, ...]) -> None:
    ref = rq.host.sync.enqueue(script("ok", **keys))
    rq.work()
    (event,) = rq.audit(ref.id)
    found = (event["actor_id"], event["actor_type"], event["effective_user_id"], event["organization_id"])
    assert found == expected


# -- never early -----------------------------------------------------------------------------------------


def test_no_delay_ends_early(rq: Harness, record_property: Any) -> None:
    rq.worker()
    refs = [rq.host.later.enqueue(LATER, schedule_in=delay) for delay in DELAYS]
    rq.wait_all([ref.id for ref in refs])

    check_lateness(rq, refs, 15, record_property)


def test_a_job_that_reaches_the_queue_early_waits_for_its_time(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("ok"), schedule_in=2.5)
    queue = rq.rq_queue()
    queue.scheduled_job_registry.remove(rq.job(ref.id))
    queue.enqueue_job(rq.job(ref.id))  # as an operator can do by hand
    rq.work()
    assert rq.runs(ref.id) == []
    assert (rq.payload(ref.id).attempt, rq.job(ref.id).retries_left) == (1, 3)
    rq.worker()
    rq.wait(ref.id, "finished")
    (run,) = rq.runs(ref.id)
    assert ref.due_at is not None
    assert run["at"] >= ref.due_at.timestamp()
    assert rq.payload(ref.id).attempt == 1


def test_the_longest_snooze_keeps_its_time(rq: Harness) -> None:
    seconds = 366 * 86_400
    before = time.time()
    ref = rq.host.sync.enqueue(script(f"snooze:{seconds}"))
    rq.work()
    at = rq.rq_queue().scheduled_job_registry.get_scheduled_time(ref.id).timestamp()
    assert before + seconds <= at <= math.ceil(time.time()) + seconds
    assert rq.connection.ttl(rq.job(ref.id).key) == -1  # nothing may drop it meanwhile


# -- resends -----------------------------------------------------------------------------------------------


def test_a_dead_job_that_rq_requeues_begins_anew_as_a_resend(rq: Harness) -> None:
    steps = ["snooze:1", "error:no", "error:no", "error:no"]
    ref = rq.host.sync.enqueue(script(*steps))
    rq.worker()
    rq.wait(ref.id, "failed")
    rq.job(ref.id).requeue()
    eventually(lambda: len(rq.runs(ref.id)) == 7, "three attempts more")
    rq.wait(ref.id, "failed")

    runs = [(run["attempt"], run["snoozes"]) for run in rq.runs(ref.id)]
    assert runs == [(1, 0), (1, 1), (2, 1), (3, 1), (1, 1), (2, 1), (3, 1)]
    payload = rq.payload(ref.id)
    assert (payload.attempt, payload.snoozes, payload.resends) == (3, 1, 1)
    assert rq.job(ref.id).retries_left == 0
    events = [event["event_id"] for event in rq.audit(ref.id)]
    assert len({*events[:4]} & {*events[4:]}) == 0  # what it does again is new in the audit trail


def test_a_completed_job_that_comes_once_more_is_not_run_again(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("ok:done"))
    rq.work()
    rq.rq_queue().enqueue_job(rq.job(ref.id))
    process = rq.work()
    assert len(rq.runs(ref.id)) == 1
    assert f"job {ref.id} completed already" in process.log
    assert rq.job(ref.id).return_value() == "done"
