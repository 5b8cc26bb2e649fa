"""docs/how-to/leave.md, done on each queue with jobs in it."""

import runpy
import shlex
import shutil
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from tests.docs.blocks import code, texts
from tests.docs.production import eventually
from tests.docs.queues import Place, place
from tests.docs.terminal import commands
from tests.losses.processes import Supervised

from sigra_workers import AuditScopeBuilder

PAGE: Final = "how-to/leave.md"
CODE: Final = code("docs/code/leave")
PLAIN, LEFT, PURGE = texts(PAGE, "console")
WORKERS: Final = {command.split()[0]: command for command, _ in commands(PLAIN)}
SECONDS: Final = 90.0

# In place of the application's own work. Accounts say what is to happen.
WORK: Final = """
import os


def is_settled(account_id):
    looks = note(f"look {account_id}")
    if account_id.startswith("fails") and looks == 1:
        raise ZeroDivisionError
    return not account_id.startswith("open") or looks > 2


def close(organization_id, account_id, scope):
    if account_id.startswith("dead"):
        raise ZeroDivisionError
    note(f"close {account_id} of {organization_id} by {scope.user.id}")


def note(line):
    with open(os.environ["RUNS"], "a+") as file:
        file.write(f"{line}\\n")
        file.seek(0)
        return file.read().splitlines().count(line)
"""
SEND: Final = """
from app.jobs import close_account
from app.results import OrganizationArgs

for account in ("first", "open", "later", "dead"):
    close_account.enqueue(
        {"organization_id": "northwind", "actor_id": "ann", "account_id": f"{account}-old"},
        schedule_in=10 if account == "later" else 0,
        max_attempts=1,
    )
"""
SEND_PLAIN: Final = """
import asyncio
import inspect
import sys

from app.plain_{queue} import send

for account in sys.argv[1:]:
    sent = send({{"organization_id": "northwind", "actor_id": "ann", "account_id": account}})
    if inspect.iscoroutine(sent):
        asyncio.run(sent)
"""
# Makes a Python that has no sigra-workers.
WITHOUT: Final = """
import sys


class Uninstalled:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("sigra_workers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Uninstalled())
"""


@pytest.fixture(params=[*WORKERS])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    with place(request, CODE, "lifecycle", tmp_path) as found:
        sending = SEND_PLAIN.format(queue=found.name)
        found.write({"app/ledger.py": WORK, "send.py": SEND, "send_plain.py": sending})
        yield found


def plain_worker(site: Place, name: str, **more: str) -> Supervised:
    """The page's worker process of plain jobs, started."""
    command = shlex.split(WORKERS[site.name].replace("$REDIS_URL", site.redis.url))
    found = Supervised(command, {**site.environment, **more}, site.folder / name, site.folder)
    found.start()
    return found


def drop(folder: Path) -> None:
    """The last step."""
    shutil.copy(folder / "after" / "results.py", folder / "app")
    for name in ("jobs", "implementations", "rq_lifecycle", "arq_lifecycle", "dramatiq_app"):
        (folder / "app" / f"{name}.py").unlink()
    for script in folder.glob("left_*.py"):
        script.unlink()


def closed(site: Place, account: str) -> int:
    """How often it was."""
    return site.runs.count(f"close {account} of northwind by ann")


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_application_leaves_and_loses_no_job(site: Place) -> None:
    site.worker.start()
    site.run("python send.py")
    plain = plain_worker(site, "plain.log")
    try:
        site.run("python send_plain.py first-new open-new fails-new")
        ((command, shown),) = commands(LEFT.replace("left_rq", f"left_{site.name}"))
        eventually(lambda: site.run(command) == shown, "the old queue to run empty", SECONDS)
        site.show(PURGE)
        site.worker.stop(30)
        site.worker.end()
        assert site.run(command) == "0 jobs to come, 0 dead\n"
        plains = ("open-new", "fails-new")
        eventually(lambda: all(closed(site, each) for each in plains), "the plain jobs to end", SECONDS)
    finally:
        plain.end()
        print((site.folder / "plain.log").read_text())
    accounts = ("first-old", "open-old", "later-old", "first-new", *plains)
    assert [closed(site, account) for account in accounts] == [1] * len(accounts)


@pytest.mark.integration
@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["rq"], indirect=True)
def test_plain_jobs_run_where_sigra_workers_is_not_installed(site: Place) -> None:
    drop(site.folder)
    (site.folder / "python").mkdir()
    site.write({"python/sitecustomize.py": WITHOUT})
    without = {"PYTHONPATH": str(site.folder / "python")}
    plain = plain_worker(site, "plain.log", **without)
    try:
        site.run("export PYTHONPATH=python:.")
        printed, status = site.terminal.run("python -c 'import sigra_workers'")
        assert (status, "No module named 'sigra_workers'" in printed) == (1, True)
        site.run("python send_plain.py first-after open-after")
        accounts = ("first-after", "open-after")
        eventually(lambda: all(closed(site, account) for account in accounts), "the plain jobs", SECONDS)
    finally:
        plain.end()
        print((site.folder / "plain.log").read_text())
    assert [closed(site, account) for account in accounts] == [1, 1]


def test_what_takes_the_place_of_ours_is_used_as_ours_is() -> None:
    after = SimpleNamespace(**runpy.run_path(str(CODE / "after" / "results.py")))
    for extra in ({"actor_id": None}, {"actor_id": "ann", "impersonating_from": "admin"}):
        args: Any = {"organization_id": "northwind", **extra}
        scopes = (after.scope_of(args), AuditScopeBuilder().build(args))
        assert ids(scopes[0]) == ids(scopes[1])
    assert (after.Ok().value, after.Ok("closed").value) == (None, "closed")
    assert after.Snooze(2).seconds == 2
    assert after.Snooze(timedelta(minutes=1)).seconds == 60


def ids(scope: Any) -> list[str | None]:
    """What an audit trail takes from a scope."""
    parts = (scope.user, scope.active_organization, scope.impersonating_from)
    return [None if part is None else part.id for part in parts]
