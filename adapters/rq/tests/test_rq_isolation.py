"""Many organizations' jobs interleaved over several worker processes: no job acts for another's."""

import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from adapters.rq.tests.support import BOOT, Harness, harness
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier
from tests.queues.crowd import ORGANIZATIONS, check_events, check_ids, crowd_of, runs_of
from tests.queues.harness import eventually, script

from rq_host import database, plain

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
FORKING: Final = "rq.worker.Worker"
IN_ONE_PROCESS: Final = "rq.worker.SimpleWorker"
PROCESSES: Final = 3
JOBS: Final = {FORKING: 300, IN_ONE_PROCESS: 1_000}
"""A fork for each job costs ten times a job."""
POSTGRES: Final = os.environ.get(
    "SIGRA_TEST_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:5432/test?connect_timeout=5"
)


def all_end(rq: Harness, jobs: int) -> None:
    """Wait until so many jobs of the queue are done or dead."""
    queue = rq.rq_queue()
    ends = (queue.finished_job_registry, queue.failed_job_registry)

    def ended() -> bool:
        time.sleep(0.2)  # the worker processes need the processor
        return bool(sum(registry.get_job_count(cleanup=False) for registry in ends) == jobs)

    eventually(ended, f"{jobs} jobs to end", seconds=200)


# -- the audit trail -----------------------------------------------------------------------------------


class Crowd:
    """All jobs, enqueued and done."""

    def __init__(self, rq: Harness, worker_class: str) -> None:
        self.rq = rq
        self.size = JOBS[worker_class]
        jobs = crowd_of(rq.host, self.size)
        self.numbers = {ref.id: n for n, ref in enumerate(rq.host.workers.enqueue_many(jobs))}
        self.processes = [rq.worker("-w", worker_class, ready=False) for _ in range(PROCESSES)]
        all_end(rq, self.size)
        self.trail = rq.audit()


@pytest.fixture(scope="module", params=[FORKING, IN_ONE_PROCESS])
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with harness(tmp_path_factory.mktemp("crowd")) as rq:
        yield Crowd(rq, request.param)


@pytest.mark.slow
def test_every_audit_row_has_the_ids_of_its_own_job(crowd: Crowd) -> None:
    check_ids(crowd.trail, crowd.numbers)


@pytest.mark.slow
def test_every_event_is_in_the_audit_trail_once(crowd: Crowd) -> None:
    check_events(crowd.trail, crowd.numbers)


@pytest.mark.slow
def test_every_job_completes_once(crowd: Crowd) -> None:
    runs = Counter(run["job"] for run in crowd.rq.runs())
    assert runs == runs_of(crowd.numbers)
    jobs = [crowd.rq.job(job_id) for job_id in crowd.numbers]
    assert {job.return_value() for job in jobs} == {"done"}
    share = Counter(job.worker_name for job in jobs)
    assert len(share) == PROCESSES
    assert min(share.values()) > crowd.size / 10
    assert all(process.alive for process in crowd.processes)


# -- rows of a database --------------------------------------------------------------------------------

SCHEMA: Final = SQL("""
    CREATE TABLE notes (organization_id text NOT NULL, job_id text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (organization_id = current_setting('app.organization_id', true));
    CREATE ROLE {role} NOLOGIN;
    GRANT SELECT, INSERT ON notes TO {role};
    INSERT INTO notes SELECT 'org-' || n FROM generate_series(0, {organizations} - 1) AS n;
""")


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """A database with a row of each organization; all of them are only for a superuser to see."""
    name = f"sigra_test_{uuid.uuid4().hex[:10]}"
    try:
        server = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError as error:
        pytest.fail(f"no PostgreSQL at {POSTGRES} ({error}): run `make servers`")
    with server:
        server.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            url = make_conninfo(POSTGRES, dbname=name)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(SCHEMA.format(role=Identifier(name), organizations=ORGANIZATIONS))
            yield url
        finally:
            server.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
            server.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(name)))


class Readers:
    """Jobs that read the table, done."""

    def __init__(self, rq: Harness, database_url: str, worker_class: str, around: str, jobs: int) -> None:
        self.rq = rq
        workers = database.make_workers({"url": rq.url}, rq.queue)
        role = conninfo_to_dict(database_url)["dbname"]
        as_role = make_conninfo(database_url, options=f"-c role={role}")
        environment = {"HOST_DATABASE": as_role, "HOST_AROUND": around}
        new = [
            workers.handles[n % 2].new(
                {"organization_id": f"org-{n % ORGANIZATIONS}", "actor_id": None, "fails_first": n % 10 == 1}
            )
            for n in range(jobs)
        ]
        self.ids = [ref.id for ref in workers.enqueue_many(new)]
        workers.close()
        for _ in range(PROCESSES):
            rq.worker("-w", worker_class, boot="rq_host.database", ready=False, environment=environment)
        all_end(rq, jobs)
        self.seen = rq.lines("seen.jsonl")
        self.right = [line for line in self.seen if line["seen"] == [line["organization"]]]


@pytest.mark.slow
@pytest.mark.parametrize(("worker_class", "jobs"), [(FORKING, 100), (IN_ONE_PROCESS, 300)])
def test_each_job_sees_and_writes_the_rows_of_its_own_organization_alone(
    rq: Harness, database_url: str, worker_class: str, jobs: int
) -> None:
    found = Readers(rq, database_url, worker_class, "tenant", jobs)
    assert {rq.status(job_id) for job_id in found.ids} == {"finished"}
    assert len(found.seen) == jobs + jobs // 10  # those that fail run twice
    assert found.right == found.seen
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT job_id, organization_id FROM notes WHERE job_id = ANY(%s)", [found.ids]
        ).fetchall()
    assert sorted(rows) == sorted((job_id, f"org-{n % ORGANIZATIONS}") for n, job_id in enumerate(found.ids))


def test_without_the_around_no_job_sees_a_row(rq: Harness, database_url: str) -> None:
    found = Readers(rq, database_url, IN_ONE_PROCESS, "none", jobs=20)
    assert [line["seen"] for line in found.seen] == [[]] * len(found.seen)
    assert len(found.seen) == 20 + 2


def test_an_around_that_leaks_is_seen_to_leak(rq: Harness, database_url: str) -> None:
    found = Readers(rq, database_url, IN_ONE_PROCESS, "leaky", jobs=20)
    assert len(found.right) < len(found.seen)
    assert all(len(line["seen"]) == 1 for line in found.seen)  # another organization's


# -- beside a host's own jobs --------------------------------------------------------------------------


def test_plain_pickled_jobs_run_beside_ours_in_one_process(tmp_path: Path) -> None:
    with harness(tmp_path, serializer="pickle") as rq:
        refs = [rq.host.sync.enqueue(script("error:no", "ok:done")) for _ in range(5)]
        retry = rq.host.sync.enqueue(script("retry"))
        plains = [rq.rq_queue().enqueue(plain.add, n, 2) for n in range(5)]
        rq_command = Path(sys.executable).parent / "rq"
        # No --serializer: pickle is RQ's default.
        options = ["-u", rq.url, "-c", BOOT, "-w", IN_ONE_PROCESS, "--burst", rq.queue]
        worker = rq.run([str(rq_command), "worker", *options])
        assert worker.popen.wait(30) == 0

        assert [job.return_value(refresh=True) for job in plains] == [2, 3, 4, 5, 6]
        assert {rq.job(ref.id).return_value() for ref in refs} == {"done"}
        assert {len(rq.runs(ref.id)) for ref in refs} == {2}
        assert [line["job"] for line in rq.lines("plain.jsonl")] == [None] * 5  # each behind some of ours
        assert len(rq.runs(retry.id)) == 1
        assert rq.status(retry.id) == "finished"
        assert rq.job(retry.id).return_value() is None
        assert f"the result of job {retry.id} is of type Retry and can't be stored" in worker.log
