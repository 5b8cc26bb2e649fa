"""Many organizations' jobs interleaved over threads, event loops and processes: no job acts for another's."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from adapters.dramatiq.tests.support import STORED, Harness, harness
from tests.queues.crowd import check_events, check_ids, crowd_of, runs_of, steps
from tests.queues.harness import eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PROCESSES: Final = 2
JOBS: Final = 1_000


@dataclass
class Crowd:
    """All jobs, enqueued and done."""

    queue: Harness
    numbers: dict[str, int]


@pytest.fixture(scope="module", params=STORED)
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with harness(tmp_path_factory.mktemp("crowd"), request.param) as queue:
        jobs = crowd_of(queue.host, JOBS)
        numbers = {ref.id: n for n, ref in enumerate(queue.host.workers.enqueue_many(jobs))}
        queue.worker(processes=PROCESSES)
        runs = sum(len(steps(n)) for n in range(JOBS))
        eventually(lambda: len(queue.lines("finished.jsonl")) >= runs, f"{JOBS} jobs to end", seconds=100)
        yield Crowd(queue, numbers)


def test_every_audit_row_has_the_ids_of_its_own_job(crowd: Crowd) -> None:
    check_ids(crowd.queue.audit(), crowd.numbers)


def test_every_event_is_in_the_audit_trail_once(crowd: Crowd) -> None:
    check_events(crowd.queue.audit(), crowd.numbers)


def test_the_processes_share_the_work_and_run_every_job_once(crowd: Crowd) -> None:
    runs = crowd.queue.runs()
    assert Counter(run["job"] for run in runs) == runs_of(crowd.numbers)
    share = Counter(run["pid"] for run in runs)
    assert len(share) == PROCESSES
    assert min(share.values()) > JOBS / 20
