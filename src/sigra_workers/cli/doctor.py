"""The command `sigra-workers doctor`: what would lose, leak or stall jobs."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sigra_workers.checks import Status
from sigra_workers.cli.options import application, as_json
from sigra_workers.cli.output import printable
from sigra_workers.doctor import Examined, examine
from sigra_workers.workers import Workers

_ORDER: Final[Sequence[Status]] = ("problem", "warning", "unknown", "ok")


def describe(commands: Any) -> None:
    """What the command takes."""
    doctor = commands.add_parser(
        "doctor",
        parents=[application(), as_json()],
        help="find what would lose, leak or stall jobs",
        epilog="The exit code is 1 where there is a problem.",
    )
    doctor.add_argument(
        "--only",
        metavar="CHECK",
        action="append",
        default=[],
        help="this check, such as redis.persistence, or all below, such as redis; may be repeated",
    )


def run(workers: Workers[Any], options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    found = sorted(examine(workers, options.only), key=lambda one: _ORDER.index(one.finding.status))
    if options.json:
        print(json.dumps([_facts(one) for one in found], indent=2))
    else:
        for one in found:
            _show(one)
        counts = Counter(one.finding.status for one in found)
        print(", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status]) or "no findings")
    return int(any(one.finding.status == "problem" for one in found))


def _facts(one: Examined) -> dict[str, str]:
    finding = one.finding
    return {
        "check": one.check,
        "status": finding.status,
        "what": finding.what,
        "mend": finding.mend,
        "page": finding.page,
    }


def _show(one: Examined) -> None:
    finding = one.finding
    print(printable(f"{finding.status:8} {one.check}: {finding.what}"))
    if finding.status != "ok":
        for title, text in (("mend", finding.mend), ("read", finding.page)):
            if text:
                print(printable(f"         {title}: {text}"))
