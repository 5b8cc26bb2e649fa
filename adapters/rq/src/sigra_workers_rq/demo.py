"""What `sigra-workers demo --adapter rq` needs: the settings, the worker command, and a clean-up."""

import os
import sys
from pathlib import Path
from typing import Final

from redis import Redis
from rq import Queue

URL: Final = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
SETTINGS: Final = {"url": URL}


def command(queue: str) -> list[str]:
    """The command of one worker process, as a host would run it."""
    rq = str(Path(sys.executable).with_name("rq"))
    boot_file = "sigra_workers_rq.demo_boot"
    return [rq, "worker", "-c", boot_file, "--serializer", "json", "--with-scheduler", "--url", URL, queue]


def clean(name: str) -> None:
    """Remove the demo's queue and all jobs of it."""
    with Redis.from_url(URL) as connection:
        queue = Queue(name, connection=connection, serializer="json")
        for registry in (
            queue.failed_job_registry,
            queue.finished_job_registry,
            queue.scheduled_job_registry,
            queue.started_job_registry,
        ):
            for job_id in registry.get_job_ids():
                registry.remove(job_id, delete_job=True)
        queue.delete()
