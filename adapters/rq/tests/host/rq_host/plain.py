"""Jobs of the host's own, which note that none of ours runs."""

from tests.queues.files import append

from sigra_workers import current_job


def add(first: int, second: int) -> int:
    append("plain.jsonl", {"sum": first + second, "job": getattr(current_job(), "id", None)})
    return first + second
