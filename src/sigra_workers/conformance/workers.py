"""The implementations of the kit's workers: for the boot module of a worker process to import."""

from sigra_workers.conformance.app import setup, workers
from sigra_workers.conformance.script import implement

implement(workers, setup)
