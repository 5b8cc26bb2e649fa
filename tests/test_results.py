"""Results: what `perform` may return."""

import copy
import pickle
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest

from sigra_workers import Cancel, Error, Ok, Snooze
from sigra_workers.results import MAX_SNOOZE

ALL = [Ok(), Ok("closed"), Ok[str]("closed"), Error("no"), Snooze(5), Cancel("hold")]


@pytest.mark.parametrize("result", ALL)
def test_a_result_survives_pickling_and_copying(result: Any) -> None:
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result


@pytest.mark.parametrize("result", ALL)
def test_a_result_is_immutable_and_takes_no_other_attributes(result: Any) -> None:
    for name in ("value", "reason", "seconds"):
        if hasattr(result, name):
            with pytest.raises(FrozenInstanceError):
                setattr(result, name, "other")
    assert not hasattr(result, "__dict__")


def test_ok_without_a_value_is_ok_of_none() -> None:
    assert Ok().value is None
    assert Ok() == Ok(None)
    assert Ok("a") != Ok("b")


def test_results_of_different_kinds_are_never_equal() -> None:
    results: list[object] = [Ok("x"), Error("x"), Cancel("x")]
    assert all((one == other) is (one is other) for one in results for other in results)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1, 1),
        (MAX_SNOOZE, MAX_SNOOZE),
        (timedelta(seconds=1), 1),
        (timedelta(milliseconds=1), 1),
        (timedelta(seconds=1, microseconds=1), 2),
        (timedelta(hours=1), 3_600),
        (timedelta(days=366), MAX_SNOOZE),
    ],
)
def test_snooze_is_in_whole_seconds_a_timedelta_rounded_up(given: int | timedelta, seconds: int) -> None:
    assert Snooze(given).seconds == seconds
    assert Snooze(given) == Snooze(seconds)


@pytest.mark.parametrize(
    "given", [0, -1, MAX_SNOOZE + 1, timedelta(0), timedelta(seconds=-5), timedelta(days=366, microseconds=1)]
)
def test_a_snooze_out_of_range_is_a_value_error(given: int | timedelta) -> None:
    with pytest.raises(ValueError, match="1 second to 366 days"):
        Snooze(given)


@pytest.mark.parametrize("given", [1.5, "60", None, True])
def test_a_snooze_of_another_type_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(given).__name__}"):
        Snooze(given)
