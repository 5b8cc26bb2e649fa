"""The entry point: makes the adapter named "rq"."""

from collections.abc import Mapping
from typing import Any

from sigra_workers import hookimpl
from sigra_workers_rq.adapter import RqAdapter


@hookimpl
def sigra_adapter(name: str, settings: Mapping[str, Any]) -> RqAdapter | None:
    """Make the RQ adapter, opening nothing; raises `InvalidSettingsError`."""
    return RqAdapter(settings) if name == "rq" else None
