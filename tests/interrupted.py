"""A connection to Redis whose next answer is cut short, as a job's time-out does."""

from typing import Any

from redis import Connection


class TimeUp(BaseException):
    """What another thread may raise in a job's."""


class Interrupted(Connection):
    """The next to read an answer is interrupted once, where `is_up` is set."""

    is_up = False

    def read_response(self, *args: Any, **options: Any) -> Any:
        if self.is_up:
            Interrupted.is_up = False
            raise TimeUp
        return super().read_response(*args, **options)  # type: ignore[no-untyped-call]
