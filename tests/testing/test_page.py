"""docs/how-to/testing.md: its code, run as it stands there, and what it says of the code."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import README, Block, blocks, blocks_of, path
from tests.testing.hosts import DJANGO_SETTINGS, pytest_in, run, write
from tests.testing.support import Make

from sigra_workers import Ok
from sigra_workers.memory import MAX_RUNS
from sigra_workers.testing import EventFilters, JobFilters, RunFacts, SigraTesting, testing
from sigra_workers.testing.runs import MAX_SNOOZES

PAGE = path("how-to/testing.md").read_text()
PYTHON = blocks("how-to/testing.md", "python")
(FAILURE,) = blocks("how-to/testing.md", "text")
(COMMAND,) = blocks("how-to/testing.md", "console")


def files(blocks: list[Block]) -> dict[str, str]:
    """The files of a page; a block without a name goes on with the one before."""
    found: dict[str, str] = {}
    name = ""
    for block in blocks:
        name = block.file or name
        found[name] = found.get(name, "") + "\n\n" + block.text
    return found


APP = {
    name: text
    for name, text in files(blocks_of(README)).items()
    if name in ("app/jobs.py", "app/implementations.py")
}
HOST = {"app/__init__.py": "", **APP, **files(blocks("how-to/testing.md", "toml"))}


def lay_out(folder: Path) -> None:
    """What a reader of the page has in a folder, but for Django's test."""
    write(folder, {**HOST, **files(PYTHON)})
    (folder / "tests.py").unlink()


def test_the_pages_code_runs(tmp_path: Path) -> None:
    lay_out(tmp_path)
    assert sorted(file.name for file in tmp_path.glob("*.py")) == ["test_jobs.py", "test_web.py"]
    count = sum(file.read_text().count("\ndef test_") for file in tmp_path.glob("*.py"))
    assert COMMAND.text == "$ pytest -q\n"
    done = pytest_in(tmp_path)
    assert f"{count} passed" in done.stdout, done.stdout


def test_the_pages_django_test_runs(tmp_path: Path) -> None:
    write(tmp_path, {**HOST, **DJANGO_SETTINGS, "tests.py": files(PYTHON)["tests.py"]})
    done = run(tmp_path, "-W", "error", "manage.py", "test", "--parallel", "1")
    assert re.search(r"Ran 1 test .*\n\nOK\n", done.stdout), done.stdout


def test_the_pages_failure_is_what_a_failure_says(made: Make) -> None:
    kit = made(lambda scope, args: Ok(), queue="lifecycle")
    kit.enqueue({"organization_id": "o1", "actor_id": "u1", "account_id": "a1"}, job_id="j1", schedule_in=60)
    with pytest.raises(AssertionError) as caught:
        kit.sigra.assert_enqueued(kit.handle, args={"account_id": "a2"}, real_actor="admin")
    assert f"{caught.value}\n" == FAILURE.text


@pytest.mark.parametrize("form", [JobFilters, EventFilters, RunFacts], ids=lambda form: form.__name__)
def test_the_page_names_every_filter_and_fact(form: Any) -> None:
    assert [name for name in form.__annotations__ if f"`{name}`" not in PAGE] == []


def test_the_page_shows_every_helper() -> None:
    code = "\n".join(block.text for block in PYTHON)
    helpers = [name for name in vars(SigraTesting) if not name.startswith("_")]
    assert [name for name in helpers if f"sigra.{name}" not in code] == []


def test_the_page_says_when_a_drain_is_given_up() -> None:
    assert f"{MAX_SNOOZES:,} times in one drain" in PAGE
    assert f"{MAX_RUNS:,} runs" in PAGE


def test_the_page_says_what_each_option_does() -> None:
    found = {
        name: parameter.default
        for helper in (testing, *vars(SigraTesting).values())
        if callable(helper)
        for name, parameter in inspect.signature(helper).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert found.keys() >= {"wait", "scheduled", "raising", "replace", "audits", "clock"}
    assert [name for name in found if not re.search(rf"\b{name}\b", PAGE)] == []
