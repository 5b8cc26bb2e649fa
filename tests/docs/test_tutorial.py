"""docs/tutorial.md, as somebody new does it: in an empty folder, step by step."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from tests.docs.blocks import ROOT, Block, Directive, blocks, code, directives
from tests.docs.terminal import Terminal, commands, fits
from tests.losses.servers import RedisServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.typing,
    pytest.mark.wheels,
]

PAGE: Final = "tutorial.md"
CODE: Final = code("docs/code/tutorial")
STEPS: Final[list[Block | Directive]] = sorted(
    [*blocks(PAGE), *directives(PAGE, "literalinclude")], key=lambda step: step.line
)
GOES_ON: Final = "rq worker "
HERE: Final = {
    "/path/to/sigra-workers": str(ROOT),
    "=$PWD/wheels": '="$PWD/wheels $PIP_FIND_LINKS"',  # there may be no index
}


@pytest.fixture
def environment(tmp_path: Path, redis: RedisServer) -> Mapping[str, str]:
    """That of somebody new, for whom Redis is on this machine."""
    ours = ("PYTHON", "MYPY", "VIRTUAL_ENV", "APP_", "REDIS")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    python = Path(sys.executable).resolve()
    for name, command in {
        "python3": str(python),
        "redis-cli": f"{shutil.which('redis-cli')} -p {redis.port}",
    }.items():
        (bin_folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (bin_folder / name).chmod(stat.S_IRWXU)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "PIP_CONSTRAINT": str(ROOT / "requirements" / "dev.txt"),
        "REDIS_URL": redis.url,
    }


@pytest.fixture
def terminals(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[tuple[Terminal, Terminal]]:
    (tmp_path / "home").mkdir()
    both = [Terminal(tmp_path / "home", environment, tmp_path / f"terminal-{n}.log") for n in range(2)]
    yield both[0], both[1]
    for terminal in both:
        terminal.close()


def follow(terminal: Terminal, step: Block) -> None:
    """Type what a block shows, and see what it says is printed."""
    text = step.text
    for theirs, ours in HERE.items():
        text = text.replace(theirs, ours)
    for command, shown in commands(text):
        if command.startswith(GOES_ON):
            terminal.begin(command)
            terminal.see(shown)
            return
        printed, status = terminal.run(command)
        if command.startswith("pip "):  # which warns of some indexes that it may have been told of here
            assert status == 0, printed
        else:
            assert fits(shown, printed), f"{step.place}: {command}\n{printed}"


def test_each_step_prints_what_the_page_shows(tmp_path: Path, terminals: tuple[Terminal, Terminal]) -> None:
    first, second = terminals
    folder = tmp_path / "home" / "tutorial"
    for step in STEPS:
        if isinstance(step, Directive):
            shutil.copyfile(step.target, folder / step.target.relative_to(CODE))
        elif step.language == "python":
            assert step.file is not None, step.place
            (folder / step.file).write_text(step.text)
        elif GOES_ON in step.text:
            second.run("cd tutorial")
            follow(second, step)
        else:
            follow(first, step)
    second.interrupt()
    assert second.end()[1] == 0


def test_every_file_of_the_folder_is_shown_but_the_empty_one() -> None:
    shown = {step.target for step in STEPS if isinstance(step, Directive)}
    files = {file for file in CODE.rglob("*.*") if "__pycache__" not in file.parts}
    assert files - shown == {CODE / "app" / "__init__.py"}
