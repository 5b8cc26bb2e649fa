"""The decision table on real `dramatiq` processes, with every count read back from the servers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import pytest
from adapters.dramatiq.tests.support import SETTINGS, Harness
from dramatiq.common import dq_name
from tests.queues.harness import DELAYS, LATER, Process, check_lateness, script

pytestmark = pytest.mark.integration
KINDS: Final = ("sync", "async")
Table = tuple[Mapping[tuple[str, str], str], Process]


@dataclass(frozen=True)
class Row:
    """What a job's runs do, and what is then there. `runs` are (attempt, snoozes) of each."""

    steps: list[str]
    decisions: list[str]
    runs: list[tuple[int, int]]
    dead: tuple[str, ...] = ()
    """What its reason and traceback hold."""
    waits: tuple[int, int] | None = None
    """Attempt and snoozes of the run it waits for."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    organization: str | None = None

    @property
    def end(self) -> tuple[int, int]:
        """Attempt and snoozes of its last run."""
        return self.runs[-1] if self.runs else (1, 0)


def again(runs: list[tuple[int, int]]) -> list[str]:
    """The decisions between runs."""
    return ["retry" if before[0] < after[0] else "snooze" for before, after in pairwise(runs)]


def complete(steps: list[str], runs: list[tuple[int, int]], **more: Any) -> Row:
    return Row(steps, [*again(runs), "complete"], runs, **more)


def dead(steps: list[str], runs: list[tuple[int, int]], *why: str, **more: Any) -> Row:
    last = "cancel" if why[0].startswith("cancelled") else "dead"
    return Row(steps, [*again(runs), last], runs, why, **more)


ROWS: Final = {
    "ok": complete(["ok"], [(1, 0)]),
    "ok with a value": complete(["ok:done"], [(1, 0)]),
    "error, then ok": complete(["error:no", "ok"], [(1, 0), (2, 0)]),
    "raises, then ok": complete(["raise:no", "ok"], [(1, 0), (2, 0)]),
    "error, waiting": Row(["error:no"], ["retry"], [(1, 0)], waits=(2, 0), options={"backoff": 900}),
    "error on the last attempt": dead(["error:store is full"], [(1, 0), (2, 0), (3, 0)], "store is full"),
    "raises on the last attempt": dead(
        ["raise:boom"], [(1, 0), (2, 0), (3, 0)], "RuntimeError: boom", "implementations.py"
    ),
    "one attempt alone": dead(["error:no"], [(1, 0)], "no", options={"max_attempts": 1}),
    "timed out": dead(
        ["sleep:60"], [(1, 0)], "JobTimeoutError: the job ran longer than its timeout of 0.3 s",
        options={"timeout": 0.3, "max_attempts": 1},
    ),
    "timed out, then ok": complete(["sleep:60", "ok"], [(1, 0), (2, 0)], options={"timeout": 0.3}),
    "exits": dead(["exit"], [(1, 0)], "SystemExit: 3", options={"max_attempts": 1}),
    "exits, then ok": complete(["exit", "ok"], [(1, 0), (2, 0)]),
    "snoozed, waiting": Row(["snooze:900"], ["snooze"], [(1, 0)], waits=(1, 1)),
    "snoozed, then ok": complete(["snooze:1", "snooze:1", "ok"], [(1, 0), (1, 1), (1, 2)]),
    "snoozed, then all attempts": dead(
        ["snooze:1", "snooze:1", "error:no"], [(1, 0), (1, 1), (1, 2), (2, 2), (3, 2)], "no"
    ),
    "snoozed on the last attempt": complete(
        ["error:no", "error:no", "snooze:1", "ok"], [(1, 0), (2, 0), (3, 0), (3, 1)]
    ),
    "cancel": dead(["cancel:legal hold"], [(1, 0)], "cancelled: legal hold"),
    "cancel_on": dead(["gone"], [(1, 0)], "cancelled: Gone: its account was closed", "implementations.py"),
    "no result": dead(["none"], [(1, 0)], "InvalidResultError", "returned None"),
    "scope builder cancels": dead(
        ["ok"], [], "cancelled: organization is gone", organization="org-deleted"
    ),
    "scope builder snoozes": Row(
        ["ok"], ["snooze", "snooze", "complete"], [(1, 2)], organization="org-suspended"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def table(shared_queue: Harness) -> Table:
    """Every row, sync and async, in one run of one worker process, which then ends."""
    ids: dict[tuple[str, str], str] = {}
    for name, row in ROWS.items():
        for kind in KINDS:
            organization = row.organization or f"org {name} {kind}"
            ids[name, kind] = shared_queue.host.handles[kind].enqueue(
                script(*row.steps, organization_id=organization), **row.options
            ).id  # fmt: skip
    process = shared_queue.worker()
    shared_queue.wait(*(job_id for (name, _), job_id in ids.items() if not ROWS[name].waits))
    assert process.alive
    assert process.stop() == 0
    return ids, process


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_each_row_of_the_decision_table(shared_queue: Harness, table: Table, name: str, kind: str) -> None:
    row, job_id = ROWS[name], table[0][name, kind]
    assert shared_queue.decisions(job_id) == row.decisions
    assert [(run["attempt"], run["snoozes"]) for run in shared_queue.runs(job_id)] == row.runs
    assert job_id not in shared_queue.waiting()
    assert (job_id in shared_queue.dead_letters()) == bool(row.dead)
    if "dead_jobs" in shared_queue.adapter.capabilities:
        found = shared_queue.host.workers.dead(ids=[job_id])
        assert bool(found) == bool(row.dead)
        for job in found:
            assert (job.attempts, job.snoozes, job.resends) == (*row.end, 0)
            for text in row.dead:
                assert text in f"{job.reason} {job.traceback}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.waits])
def test_a_job_that_waits_keeps_its_counts_and_its_time(
    shared_queue: Harness, table: Table, name: str, kind: str
) -> None:
    row, job_id = ROWS[name], table[0][name, kind]
    if shared_queue.way == "storeless":
        messages = shared_queue.messages(kind=dq_name)
        (message,) = (found for found in messages if found.message_id == job_id)
        payload, due_at = shared_queue.payload(message), message.options["eta"] / 1_000
    else:
        (payload,) = shared_queue.parked(job_id).values()
        due_at = shared_queue.parked_until(job_id)
    (run,) = shared_queue.runs(job_id)
    assert (payload.attempt, payload.snoozes) == row.waits
    assert run["at"] + 900 <= due_at < time.time() + 900
    assert payload.due_at == pytest.approx(due_at, abs=0.002)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_each_run_is_in_the_audit_trail_with_the_ids_of_its_job(
    shared_queue: Harness, table: Table, name: str, kind: str
) -> None:
    row, job_id = ROWS[name], table[0][name, kind]
    trail = shared_queue.audit(job_id)
    assert [event["attempt"] for event in trail] == [attempt for attempt, _ in row.runs]
    for event in trail:
        assert event["organization_id"] == (row.organization or f"org {name} {kind}")
        assert (event["actor_id"], event["actor_type"], event["effective_user_id"]) == ("ann", "user", "ann")
        assert (event["worker"], event["queue"]) == (f"steps.{kind}", shared_queue.queue)


def test_every_dead_job_and_nothing_else_is_one_error_in_the_log(table: Table) -> None:
    ids, process = table
    errors = [line for line in process.log.splitlines() if "[ERROR]" in line or "[CRITICAL]" in line]
    died = [job_id for (name, _), job_id in ids.items() if ROWS[name].dead]
    assert len(errors) == len(died)
    for job_id in died:
        (line,) = (line for line in errors if job_id in line)
        assert "is dead: " in line


def test_the_record_of_a_job_that_ended_is_settled(shared_queue: Harness, table: Table) -> None:
    for (name, _), job_id in table[0].items():
        record = shared_queue.record(job_id)
        if shared_queue.way == "storeless":
            assert record == {}
        else:
            assert (record["owner"], record["starts"]) == ("", "0")
            assert ("999999999" in record["turn"]) == (ROWS[name].waits is None)


# -- never early -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_queue", SETTINGS, indirect=True)
def test_no_delay_ends_early(shared_queue: Harness, record_property: Any) -> None:
    process = shared_queue.worker()
    jobs = [shared_queue.host.later.new(LATER, schedule_in=delay) for delay in DELAYS]
    refs = shared_queue.host.workers.enqueue_many(jobs)
    shared_queue.wait(*(ref.id for ref in refs))
    process.kill()

    check_lateness(shared_queue, refs, 6, record_property)
