"""The boot file of the demo's worker process."""

from sigra_workers_dramatiq import boot

boot("sigra_workers.demo.app:workers")
