"""What becomes of the same jobs on the bare queues: a table of the page, which README.md has too."""

from typing import Final

import pytest
from tests.losses import page
from tests.losses.bare import BARE, SHOWN, outcome
from tests.losses.catastrophes import ROWS
from tests.losses.conftest import Measured, Results
from tests.losses.facts import seconds

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

CELLS: Final = [(name, catastrophe, row) for row, catastrophe in SHOWN.items() for name in BARE]
"""Queue, catastrophe, row."""


@pytest.mark.parametrize("cell", CELLS, ids=[f"{cell[0]}, {cell[2]}" for cell in CELLS])
def test_the_page_says_what_was_seen(
    results: Results, measured: Measured, cell: tuple[str, str, str]
) -> None:
    name, catastrophe, row = cell
    title = ROWS[row].title
    (story,) = (story for story in results.of(name, catastrophe).stories if story.row == row)
    found = outcome(story)
    after = f" ({page.span([seconds(story)])})" if found == "runs again" else ""
    measured.beside.setdefault(title, {})[name] = f"{found}{after}"
    if not page.writes():
        assert page.without_seconds(page.beside()[title][[*BARE].index(name)]) == found
