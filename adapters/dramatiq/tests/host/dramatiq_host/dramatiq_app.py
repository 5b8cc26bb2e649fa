"""The boot file of the worker processes."""

import dramatiq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_dramatiq import boot

boot("dramatiq_host.jobs:workers")
