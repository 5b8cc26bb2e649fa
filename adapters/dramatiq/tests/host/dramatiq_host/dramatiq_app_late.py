"""The boot file of a host whose broker lacks what it needs, and gets some of it when our actors are there."""

import os
from unittest.mock import patch

from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import TimeLimit

import dramatiq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from dramatiq_host.jobs import make_host
from sigra_workers_dramatiq import boot, presence

patch.object(presence, "ANNOUNCED", 0.2).start()
broker = RedisBroker(url=os.environ["HOST_REDIS_URL"], middleware=[])  # type: ignore[no-untyped-call]
boot(make_host({"broker": broker}, os.environ["HOST_QUEUE"]).workers)
broker.add_middleware(TimeLimit())
