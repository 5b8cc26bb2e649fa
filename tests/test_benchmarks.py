"""benchmarks/: each row can be measured, and the page says what was. No test looks at a time."""

import re
from typing import Final

import pytest
from benchmarks import processes, report, servers
from benchmarks.__main__ import rows
from benchmarks.libraries import LIBRARIES, Library
from benchmarks.measuring import ONCE, Row, Target, measure, ratio
from benchmarks.scale import leave_behind

ROWS: Final = [*rows()]
PAGE: Final = report.PAGE.read_text()
SHORT: Final = [row for row in ROWS if row.group not in ("memory", "processes", "trips")]
"""Those that take no seconds."""


@pytest.fixture(scope="module", autouse=True)
def _clean() -> object:
    yield
    servers.close()


# -- the report --------------------------------------------------------------------------------------------


def test_rows_are_told_apart() -> None:
    assert len({row.what for row in ROWS}) == len(ROWS)


def test_the_page_has_the_rows_of_the_harness() -> None:
    cells = re.findall(r"^\| (.+?) \| (≤ .+?|≥ .+?|reported) \|", PAGE, re.MULTILINE)
    assert cells == [(row.what, str(row.target)) for row in sorted(ROWS, key=_place)]


def _place(row: Row) -> int:
    return PAGE.index(f"<!-- {row.group} -->")


def test_page_and_plots_are_made_of_what_was_measured() -> None:
    found = report.Report.load()
    assert found.page(PAGE) == PAGE
    assert found.targets() == report.TARGETS.read_text()
    assert found.scale() == report.SCALE.read_text()


# -- the harness -------------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("row", SHORT, ids=lambda row: row.what)
def test_a_row_can_be_measured(row: Row) -> None:
    found = measure(row, ONCE)
    assert {*found.seconds} == {*row.works}
    assert len(found.figures) == ONCE.at_least


@pytest.mark.integration
def test_a_process_can_be_measured() -> None:
    (row,) = (row for row in ROWS if row.group == "processes" and "`dramatiq` on Redis" in row.what)
    assert row.works["ours"](1_000) > 0  # half a second of work, or no look may find any of it


@pytest.mark.integration
def test_a_process_that_is_too_quick_to_be_measured_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = (row for row in ROWS if row.group == "processes" and "`dramatiq` on Redis" in row.what)
    monkeypatch.setattr(processes, "LOOK", 3.0)
    with pytest.raises(RuntimeError, match=r"1 are too few for .dramatiq .*.: done between"):
        row.works["ours"](1)


@pytest.mark.integration
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_memory_can_be_measured(library: Library) -> None:
    assert leave_behind(library.name, 20) == 0  # all in the first tenth


def test_works_take_turns_and_a_ratio_is_of_one_turn() -> None:
    turns: list[str] = []
    clock = {"ours": iter([9.0, 2.0, 6.0]), "bare": iter([1.0, 1.0, 2.0])}

    def work(name: str) -> float:
        turns.append(name)
        return next(clock[name])

    works = {name: lambda loops, name=name: work(name) for name in clock}
    found = measure(Row("group", "what", Target(2, "x"), works, ratio(), 1, rounds=2), ONCE)
    assert turns == ["bare", "ours", "ours", "bare", "bare", "ours"]
    assert [*found.figures] == [2.0, 3.0]  # the first round only warms up
    assert (found.figure, found.met) == (2.5, False)


@pytest.mark.parametrize(
    ("target", "figure", "met", "part"),
    [
        (Target(2, "x"), 1.0, True, 0.5),
        (Target(2, "x"), 4.0, False, 2.0),
        (Target(0.9, "x", at_least=True), 0.45, False, 2.0),
        (Target(4, "x", at_least=True), 8.0, True, 0.5),
    ],
)
def test_beyond_a_target_is_more_than_one_part_of_it(
    target: Target, figure: float, met: bool, part: float
) -> None:
    assert (target.met(figure), target.part(figure)) == (met, part)


def test_what_is_only_reported_is_never_missed() -> None:
    assert Target(None, "x").met(100.0)
