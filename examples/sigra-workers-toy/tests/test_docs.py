"""The page "Write an adapter" shows this adapter, word for word."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.blocks import Block, blocks, path

from sigra_workers import CAPABILITIES
from sigra_workers.conformance import AdapterConformance

TOY = Path(__file__).parents[1]
PAGE = "how-to/write-an-adapter.md"
PYTHON = blocks(PAGE, "python")
(ENTRY_POINT,) = blocks(PAGE, "toml")
(COMMANDS,) = blocks(PAGE, "console")
FILES = {path.name: path for path in TOY.rglob("*.py")}


def words(text: str) -> str:
    """The text without white space: an excerpt is indented, and broken into lines, as it suits the page."""
    return "".join(text.split())


def test_each_python_block_names_its_file() -> None:
    assert [block.place for block in PYTHON if block.file not in FILES] == []


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_the_code_of_the_page_is_the_code_of_the_toy(block: Block) -> None:
    assert block.file
    _, text = block.text.split("\n", 1)
    assert words(text) in words(FILES[block.file].read_text())


def test_the_entry_point_of_the_page_is_the_toys() -> None:
    assert ENTRY_POINT.text in (TOY / "pyproject.toml").read_text()


def test_the_page_lists_the_capabilities() -> None:
    assert re.findall(r'^\| `"(\w+)"` \| (.+) \|$', path(PAGE).read_text(), re.MULTILINE) == [
        *CAPABILITIES.items()
    ]


def test_the_commands_of_the_page_run_every_rule_and_one() -> None:
    everything, one = COMMANDS.text.splitlines()
    assert (rules_run_by(everything), rules_run_by(one)) == (len([*AdapterConformance.rules()]), 1)


def rules_run_by(line: str) -> int:
    program, *options = shlex.split(line.removeprefix("$ "), comments=True)
    command = [sys.executable, "-m", program, "--collect-only", "-q", *options]
    done = subprocess.run(command, cwd=TOY, check=True, capture_output=True, text=True)
    return len({*re.findall(r"::test_(r\d+)_", done.stdout)})
