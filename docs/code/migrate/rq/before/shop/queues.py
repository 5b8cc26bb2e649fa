"""The application's Redis and queue."""

import os

from redis import Redis
from rq import Queue

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
QUEUE = "mail"
connection = Redis.from_url(REDIS_URL)
mail = Queue(QUEUE, connection=connection)
