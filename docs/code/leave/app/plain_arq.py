"""The same job, as one of arq's own functions."""

import asyncio
import os
from typing import Any

from arq import Retry, create_pool, func
from arq.connections import RedisSettings

from app.accounts import CloseAccount, CloseAccountArgs
from app.results import Cancel, Error, Ok, Snooze, scope_of

REDIS = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
QUEUE = "accounts"
TRIES = 5


async def close(ctx: dict[str, Any], args: CloseAccountArgs) -> object:
    """What arq calls."""
    retry = Retry(defer=15 * ctx["job_try"])
    try:
        result = await asyncio.to_thread(CloseAccount().perform, scope_of(args), args)
    except Exception as error:
        if ctx["job_try"] < TRIES:  # arq tries again only what raises its own
            raise retry from error
        raise
    match result:
        case Ok(value):
            return value
        case Snooze(seconds):  # a job of its own: arq counts each run of one as a try
            return await ctx["redis"].enqueue_job("close", args, _queue_name=QUEUE, _defer_by=seconds)
        case Error() if ctx["job_try"] < TRIES:
            raise retry
        case Error(reason) | Cancel(reason):
            raise RuntimeError(reason)  # arq forgets it within the hour


async def send(args: CloseAccountArgs) -> None:
    """What a web handler calls."""
    redis = await create_pool(REDIS)
    await redis.enqueue_job("close", args, _queue_name=QUEUE)
    await redis.aclose()


class WorkerSettings:
    """What arq reads."""

    functions = (func(close, name="close", max_tries=TRIES),)
    queue_name = QUEUE
    redis_settings = REDIS
    job_completion_wait = 25
