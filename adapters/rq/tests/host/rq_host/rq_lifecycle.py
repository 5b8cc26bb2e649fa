"""The boot file of the worker processes."""

import rq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_rq import boot

boot("rq_host.jobs:workers")
