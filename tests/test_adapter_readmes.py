"""The READMEs of the queues' adapters are twins: a reader of one finds the same in another."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Final

import pytest
from tests.docs.blocks import ROOT, texts

ADAPTERS: Final = Path(__file__).parents[1] / "adapters"
QUEUES: Final = {"arq": "arq functions", "dramatiq": "actors", "rq": "RQ jobs"}
INSTALLING: Final = {
    name: texts(f"adapters/{name}/README.md", "console", having="pip install")
    for name in ("opentelemetry", "sqlalchemy")
}
SECTIONS: Final = (
    "The worker process",
    "What happens when something dies",
    "How a job lies in {}",
    "What it can do",
    "Dead jobs",
    "Beside plain {}",
)
SETTINGS: Final = ("`appendonly yes`", "`appendfsync always`", "`maxmemory-policy noeviction`")


def readme(queue: str) -> str:
    return (ADAPTERS / queue / "README.md").read_text()


@pytest.mark.parametrize("queue", QUEUES)
def test_they_have_the_same_sections(queue: str) -> None:
    found = re.findall(r"^## (.*)", readme(queue), re.MULTILINE)
    names = {"arq": "arq", "dramatiq": "Dramatiq", "rq": "RQ"}
    lies = SECTIONS[2].format(names[queue])
    assert found == [*SECTIONS[:2], lies, *SECTIONS[3:5], SECTIONS[5].format(QUEUES[queue])]


@pytest.mark.parametrize("queue", QUEUES)
def test_they_ask_for_the_redis_that_the_losses_were_measured_with(queue: str) -> None:
    page = (ADAPTERS.parent / "docs/explanation/losses.md").read_text()
    for setting in SETTINGS[:2]:
        assert setting in page
    for setting in SETTINGS:
        assert setting in readme(queue)


@pytest.mark.parametrize("name", INSTALLING)
def test_the_others_are_installed_from_where_they_say(name: str) -> None:
    (command,) = INSTALLING[name]
    words = shlex.split(command.removeprefix("$ pip install "))
    places = [Path(word.replace("/path/to/sigra-workers", str(ROOT))) for word in words if word[0] == "/"]
    projects = [tomllib.loads((place / "pyproject.toml").read_text())["project"]["name"] for place in places]
    assert projects == ["sigra-workers", f"sigra-workers-{name}"]
