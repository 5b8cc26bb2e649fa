"""How it is measured: ours and the bare work in turn, round by round, and a figure of each round.

pyperf and pytest-benchmark time one work after another, pyperf in processes of its own: what the machine does
meanwhile ends up in the ratio of the two. Here they alternate, and a ratio is that of neighbours.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Final, Literal, TypeAlias

Timer: TypeAlias = Callable[[int], float]
"""Does the work so many times, and returns the seconds that took."""
Figure: TypeAlias = Callable[[Mapping[str, float]], float]
"""What a round shows, of the seconds that each work takes once."""
Unit: TypeAlias = Literal["x", "us", "ms", "round trips", "bytes", "times"]
ROUNDS: Final = 31


@dataclass(frozen=True)
class Pace:
    """How thoroughly to measure: so many times a row's rounds and loops."""

    rounds: float = 1.0
    loops: float = 1.0
    at_least: int = 3
    """Rounds: quartiles need some."""


QUICK: Final = Pace(rounds=0.2, loops=0.2)
ONCE: Final = Pace(rounds=0, loops=0, at_least=2)
"""Each work a few times: it works."""


@dataclass(frozen=True)
class Target:
    """What a figure should be: at most, or at least, so much of a unit."""

    limit: float | None
    unit: Unit
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """Whether it is; a row that is only reported always is."""
        if self.limit is None:
            return True
        return figure >= self.limit if self.at_least else figure <= self.limit

    def part(self, figure: float) -> float:
        """The figure in parts of what it may be: above 1 the target is missed."""
        limit = self.limit or 1
        return limit / figure if self.at_least else figure / limit

    @property
    def bound(self) -> str:
        """The limit without its unit."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    def __str__(self) -> str:
        return "reported" if self.limit is None else in_unit(self.bound, self.unit)


def shown(figure: float, unit: str) -> str:
    """A figure as the report has it."""
    return in_unit(f"{figure:,.{2 if abs(figure) < 100 else 0}f}", unit)


def in_unit(number: str, unit: str) -> str:
    """A number with its unit."""
    return f"{number}×" if unit == "x" else f"{number} {unit}".replace(" us", " µs")  # noqa: RUF001  # times


@dataclass(frozen=True)
class Row:
    """One line of the report: works that are timed in turn, and the figure that is made of a round.

    A work "floor" is the least that the library's users would do themselves for what "ours" promises.
    """

    group: str
    what: str
    target: Target
    works: Mapping[str, Timer]
    figure: Figure
    loops: int
    rounds: int = ROUNDS
    warms: bool = True
    """Whether a first round only warms up."""


@dataclass(frozen=True)
class Measured:
    """What came of a row: the figure of each round, and the median seconds of each work."""

    row: Row
    figures: Sequence[float]
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    floor: float | None = None
    """The figure that "floor" has in the place of "ours"."""

    @property
    def figure(self) -> float:
        """The median."""
        return median(self.figures)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles."""
        if len(self.figures) == 1:
            return self.figure, self.figure
        low, _, high = quantiles(self.figures, n=4, method="inclusive")
        return low, high

    @property
    def met(self) -> bool:
        """Whether the median meets the target."""
        return self.row.target.met(self.figure)


def measure(row: Row, pace: Pace) -> Measured:
    """Time the works of a row in turn, the order turned around each round."""
    names = [*row.works]
    rounds = max(min(pace.at_least, row.rounds), round(row.rounds * pace.rounds))
    loops = max(1, round(row.loops * pace.loops))
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(0 if row.warms else 1, rounds + 1):
        for name in names if turn % 2 else reversed(names):
            seconds = row.works[name](loops) / loops
            if turn:
                taken[name].append(seconds)
    each = [{name: taken[name][turn] for name in names} for turn in range(rounds)]
    floors = [row.figure({**seconds, "ours": seconds["floor"]}) for seconds in each if "floor" in names]
    return Measured(
        row,
        [row.figure(seconds) for seconds in each],
        {name: median(values) for name, values in taken.items()},
        median(floors) if floors else None,
    )


def timed(call: Callable[[], object]) -> Timer:
    """A timer of a call."""

    def timer(loops: int) -> float:
        begun = time.perf_counter()
        for _ in range(loops):
            call()
        return time.perf_counter() - begun

    return timer


def ratio(ours: str = "ours", bare: str = "bare") -> Figure:
    """How often the bare work fits into ours."""
    return lambda seconds: seconds[ours] / seconds[bare]


def rate(ours: str = "ours", bare: str = "bare") -> Figure:
    """How much of the bare work's rate ours has."""
    return lambda seconds: seconds[bare] / seconds[ours]


def added(ours: str = "ours", bare: str = "bare", yardstick: str = "round trip") -> Figure:
    """How often the yardstick fits into what ours takes longer."""
    return lambda seconds: (seconds[ours] - seconds[bare]) / seconds[yardstick]


def more(unit: float, ours: str = "ours", bare: str = "bare") -> Figure:
    """How much longer ours takes, in units of so many seconds."""
    return lambda seconds: (seconds[ours] - seconds[bare]) / unit
