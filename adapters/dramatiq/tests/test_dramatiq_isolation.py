"""Many organizations' jobs interleaved over threads, event loops and processes: no job acts for another's."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from adapters.dramatiq.tests.support import STORED, Harness, eventually, harness, script

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PROCESSES: Final = 2
JOBS: Final = 1_000
ORGANIZATIONS: Final = 50


def keys(number: int) -> dict[str, Any]:
    """Who the job acts as, and for whom; each job has an actor of its own."""
    return {
        "organization_id": f"org-{number % ORGANIZATIONS}",
        "actor_id": None if number % 7 == 0 else f"user-{number}",
        "impersonating_from": f"admin-{number}" if number % 5 == 0 else None,
    }


def steps(number: int) -> list[str]:
    """Most jobs do what they do at once, some fail first."""
    return ["error:no", "ok:done"] if number % 10 == 1 else ["ok:done"]


@dataclass
class Crowd:
    """All jobs, enqueued and done."""

    queue: Harness
    numbers: dict[str, int]


@pytest.fixture(scope="module", params=STORED)
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with harness(tmp_path_factory.mktemp("crowd"), request.param) as queue:
        kinds = (queue.host.sync, queue.host.asynchronous)
        jobs = [kinds[n % 2].new(script(*steps(n), **keys(n))) for n in range(JOBS)]
        numbers = {ref.id: n for n, ref in enumerate(queue.host.workers.enqueue_many(jobs))}
        queue.worker(processes=PROCESSES)
        runs = sum(len(steps(n)) for n in range(JOBS))
        eventually(lambda: len(queue.lines("finished.jsonl")) >= runs, f"{JOBS} jobs to end", seconds=100)
        yield Crowd(queue, numbers)


def test_every_audit_row_has_the_ids_of_its_own_job(crowd: Crowd) -> None:
    for row in crowd.queue.audit():
        number = crowd.numbers[row["job_id"]]
        sent = keys(number)
        assert row["organization_id"] == sent["organization_id"]
        assert row["effective_user_id"] == sent["actor_id"]
        assert row["actor_id"] == (sent["impersonating_from"] or sent["actor_id"] or "system:host")
        assert row["worker"] == ("steps.async" if number % 2 else "steps.sync")


def test_every_event_is_in_the_audit_trail_once(crowd: Crowd) -> None:
    trail = crowd.queue.audit()
    assert max(Counter(row["event_id"] for row in trail).values()) == 1
    found = Counter(row["job_id"] for row in trail)
    assert found == {job_id: len(steps(number)) for job_id, number in crowd.numbers.items()}


def test_the_processes_share_the_work_and_run_every_job_once(crowd: Crowd) -> None:
    runs = crowd.queue.runs()
    assert Counter(run["job"] for run in runs) == {
        job_id: len(steps(number)) for job_id, number in crowd.numbers.items()
    }
    share = Counter(run["pid"] for run in runs)
    assert len(share) == PROCESSES
    assert min(share.values()) > JOBS / 20
