"""docs/how-to/django.md: each of its commands, with real jobs and databases; and what it says of kills."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from tests.django_project.support import BIN, POSTGRES, PROJECT, SIGN_IN, Django, Launch, project
from tests.docs.blocks import ROOT, code, path, texts
from tests.queues.harness import Process, eventually

PAGE: Final = "how-to/django.md"
assert code("examples/django") == PROJECT
PROCESSES: Final = texts(PAGE, "bash")
READY: Final = {
    "rqworker": "Listening on",
    "rq": "Listening on",
    "dramatiq": "is ready for action",
    "arq": "Starting worker",
}
"""What the worker process of each block says when it is ready, in the page's order."""
WORKERS: Final = dict(zip(READY, PROCESSES, strict=True))
AUDIT, TESTS, CARE, TYPES = (shlex.split(text) for text in texts(PAGE, "console"))


def commands(words: list[str]) -> list[list[str]]:
    """The commands of a console block, each by its words."""
    found: list[list[str]] = []
    for word in words:
        if word == "$":
            found.append([])
        else:
            found[-1].append(word)
    return found


def as_here(command: list[str]) -> list[str]:
    """The command in this environment, where the shell of a reader has a PATH."""
    return [str(BIN / command[0]), *command[1:]]


def launch(name: str) -> tuple[Launch, dict[str, str]]:
    """How that worker process is started, and the variables that stand before its command."""
    words = shlex.split(WORKERS[name].replace("\\\n", " "))
    variables: dict[str, str] = {}
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        variables[variable] = value
    return Launch(as_here(words), READY[name]), variables


def start(django: Django, name: str) -> Process:
    found, variables = launch(name)
    django.variables |= variables  # for those who send, too
    return django.start(found)


@pytest.fixture(params=WORKERS)
def process(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_page_names_the_versions_that_are_run() -> None:
    pins = (ROOT / "requirements" / "dev.txt").read_text()
    django, django_rq, rq = (
        re.findall(rf"^{name}==(\d+\.\d+)", pins, re.MULTILINE)[0] for name in ("django", "django-rq", "rq")
    )
    assert "python_full_version < '3.12'" in re.findall(r"^django==.*", pins, re.MULTILINE)[0]
    page = " ".join(path(PAGE).read_text().split())
    assert f"on Python 3.11 with Django {django}, RQ {rq} and django-rq {django_rq}, and on no other" in page


@pytest.mark.integration
def test_a_request_and_its_jobs(django_on_postgres: Django, process: str) -> None:
    django = django_on_postgres
    log = start(django, process)
    django.python(SIGN_IN + "close(accounts(5))")
    django.manage("remind")

    eventually(lambda: django.states() == ["closed"] * 5, "5 accounts to be closed")
    trail = "SELECT action, actor_id, organization_id, attempt FROM audit_events ORDER BY action"
    eventually(lambda: len(django.sql(trail)) == 6, "6 events")
    assert django.sql(trail) == [("account.closed", "1", "1", 1)] * 5 + [("reminder.sent", None, "1", 1)]
    eventually(lambda: not django.backends(), "all connections to be closed")
    assert "Traceback" not in log.log


@pytest.mark.integration
def test_the_same_on_sqlite(django: Django) -> None:
    start(django, "rqworker")
    django.python(SIGN_IN + "close(accounts(2))")
    django.manage("remind")
    django.manage("remind")  # the day's job was sent
    trail = "SELECT action FROM audit_events ORDER BY action"
    expected = [("account.closed",)] * 2 + [("reminder.sent",)]
    eventually(lambda: django.sql(trail) == expected, "3 events")
    assert django.states() == ["closed"] * 2


@pytest.mark.integration
@pytest.mark.parametrize("database", ["django", "django_on_postgres"])
def test_jobs_are_sent_by_the_commit_alone(request: pytest.FixtureRequest, database: str) -> None:
    django: Django = request.getfixturevalue(database)
    said = django.python(
        SIGN_IN
        + """
from config.jobs import workers
from django.db import transaction

queue = workers.adapter.queue("accounts")
ids = accounts(2)
with transaction.atomic():
    close(ids)
    transaction.set_rollback(True)
print(queue.count, Account.objects.filter(state="closing").count())
with transaction.atomic():
    close(ids)
    print(queue.count, Account.objects.filter(state="closing").count())
print(queue.count)

import django_rq

print(*{job.func_name for job in django_rq.get_queue("accounts").jobs})
"""
    )
    assert said.split() == ["0", "0", "0", "2", "2", "sigra_workers_rq.dispatch"]


# -- what dies, and what is left out ---------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("name", ["rqworker", "rq"])
def test_a_job_whose_work_horse_is_killed_runs_again_at_once(django: Django, name: str) -> None:
    start(django, name)
    django.probe("rq", "hold", "held")
    (first,) = django.noted("held")
    os.kill(first["pid"], signal.SIGKILL)
    killed = time.time()
    (_, second) = django.noted("held", 2)
    assert second["at"] - killed < 5
    assert [run["attempt"] for run in django.notes("held")] == [1, 2]
    assert first["pid"] != second["pid"]


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_whose_worker_is_killed_runs_again_after_a_minute(tmp_path: Path) -> None:
    names = ("rqworker", "rq")
    with ExitStack() as stack:
        both: dict[str, Django] = {}
        for name in names:
            (tmp_path / name).mkdir()
            both[name] = stack.enter_context(project(tmp_path / name, None))
        killed: dict[str, float] = {}
        for name, django in both.items():
            worker = start(django, name)
            django.probe("rq", "hold", "held")
            (first,) = django.noted("held")
            worker.kill()
            os.kill(first["pid"], signal.SIGKILL)
            killed[name] = time.time()
            start(django, name)  # as a supervisor does
        for name, django in both.items():
            (first, second) = django.noted("held", 2, seconds=90)
            back = second["at"] - killed[name]
            print(f"{name}: back after {back:.1f} s")
            assert (first["attempt"], second["attempt"]) == (1, 2)
            assert 60 < back < 80


@pytest.mark.integration
def test_without_the_worker_class_jobs_wait_or_import_the_project_each(django: Django) -> None:
    plain, _ = launch("rqworker")
    at = plain.command.index("--worker-class")
    without = Launch(plain.command[:at] + plain.command[at + 2 :], plain.ready)
    process = django.start(without)
    django.probe("rq", "hold", "held")
    process.logged("waits: WorkersNotBoundError")
    assert django.notes("held") == []
    process.stop()
    django.open_gate()
    django.start(without, SIGRA_WORKERS="config.boot:workers")
    assert django.noted("held")[0]["attempt"] == 1


@pytest.mark.integration
def test_the_worker_class_refuses_pickle_and_plain_jobs(django: Django) -> None:
    found, _ = launch("rqworker")
    at = found.command.index("--serializer")
    pickle = found.command[:at] + found.command[at + 2 :]
    refused = subprocess.run(
        pickle, cwd=PROJECT, env=django.environment, check=False, text=True, capture_output=True, timeout=60
    )
    assert refused.returncode != 0
    assert "add --serializer json" in refused.stderr

    process = start(django, "rqworker")
    django.python("import django_rq; django_rq.get_queue('accounts').enqueue('builtins.print', 'x')")
    process.logged("ForeignJobError")


# -- commands that end -----------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("database", ["django", "django_on_postgres"])
def test_its_own_tests(request: pytest.FixtureRequest, database: str) -> None:
    django: Django = request.getfixturevalue(database)
    (command,) = commands(TESTS)
    said = django.run(as_here(command), DJANGO_SETTINGS_MODULE="config.settings", PYTHONWARNINGS="error")
    assert "Ran 6 tests" in said
    assert said.rstrip().endswith("OK\nDestroying test database for alias 'default'...")


@pytest.mark.integration
def test_the_audit_command_reads_the_table(django_on_postgres: Django) -> None:
    django = django_on_postgres
    start(django, "rqworker")
    django.python(SIGN_IN + "close(accounts(1))")
    django.manage("remind")
    eventually(lambda: len(django.sql("SELECT 1 FROM audit_events")) == 2, "2 events")

    (export, command) = commands(AUDIT)
    variable, _, url = export[1].partition("=")
    url = url.replace("127.0.0.1/app", f"{POSTGRES}/{django.database}")
    (line,) = django.run(as_here(command), **{variable: url}).splitlines()
    event = json.loads(line)
    assert (event["action"], event["actor_id"], event["organization_id"]) == ("account.closed", 1, 1)


@pytest.mark.integration
def test_the_commands_that_look_after_jobs(django: Django) -> None:
    process = start(django, "rqworker")
    django.python(SIGN_IN + "ids = accounts(1)\nnorthwind_pk = northwind.pk\nclose(ids)\nnorthwind.delete()")
    doctor, dead = commands(CARE)
    process.logged("is dead: cancelled: the organization is gone")
    assert "the organization is gone" in django.run(as_here(dead))
    found = subprocess.run(
        as_here(doctor),
        cwd=PROJECT,
        env=django.environment,
        check=False,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert "a scheduler runs for each queue (accounts)" in found.stdout, found.stdout + found.stderr
    assert "each live worker process serves one queue" in found.stdout


@pytest.mark.typing
def test_its_types() -> None:
    (command,) = commands(TYPES)
    ran = subprocess.run(
        as_here(command), cwd=PROJECT, check=False, text=True, capture_output=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout
    assert "Success: no issues found" in ran.stdout
