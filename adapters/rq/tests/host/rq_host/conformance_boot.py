"""The boot file of the conformance kit's worker processes."""

import sigra_workers.conformance.workers  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_rq import boot

boot("sigra_workers.conformance.app:workers")
