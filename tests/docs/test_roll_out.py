"""docs/how-to/roll-out.md: code of one version meets jobs of another."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.application import Application, eventually
from tests.docs.blocks import code, texts
from tests.losses.servers import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

CODE: Final = code("docs/code/roll-out")
(LIST,) = texts("how-to/roll-out.md", "console")
VERSIONS: Final = ("before", "field", "renamed", "reshaped")
WORKER: Final = "rq worker -c app.rq_lifecycle --serializer json --with-scheduler"
BURST: Final = "rq worker -c app.rq_lifecycle --serializer json --burst"
CLOSE: Final = {"account_id": "acc_1"}
# A job as it travels.
MAKE: Final = """
import json, sys, time
import app.jobs

args = {"organization_id": "northwind", "actor_id": "ann", **json.loads(sys.argv[2])}
print(getattr(app.jobs, sys.argv[1]).new(args).payload(time.time()).dump())
"""
# What becomes of it.
MEET: Final = """
import sys
import app.implementations
from app.registry import workers
from sigra_workers.testing import testing

with testing(workers) as sigra:
    outcome = sigra.perform_payload(sys.argv[1])
    again = f"{outcome.why} {outcome.due_at - sigra.clock():.0f}" if hasattr(outcome, "due_at") else ""
    print(type(outcome).__name__, type(getattr(outcome, "error", None)).__name__, again)
"""
SEND: Final = """
import sys
from app.jobs import CloseAccountArgs, close_account

for each in sys.argv[1:]:
    close_account.enqueue(CloseAccountArgs(organization_id="northwind", actor_id="ann", account_id=each))
"""


class Version:
    """The application at one time."""

    def __init__(self, application: Application, *edits: tuple[str, str, str]) -> None:
        self.application = application
        for module, theirs, ours in edits:
            file = application.folder / "app" / f"{module}.py"
            text = file.read_text()
            assert theirs in text
            file.write_text(text.replace(theirs, ours))

    def job(self, handle: str = "close_account", **keys: object) -> dict[str, Any]:
        """A job that it sends."""
        found: dict[str, Any] = json.loads(
            self.application.run(sys.executable, "-c", MAKE, handle, json.dumps(keys))
        )
        return found

    def meet(self, job: dict[str, Any]) -> list[str]:
        """What it makes of a job: outcome, error, why it runs again, and in how many seconds."""
        return self.application.run(sys.executable, "-c", MEET, json.dumps(job)).split()


Deploy = Callable[..., Version]


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    """Makes a version: of which name, with which further edits."""
    made: list[Version] = []

    def make(name: str, *edits: tuple[str, str, str]) -> Version:
        found = Application(tmp_path / f"version-{len(made)}", {})
        found.deploy(CODE / "before", CODE / name)
        made.append(Version(found, *edits))
        return made[-1]

    return make


REQUIRED: Final = ("jobs", "NotRequired[str]", "str")
NO_ALIAS: Final = ("jobs", ' aliases=["accounts.close"],', "")
FAILS: Final = ("implementations", "accounts.close(", "raise ValueError(")


# -- the table -------------------------------------------------------------------------------------------


def test_a_key_more_that_is_not_required_is_met_either_way(deploy: Deploy) -> None:
    old, new = deploy("before"), deploy("field")
    assert new.meet(old.job(**CLOSE)) == ["Complete", "NoneType"]
    assert old.meet(new.job(**CLOSE, reason="moved")) == ["Complete", "NoneType"]


def test_a_key_that_is_required_has_jobs_without_it_dead(deploy: Deploy) -> None:
    old, new = deploy("before"), deploy("field", REQUIRED)
    assert new.meet(old.job(**CLOSE)) == ["Dead", "MissingArgError"]
    assert old.meet(new.job(**CLOSE, reason="moved")) == ["Complete", "NoneType"]


def test_a_key_less_has_new_jobs_dead_where_old_code_requires_it(deploy: Deploy) -> None:
    old, new = deploy("field", REQUIRED), deploy("before")
    assert new.meet(old.job(**CLOSE, reason="moved")) == ["Complete", "NoneType"]
    assert old.meet(new.job(**CLOSE)) == ["Dead", "MissingArgError"]


def test_another_name_with_an_alias_is_met_or_waits(deploy: Deploy) -> None:
    old, new = deploy("before"), deploy("renamed")
    assert new.meet(old.job(**CLOSE)) == ["Complete", "NoneType"]
    assert old.meet(new.job(**CLOSE)) == ["Again", "NoneType", "unknown_worker", "5"]


def test_another_name_without_an_alias_waits_and_is_dead_after_an_hour(deploy: Deploy) -> None:
    old, new = deploy("before"), deploy("renamed", NO_ALIAS)
    job = old.job(**CLOSE)
    assert new.meet(job) == ["Again", "NoneType", "unknown_worker", "5"]
    assert old.meet(new.job(**CLOSE)) == ["Again", "NoneType", "unknown_worker", "5"]
    job["meta"]["unknown_since"] = time.time() - 1800
    assert new.meet(job) == ["Again", "NoneType", "unknown_worker", "300"]
    job["meta"]["unknown_since"] = time.time() - 3600
    assert new.meet(job) == ["Dead", "UnknownWorkerError"]


def test_options_are_those_that_a_job_was_sent_with(deploy: Deploy) -> None:
    old = deploy("before", ("jobs", "max_attempts=5", "max_attempts=2, backoff=7"))
    new = deploy("before", ("jobs", "max_attempts=5", "max_attempts=9, backoff=99"), FAILS)
    job = old.job(**CLOSE)
    assert new.meet(job) == ["Again", "ValueError", "retry", "7"]
    assert new.meet({**job, "attempt": 2}) == ["Dead", "ValueError"]


def test_functions_and_exceptions_are_those_of_the_code_that_runs(deploy: Deploy) -> None:
    old = deploy("before")
    function = deploy("before", ("jobs", "max_attempts=5", "backoff=lambda attempt: 77"), FAILS)
    assert function.meet(old.job(**CLOSE)) == ["Again", "ValueError", "retry", "77"]
    cancel = deploy("before", ("jobs", "max_attempts=5", "cancel_on=[ValueError]"), FAILS)
    assert cancel.meet(old.job(**CLOSE)) == ["Dead", "JobCancelledError"]


def test_another_shape_has_both_workers(deploy: Deploy) -> None:
    old, new = deploy("before"), deploy("reshaped")
    assert new.meet(old.job(**CLOSE)) == ["Complete", "NoneType"]
    assert (new.application.folder / "closed").read_text() == "northwind acc_1 none\n"
    assert new.meet(new.job("close_accounts", account_ids=["acc_2"])) == ["Complete", "NoneType"]
    assert old.meet(new.job("close_accounts", account_ids=["acc_3"]))[2] == "unknown_worker"


def test_a_newer_format_is_dead(deploy: Deploy) -> None:
    version = deploy("before")
    assert version.meet({**version.job(**CLOSE), "v": 2}) == ["Dead", "PayloadVersionError"]


# -- on a real queue -------------------------------------------------------------------------------------


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    found = Application(tmp_path / "app", {"APP_QUEUE": "rq", "REDIS_URL": redis.url})
    yield found
    found.close()
    redis.kill()


def closed(application: Application) -> list[str]:
    file = application.folder / "closed"
    return sorted(line.split()[1] for line in file.read_text().splitlines()) if file.exists() else []


def test_no_job_is_lost_while_a_worker_gets_another_name(application: Application) -> None:
    """What sends is deployed first, which the page advises against."""
    application.deploy(CODE / "before")
    application.run(sys.executable, "-c", SEND, "a1", "a2")
    old = application.start(f"{WORKER} lifecycle")
    eventually(lambda: closed(application) == ["a1", "a2"], "old jobs to be done by old code")
    application.deploy(CODE / "renamed")
    application.run(sys.executable, "-c", SEND, "b1", "b2")
    old.logged("worker 'accounts.shut' is not implemented in this process")
    eventually(lambda: old.log.count("scheduled for retry") == 2, "new jobs to wait")
    old.stop()
    application.deploy(CODE / "before")
    application.run(sys.executable, "-c", SEND, "c1")
    application.deploy(CODE / "renamed")
    new = application.start(f"{WORKER} lifecycle")
    eventually(lambda: closed(application) == ["a1", "a2", "b1", "b2", "c1"], "all jobs to be done")
    new.logged("of 'accounts.shut' was sent as 'accounts.close'")
    assert application.run(*LIST.removeprefix("$ ").split()) == "no dead jobs\n"


def move(application: Application) -> None:
    """Deploy code whose jobs are on another queue."""
    Version(
        application,
        ("jobs", '"lifecycle"', '"other"'),
        ("registry", "](adapter", '](queues=["lifecycle"], adapter'),
    )


def test_an_old_queue_is_read_until_it_is_empty(application: Application) -> None:
    application.deploy(CODE / "before")
    application.run(sys.executable, "-c", SEND, "a1")
    move(application)
    application.run(sys.executable, "-c", SEND, "b1")
    application.start(f"{WORKER} other")
    eventually(lambda: closed(application) == ["b1"], "the new job")
    application.start(f"{WORKER} lifecycle")
    eventually(lambda: closed(application) == ["a1", "b1"], "the old job")


def test_jobs_of_another_queue_wait_there_for_a_process_that_reads_it(application: Application) -> None:
    application.deploy(CODE / "before")
    application.run(sys.executable, "-c", SEND, "a1")
    move(application)
    application.run(sys.executable, "-c", SEND, "b1")
    application.deploy(CODE / "before")
    application.run(*f"{BURST} lifecycle".split())
    assert closed(application) == ["a1"]
    move(application)
    application.run(*f"{BURST} other".split())
    assert closed(application) == ["a1", "b1"]
