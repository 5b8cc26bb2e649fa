"""What every adapter's worker process begins with: for adapters."""

import logging
import os
from typing import Any

from typing_extensions import TypeVar

from sigra_workers.errors import InvalidSettingsError, WorkersNotBoundError
from sigra_workers.workers import Workers, load_workers

AdapterT = TypeVar("AdapterT")


def adapter_of(workers: Workers[Any], kind: type[AdapterT], name: str) -> AdapterT:
    """The adapter of `workers`, as its own class; or `InvalidSettingsError` where they use another one."""
    adapter = workers.adapter
    if not isinstance(adapter, kind):
        problem = f"these workers use adapter {workers.adapter_name!r}, expected {name!r}"
        raise InvalidSettingsError("boot", f"{problem}: is it chosen here as it is by the sender?")
    return adapter


def bind(workers: "str | Workers[Any] | None", name: str, command: str) -> Workers[Any]:
    """The `Workers` of a worker process: the object, ``module:attribute``, or what SIGRA_WORKERS names.

    Raises `NotFoundError` for a path that leads nowhere, `WorkersNotBoundError` without any, which shows the
    `command`; warns of workers that are not implemented here.
    """
    found = workers or os.environ.get("SIGRA_WORKERS")
    if not found:
        raise WorkersNotBoundError(name, command)
    bound = load_workers(found) if isinstance(found, str) else found
    for handle in bound.handles:
        if handle.implementation is None:
            logging.getLogger(f"sigra_workers.{name}").warning(
                "worker %r is not implemented in this process: its jobs wait for one that does", handle.name
            )
    return bound
