"""The regression guard: how many instructions `new` and `dispatch` take, for each of the bare work.

Instructions, counted by valgrind, are the same on a busy machine. They differ between builds of Python, and
so does the bare work beside them: what is kept and compared is the ratio.
"""

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

BASELINE: Final = Path(__file__).with_name("instructions.json")
TOLERANCE: Final = 0.05
"""How far above the baseline a ratio may be; one as far below it asks for a new baseline."""
CALLS: Final = 300
FENCE: Final = "getppid"
"""A function of the C library: at each call valgrind writes down what it has counted since the last."""
_VALGRIND: Final = ("valgrind", "--tool=callgrind", f"--dump-before={FENCE}", "--quiet")


def workloads() -> dict[str, Callable[[], object]]:
    """What is counted; `RATIOS` says what is compared with what."""
    from benchmarks.core import InProcess

    found = InProcess()
    return {
        "round trip": found.round_trip,
        "new": found.new,
        "load and call": found.load_and_call,
        "dispatch": found.dispatch,
        "dispatch, one listener": found.dispatch_with_listener,
    }


RATIOS: Final = {
    "new": "round trip",
    "dispatch": "load and call",
    "dispatch, one listener": "load and call",
}


def counted() -> None:
    """The process that valgrind watches: each workload some times, warm, between two fences."""
    calls = workloads()
    for call in calls.values():
        for _ in range(20):
            call()
    gc.collect()
    gc.disable()
    for call in calls.values():
        os.getppid()
        for _ in range(CALLS):
            call()
    os.getppid()


def count() -> dict[str, float]:
    """Instructions of one call of each workload."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        python = (sys.executable, "-c", f"from {__spec__.name} import counted; counted()")
        subprocess.run(  # noqa: S603  # this very module
            [*_VALGRIND, f"--callgrind-out-file={out}", *python],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=True,
        )
        # The first is all up to the first fence, the last all behind the last.
        dumps = [Path(f"{out}.{n}") for n in range(2, len(RATIOS) + 10) if Path(f"{out}.{n}").exists()]
        totals = [_total(dump) for dump in dumps]
    return {name: total / CALLS for name, total in zip(workloads(), totals, strict=False)}


def _total(dump: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"valgrind wrote no count of instructions to {dump}")
    return int(found[1])


def ratios(counts: Mapping[str, float]) -> dict[str, float]:
    """Each workload's instructions for one of the bare work."""
    return {name: round(counts[name] / counts[bare], 3) for name, bare in RATIOS.items()}


def main() -> int:
    """Compare with the baseline, or write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the baseline")
    options = parser.parse_args()
    counts = count()
    found = ratios(counts)
    before: dict[str, float] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if options.write:
        BASELINE.write_text(json.dumps(found, indent=2) + "\n")
    wrong = 0
    for name, ratio in found.items():
        was = before.get(name, 0.0)
        change = ratio / was - 1 if was else 0.0
        fits = abs(change) <= TOLERANCE and was > 0
        wrong += not fits
        sys.stdout.write(
            f"{name}: {counts[name]:,.0f} instructions, {ratio:.3f} of {RATIOS[name]!r},"
            f" baseline {was:.3f} ({change:+.1%}){'' if fits or options.write else '  <- too far off'}\n"
        )
    if wrong and not options.write:
        sys.stdout.write("mend it, or write a new baseline: python -m benchmarks.instructions --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
