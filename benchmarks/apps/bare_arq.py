"""arq by itself."""

import os
from typing import Any, Final

from arq.connections import RedisSettings

from benchmarks import places


async def close(ctx: dict[Any, Any], args: dict[str, Any]) -> None:
    """Do nothing."""


async def locked(ctx: dict[Any, Any], args: dict[str, Any]) -> None:
    """Do nothing, under a lock."""
    redis, key = ctx["redis"], f"lock:{ctx['job_id']}"
    if await redis.set(key, "1", nx=True, ex=30):
        await redis.delete(key)


class WorkerSettings:
    """What arq reads."""

    functions: Final = [close, locked]
    queue_name = places.BARE
    redis_settings = RedisSettings.from_dsn(places.REDIS)
    poll_delay = float(os.environ["POLL_DELAY"])
