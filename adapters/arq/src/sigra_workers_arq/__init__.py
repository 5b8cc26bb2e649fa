"""Run sigra-workers jobs on arq: the adapter, and the settings of its worker processes."""

from typing import Any

from sigra_workers_arq.adapter import ArqAdapter
from sigra_workers_arq.process import boot

__version__ = "0.1.0"

__all__ = ["ArqAdapter", "__version__", "boot"]


def __getattr__(name: str) -> Any:
    """``arq sigra_workers_arq.WorkerSettings``: the settings for what SIGRA_WORKERS names."""
    if name == "WorkerSettings":
        return boot()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
