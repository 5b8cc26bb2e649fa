"""The README's files and commands, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
FILES = {m[1]: block for _, block in BLOCKS if (m := re.match(r"# (\S+\.py)\n", block))}


def write_files(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").touch()
    for name, text in FILES.items():
        (folder / name).write_text(text)


def test_the_first_job_prints_what_the_readme_says(tmp_path: Path) -> None:
    write_files(tmp_path)
    ran = subprocess.run(
        [sys.executable, "try_it.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    shown = next(block for kind, block in BLOCKS if kind == "console" and "try_it.py" in block)
    command, *expected = shown.splitlines()
    assert command == "$ python try_it.py"
    printed = ran.stdout.splitlines()
    logged = [re.sub(r"job=\w+", "job=...", line) for line in ran.stderr.splitlines()]
    assert [printed[0], *logged, *printed[1:]] == expected


@pytest.mark.typing
def test_mypy_says_what_the_readme_says(tmp_path: Path) -> None:
    write_files(tmp_path)
    block = next(block for _, block in BLOCKS if "def authorize" in block)
    head = "from app.jobs import close_account\nfrom sigra_workers import AuditScope\n\n\n"
    request = f"{head}class RequestScope: ...\n"
    sample = block.replace(
        "authorize(scope)  # in perform", "def perform(scope: AuditScope) -> None:\n    authorize(scope)"
    )
    (tmp_path / "sample.py").write_text(request + sample)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "sample.py",
            "try_it.py",
            "test_close_account.py",
        ],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    errors = [line.split(": error: ")[1] for line in ran.stdout.splitlines()]
    assert errors == re.findall(r"# error: (.*)", block), ran.stdout


def test_the_readmes_test_passes(tmp_path: Path) -> None:
    write_files(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_close_account.py"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "1 passed" in ran.stdout, ran.stdout
