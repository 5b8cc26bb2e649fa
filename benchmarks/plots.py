"""Plots, in the one colour of the page that shows them, with their text as text."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 740
_STYLE: Final = """  <style>
    /* As a file of its own; inside a page it has the colours of the page. */
    svg:root { background: #fff; color: #1f2328 }
    @media (prefers-color-scheme: dark) { svg:root { background: #0d1117; color: #e6edf3 } }
  </style>
"""


@dataclass(frozen=True)
class Line:
    """A row: its text, what was measured, and the quartiles and the median in parts of the target."""

    what: str
    said: str
    met: bool
    low: float
    middle: float
    high: float


class Marker(NamedTuple):
    """What a drawing has at the points of its lines."""

    drawing: str
    name: str
    shape: str


def targets(lines: Iterable[Line]) -> str:
    """Each row as a dot between its quartiles; to the right of the target is too much."""
    rows = [*lines]
    left, right, top, step = 12, WIDTH - 12, 56, 44
    lowest, highest = math.log(0.1), math.log(10)

    def x(part: float) -> float:
        """On a logarithmic axis; what is beyond it stands at its end."""
        at = lowest if part <= 0 else min(max(math.log(part), lowest), highest)
        return round(left + (right - left) * (at - lowest) / (highest - lowest), 1)

    bottom = top + step * len(rows)
    drawn = [
        text(x(part), top - 16, label, anchor)
        for part, label, anchor in (
            (0.1, "a tenth of what it may be", "start"),
            (1, "the target", "middle"),
            (10, "ten times that", "end"),
        )
    ]
    for number, row in enumerate(rows):
        y = top + step * number + 14
        drawn.append(text(left, y, row.what, "start"))
        drawn.append(text(right, y, row.said + ("" if row.met else " missed"), "end", bold=not row.met))
        ends = 'marker-start="url(#performance-targets-end)" marker-end="url(#performance-targets-end)"'
        drawn.append(path(f"M{x(1)} {y + 5}v16", 'stroke-dasharray="2 2"'))
        drawn.append(path(f"M{x(row.low)} {y + 13}H{x(row.high)}", ends))
        fill = "currentColor" if row.met else "none"
        drawn.append(
            f'  <circle cx="{x(row.middle)}" cy="{y + 13}" r="4.5" fill="{fill}" stroke="currentColor"'
            ' stroke-width="2"/>'
        )
    description = "; ".join(f"{row.what}: {row.said}{'' if row.met else ', missed'}" for row in rows)
    marker = Marker("performance-targets", "end", '<path d="M3 0V8" stroke="currentColor"/>')
    return drawing(marker, "Measured, in parts of each target", description, bottom + 4, drawn)


def scale(sizes: Mapping[str, Mapping[str, float]], counts: Mapping[str, Mapping[str, float]]) -> str:
    """Two panels: a job's time by the size of its args, and by the number of other things."""
    drawn = [
        *_panel(sizes, 64, "size of the args", lambda name: _bytes(name)),
        *_panel(counts, 64 + WIDTH // 2, "how many there are", lambda name: float(name.replace(",", ""))),
    ]
    told = [
        f"{title}: " + ", ".join(f"{name} {_micros(seconds)}" for name, seconds in curve.items())
        for curves in (sizes, counts)
        for title, curve in curves.items()
    ]
    marker = Marker("performance-scale", "dot", '<circle cx="4" cy="4" r="3" fill="currentColor"/>')
    return drawing(marker, "The time of a job, with more of everything", "; ".join(told), 330, drawn)


def _panel(
    curves: Mapping[str, Mapping[str, float]], left: int, under: str, at: Callable[[str], float]
) -> Iterable[str]:
    width, top, height = 270, 40, 220
    every = [(at(name), seconds) for curve in curves.values() for name, seconds in curve.items()]
    least, most = min(x for x, _ in every), max(x for x, _ in every)
    low = 10 ** math.floor(math.log10(min(seconds for _, seconds in every)))
    high = 10 ** math.ceil(math.log10(max(seconds for _, seconds in every)))

    def x(value: float) -> float:
        return round(left + width * math.log(value / least) / math.log(most / least), 1)

    def y(seconds: float) -> float:
        return round(top + height * (1 - math.log(seconds / low) / math.log(high / low)), 1)

    yield path(f"M{left} {top}V{top + height}H{left + width}")
    decade = low
    while decade <= high * 1.001:
        yield path(f"M{left - 4} {y(decade)}H{left}")
        yield text(left - 8, y(decade) + 4, _micros(decade), "end")
        decade *= 10
    names = sorted({name for curve in curves.values() for name in curve}, key=at)
    for name in names:
        yield path(f"M{x(at(name))} {top + height}v4")
    yield text(x(at(names[0])), top + height + 20, names[0], "start")
    yield text(x(at(names[-1])), top + height + 20, names[-1], "end")
    yield text(left + width / 2, top + height + 42, under, "middle")
    dots = " ".join(f'marker-{place}="url(#performance-scale-dot)"' for place in ("start", "mid", "end"))
    for number, (title, curve) in enumerate(curves.items()):
        points = "L".join(f"{x(at(name))} {y(seconds)}" for name, seconds in curve.items())
        dash = ' stroke-dasharray="5 4"' if number else ""
        yield path(f"M{points}", dots + dash)
        line = top - 24 + 16 * number
        yield path(f"M{left + 8} {line}h28", dash.strip())
        yield text(left + 44, line + 4, title, "start")


def drawing(marker: Marker, title: str, description: str, height: int, drawn: Iterable[str]) -> str:
    """A whole SVG."""
    name = marker.drawing
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"'
        f' aria-labelledby="{name}-title {name}-desc" style="max-width:100%;min-width:560px;height:auto"'
        ' fill="currentColor" font-family="system-ui, sans-serif" font-size="12.5">\n'
        f'  <title id="{name}-title">{escape(title)}</title>\n'
        f'  <desc id="{name}-desc">{escape(description)}</desc>\n'
        f"{_STYLE}"
        f'  <defs>\n    <marker id="{name}-{marker.name}" viewBox="0 0 8 8" refX="4" refY="4"'
        f' markerWidth="6" markerHeight="6" orient="auto">{marker.shape}</marker>\n  </defs>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, anchor: str, *, bold: bool = False) -> str:
    """A line of text."""
    weight = ' font-weight="600"' if bold else ""
    return f'  <text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def path(way: str, more: str = "") -> str:
    """A line."""
    return f'  <path d="{way}" fill="none" stroke="currentColor" stroke-width="1.5" {more}/>'.replace(
        " />", "/>"
    )


def _bytes(name: str) -> float:
    number, unit = name.split()
    return float(number) * (1_024 if unit == "KiB" else 1)


def _micros(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
