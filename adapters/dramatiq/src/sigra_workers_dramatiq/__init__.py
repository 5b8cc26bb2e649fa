"""Run sigra-workers jobs on Dramatiq, with Redis or RabbitMQ: the adapter, and its worker processes."""

from sigra_workers_dramatiq.adapter import DramatiqAdapter
from sigra_workers_dramatiq.process import boot

__version__ = "0.1.0"

__all__ = ["DramatiqAdapter", "__version__", "boot"]
