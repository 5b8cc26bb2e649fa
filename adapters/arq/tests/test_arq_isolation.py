"""Many organizations' jobs interleaved in several worker processes: no job acts for another's."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest
from adapters.arq.tests.support import Harness, harness
from tests.queues.crowd import check_events, check_ids, crowd_of, runs_of, steps
from tests.queues.harness import eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PROCESSES: Final = 2
JOBS: Final = 1_000


class Crowd:
    """All jobs, enqueued and done: many at a time on one loop, and in threads."""

    def __init__(self, arq: Harness) -> None:
        self.arq = arq
        jobs = crowd_of(arq.host, JOBS)
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
    check_ids(crowd.trail, crowd.numbers)


def test_every_event_is_in_the_audit_trail_once(crowd: Crowd) -> None:
    check_events(crowd.trail, crowd.numbers)


def test_every_job_completes_once_over_all_processes(crowd: Crowd) -> None:
    runs = crowd.arq.runs()
    assert Counter(run["job"] for run in runs) == runs_of(crowd.numbers)
    results = [crowd.arq.result(job_id) for job_id in crowd.numbers]
    assert {result.result for result in results if result is not None} == {"done"}
    assert None not in results
    assert len({run["pid"] for run in runs}) == PROCESSES
    assert all(process.alive for process in crowd.processes)
