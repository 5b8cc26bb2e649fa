"""The boot file of the other queue's processes."""

import os

import arq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_arq import boot

WorkerSettings = boot("arq_host.jobs:workers", queue=os.environ["HOST_OTHER_QUEUE"], poll_delay=0.05)
