"""The entry point: makes the adapter named "toy"."""

from collections.abc import Mapping
from typing import Any

from sigra_workers import Adapter, hookimpl
from sigra_workers_toy.adapter import ToyAdapter


@hookimpl
def sigra_adapter(name: str, settings: Mapping[str, Any]) -> Adapter | None:
    """Make the toy adapter, opening nothing; raises `InvalidSettingsError`."""
    return ToyAdapter(settings) if name == "toy" else None
