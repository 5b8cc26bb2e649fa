"""Boot file: arq saas.arq_lifecycle.WorkerSettings."""

import saas.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]  # registers what does the jobs
from saas import config
from sigra_workers_arq import boot

WorkerSettings = boot("saas.jobs:workers", queue=config.QUEUE)
