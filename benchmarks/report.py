"""The report: what was measured, as JSON beside this module, and the page and plots that are made of it."""

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks import plots, servers
from benchmarks.measuring import Measured, Target, shown

RESULTS: Final = Path(__file__).with_name("results.json")
DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = DOCS / "explanation/performance.md"
TARGETS: Final = DOCS / "diagrams/performance-targets.svg"
SCALE: Final = DOCS / "diagrams/performance-scale.svg"
LIBRARIES: Final = ("rq", "arq", "dramatiq", "redis", "pika", "sqlalchemy", "psycopg", "pymysql", "pluggy")
LOAD: Final = "load average when it began"
FLOORS: Final = {
    "core": "what it rests on",
    "enqueue": "with our bytes",
    "bulk": "with our bytes",
    "processes": "with a lock",
    "trips": "with a lock",
}
"""What the floors of a group's rows are called."""
_HEAD: Final = ("what", "target", "measured", "quartiles", "", "ours", "bare")


@dataclass(frozen=True)
class Result:
    """What is kept of a row."""

    group: str
    what: str
    target: Target
    figure: float
    low: float
    high: float
    floor: float | None
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, found: Measured) -> "Result":
        """What came of a row."""
        row, (low, high) = found.row, found.spread
        return cls(row.group, row.what, row.target, found.figure, low, high, found.floor, found.seconds)

    @classmethod
    def load(cls, facts: dict[str, Any]) -> "Result":
        """One of the file."""
        facts["target"] = Target(**facts["target"])
        return cls(**facts)

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.target.limit is None:
            return ""
        return "met" if self.target.met(self.figure) else "**missed**"

    def said(self, figure: float) -> str:
        """A figure in the row's unit."""
        return shown(figure, self.target.unit)

    @property
    def quartiles(self) -> str:
        """Where half of the rounds are; nothing of a single one."""
        if self.low == self.high:
            return ""
        return f"{self.said(self.low)} to {self.said(self.high)}"

    def time(self, work: str) -> str:
        """How long a work takes once; jobs per second of a process."""
        seconds = self.seconds.get(work)
        if seconds is None:
            return ""
        if self.group == "trips":
            return f"{seconds:.1f}"
        return f"{1 / seconds:,.0f} jobs/s" if self.group == "processes" else duration(seconds)

    def parts(self) -> str:
        """Where a missed target is lost: what the library takes by itself, and what comes on top."""
        ours, bare, floor = (self.seconds.get(work) for work in ("ours", "bare", "floor"))
        said = f"{self.said(self.figure)}, {self.target}."
        if ours is not None and bare is not None:
            said += f" It takes {duration(ours)}, the bare work {duration(bare)}"
            if floor is not None and self.floor is not None:
                said += f", and {duration(floor)} {FLOORS[self.group]} ({self.said(self.floor)})"
            said += "."
        return said


@dataclass(frozen=True)
class Report:
    """All results, in the order of the rows, and where they are from."""

    about: Mapping[str, str]
    results: Sequence[Result]

    @classmethod
    def load(cls) -> "Report":
        """The one in the file."""
        facts = json.loads(RESULTS.read_text())
        return cls(facts["about"], [Result.load(result) for result in facts["results"]])

    def keep(self) -> None:
        """Write the file."""
        facts = {"about": self.about, "results": [asdict(result) for result in self.results]}
        RESULTS.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

    def save(self) -> None:
        """Write the file, the page and the plots."""
        self.keep()
        PAGE.write_text(self.page(PAGE.read_text()))
        TARGETS.write_text(self.targets())
        SCALE.write_text(self.scale())

    def page(self, page: str) -> str:
        """The page, with what is between its marks made anew."""
        groups = dict.fromkeys(result.group for result in self.results)
        parts = {group: self._table(group) for group in groups}
        parts["about"] = "".join(f"- {name}: {fact}\n" for name, fact in self.about.items())
        parts["missed"] = self._missed()
        parts["more"] = self._more()
        for name, part in parts.items():
            before, begin, rest = page.partition(f"<!-- {name} -->\n")
            _, end, after = rest.partition(f"<!-- /{name} -->")
            if not begin or not end:
                raise ValueError(f"{PAGE.name} has no <!-- {name} -->...<!-- /{name} -->")
            page = f"{before}{begin}\n{part}\n{end}{after}"
        return page

    def targets(self) -> str:
        """The plot of all rows that have a target."""
        return plots.targets(
            plots.Line(
                plain(result.what),
                f"{result.said(result.figure)} ({result.target.bound})",
                result.target.met(result.figure),
                *(result.target.part(figure) for figure in (result.low, result.figure, result.high)),
            )
            for result in self.results
            if result.target.limit is not None
        )

    def scale(self) -> str:
        """The plot of a job's time, for more of everything."""
        sizes, workers, organizations = (result for result in self.results if result.group == "scale")
        return plots.scale(
            {
                "a job": {name: seconds for name, seconds in sizes.seconds.items() if " of " not in name},
                "a JSON round trip of its args": {
                    name.partition(" of ")[2]: seconds
                    for name, seconds in sizes.seconds.items()
                    if " of " in name
                },
            },
            {"registered workers": workers.seconds, "organizations": organizations.seconds},
        )

    # -- parts of the page -------------------------------------------------------------------------------

    def _table(self, group: str) -> str:
        results = [result for result in self.results if result.group == group]
        works = ["ours", "bare", "floor"]
        head = [*_HEAD, FLOORS.get(group, "")]
        columns = len(_HEAD) - 2 + len({work for result in results for work in result.seconds} & {*works})
        lines = [
            [
                result.what,
                str(result.target),
                result.said(result.figure),
                result.quartiles,
                result.verdict,
                *map(result.time, works),
            ]
            for result in results
        ]
        if group in ("memory", "scale"):
            columns = len(_HEAD) - 2
        return table(line[:columns] for line in [head, *lines])

    def _missed(self) -> str:
        missed = [result for result in self.results if not result.target.met(result.figure)]
        return "".join(f"- {result.what}: {result.parts()}\n" for result in missed) or "None is missed.\n"

    def _more(self) -> str:
        sizes, workers, organizations = (result for result in self.results if result.group == "scale")
        lines = [["", "a job", "in JSON round trips of its args"]]
        for name, seconds in sizes.seconds.items():
            trip = sizes.seconds.get(f"round trip of {name}")
            if trip is not None:
                lines.append([f"args: {name}", duration(seconds), f"{seconds / trip:.1f}"])
        for what, result in (("registered workers", workers), ("organizations", organizations)):
            lines += [[f"{what}: {name}", duration(seconds), ""] for name, seconds in result.seconds.items()]
        return table(lines)


def table(lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, its head first."""
    head, *rest = lines
    whole = [head, ["---"] * len(head), *rest]
    return (
        "".join(f"| {' | '.join(line)} |\n" for line in whole)
        .replace("| --- ", "|---")
        .replace("|--- |", "|---|")
    )


def duration(seconds: float) -> str:
    """A time in words."""
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def plain(what: str) -> str:
    """A text of the page for a plot."""
    return what.replace("`", "")


def about(pace: str) -> dict[str, str]:
    """The machine and the versions."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return {
        "machine": f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "servers, on the same machine": ", ".join(servers.versions()),
        "libraries": libraries,
        "pace": pace,
        LOAD: f"{os.getloadavg()[0]:.1f}",
    }
