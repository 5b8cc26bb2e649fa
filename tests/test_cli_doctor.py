"""The command `sigra-workers doctor`, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sigra_workers.cli import main

APP = """
from sigra_workers import Audit, AuditScope, Workers, hookimpl
from sigra_workers.checks import Check, Finding
from sigra_workers.memory import MemoryAdapter


class Queue(MemoryAdapter):
    capabilities = MemoryAdapter.capabilities | {"durable"}

    def checks(self, workers):
        yield Check("disk.full", lambda: [Finding("ok", "there is room", "none", "docs/disk.md")])
        if workers.settings.get("is_broken"):
            yield Check(
                "disk.speed",
                lambda: [
                    Finding("unknown", "nobody tells: \\x1b[31m it may be slow"),
                    Finding("problem", "it is slow: jobs wait", "buy another", "docs/disk.md#speed"),
                ],
            )


class Trail:
    def write(self, event):
        raise NotImplementedError

    def checks(self, workers):
        return []


class Plugin:
    @hookimpl
    def sigra_adapter(self, name, settings):
        return Queue()


def make(**settings):
    return Workers[AuditScope](
        adapter="disk", settings=settings, plugins=[Plugin()], audit=Audit(Trail())
    )


workers = make()
broken = make(is_broken=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an application, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "doctor_app", raising=False)
    (tmp_path / "doctor_app.py").write_text(APP)
    return tmp_path


def test_a_sound_set_up_is_ok_in_a_line_each_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "doctor_app:workers"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok       adapter.installed: adapter 'disk' is doctor_app.Queue",
        "ok       adapter.claims: adapter 'disk' is that of a plugin alone",
        "ok       workers.implemented: each of the 0 workers is implemented in this process",
        "ok       audit.sink: audit events go to doctor_app.Trail",
        "ok       disk.full: there is room",
        "5 ok",
    ]


def test_problems_come_first_with_the_mend_and_the_page_and_exit_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "doctor_app:broken", "--only", "disk"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "problem  disk.speed: it is slow: jobs wait",
        "         mend: buy another",
        "         read: docs/disk.md#speed",
        "unknown  disk.speed: nobody tells: \\x1b[31m it may be slow",
        "ok       disk.full: there is room",
        "1 problem, 1 unknown, 1 ok",
    ]


@pytest.mark.parametrize(("path", "code"), [("doctor_app:workers", 0), ("doctor_app:broken", 1)])
def test_as_json_it_is_a_list_of_findings_with_the_same_exit_code(
    path: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", path, "--json", "--only", "disk.full", "--only", "disk"]) == code
    found = json.loads(capsys.readouterr().out)
    assert {
        "check": "disk.full",
        "status": "ok",
        "what": "there is room",
        "mend": "none",
        "page": "docs/disk.md",
    } in found
    assert len(found) == (3 if code else 1)


def test_what_is_unknown_or_warned_of_does_not_fail_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "doctor_app:broken", "--only", "disk.full"]) == 0
    assert capsys.readouterr().out.endswith("\n1 ok\n")


def test_a_name_that_is_no_checks_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "doctor_app:workers", "--only", "redis"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is no check 'redis', there are adapter.claims, adapter.installed" in told.err


def test_checks_that_find_nothing_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "doctor_app:workers", "--only", "adapter.versions"]) == 0
    assert capsys.readouterr().out == "no findings\n"


def test_it_runs_as_a_command_of_its_own(folder: Path) -> None:
    command = [sys.executable, "-m", "sigra_workers.cli", "doctor", "doctor_app:broken"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert ran.returncode == 1
    assert ran.stdout.startswith("problem  disk.speed")
    assert ran.stderr == ""
