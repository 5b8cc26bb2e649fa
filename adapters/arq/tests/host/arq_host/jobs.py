"""The registry; importing it opens nothing."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.queues.host import QUEUE, Host, declare


def to_json(found: dict[str, Any]) -> bytes:
    """A serializer as arq wants one."""
    return json.dumps(found).encode()


SERIALIZERS: Final[dict[str, dict[str, Any]]] = {
    "pickle": {},
    "json": {"job_serializer": to_json, "job_deserializer": json.loads},
}


def make_host(settings: Mapping[str, Any], queue: str = "default", queues: Iterable[str] = ()) -> Host:
    """An application on that Redis, with its jobs on that queue."""
    return declare("arq", settings, queue, queues)


host = make_host(
    {
        "url": os.environ.get("HOST_REDIS_URL", "redis://127.0.0.1:6379/8"),
        **SERIALIZERS[os.environ.get("HOST_SERIALIZER", "pickle")],
    },
    QUEUE,
    [os.environ["HOST_OTHER_QUEUE"]] if "HOST_OTHER_QUEUE" in os.environ else [],
)
workers = host.workers
