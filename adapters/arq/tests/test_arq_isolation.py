"""Many organizations' jobs interleaved in several worker processes: no job acts for another's."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from adapters.arq.tests.support import Harness, eventually, harness, script

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


class Crowd:
    """All jobs, enqueued and done: many at a time on one loop, and in threads."""

    def __init__(self, arq: Harness) -> None:
        self.arq = arq
        kinds = (arq.host.sync, arq.host.asynchronous)
        jobs = [kinds[n % 2].new(script(*steps(n), **keys(n))) for n in range(JOBS)]
        self.processes = [arq.worker(max_jobs=20) for _ in range(PROCESSES)]
        self.numbers = {ref.id: n for n, ref in enumerate(arq.host.workers.enqueue_many(jobs))}
        eventually(lambda: arq.connection.zcard(arq.queue) == 0, "all jobs to end", seconds=100)
        self.trail = arq.audit()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with harness(tmp_path_factory.mktemp("crowd")) as arq:
        yield Crowd(arq)


def test_every_audit_row_has_the_ids_of_its_own_job(crowd: Crowd) -> None:
    assert len(crowd.trail) == sum(len(steps(number)) for number in range(JOBS))
    for row in crowd.trail:
        number = crowd.numbers[row["job_id"]]
        sent = keys(number)
        assert row["organization_id"] == sent["organization_id"]
        assert row["effective_user_id"] == sent["actor_id"]
        assert row["actor_id"] == (sent["impersonating_from"] or sent["actor_id"] or "system:host")
        assert row["worker"] == ("steps.async" if number % 2 else "steps.sync")


def test_every_event_is_in_the_audit_trail_once(crowd: Crowd) -> None:
    assert max(Counter(row["event_id"] for row in crowd.trail).values()) == 1
    found = Counter(row["job_id"] for row in crowd.trail)
    assert found == {job_id: len(steps(number)) for job_id, number in crowd.numbers.items()}


def test_every_job_completes_once_over_all_processes(crowd: Crowd) -> None:
    runs = crowd.arq.runs()
    assert Counter(run["job"] for run in runs) == {
        job_id: len(steps(number)) for job_id, number in crowd.numbers.items()
    }
    results = [crowd.arq.result(job_id) for job_id in crowd.numbers]
    assert {result.result for result in results if result is not None} == {"done"}
    assert None not in results
    assert len({run["pid"] for run in runs}) == PROCESSES
    assert all(process.alive for process in crowd.processes)
