"""RQ by itself."""

from typing import Any

from rq import get_current_job


def close(args: dict[str, Any]) -> None:
    """Do nothing."""


def locked(args: dict[str, Any]) -> None:
    """Do nothing, under a lock."""
    job: Any = get_current_job()
    key = f"lock:{job.id}"
    if job.connection.set(key, "1", nx=True, ex=30):
        job.connection.delete(key)
