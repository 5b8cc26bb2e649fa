"""What the commands' options have in common: how their values are read, and which they share."""

import argparse
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

from sigra_workers import Id

TIMES: Final = "90s, 30m, 2h, 3d, 1w, or a time as in ISO 8601, local if it has no zone"
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line, but repeats no URL of it: that may hold a password."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        super().error(re.sub("://.*", "://...", message, flags=re.DOTALL))


def application() -> Parser:
    """Which application."""
    parent = Parser(add_help=False)
    parent.add_argument("path", metavar="MODULE:ATTRIBUTE", help="such as app.jobs:workers")
    return parent


def as_json(what: str = "as JSON") -> Parser:
    """For programs rather than people."""
    parent = Parser(add_help=False)
    parent.add_argument("--json", action="store_true", help=what)
    return parent


def text(given: str) -> str:
    """A filter that is empty, as of a variable that is not set, must not mean all there is."""
    if not given.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return given


def moment(given: str) -> datetime:
    """A time, or how long ago."""
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", given)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{given!r} is no time: expected such as 2h, 3d or 2026-01-31T12:00"
        ) from None


def number(what: str, least: int = 1, most: int | None = None) -> Callable[[str], int]:
    """How many of something."""

    def parse(given: str) -> int:
        if re.fullmatch(r"\d{1,9}", given) and least <= int(given) <= (most or int(given)):
            return int(given)
        expected = f"{least} or more" if most is None else f"{least} to {most}"
        raise argparse.ArgumentTypeError(f"{given!r} is no number of {what}: expected {expected}")

    return parse


def identifier(given: str) -> Id:
    """An id: the int that it looks like, or the text; in JSON's quotes it is a text in any case."""
    found = read_id(text(given))
    return text(found) if isinstance(found, str) else found


def read_id(given: str) -> Id:
    """`identifier` of any text, empty or not."""
    if re.fullmatch(r"0|-?[1-9][0-9]{0,30}", given):
        return int(given)
    if given.startswith('"'):
        try:
            return str(json.loads(given))
        except ValueError:
            pass
    return given
