"""The workers themselves; imported by worker processes only."""

from tests.queues.implementations import Steps

from arq_host.jobs import host
from sigra_workers import Ok


def unpicklable() -> Ok[object]:
    """What arq's own serializer can't store."""
    return Ok(lambda: None)


workers = host.workers
steps = Steps(host, **{"lambda": unpicklable})
