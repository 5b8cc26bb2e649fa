"""The pytest plugin: the fixture ``sigra``, and the setting that says whose workers are tested."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from sigra_workers.errors import NotFoundError
from sigra_workers.testing.kit import SigraTesting, testing
from sigra_workers.workers import load_workers

SETTING: Final = "sigra_workers"
_HOW: Final = """\
{problem}
name the module that implements them, in the pytest section of pyproject.toml:
    [tool.pytest.ini_options]
    pythonpath = ["."]
    sigra_workers = "app.implementations:workers"
or write a fixture of your own: with sigra_workers.testing.testing(workers) as sigra: yield sigra"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting."""
    parser.addini(SETTING, "the application's workers, such as app.implementations:workers, for `sigra`")


@pytest.fixture
def sigra(request: pytest.FixtureRequest) -> Iterator[SigraTesting[Any]]:
    """The application's workers under test, as the setting ``sigra_workers`` names them."""
    path: str = request.config.getini(SETTING)
    if not path:
        pytest.fail(_HOW.format(problem=f"the fixture sigra needs the setting {SETTING}"), pytrace=False)
    try:
        workers = load_workers(path)
    except NotFoundError as error:
        pytest.fail(_HOW.format(problem=f"the fixture sigra finds no workers: {error}"), pytrace=False)
    with testing(workers) as kit:
        yield kit
