"""Database connections of jobs: what becomes of them while a worker process has nothing to do."""

import re
from typing import Final

import pytest
from tests.django_project.support import BIN, Django, Launch, rq
from tests.queues.harness import eventually

pytestmark = pytest.mark.integration

DRAMATIQ: Final = [str(BIN / "dramatiq"), "--processes", "1", "--threads", "1"]
ARQ: Final = str(BIN / "arq")
SIMPLE: Final = ("-w", "rq.SimpleWorker", "accounts")
LASTING: Final = {
    "arq": Launch([ARQ, "config.arq_lifecycle.WorkerSettings"], "Starting worker"),
    "dramatiq": Launch([*DRAMATIQ, "config.dramatiq_app"], "is ready"),
    "rq": Launch(rq(*SIMPLE), "Listening on"),
}
"""Worker processes that run one job after the other in a thread. RQ's usual one forks for each job."""
BARE: Final = {
    "arq": Launch([ARQ, "probes.arq_bare.WorkerSettings"], "Starting worker"),
    "dramatiq": Launch([*DRAMATIQ, "probes.dramatiq_bare"], "is ready"),
    "rq": Launch(rq(*SIMPLE, boot="probes.rq_bare"), "Listening on"),
}
"""The same without the arounds."""


@pytest.fixture(params=LASTING)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_connection_that_the_server_ended_fails_no_job(django_on_postgres: Django, adapter: str) -> None:
    django = django_on_postgres
    process = django.start(LASTING[adapter], JOBS_ADAPTER=adapter, CONN_MAX_AGE="600")
    django.open_gate()
    django.probe(adapter, "query", "first")
    (first,) = django.noted("first")
    assert django.backends() == {first["backend"]}  # it is kept
    django.end_backends()

    django.probe(adapter, "query", "second")
    django.probe(adapter, "aquery", "async")
    (second,) = django.noted("second")
    found = django.noted("async", 2)
    assert [run["attempt"] for run in (second, *found)] == [1, 1, 1]
    assert len({first["backend"], second["backend"], found[0]["backend"]}) == 3
    eventually(lambda: django.backends() == {second["backend"]}, "the async job's connection to be closed")
    assert "OperationalError" not in process.log


def test_without_the_around_it_fails_every_job(django_on_postgres: Django, adapter: str) -> None:
    django = django_on_postgres
    process = django.start(BARE[adapter], JOBS_ADAPTER=adapter)
    django.open_gate()
    for worker in ("bare_query", "bare_aquery"):
        django.probe(adapter, worker, f"first {worker}")
        found = django.noted(f"first {worker}", 1 if worker == "bare_query" else 2)
        assert found[-1]["backend"] in django.backends()
    django.end_backends()
    dead = r"job '?(\w{32})'? of worker '[\w.]+' \(organization None\) is dead: OperationalError"
    for number, worker in enumerate(("bare_query", "bare_query", "bare_aquery", "bare_aquery"), 1):
        label = f"job {number} after that"
        django.probe(adapter, worker, label, max_attempts=3)
        # Its last run too: a thread more beside it would have a connection of its own.
        eventually(lambda: len({*re.findall(dead, process.log)}) == number, f"{number} jobs to die")  # noqa: B023
        assert django.notes(label) == []
    for name in ("probes.query", "probes.aquery"):
        process.logged(f"worker {name!r} (organization None) is dead: OperationalError")


def test_a_connection_that_is_kept_needs_health_checks(django_on_postgres: Django) -> None:
    django = django_on_postgres
    process = django.start(
        LASTING["dramatiq"], JOBS_ADAPTER="dramatiq", CONN_MAX_AGE="600", NO_HEALTH_CHECKS="1"
    )
    django.probe("dramatiq", "query", "first")
    django.noted("first")
    django.end_backends()
    django.probe("dramatiq", "query", "second")
    (second,) = django.noted("second")
    assert second["attempt"] == 2
    assert "attempt 1 of 20 failed with OperationalError" in process.log


def test_async_jobs_side_by_side_have_connections_of_their_own(django_on_postgres: Django) -> None:
    django = django_on_postgres
    django.start(LASTING["arq"], JOBS_ADAPTER="arq")
    django.probe("arq", "aquery", "one", "two")
    begun = [django.noted(label)[0]["backend"] for label in ("one", "two")]
    django.open_gate()
    ended = [django.noted(label, 2)[1]["backend"] for label in ("one", "two")]
    assert begun == ended
    assert begun[0] != begun[1]


def test_without_the_around_async_jobs_share_one(django_on_postgres: Django) -> None:
    django = django_on_postgres
    django.start(BARE["arq"], JOBS_ADAPTER="arq")
    django.probe("arq", "bare_aquery", "one", "two")
    begun = [django.noted(label)[0]["backend"] for label in ("one", "two")]
    django.open_gate()
    for label in ("one", "two"):
        django.noted(label, 2)
    assert begun[0] == begun[1]


CUT: Final = """
from contextlib import contextmanager

from accounts.models import Organization
from config.connections import tended_connections
from django.db import close_old_connections, connections, transaction


@contextmanager
def close_old():
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


for around in (tended_connections, close_old):
    try:
        with around():
            transaction.atomic().__enter__()  # a time-out came here, before the block began
            raise TimeoutError
    except TimeoutError:
        pass
    for name in ("one", "two"):
        try:
            with around():
                Organization.objects.create(name=f"{around.__name__} {name}")
        except Exception as error:
            print(around.__name__, "failed")
    del connections["default"]
    print(around.__name__, Organization.objects.filter(name__startswith=around.__name__).count())
"""


@pytest.mark.parametrize("database", ["django", "django_on_postgres"])
def test_a_transaction_that_a_time_out_cut_has_no_part_in_the_next_job(
    request: pytest.FixtureRequest, database: str
) -> None:
    django: Django = request.getfixturevalue(database)
    said = django.python(CUT, PYTHONWARNINGS="ignore").splitlines()
    assert said == ["tended_connections 2", "close_old failed", "close_old failed", "close_old 0"]
