"""The boot file of the conformance kit's worker processes."""

import sigra_workers.conformance.workers  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers.conformance.app import QUEUE
from sigra_workers_arq import boot

WorkerSettings = boot("sigra_workers.conformance.app:workers", queue=QUEUE, poll_delay=0.05, max_jobs=40)
