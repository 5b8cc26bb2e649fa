"""A plain arq process, as a host might put it on a queue of ours."""

import os

from arq.connections import RedisSettings

from arq_host import plain

WorkerSettings = {
    "functions": plain.FUNCTIONS,
    "queue_name": os.environ["HOST_QUEUE"],
    "redis_settings": RedisSettings.from_dsn(os.environ["HOST_REDIS_URL"]),
    "poll_delay": 0.05,
}
