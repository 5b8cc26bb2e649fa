"""docs/how-to/audit-to-a-database.md, done on the real PostgreSQL."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest
from alembic import command as alembic
from alembic.config import Config
from tests.docs.application import BIN
from tests.docs.blocks import code, texts
from tests.docs.postgres import Database, database
from tests.docs.terminal import Terminal, commands, fits

PAGE: Final = "how-to/audit-to-a-database.md"
CODE: Final = code("docs/code/audit-to-a-database")
(MODELS,) = texts(PAGE, "python")
(RIGHTS,) = texts(PAGE, "sql")
MIGRATE, CLOSE, FORGET = texts(PAGE, "console")


def show(terminal: Terminal, console: str, found: Database) -> None:
    """Type what a block shows, on this database, and see what it says."""
    for user, role in (("owner", "postgres"), ("app", None)):
        console = console.replace(f"postgresql+psycopg://{user}@db/app", found.url(role=role))
    for command, shown in commands(console):
        printed, status = terminal.run(command)
        assert (status, fits(shown, printed)) == (0, True), printed


@pytest.mark.integration
def test_it_is_done_from_the_migration_to_what_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    shutil.copytree(CODE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    alembic.init(Config(str(folder / "alembic.ini")), str(folder / "migrations"))
    env = folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace("target_metadata = None\n", MODELS))
    forget = folder / "forget.py"
    with database() as found:
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        terminal = Terminal(folder, environment, tmp_path / "printed")
        try:
            show(terminal, MIGRATE, found)
            rights = RIGHTS.replace(" TO app;", f" TO {found.name};")
            found.execute(f"{rights} GRANT ALL ON accounts TO {found.name}")
            show(terminal, CLOSE, found)
            show(terminal, FORGET, found)
            forget.write_text(forget.read_text().replace("days=730", "days=0"))
            assert terminal.run("python forget.py") == ("2 events forgotten\n", 0)
        finally:
            terminal.close()
