"""Whatever dies, no job is lost: see docs/explanation/losses.md, whose tables these tests produce."""

import re
from typing import Final

import pytest
from tests.docs.blocks import blocks, blocks_of
from tests.losses import page
from tests.losses.back_ends import BACK_ENDS
from tests.losses.catastrophes import ROWS, cells
from tests.losses.conftest import Measured, Results
from tests.losses.facts import ended, facts, overlaps, repeated, seconds
from tests.losses.stage import Story

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

CELLS: Final = [(name, *cell) for name, back_end in BACK_ENDS.items() for cell in cells(back_end)]
"""Queue, catastrophe, row."""
COMMANDS: Final = blocks("explanation/losses.md", "bash")
each_cell = pytest.mark.parametrize("cell", CELLS, ids=[f"{cell[0]}, {cell[2]}" for cell in CELLS])


@pytest.fixture
def stories(results: Results, cell: tuple[str, str, str]) -> list[Story]:
    """The jobs of one row."""
    back_end, catastrophe, row = cell
    return [story for story in results.of(back_end, catastrophe).stories if story.row == row]


@each_cell
def test_no_job_is_lost(results: Results, cell: tuple[str, str, str], stories: list[Story]) -> None:
    assert stories
    for story in stories:
        assert ended(story) in ROWS[cell[2]].ends, story
    assert results.of(*cell[:2]).left == 0


@each_cell
def test_a_job_is_run_again_in_time(cell: tuple[str, str, str], stories: list[Story]) -> None:
    for story in stories:
        assert (seconds(story) or 0) <= BACK_ENDS[cell[0]].bound, story


@each_cell
def test_a_run_that_is_cut_short_counts(cell: tuple[str, str, str], stories: list[Story]) -> None:
    for story in stories:
        assert facts(ROWS[cell[2]], story).counted != "no", story
        assert not repeated(story), story


@each_cell
def test_each_run_has_its_jobs_tenant(stories: list[Story]) -> None:
    for story in stories:
        assert {run.tenant for run in story.runs} == {story.tenant}, story


@each_cell
def test_a_job_never_runs_twice_at_once(stories: list[Story]) -> None:
    for story in stories:
        assert not overlaps(story), story


@each_cell
def test_a_snooze_is_never_early(cell: tuple[str, str, str], stories: list[Story]) -> None:
    for story in stories:
        if ROWS[cell[2]].snooze:
            first, second = story.runs[:2]
            assert second.began - (first.ended or 0) >= ROWS[cell[2]].snooze, story


@each_cell
def test_the_page_says_what_was_seen(
    cell: tuple[str, str, str], stories: list[Story], measured: Measured
) -> None:
    row = ROWS[cell[2]]
    found = page.joined(facts(row, story) for story in stories)
    measured.facts.setdefault(cell[0], {})[row.title] = found, page.span(seconds(story) for story in stories)
    if not page.writes():
        assert found == page.facts_on_page(cell[0])[row.title]


@pytest.mark.parametrize("name", BACK_ENDS)
def test_the_page_and_the_readme_have_the_command_that_was_run(name: str) -> None:
    back_end = BACK_ENDS[name]
    command = back_end.documented()
    assert command in page.commands(COMMANDS)
    readme = blocks_of(f"../adapters/{back_end.adapter}/README.md")
    apart = re.compile(r" --processes \d+ --threads \d+")
    assert apart.sub("", command) in [apart.sub("", found) for found in page.commands(readme)]
