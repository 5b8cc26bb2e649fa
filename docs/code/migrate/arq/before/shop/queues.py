"""The application's Redis and queue."""

import os

from arq.connections import RedisSettings
from arq.constants import default_queue_name

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
QUEUE = default_queue_name
redis_settings = RedisSettings.from_dsn(REDIS_URL)
