"""The command `sigra-workers`, as a user runs it."""

import getpass
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.blocks import texts

from sigra_workers import DeadJob, Rejected, Unknown, __version__
from sigra_workers.cli import main
from sigra_workers.memory import HeldClock, MemoryAdapter

READMES: Final = {
    queue: texts(f"adapters/{queue}/README.md", "bash", having="sigra-workers dead")
    for queue in ("arq", "dramatiq", "rq")
}
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
    for name in ("listed_app", "dead_app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
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
    assert ran.stdout.endswith("10 events, each with the ids of its job; all 8 jobs ended\n")


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


# -- dead jobs -------------------------------------------------------------------------------------------

DEAD_APP = """
from typing import NotRequired

from sigra_workers import AuditScope, Cancel, Result, TenantArgs, Workers
from sigra_workers.memory import HeldClock

clock = HeldClock(1_790_000_000.0)
workers = Workers[AuditScope](settings={"clock": clock})


class Args(TenantArgs):
    token: NotRequired[str]


@workers.worker(name="accounts.close")
def close(scope: AuditScope, args: Args) -> Result[None]:
    return Cancel("legal \\x1b[31mhold")


@workers.worker(name="accounts.open")
def open_(scope: AuditScope, args: Args) -> Result[None]:
    raise RuntimeError("first line\\nsecond line " + "x" * 80)
"""


class App:
    """An application with dead jobs, and the command on it."""

    path = "dead_app:workers"

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "dead_app.py").write_text(DEAD_APP)
        sys.path.insert(0, str(folder))
        self.module: Any = importlib.import_module("dead_app")
        self.capsys = capsys
        self.adapter = MemoryAdapter.of(self.module.workers)
        self.clock: HeldClock = self.module.clock
        self.clock.now = time.time() - 3_600
        self.out = self.err = ""

    def die(self, organization: Any = "org-1", *, name: str = "close", seconds: float = 1) -> str:
        """The id of a job that died; then so many seconds go by."""
        worker = next(handle for handle in self.module.workers.handles if handle.name == f"accounts.{name}")
        args = {"organization_id": organization, "actor_id": "ann", "token": "s3cr3t"}
        job_id: str = worker.enqueue(args, max_attempts=1).id
        self.adapter.drain()
        self.clock.advance(seconds)
        return job_id

    def run(self, action: str, *options: str) -> int:
        """The command's exit code; what it printed is in `out` and `err`."""
        try:
            code = main(["dead", action, self.path, *options])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        self.out, self.err = self.capsys.readouterr()
        return code

    def listed(self, *options: str) -> list[str]:
        """The ids that are listed."""
        assert self.run("list", "--json", *options) == 0
        return [job["id"] for job in json.loads(self.out)]

    @property
    def waiting(self) -> list[str]:
        return [payload.id for payload in self.adapter.payloads]

    @property
    def dead(self) -> list[str]:
        return [job.id for job in self.adapter.dead]


@pytest.fixture
def app(folder: Path, capsys: pytest.CaptureFixture[str]) -> App:
    return App(folder, capsys)


def test_dead_list_shows_a_row_a_job_latest_first_without_args(app: App) -> None:
    first, second = app.die(7), app.die("7", name="open")
    assert app.run("list") == 0
    titles, _, *rows = app.out.splitlines()
    assert titles.split() == ["id", "died", "worker", "organization", "attempts", "resends", "reason"]
    assert [row.split()[0] for row in rows] == [second, first]
    assert re.search(r"accounts.open   '7'           1/1       0        RuntimeError: first line$", rows[0])
    assert re.search(r"accounts.close  7             ", rows[1])
    assert rows[1].endswith(r"cancelled: legal \x1b[31mhold")  # it can't take over the terminal
    assert "s3cr3t" not in app.out + app.err


def test_dead_list_says_when_there_are_none(app: App) -> None:
    assert app.run("list") == 0
    assert app.out == "no dead jobs\n"
    assert app.listed() == []


def test_dead_list_as_json_has_every_fact_but_args_and_payload(app: App) -> None:
    job_id = app.die(7)
    assert app.run("list", "--json") == 0
    (job,) = json.loads(app.out)
    assert job == {
        "id": job_id,
        "worker": "accounts.close",
        "queue": "default",
        "organization_id": 7,
        "attempts": 1,
        "max_attempts": 1,
        "snoozes": 0,
        "resends": 0,
        "reason": "cancelled: legal \x1b[31mhold",
        "died_at": datetime.fromtimestamp(app.clock.now - 1, UTC).isoformat(),
    }


def test_dead_list_shows_what_can_not_be_read_as_unknown(app: App) -> None:
    app.adapter.put("{")
    app.adapter.drain()
    assert app.run("list") == 0
    assert re.search(r"  \?       -             \?         \?        InvalidPayloadError", app.out)


def test_an_id_made_by_hand_does_not_take_over_the_terminal(app: App) -> None:
    app.adapter.dead.append(DeadJob.of("id \x1b[31m", "", "reason", None, time.time()))
    assert app.run("list") == 0
    assert "id \\x1b[31m" in app.out
    assert "\x1b" not in app.out


def test_an_organization_is_found_whether_its_id_is_a_text_or_a_number(app: App) -> None:
    number, text, other, nobody = app.die(7), app.die("7"), app.die("07"), app.die(None)
    negative = app.die(-7)
    assert app.listed("--organization", "7") == [text, number]
    assert app.listed("--organization", "07") == [other]
    assert app.listed("--organization=-7") == [negative]
    assert app.listed("--organization", "7", "--limit", "1") == [text]
    assert app.listed("--no-organization") == [nobody]
    assert app.listed("--organization", "None") == []


def test_dead_list_filters_by_worker_and_time(app: App) -> None:
    app.clock.now = time.time() - 3 * 86_400 - 60
    old = app.die(name="open", seconds=86_400)
    middle = app.die(seconds=2 * 86_400)
    new = app.die()
    assert app.listed() == [new, middle, old]
    assert app.listed("--worker", "accounts.open") == [old]
    for since, found in [
        ("2m", [new]),
        ("50h", [new, middle]),
        ("3d", [new, middle]),
        ("1w", [new, middle, old]),
    ]:
        assert app.listed("--since", since) == found
    for at in (datetime.now(UTC) - timedelta(hours=50), datetime.now() - timedelta(hours=50)):  # noqa: DTZ005
        assert app.listed("--since", at.isoformat()) == [new, middle]
    assert app.listed("--limit", "2") == [new, middle]


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--since", "yesterday", "'yesterday' is no time: expected such as 2h, 3d or 2026-01-31T12:00"),
        ("--since", "999999w", "'999999w' is no time"),
        ("--since", "-2h", "expected one argument"),
        ("--limit", "0", "'0' is no number of jobs: expected 1 or more"),
        ("--limit", "many", "'many' is no number of jobs"),
        ("--organization", "", "it is empty"),
        ("--worker", " ", "it is empty"),
    ],
)
def test_a_filter_that_is_none_is_told(app: App, option: str, value: str, problem: str) -> None:
    assert app.run("list", option, value) == 2
    assert problem in app.err


def test_dead_list_shows_the_latest_and_says_that_there_are_more(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigra_workers.cli.LISTED", 2)
    ids = [app.die() for _ in range(3)]
    assert app.listed() == ids[:0:-1]
    assert app.err == "these are the latest 2, there are more: --limit N\n"
    assert app.listed("--limit", "2") == ids[:0:-1]
    assert app.err == ""


def test_dead_show_tells_all_of_a_job_but_its_args(app: App) -> None:
    job_id = app.die(name="open")
    assert app.run("show", job_id) == 0
    assert f"id:              {job_id}\nworker:          accounts.open\n" in app.out
    assert "organization id: org-1\n" in app.out
    assert "\n\nTraceback (most recent call last):\n" in app.out
    assert 'raise RuntimeError("first line' in app.out
    assert "s3cr3t" not in app.out


def test_dead_show_shows_args_where_they_are_asked_for(app: App) -> None:
    job_id = app.die()
    assert app.run("show", job_id, "--args") == 0
    assert '  "token": "s3cr3t"\n' in app.out
    assert app.run("show", job_id, "--args", "--json") == 0
    assert json.loads(app.out)["args"]["token"] == "s3cr3t"
    assert app.run("show", job_id, "--json") == 0
    assert {"traceback", "reason"} <= {*json.loads(app.out)}
    assert "s3cr3t" not in app.out


def test_dead_show_of_a_payload_that_can_not_be_read(app: App) -> None:
    app.adapter.put("{")
    app.adapter.drain()
    (job_id,) = app.dead
    assert app.run("show", job_id) == 0
    assert "worker:          ?\n" in app.out
    assert app.run("show", job_id, "--args") == 1
    assert "sigra-workers: the job's payload is broken: it is not JSON\n" in app.err


def test_dead_show_of_a_job_without_a_traceback_says_so(app: App) -> None:
    app.die()
    app.adapter.put(json.dumps({**json.loads(app.adapter.dead[0].payload), "id": "poison", "attempt": 9}))
    app.adapter.drain()
    assert app.run("show", "poison") == 0
    assert app.out.endswith("\nno traceback\n")


def test_dead_show_of_a_job_that_is_not_dead_fails(app: App) -> None:
    assert app.run("show", "nobody") == 1
    assert (
        app.err == f"sigra-workers: job 'nobody' is not dead (any more): sigra-workers dead list {app.path}\n"
    )
    assert app.out == ""


# -- sent again and purged -------------------------------------------------------------------------------


def resent_by(app: App) -> dict[str, str]:
    return {payload.id: payload.meta["resent"][0]["by"] for payload in app.adapter.payloads}


def test_dead_resend_sends_jobs_by_id_in_the_operators_name(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "login")
    first, second, third = app.die(), app.die(), app.die()
    assert app.run("resend", first) == 0
    assert app.out == "1 dead job sent again\n"
    assert app.run("resend", second, third, "--by", "operator") == 0
    assert app.out == "2 dead jobs sent again\n"
    assert resent_by(app) == {first: "login", second: "operator", third: "operator"}


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 1000"), OSError("no user")])
def test_dead_resend_by_nobody_asks_for_a_name(
    app: App, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    job_id = app.die()
    assert app.run("resend", job_id) == 1
    assert "--by NAME" in app.err
    assert app.waiting == []
    assert app.run("resend", job_id, "--by", "ann") == 0


def test_dead_resend_tells_which_jobs_were_not_sent(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = app.die()
    assert app.run("resend", "nobody", job_id, "--by", "ann") == 1
    assert app.out == "1 dead job sent again\n"
    assert "job 'nobody' is not dead (any more)" in app.err
    assert app.err.endswith("  rejected: nobody\n")

    first, second = app.die(), app.die()
    monkeypatch.setattr(app.adapter, "resend", lambda jobs: [Rejected(OSError()), Unknown(OSError())])
    assert app.run("resend", first, second, "--by", "ann") == 1
    assert app.out == "0 dead jobs sent again\n"
    assert app.err.endswith(f"  rejected: {second}\n  unknown: {first}\n")


@pytest.mark.parametrize("action", ["resend", "purge"])
@pytest.mark.parametrize(
    "options",
    [[], ["--organization", "org-1"], ["--since", "1d"], ["ID", "--all"], ["ID", "--no-organization"]],
    ids=" ".join,
)
def test_nothing_is_done_in_bulk_that_was_not_asked_for(app: App, action: str, options: list[str]) -> None:
    job_id = app.die()
    found = [job_id if option == "ID" else option for option in options]
    assert app.run(action, *found, *(["--yes"] if action == "purge" else ["--by", "ann"])) == 2
    assert f"dead {action}: give job ids, or --all with filters that say which" in app.err
    assert (app.dead, app.waiting) == ([job_id], [])


@pytest.mark.parametrize("option", ["--organization", "--worker"])
def test_nothing_is_purged_by_a_filter_that_is_empty(app: App, option: str) -> None:
    job_id = app.die()
    assert app.run("purge", "--all", option, "", "--yes") == 2
    assert app.dead == [job_id]


def test_dead_resend_in_bulk_sends_what_fits(app: App) -> None:
    first, second, third = app.die(1), app.die(2), app.die(2)
    assert app.run("resend", "--organization", "2", "--limit", "1", "--all", "--by", "ann") == 0
    assert app.waiting == [third]
    assert app.run("resend", "--all", "--by", "ann") == 0
    assert app.out == "2 dead jobs sent again\n"
    assert {*app.waiting} == {first, second, third}
    assert app.run("resend", "--all", "--by", "ann") == 0
    assert app.out == "0 dead jobs sent again\n"


@pytest.mark.parametrize("action", ["resend", "purge"])
@pytest.mark.parametrize("limit", [[], ["--limit", "1"]], ids=["all", "limit"])
def test_nothing_is_done_to_two_organizations_of_one_name(app: App, action: str, limit: list[str]) -> None:
    number, text, other = app.die(7), app.die("7"), app.die(8)
    confirmed = ["--yes"] if action == "purge" else ["--by", "ann"]
    assert app.run(action, "--organization", "7", "--all", *limit, *confirmed) == 1
    assert app.err == (
        "sigra-workers: option 'organization': there are dead jobs of two: the text '7' and the number 7\n"
        "give the ids of one: sigra-workers dead list dead_app:workers --organization=7\n"
        "or choose in Python, workers.dead(organization='7') or dead(organization=7)\n"
    )
    assert (app.dead, app.waiting) == ([number, text, other], [])
    app.run("purge", text)
    assert app.run(action, "--organization", "7", "--all", *limit, *confirmed) == 0
    assert app.dead == [other]


def of_a_newer_version(app: App) -> str:
    """The id of a dead job that can't be read here."""
    job_id = app.die()
    (place,) = [place for place, job in enumerate(app.adapter.dead) if job.id == job_id]
    whole = {**json.loads(app.adapter.dead[place].payload), "v": 2}
    app.adapter.dead[place] = DeadJob.of(job_id, json.dumps(whole), "newer", None, time.time())
    return job_id


@pytest.mark.parametrize("action", ["resend", "purge"])
@pytest.mark.parametrize("filters", [[], ["--since", "1d"]], ids=["all", "since"])
def test_what_can_not_be_read_is_left_alone_unless_its_id_is_given(
    app: App, action: str, filters: list[str]
) -> None:
    app.die()
    unread = of_a_newer_version(app)
    confirmed = ["--yes"] if action == "purge" else ["--by", "ann"]
    assert app.run(action, "--all", *filters, *confirmed) == 0
    assert "1 dead job left, which can't be read and may be another application's: give ids" in app.err
    assert app.dead == [unread]
    assert app.run(action, unread, *confirmed) == (0 if action == "purge" else 1)


def test_dead_purge_deletes_jobs_by_id(app: App) -> None:
    first, second = app.die(), app.die()
    assert app.run("purge", first, "nobody") == 0
    assert app.out == "1 dead job purged\n"
    assert app.dead == [second]


Answer = Callable[[pytest.MonkeyPatch, str | None], list[str]]


@pytest.fixture
def answer() -> Answer:
    """Have somebody at the terminal answer; None is nobody there. It gives the questions."""

    def answering(monkeypatch: pytest.MonkeyPatch, text: str | None) -> list[str]:
        asked: list[str] = []

        def reply(question: str) -> str:
            asked.append(question)
            return text or ""

        monkeypatch.setattr("builtins.input", reply)
        monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: text is not None})())
        return asked

    return answering


@pytest.mark.parametrize("text", ["", "n", "no", "maybe", None], ids=repr)
def test_dead_purge_in_bulk_deletes_nothing_unless_it_is_confirmed(
    app: App, monkeypatch: pytest.MonkeyPatch, answer: Answer, text: str | None
) -> None:
    job_id = app.die()
    asked = answer(monkeypatch, text)
    assert app.run("purge", "--all") == 1
    assert app.dead == [job_id]
    question = "purge 1 dead job of every organization, for good?"
    assert asked == ([] if text is None else [f"{question} [y/N] "])
    assert (
        app.err
        == f"sigra-workers: {f'{question} then add --yes' if text is None else 'nothing was purged'}\n"
    )


@pytest.mark.parametrize("text", ["y", " YES\n"], ids=repr)
def test_dead_purge_in_bulk_deletes_what_fits_once_it_is_confirmed(
    app: App, monkeypatch: pytest.MonkeyPatch, answer: Answer, text: str
) -> None:
    keep, _ = app.die(1), app.die(2)
    asked = answer(monkeypatch, text)
    assert app.run("purge", "--organization", "2", "--all") == 0
    assert asked == ["purge 1 dead job that fit, for good? [y/N] "]
    assert app.dead == [keep]
    assert app.run("purge", "--all", "--yes") == 0
    assert app.dead == []
    assert app.run("purge", "--all") == 0  # nothing to ask about
    assert app.out == "0 dead jobs purged\n"


@pytest.mark.parametrize("arguments", [["workers"], ["doctor"], ["dead", "list"]], ids=" ".join)
def test_a_pipe_that_nobody_reads_any_more_ends_it_quietly(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "dead_app.py").write_text(DEAD_APP)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sigra_workers.cli", *arguments, "dead_app:workers"]
    ran = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.parametrize("queue", READMES)
def test_the_commands_of_an_adapters_readme_list_show_send_again_and_purge(
    app: App, monkeypatch: pytest.MonkeyPatch, answer: Answer, queue: str
) -> None:
    answer(monkeypatch, "y")
    job_id = app.die("northwind")
    printed: list[str] = []
    (commands,) = READMES[queue]
    for line in commands.replace("5b1f...", job_id).splitlines():
        _, _, action, _, *options = shlex.split(line)
        assert app.run(action, *options) == 0, app.err
        printed.append(app.out)
        app.adapter.drain()  # what is sent again dies again
    listed, shown, *others = printed
    assert job_id in listed
    assert '"actor_id": "ann"' in shown
    assert others == ["1 dead job sent again\n", "1 dead job purged\n"]
    assert app.dead == []


def test_a_queue_that_is_away_is_told_in_a_line(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(filters: object) -> None:
        raise ConnectionError("Error 111 connecting\nmore")

    monkeypatch.setattr(app.adapter, "dead_jobs", away)
    assert app.run("list") == 1
    assert app.err == "sigra-workers: ConnectionError: Error 111 connecting\n"


def test_an_adapter_without_dead_jobs_is_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryAdapter, "capabilities", frozenset({"bulk"}))
    assert app.run("list") == 1
    assert "adapter 'memory' does not declare 'dead_jobs' with these settings" in app.err


def test_dead_of_a_path_that_leads_nowhere_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead", "list", "no_such_app:workers"]) == 1
    assert "there is no module 'no_such_app'" in capsys.readouterr().err


def test_help_tells_what_every_action_and_option_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("list", "show", "resend", "purge"):
        with pytest.raises(SystemExit) as end:
            main(["dead", action, "--help"])
        assert end.value.code == 0
        assert "such as app.jobs:workers" in capsys.readouterr().out
