"""A boot file of a host that has functions and cron jobs of its own beside ours."""

import os

import arq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from arq_host import plain
from sigra_workers_arq import boot

WorkerSettings = boot(
    "arq_host.jobs:workers",
    queue=os.environ["HOST_QUEUE"],
    functions=plain.FUNCTIONS,
    cron_jobs=plain.CRON_JOBS,
    on_startup=plain.startup,
    job_timeout=0.8,
    poll_delay=0.05,
)
