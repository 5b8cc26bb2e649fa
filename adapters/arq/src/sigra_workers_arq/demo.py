"""What `sigra-workers demo --adapter arq` needs: the settings, the worker command, and a clean-up."""

import os
import sys
from pathlib import Path
from typing import Any, Final

from sigra_workers_arq import wire
from sigra_workers_arq.adapter import ArqAdapter

URL: Final = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
SETTINGS: Final = {"url": URL}


def command(queue: str) -> list[str]:
    """The command of one worker process, as a host would run it; the demo has one queue alone."""
    return [str(Path(sys.executable).with_name("arq")), "sigra_workers_arq.demo_boot.WorkerSettings"]


def clean(name: str) -> None:
    """Remove the demo's queue and all jobs of it."""
    adapter = ArqAdapter(SETTINGS)
    waiting: Any = adapter.connection.zrange(name, 0, -1)
    keys = [wire.job_key(job_id.decode()) for job_id in waiting]
    adapter.connection.delete(name, f"{name}:health-check", *keys)
    adapter.purge([job.id for job in adapter.dead_jobs({}) if job.queue == name])
    adapter.close()
