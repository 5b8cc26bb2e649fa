"""The same job, as an actor of your own."""

import math
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from app.accounts import CloseAccount, CloseAccountArgs
from app.results import Cancel, Error, Ok, Snooze, scope_of

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
broker = RedisBroker(url=REDIS_URL, maintenance_chance=1_000_000)  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


class Cancelled(Exception):
    """Not to be tried again."""


@dramatiq.actor(queue_name="accounts", max_retries=4, throws=Cancelled)
def close(args: CloseAccountArgs) -> None:
    """What Dramatiq calls."""
    match CloseAccount().perform(scope_of(args), args):
        case Ok():
            pass
        case Snooze(seconds):  # a message of its own: Dramatiq counts each run of one as a retry
            close.send_with_options(args=(args,), delay=math.ceil(seconds * 1_000))
        case Error(reason):
            raise RuntimeError(reason)
        case Cancel(reason):
            raise Cancelled(reason)


def send(args: CloseAccountArgs) -> None:
    """What a web handler calls."""
    close.send(args)
