"""The boot file of the conformance kit's worker processes."""

import sigra_workers.conformance.workers  # noqa: F401  # pyright: ignore[reportUnusedImport]  # implements the kit's workers
from dramatiq_host.brokers import keep_results
from sigra_workers.conformance.app import workers
from sigra_workers_dramatiq import DramatiqAdapter, boot

keep_results(DramatiqAdapter.of(workers))
boot(workers)
