"""The registry; importing it opens nothing."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from tests.queues.host import QUEUE, Host, declare


def make_host(settings: Mapping[str, Any], queue: str = "default", queues: Iterable[str] = ()) -> Host:
    """An application on that Redis, with its jobs on that queue."""
    return declare("rq", settings, queue, queues)


host = make_host(
    {
        "url": os.environ.get("HOST_REDIS_URL", "redis://127.0.0.1:6379/7"),
        "serializer": os.environ.get("HOST_SERIALIZER", "json"),
    },
    QUEUE,
)
workers = host.workers
