"""Run sigra-workers jobs on RQ: the adapter, the function its worker processes call, and a strict worker."""

from sigra_workers_rq.adapter import RqAdapter
from sigra_workers_rq.process import boot, dispatch
from sigra_workers_rq.strict import ForeignJobError, Job, Worker

__version__ = "0.1.0"

__all__ = ["ForeignJobError", "Job", "RqAdapter", "Worker", "__version__", "boot", "dispatch"]
