"""What `sigra-workers demo --adapter dramatiq` needs: the settings, the worker command, and a clean-up."""

import os
import sys
from pathlib import Path
from typing import Final

import pika
from dramatiq.common import dq_name, xq_name
from redis import Redis

from sigra_workers_dramatiq.adapter import DramatiqAdapter

REDIS_URL: Final = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
URL: Final = os.environ.get("DRAMATIQ_URL", REDIS_URL)
"""The broker's; ``amqp://guest:guest@127.0.0.1:5672`` for RabbitMQ."""
ON_REDIS: Final = URL.startswith("redis")
SETTINGS: Final = {"url": URL} if ON_REDIS else {"url": URL, "store": REDIS_URL}


def command(queue: str) -> list[str]:
    """The command of one worker process, as a host would run it."""
    dramatiq = str(Path(sys.executable).with_name("dramatiq"))
    return [dramatiq, "sigra_workers_dramatiq.demo_boot", "--processes", "1", "--queues", queue]


def clean(queue: str) -> None:
    """Remove the demo's queue and all jobs of it."""
    adapter = DramatiqAdapter(SETTINGS)
    adapter.purge([job.id for job in adapter.dead_jobs({}) if job.queue == queue])
    adapter.close()
    names = (queue, dq_name(queue), xq_name(queue))
    if ON_REDIS:
        with Redis.from_url(URL) as connection:
            keys = [f"dramatiq:{name}{ending}" for name in names for ending in ("", ".msgs")]
            connection.delete(*keys)
    else:
        with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
            channel = connection.channel()
            for name in names:
                channel.queue_delete(name)
