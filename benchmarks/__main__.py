"""``python -m benchmarks``: measure, and write the report."""

import argparse
import sys
from collections.abc import Iterator

from benchmarks import core, processes, queues, scale, servers, trail
from benchmarks.measuring import QUICK, Measured, Pace, Row, measure, shown
from benchmarks.report import LOAD, Report, Result, about


def rows() -> Iterator[Row]:
    """All rows, in the order of the report."""
    for part in (queues, processes, core, trail, scale):
        yield from part.rows()


def line(found: Measured) -> str:
    """What is printed of a row."""
    row, (low, high) = found.row, found.spread
    unit = row.target.unit
    verdict = "met" if found.met else "MISSED"
    floor = "" if found.floor is None else f", floor {shown(found.floor, unit)}"
    spread = f"({shown(low, unit)} to {shown(high, unit)}{floor})"
    return f"{shown(found.figure, unit):>10}  {spread}  {row.target}  {verdict}  {row.what}\n"


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look, which writes no report")
    parser.add_argument("--write", action="store_true", help="write the report all the same")
    parser.add_argument("--render", action="store_true", help="measure nothing, write page and plots anew")
    parser.add_argument("-k", default="", help="only rows whose text has this; the report keeps the others")
    options = parser.parse_args()
    if options.render:
        Report.load().save()
        return 0
    pace = QUICK if options.quick else Pace()
    wanted = [row for row in rows() if options.k in f"{row.group}: {row.what}"]
    found: list[Result] = []
    writes = options.write or not options.quick
    facts: dict[str, str] = {}
    try:
        if writes:
            facts = about("a short look" if options.quick else "all rounds")
        for row in wanted:
            measured = measure(row, pace)
            found.append(Result.of(measured))
            sys.stdout.write(line(measured))
            sys.stdout.flush()
    finally:
        servers.close()
        if writes and found:
            write(found, facts, only=bool(options.k))
    return 0


def write(found: list[Result], facts: dict[str, str], *, only: bool) -> None:
    """Write the report; what was not measured now is kept, if it was measured in the same way.

    Where a run of all rows broke, what it has is kept for another one of those that are left.
    """
    new = {result.what: result for result in found}
    before = Report.load()
    if {**before.about, LOAD: ""} == {**facts, LOAD: ""}:
        new = {result.what: result for result in before.results} | new
    order = [row.what for row in rows()]
    missing = [what for what in order if what not in new]
    if not missing:
        Report(facts, [new[what] for what in order]).save()
    elif only:
        raise SystemExit("the report is of another machine, other versions or another pace: measure all rows")
    else:
        Report(facts, found).keep()
        raise SystemExit(f"not measured, and so not written: measure with -k {missing}")


if __name__ == "__main__":
    sys.exit(main())
