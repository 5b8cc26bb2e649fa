"""The entry point: makes the adapter named "arq"."""

from collections.abc import Mapping
from typing import Any

from sigra_workers import hookimpl
from sigra_workers_arq.adapter import ArqAdapter


@hookimpl
def sigra_adapter(name: str, settings: Mapping[str, Any]) -> ArqAdapter | None:
    """Make the arq adapter, opening nothing; raises `InvalidSettingsError`."""
    return ArqAdapter(settings) if name == "arq" else None
