"""One check of the doctor, for the tests of all adapters: what it finds, told as a user needs it."""

import re
from pathlib import Path
from typing import Any, Final

from sigra_workers import Workers
from sigra_workers.checks import Finding
from sigra_workers.doctor import examine

ROOT: Final = Path(__file__).parents[1]


def look(workers: Workers[Any], check: str) -> list[Finding]:
    """What that check finds; where it is not ok, it says what to do and where to read on."""
    found = [one.finding for one in examine(workers, [check])]
    assert found, check
    for finding in found:
        assert "\n" not in finding.what
        if finding.status != "ok":
            assert ": " in finding.what, finding  # what it is: what it does to jobs
            assert finding.mend, finding
            assert_is_there(finding.page)
    return found


def passes(workers: Workers[Any], check: str) -> bool:
    """Whether the check finds nothing, by now."""
    return {finding.status for finding in look(workers, check)} == {"ok"}


def sound(workers: Workers[Any], check: str) -> str:
    """What the check says of a set-up that it must pass."""
    found = look(workers, check)
    assert {finding.status for finding in found} == {"ok"}, found
    return "; ".join(finding.what for finding in found)


def broken(workers: Workers[Any], check: str, status: str = "problem") -> str:
    """What the check says of a set-up that it must find, with the mend."""
    found = [finding for finding in look(workers, check) if finding.status != "ok"]
    assert {finding.status for finding in found} == {status}, found
    return "; ".join(f"{finding.what} -> {finding.mend}" for finding in found)


def assert_is_there(page: str) -> None:
    """A page, and its section where one is named."""
    path, _, section = page.partition("#")
    text = (ROOT / path).read_text()
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    assert not section or section in {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles
    }, page
