"""The README's files and commands, run as they stand there."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.application import Application
from tests.docs.blocks import README, ROOT, blocks
from tests.losses import page as losses
from tests.losses.bare import BARE, SHOWN
from tests.losses.catastrophes import ROWS
from tests.losses.servers import RedisServer

BLOCKS = [(block.language, block.text) for block in blocks(README)]
FILES = {block.file: block.text for block in blocks(README) if block.file}


def write_files(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").touch()
    for name, text in FILES.items():
        (folder / name).write_text(text)


def console(part: str) -> str:
    """The one block of commands that has the part."""
    (found,) = (text for kind, text in BLOCKS if kind == "console" and part in text)
    return found


@pytest.mark.typing
def test_the_fifteen_lines_are_refused_before_they_run_and_when_they_do(tmp_path: Path) -> None:
    assert sum(bool(line) for line in FILES["hello.py"].splitlines()[1:]) == 15
    (tmp_path / "hello.py").write_text(FILES["hello.py"])
    checking, *found, running, printed, logged, traceback, _, error = console("hello.py").splitlines()
    assert (checking, running) == ("$ mypy --strict hello.py", "$ python hello.py")
    assert run(tmp_path, "-m", "mypy", "--strict", "hello.py").stdout.splitlines() == found
    ran = run(tmp_path, "hello.py")
    assert ran.stdout.splitlines() == [printed]
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("  ")]
    assert len(lines) == len([logged, traceback, error])
    for line, shown in zip(lines, [logged, traceback, error], strict=True):
        assert line.startswith(shown.removesuffix("..."))


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *command], cwd=folder, check=False, capture_output=True, text=True)


def test_its_table_of_losses_is_that_of_the_page() -> None:
    page = losses.beside()
    assert [*page] == [ROWS[row].title for row in SHOWN]
    for title, cells in page.items():
        assert len(cells) == len(BARE) + 1
        assert cells[-1] == losses.with_us(title)
    short = {title: [losses.without_seconds(cell) for cell in cells] for title, cells in page.items()}
    assert losses.beside(losses.README) == short


def test_the_two_commands_are_targets_of_make() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    targets = {line.split()[0] for line in told.splitlines()}
    for line in console("make demo").splitlines():
        make, target = shlex.split(line.removeprefix("$ "), comments=True)
        assert (make, target in targets) == ("make", True)


@pytest.mark.wheels
def test_the_distributions_are_installed_from_where_it_says(tmp_path: Path) -> None:
    first, second = console("pip install /path").splitlines()
    assert second == "$ pip install pytest"
    program, *words = shlex.split(first.removeprefix("$ "), comments=True)
    places = [word.replace("/path/to/sigra-workers", str(ROOT)) for word in words]
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--target", str(tmp_path))
    ran = run(tmp_path, "-m", program, *places, *options)
    assert ran.returncode == 0, ran.stderr
    assert {"sigra_workers", "sigra_workers_rq"} <= {found.name for found in tmp_path.iterdir()}


DONE = {
    "rq": "account.closed success actor=ann",
    "dramatiq": "account.closed success actor=ann",
    "arq": " \u2190 ",
}
"""What the log of a worker process has when the job is done; arq's own lines have the arrow."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("queue", DONE)
def test_the_first_job_runs_on_each_queue(tmp_path: Path, redis: RedisServer, queue: str) -> None:
    write_files(tmp_path)
    export, sending, printed, worker = (line.removeprefix("$ ") for line in console("rq worker").splitlines())
    commands = {export.removeprefix("export APP_QUEUE="): worker}
    for name in ("app/dramatiq_app.py", "app/arq_lifecycle.py"):
        setting, command = FILES[name].splitlines()[0].split(": ")[1].split(" ", 1)
        commands[setting.removeprefix("APP_QUEUE=")] = command
    environment = {"APP_QUEUE": queue, "REDIS_URL": redis.url, "PYTHONPATH": str(tmp_path)}
    application = Application(tmp_path, environment)
    try:
        assert application.run(*sending.split()).strip() == printed
        application.start(commands[queue]).logged(DONE[queue])
    finally:
        application.close()


def test_the_first_job_prints_what_the_readme_says(tmp_path: Path) -> None:
    write_files(tmp_path)
    ran = subprocess.run(
        [sys.executable, "try_it.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    command, *expected = console("try_it.py").splitlines()
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
