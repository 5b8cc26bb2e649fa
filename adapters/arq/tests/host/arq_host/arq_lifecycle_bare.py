"""A boot file that forgot to import the implementations."""

import os

from sigra_workers_arq import boot

WorkerSettings = boot("arq_host.jobs:workers", queue=os.environ["HOST_QUEUE"], poll_delay=0.05)
