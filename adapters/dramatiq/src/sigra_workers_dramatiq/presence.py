"""A worker process says that it is alive, and what it runs with: for the doctor."""

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from dramatiq import Actor, Worker
from dramatiq.common import q_name

from sigra_workers.checks import versions
from sigra_workers.store import ANNOUNCED, Command, Store


class Presence:
    """Tells the store, every 10 s; whether Redis hears it makes no difference to any job.

    `actor` is one of ours, and `options` are what such an actor sets, where middleware knows it.
    """

    def __init__(
        self, store: Store, worker: Worker, actor: Actor[..., object], options: Collection[str]
    ) -> None:
        self._store, self._worker, self._actor, self._options = store, worker, actor, options
        self._token = store.token()
        self._due = 0.0

    def tell(self) -> None:
        """Say so, where that is due."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + ANNOUNCED
            queues = {q_name(name) for name in [*self._worker.consumers]}
            self._tell(self._store.announce(self._token, queues, self._facts()))

    def end(self) -> None:
        """The process takes no more jobs."""
        self._tell(self._store.leave(self._token))

    def _tell(self, command: Command) -> None:
        with suppress(Exception):  # the client's
            self._store.client.eval(*command)

    def _facts(self) -> dict[str, Any]:
        broker: Any = self._worker.broker
        unset = ({*self._options} & broker.actor_options) - {*self._actor.options}
        return {
            "versions": versions("sigra-workers-dramatiq", "dramatiq"),
            "middleware": [type(middleware).__name__ for middleware in broker.middleware],
            "unset": sorted(unset),
            "maintenance_chance": getattr(broker, "maintenance_chance", None),
            "confirm_delivery": getattr(broker, "confirm_delivery", None),
        }
