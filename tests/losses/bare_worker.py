"""What worker processes of a bare queue import: the same scripts, as a function, an actor or a coroutine."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import dramatiq
from arq import Retry
from arq.connections import RedisSettings
from arq.worker import func
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from tests.losses.host import BACKOFF, VARIABLE, BareRun

from sigra_workers_dramatiq.connect import HEARTBEAT, MAINTENANCE

SERVED: Final[dict[str, Any]] = json.loads(os.environ[VARIABLE])
URL: Final[str] = SERVED["settings"]["url"]


def step(job: str, steps: list[str]) -> None:
    """One run of a job."""
    run = BareRun(Path(SERVED["folder"]), job, steps)
    while run.waits():
        time.sleep(0.05)
    if run.end() == "error":
        raise RuntimeError("refused")


async def astep(_: Any, job: str, steps: list[str]) -> None:
    """The same on arq, which retries what asks for it."""
    run = BareRun(Path(SERVED["folder"]), job, steps)
    while run.waits():  # noqa: ASYNC110  # for a file
        await asyncio.sleep(0.05)
    if run.end() == "error":
        raise Retry(defer=BACKOFF)


class WorkerSettings:
    """arq's."""

    functions: ClassVar = [
        func(cast("Any", astep), name=f"step{tries}", max_tries=tries, timeout=30) for tries in (2, 3)
    ]
    redis_settings = RedisSettings.from_dsn(URL) if URL.startswith("redis:") else None
    queue_name = SERVED["queue"]
    max_jobs = 20
    job_completion_wait = int(os.environ.get("GRACE", "0"))


if SERVED["adapter"] == "dramatiq":
    broker: Any
    if URL.startswith("amqp:"):
        broker = RabbitmqBroker(url=URL, confirm_delivery=True)
    else:
        broker = RedisBroker(url=URL, maintenance_chance=MAINTENANCE, heartbeat_timeout=HEARTBEAT)  # type: ignore[no-untyped-call]
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(
        queue_name=SERVED["queue"], min_backoff=BACKOFF * 1_000, max_backoff=BACKOFF * 1_000
    )(step)
