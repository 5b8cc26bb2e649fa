"""The application's broker and queue."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
QUEUE = "mail"
broker = RedisBroker(url=REDIS_URL, maintenance_chance=1_000_000)  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)
