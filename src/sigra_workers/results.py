"""What `perform` returns: `Ok`, `Error`, `Snooze` or `Cancel`, the same on every queue."""

import math
from datetime import timedelta
from typing import Any, Final, Generic, TypeAlias, overload

from typing_extensions import TypeVar

from sigra_workers.records import record

MAX_SNOOZE: Final = 366 * 86_400
"""The longest snooze, in seconds: a leap year."""

R = TypeVar("R", default=object)
_Ok_co = TypeVar("_Ok_co", covariant=True, default=None)


@record(frozen=True, slots=True, init=False)
class Ok(Generic[_Ok_co]):
    """The job is done. `value` is kept where the queue keeps results."""

    value: _Ok_co

    @overload
    def __init__(self: "Ok[None]") -> None: ...
    @overload
    def __init__(self, value: _Ok_co) -> None: ...
    def __init__(self, value: Any = None) -> None:
        object.__setattr__(self, "value", value)


@record(frozen=True, slots=True)
class Error:
    """The job failed: it runs again while attempts are left. `reason` is kept when it dies."""

    reason: object


@record(frozen=True, slots=True, init=False)
class Snooze:
    """Run the job again, after at least so many seconds. Costs no attempt.

    A `timedelta` is rounded up to whole seconds. Raises `ValueError` below 1 s or beyond 366 days, and
    `TypeError` for anything but an int or a timedelta.
    """

    seconds: int

    def __init__(self, seconds: int | timedelta) -> None:
        if isinstance(seconds, timedelta):
            seconds = math.ceil(seconds.total_seconds())
        if isinstance(seconds, bool) or not isinstance(seconds, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Snooze takes whole seconds or a timedelta, not {type(seconds).__name__}")
        if not 1 <= seconds <= MAX_SNOOZE:
            raise ValueError(f"Snooze takes 1 second to 366 days ({MAX_SNOOZE} s), not {seconds} s")
        object.__setattr__(self, "seconds", seconds)


@record(frozen=True, slots=True)
class Cancel:
    """The job must not run again: it is dead at once, whatever attempts are left. `reason` is kept."""

    reason: object


Result: TypeAlias = Ok[R] | Error | Snooze | Cancel
"""What `perform` returns. None is no result, so a forgotten `return` is an error in every checker."""
