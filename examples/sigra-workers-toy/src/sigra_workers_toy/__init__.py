"""A queue in a SQLite file: the smallest adapter that loses no job."""

from sigra_workers_toy.adapter import ToyAdapter
from sigra_workers_toy.process import WorkerProcess

__version__ = "0.1.0"

__all__ = ["ToyAdapter", "WorkerProcess", "__version__"]
