"""Boot file of Dramatiq for the probes without arounds."""

import config.boot  # noqa: F401  # pyright: ignore[reportUnusedImport]
from probes.jobs import bare
from sigra_workers_dramatiq import boot

boot(bare)
