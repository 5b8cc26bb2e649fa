"""The same job, as one of RQ's own."""

import math
import os

from redis import Redis
from rq import Queue, Retry, get_current_job
from rq.job import Job

from app.accounts import CloseAccount, CloseAccountArgs
from app.results import Cancel, Error, Ok, Result, Snooze, scope_of

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
queue = Queue("accounts", connection=Redis.from_url(REDIS_URL), serializer="json")


def close(args: CloseAccountArgs) -> object:
    """What RQ calls."""
    return settle(CloseAccount().perform(scope_of(args), args))


def settle(result: Result[object]) -> object:
    """What RQ does with a result."""
    match result:
        case Ok(value):
            return value
        case Snooze(seconds):  # costs no retry; RQ may be a second early
            return Retry(max=1_000_000, interval=math.ceil(seconds) + 1)
        case Error(reason):
            raise RuntimeError(reason)  # costs one
        case Cancel(reason):
            job = get_current_job()
            if job is not None:
                job.retries_left = 0
            raise RuntimeError(reason)


def send(args: CloseAccountArgs) -> Job:
    """What a web handler calls."""
    return queue.enqueue(close, args, retry=Retry(max=4, interval=[15, 30, 60, 120]), job_timeout=60)
