"""Boot file of arq for the probes without arounds."""

import config.boot  # noqa: F401  # pyright: ignore[reportUnusedImport]
from probes.jobs import bare
from sigra_workers_arq import boot

WorkerSettings = boot(bare, queue="accounts")
