"""The boot file of the demo's worker process."""

from typing import Final

from sigra_workers_arq import boot

WorkerSettings: Final = boot("sigra_workers.demo.app:workers", poll_delay=0.1)
