"""A bar on standard error that tells how far something long is."""

import os
import sys
from datetime import timedelta
from time import monotonic
from typing import Final, Self

REDRAW: Final = 0.2
"""Seconds between two looks of the bar."""


class Progress:
    """Counts, and draws a bar on standard error; none where the total is None."""

    def __init__(self, total: int | None) -> None:
        self.done = 0
        self._total = total
        self._started = self._drawn_at = monotonic()
        self._drawn = ""

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        if self._drawn:
            print(f"\r{' ' * len(self._drawn)}\r", end="", file=sys.stderr, flush=True)

    def step(self) -> None:
        """One more."""
        self.done += 1
        if self._total is not None and monotonic() - self._drawn_at >= REDRAW:
            self._draw()

    def _draw(self) -> None:
        if self._total is None:
            return
        self._drawn_at = monotonic()
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = bar(self.done, self._total, self._drawn_at - self._started)[: columns - 1]
        print(f"\r{line:{len(self._drawn)}}", end="", file=sys.stderr, flush=True)
        self._drawn = line


def bar(done: int, total: int, seconds: float) -> str:
    """How far, how fast, and how long to go."""
    total = max(total, done)
    share = done / total if total else 1.0
    rate = done / seconds if seconds else 0.0
    left = timedelta(seconds=round((total - done) / rate)) if rate else "?"
    full = "#" * int(20 * share)
    return f"[{full:-<20}] {share:4.0%}  {done} of {total}  {rate:.0f} events/s  {left} left"
