"""docs/explanation/losses.md: its tables are written, and compared, here."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.docs.blocks import DOCS, ROOT, Block
from tests.losses.back_ends import BACK_ENDS
from tests.losses.bare import BARE, SHOWN
from tests.losses.catastrophes import ROWS
from tests.losses.facts import Facts

PAGE: Final = DOCS / "explanation/losses.md"
README: Final = ROOT / "README.md"
WRITE: Final = "SIGRA_WRITE_LOSSES"
HEADER: Final = (
    "| what happens | run again | after | attempt counted | decision kept | duplicates | ends |\n"
    "|---|---|---|---|---|---|---|\n"
)
BESIDE: Final = "beside"
"""The mark of the table beside the bare queues."""
OUTCOMES: Final = {"completed": "runs again", "dead: crashed": "dead"}
"""How a job ended that ran more than once, in the words of that table."""


def writes() -> bool:
    """Whether the page is to be written."""
    return bool(os.environ.get(WRITE))


def facts_on_page(back_end: str) -> dict[str, Facts]:
    """What the page says of each row, by its title."""
    found: dict[str, Facts] = {}
    for line in _between(PAGE.read_text(), back_end)[1].splitlines():
        title, *cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 6:
            again, _, counted, kept, duplicates, ends = cells
            found[title] = Facts(again, counted, kept, duplicates, ends)
    return found


def commands(blocks: Iterable[Block]) -> list[str]:
    """The commands of a page's blocks, each on one line."""
    texts = [block.text.replace("\\\n", "") for block in blocks]
    return [" ".join(line.split()) for text in texts for line in text.splitlines()]


def write(back_end: str, order: Sequence[str], rows: Mapping[str, tuple[Facts, str]]) -> None:
    """Write rows, facts and seconds by title, in the place of those that are there; `order` is all titles."""
    before, inside, after = _between(PAGE.read_text(), back_end)
    there = {line.strip("| ").partition("|")[0].strip(): f"{line}\n" for line in inside.splitlines()}
    there |= {title: _line(title, facts, seconds) for title, (facts, seconds) in rows.items()}
    PAGE.write_text(
        f"{before}\n{HEADER}{''.join(there[title] for title in order if title in there)}\n{after}"
    )


def beside(file: Path = PAGE) -> dict[str, list[str]]:
    """The cells of the table beside the bare queues, by the title of the row."""
    lines = _between(file.read_text(), BESIDE)[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")]
    return {title: cells for title, *cells in rows[1:]}


def write_beside(found: Mapping[str, Mapping[str, str]]) -> None:
    """Write that table, by title and bare queue, into README.md without its seconds.

    Behind the bare queues comes what the other tables say; cells that were not found anew stay.
    """
    there = beside()
    rows: dict[str, list[str]] = {}
    for title in (ROWS[row].title for row in SHOWN):
        cells = {**dict(zip(BARE, there.get(title, []), strict=False)), **found.get(title, {})}
        rows[title] = [*(cells[name] for name in BARE), with_us(title)]
    titles = [back_end.title.removesuffix(", with a store") for back_end in BACK_ENDS.values()]
    head = (
        f"| what happens | {' | '.join(titles)} | each with sigra-workers |\n|{'---|' * (len(titles) + 2)}\n"
    )
    lines = [f"| {' | '.join([title, *cells])} |\n" for title, cells in rows.items()]
    for file, text in ((PAGE, "".join(lines)), (README, without_seconds("".join(lines)))):
        before, _, after = _between(file.read_text(), BESIDE)
        file.write_text(f"{before}\n{head}{text}\n{after}")


def without_seconds(text: str) -> str:
    """As README.md has it."""
    return re.sub(r" \([^()|]* s\)", "", text)


def with_us(title: str) -> str:
    """What the tables of all queues say of a row, in the words of the table beside the bare ones."""
    return " or ".join(sorted({OUTCOMES[facts_on_page(back_end)[title].ended] for back_end in BACK_ENDS}))


def joined(found: Iterable[Facts]) -> Facts:
    """The facts of a sync and an async job on one line."""
    every = [*found]
    names = ("again", "counted", "kept", "duplicates", "ended")
    return Facts(*(" or ".join(sorted({getattr(facts, name) for facts in every})) for name in names))


def span(seconds: Iterable[float | None]) -> str:
    """How long it took: the shortest and the longest."""
    known = sorted(round(value, 0 if value >= 10 else 1) for value in seconds if value is not None)
    if not known:
        return "-"
    low, high = (f"{value:g}" for value in (known[0], known[-1]))
    return f"{low} s" if low == high else f"{low} to {high} s"


def _line(title: str, facts: Facts, seconds: str) -> str:
    cells = (title, facts.again, seconds, facts.counted, facts.kept, facts.duplicates, facts.ended)
    return f"| {' | '.join(cells)} |\n"


def _between(text: str, back_end: str) -> tuple[str, str, str]:
    """The page before, in and behind the table of a queue."""
    begin, end = f"<!-- {back_end} -->\n", f"<!-- /{back_end} -->"
    before, found, rest = text.partition(begin)
    inside, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{PAGE.name} has no place for the table of {back_end}: {begin}...{end}")
    return before + begin, inside, end + after
