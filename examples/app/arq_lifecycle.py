"""Boot file: arq app.arq_lifecycle.WorkerSettings, and one like it for each other queue."""

import app.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]  # registers what does the jobs
from sigra_workers_arq import boot

WorkerSettings = boot("app.jobs:workers", queue="lifecycle")
