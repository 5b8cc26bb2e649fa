"""Every catastrophe on every queue at once; the tests look at what became of the jobs."""

import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from tests.losses import page
from tests.losses.back_ends import BACK_ENDS
from tests.losses.bare import BARE, BareStage
from tests.losses.catastrophes import CATASTROPHES, ROWS
from tests.losses.facts import Facts
from tests.losses.stage import Shared, Stage, Story

TAIL: Final = 6_000
"""Characters of each log that a failure shows."""


@dataclass(frozen=True)
class Result:
    """What became of the jobs of one catastrophe, or what went wrong."""

    stories: list[Story]
    error: str | None
    logs: str
    left: int


class Results:
    """By queue and catastrophe."""

    def __init__(self, found: Mapping[tuple[str, str], Result]) -> None:
        self._found = found

    def of(self, back_end: str, catastrophe: str) -> Result:
        """One that went through."""
        result = self._found[back_end, catastrophe]
        if result.error:
            pytest.fail(f"{result.error}\n{describe(result.stories)}\n{result.logs}", pytrace=False)
        return result


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """All that the chosen tests ask for, side by side."""
    wanted: dict[tuple[str, str], None] = {}
    for item in request.session.items:
        params: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        if "cell" in params:
            wanted[params["cell"][:2]] = None
    names = [*CATASTROPHES]
    order = sorted(wanted, key=lambda both: names.index(both[1]))
    shared = {name: Shared(tmp_path_factory.mktemp(name)) for name in (*BACK_ENDS, *BARE)}

    def run(both: tuple[str, str]) -> Result:
        back_end, name = both
        folder = tmp_path_factory.mktemp(f"{back_end}-{name}")
        error, left = None, -1
        with _stage(back_end, name, folder, shared[back_end]) as stage:
            try:
                CATASTROPHES[name][0](stage)
                left = stage.back_end.left(stage.place)
            except Exception:
                error = traceback.format_exc()
        logs = [
            f"---- {file.name}\n{file.read_text(errors='replace')[-TAIL:]}" for file in folder.glob("*.log")
        ]
        return Result(stage.stories, error, "\n".join(logs), left)

    found: dict[tuple[str, str], Result] = {}
    try:
        for batch in _batches(order):
            with ThreadPoolExecutor(len(batch)) as threads:
                found |= zip(batch, threads.map(run, batch), strict=True)
        yield Results(found)
    finally:
        for node in shared.values():
            node.close()


def _batches(order: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """What is to run at once: for the seconds that are written, the bare queues by themselves."""
    if not page.writes():
        return [order]
    halves = [[both for both in order if (both[0] in BARE) is bare] for bare in (False, True)]
    return [half for half in halves if half]


@dataclass(frozen=True)
class Measured:
    """What the tables are to say."""

    facts: dict[str, dict[str, tuple[Facts, str]]] = field(default_factory=dict[str, Any])
    """Facts and seconds by queue and title."""
    beside: dict[str, dict[str, str]] = field(default_factory=dict[str, Any])
    """What became of the jobs of the bare queues, by title and queue."""


@pytest.fixture(scope="session")
def measured() -> Iterator[Measured]:
    """Filled by the tests; written to the page at the end, where that is asked for."""
    found = Measured()
    yield found
    if page.writes():
        for back_end, rows in found.facts.items():
            page.write(back_end, [row.title for row in ROWS.values()], rows)
        if found.beside:
            page.write_beside(found.beside)


def _stage(back_end: str, name: str, folder: Path, shared: Shared) -> Stage:
    if back_end in BARE:
        return BareStage(BARE[back_end], name, folder, shared)
    return Stage(BACK_ENDS[back_end], name, folder, shared)


def describe(stories: list[Story]) -> str:
    """Jobs and their runs."""
    lines: list[str] = []
    for story in stories:
        lines.append(f"{story.row} ({story.kind}), job {story.job_id}, {story.told} dead: {story.dead}")
        for run in story.runs:
            took = f"{run.began - story.since:+.1f} to {run.alive - story.since:+.1f} s"
            lines.append(f"    attempt {run.attempt} snoozes {run.snoozes} {took}: {run.decision}")
    return "\n".join(lines)
