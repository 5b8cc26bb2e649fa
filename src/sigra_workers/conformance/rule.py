"""What makes a test of a rule: its number, its statement, and how it fails."""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeAlias

import pytest

from sigra_workers.conformance.bench import Bench, Broken

Body: TypeAlias = Callable[[Any, Bench], Generator[None]]
_NAME: Final = re.compile(r"test_r(\d\d)_\w+")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, as documentation lists it; `body` checks it."""

    number: int
    statement: str
    body: Body

    def __str__(self) -> str:
        return f"R{self.number:02}: {self.statement}"


def rule(body: Body) -> Callable[[Any, Bench], None]:
    """Make a test of a rule: its number is in its name, its statement is its docstring.

    It is a generator: what it does before its ``yield`` is done before any rule is checked, so that the jobs
    of all rules wait side by side; what it checks comes behind.
    """
    match = _NAME.fullmatch(body.__name__)
    if match is None or not body.__doc__:
        raise TypeError(f"{body.__name__} is no rule: it is named test_r01_..., and its docstring says it")
    found = Rule(int(match[1]), " ".join(body.__doc__.split()), body)

    @wraps(body)
    def test(self: Any, bench: Bench) -> None:
        try:
            bench.begun[body.__name__].end()
        except Broken as error:
            message = f"the adapter breaks rule {found}\n\n{error}"
            raise pytest.fail.Exception(message, pytrace=False) from None
        except Exception as error:
            error.add_note(f"while checking rule {found}")
            raise

    vars(test)["rule"] = found
    return test


def rule_of(test: object) -> Rule | None:
    """The rule that a function tests."""
    found = getattr(test, "rule", None)
    return found if isinstance(found, Rule) else None
