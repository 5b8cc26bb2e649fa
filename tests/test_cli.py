"""The command `sigra-workers`, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sigra_workers import __version__
from sigra_workers.cli import main

APP = """
from sigra_workers import AuditScope, Ok, OrganizationArgs, Result, Workers

workers = Workers[AuditScope]()


class CloseArgs(OrganizationArgs):
    account_id: str


close = workers.declare("accounts.close", CloseArgs, queue="lifecycle", max_attempts=5, aliases=["close"])


@workers.worker(name="reports.build")
def build(scope: AuditScope, args: OrganizationArgs) -> Result[None]:
    return Ok()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an application, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "listed_app", raising=False)
    (tmp_path / "listed_app.py").write_text(APP)
    return tmp_path


def test_workers_lists_what_an_application_declares(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workers", "listed_app:workers"]) == 0
    titles, _, close, build = (line.split() for line in capsys.readouterr().out.splitlines())
    assert " ".join(titles) == "name aliases queue max attempts required keys implemented"
    assert close == [
        "accounts.close",
        "close",
        "lifecycle",
        "5",
        "organization_id,",
        "actor_id,",
        "account_id",
        "no",
    ]
    assert build == ["reports.build", "default", "20", "organization_id,", "actor_id", "yes"]


def test_workers_lists_them_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workers", "listed_app:workers", "--json"]) == 0
    close, build = json.loads(capsys.readouterr().out)
    assert close == {
        "name": "accounts.close",
        "aliases": ["close"],
        "queue": "lifecycle",
        "max_attempts": 5,
        "required_keys": ["organization_id", "actor_id", "account_id"],
        "implemented": False,
    }
    assert build["implemented"] is True


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no_such_app:workers", "there is no module 'no_such_app'"),
        ("listed_app:nothing", "module 'listed_app' has no such object, its Workers are ['workers']"),
        ("listed_app", "expected module:attribute"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_on_standard_error(
    folder: Path, capsys: pytest.CaptureFixture[str], path: str, problem: str
) -> None:
    assert main(["workers", path]) == 1
    captured = capsys.readouterr()
    assert problem in captured.err
    assert captured.out == ""


def test_the_version_is_printed() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "sigra_workers.cli", "--version"], check=True, capture_output=True, text=True
    )
    assert ran.stdout == f"sigra-workers {__version__}\n"


def test_the_demo_ends_every_job_and_shows_whose_event_is_whose() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "sigra_workers.cli", "demo"], check=True, capture_output=True, text=True
    )
    ends = {
        line.split()[2] + " " + " ".join(line.split()[8:])
        for line in ran.stdout.splitlines()
        if " s  " in line
    }
    assert ends == {
        "accounts.rename complete",
        "invoices.send retry mail server is down",
        "invoices.send complete",
        "accounts.close snooze",
        "accounts.close complete",
        "webhooks.deliver retry the endpoint answers 410 Gone",
        "webhooks.deliver dead the endpoint answers 410 Gone",
        "data.export cancel legal hold",
        "tokens.clean_up complete",
    }
    assert "account.renamed    success  northwind     ada    ann" in ran.stdout
    assert "tokens.cleaned_up  success  -             -      -" in ran.stdout
    assert ran.stdout.endswith("11 events, 0 with another job's ids; 0 jobs did not end\n")


def test_the_demo_on_an_adapter_that_is_not_there_names_the_install_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "sigra_workers.cli", "demo", "--adapter", "nope"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "pip install 'sigra-workers[nope]'" in ran.stderr


def test_a_demo_whose_jobs_do_not_end_fails_and_shows_the_log() -> None:
    script = "import sys; from sigra_workers.demo import run; run.PATIENCE = 0; sys.exit(run.run('memory'))"
    ran = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "The worker's log:" in ran.stdout
    assert ran.stdout.endswith("8 jobs did not end\n")
