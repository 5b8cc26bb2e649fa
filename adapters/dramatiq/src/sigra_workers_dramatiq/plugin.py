"""The entry point: makes the adapter named "dramatiq"."""

from collections.abc import Mapping
from typing import Any

from sigra_workers import hookimpl
from sigra_workers_dramatiq.adapter import DramatiqAdapter


@hookimpl
def sigra_adapter(name: str, settings: Mapping[str, Any]) -> DramatiqAdapter | None:
    """Make the Dramatiq adapter, opening nothing; raises `InvalidSettingsError`."""
    return DramatiqAdapter(settings) if name == "dramatiq" else None
