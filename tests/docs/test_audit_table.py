"""docs/how-to/audit.md: the program that keeps events in a table, and the command that reads them."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.docs.blocks import blocks, code
from tests.docs.terminal import Terminal, commands, fits

CODE: Final = code("docs/code/audit")
(CONSOLE,) = blocks("how-to/audit.md", "console")


def test_the_program_and_the_command_print_what_the_page_shows(tmp_path: Path) -> None:
    shutil.copy(CODE / "closing.py", tmp_path)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    terminal = Terminal(tmp_path, environment, tmp_path / "printed")
    try:
        for command, shown in commands(CONSOLE.text):
            printed, status = terminal.run(command)
            assert (status, fits(shown, printed)) == (0, True), printed
    finally:
        terminal.close()
