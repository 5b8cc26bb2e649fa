"""docs/how-to/row-level-security.md, on the real PostgreSQL."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.docs.application import Application
from tests.docs.blocks import code
from tests.docs.postgres import Database, database
from tests.losses.servers import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

CODE: Final = code("docs/code/row-level-security")
TESTS: Final = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rows.py")
AROUND: Final = "workers.around(tenant_session, async_tenant_session)"
# What jobs of many threads see, as many as there are connections in the pool and more.
THREADS: Final = """
from concurrent.futures import ThreadPoolExecutor
from app.database import Note, session_of
from app.implementations import aexport_notes, export_notes
from app.jobs import workers
from sigra_workers import Ok, OrganizationArgs
from sigra_workers.testing import testing

def export(number):
    args = OrganizationArgs(organization_id=f"org-{number % 5}", actor_id=None)
    return sigra.perform_job((export_notes, aexport_notes)[number % 2], args)

for number in range(5):
    with session_of(f"org-{number}") as session:
        session.add(Note(organization_id=f"org-{number}", body=f"of {number}"))
with testing(workers) as sigra, ThreadPoolExecutor(30) as threads:
    assert [*threads.map(export, range(300))] == [Ok([f"of {number % 5}"]) for number in range(300)]
"""
FORGOTTEN: Final = """
from app.implementations import aexport_notes, export_notes
from app.jobs import workers
from sigra_workers import OrganizationArgs
from sigra_workers.testing import testing

with testing(workers) as sigra:
    for handle in (export_notes, aexport_notes):
        try:
            found = sigra.perform_job(handle, OrganizationArgs(organization_id="acme", actor_id=None))
        except LookupError as error:
            assert error.args[0].name in ("session", "async_session")
        else:
            raise AssertionError(found)
"""
BOOT: Final = """
import app.implementations
from sigra_workers_rq import boot

boot("app.jobs:workers")
"""
SEND: Final = """
from app.database import Note, session_of
from app.jobs import aexport_notes, export_notes, workers
from sigra_workers import OrganizationArgs

jobs = []
for number in range(20):
    keys = OrganizationArgs(organization_id=f"org-{number}", actor_id=None)
    with session_of(f"org-{number}") as session:
        session.add(Note(organization_id=f"org-{number}", body=f"of {number}"))
    for handle in (export_notes, aexport_notes):
        jobs.append(handle.new(keys, job_id=f"{handle.name[6:]}-{number}"))
workers.enqueue_many(jobs)
"""
RESULTS: Final = """
from app.jobs import workers
from rq.job import Job

for kind in ("export", "export_async"):
    for number in range(20):
        job = Job.fetch(f"{kind}-{number}", connection=workers.adapter.connection, serializer="json")
        assert job.return_value() == [f"of {number}"], job.return_value()
"""


@pytest.fixture
def rows() -> Iterator[Database]:
    with database() as found:
        found.execute((CODE / "schema.sql").read_text().replace(" TO app;", f' TO "{found.name}";'))
        yield found


@pytest.fixture
def application(tmp_path: Path, rows: Database) -> Iterator[Application]:
    found = Application(tmp_path / "app", {"DATABASE_URL": rows.url()})
    found.deploy(CODE)
    yield found
    found.close()


def replace(application: Application, module: str, theirs: str, ours: str) -> None:
    file = application.folder / "app" / module
    text = file.read_text()
    assert theirs in text
    file.write_text(text.replace(theirs, ours))


def test_the_pages_tests_pass(application: Application) -> None:
    assert re.search(r"^\d+ passed in", application.run(*TESTS), re.MULTILINE)


def test_they_fail_for_a_superuser(application: Application, rows: Database) -> None:
    application.environment = {"DATABASE_URL": rows.url(role="postgres")}
    with pytest.raises(AssertionError, match="test_without_an_organization_nothing_is_seen_or_written"):
        application.run(*TESTS)


def test_they_fail_for_a_setting_that_stays_on_the_connection(application: Application) -> None:
    replace(application, "database.py", ":id, true)", ":id, false)")
    with pytest.raises(AssertionError, match="test_without_an_organization_nothing_is_seen_or_written"):
        application.run(*TESTS)


def test_without_the_around_no_job_reads_a_row(application: Application) -> None:
    replace(application, "jobs.py", AROUND, "")
    application.run(sys.executable, "-c", FORGOTTEN)


def test_jobs_of_many_threads_see_their_own_rows(application: Application) -> None:
    application.run(sys.executable, "-c", THREADS)


def test_jobs_in_worker_processes_see_their_own_rows(application: Application, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    application.environment = {**application.environment, "APP_QUEUE": "rq", "REDIS_URL": redis.url}
    try:
        (application.folder / "app" / "rq_lifecycle.py").write_text(BOOT)
        application.run(sys.executable, "-c", SEND)
        command = "rq worker -c app.rq_lifecycle --serializer json --burst default"
        application.run(*command.split(), "--url", redis.url)
        application.run(sys.executable, "-c", RESULTS)
    finally:
        redis.kill()
