"""The application that is measured: ten keys of args, a job that does nothing."""

import json
from collections.abc import Sequence
from typing import Any, Final

from sigra_workers import AuditScope, AuditScopeBuilder, Ok, OrganizationArgs, Result, WorkerHandle, Workers

QUEUE: Final = "benchmarks"


class CloseArgs(OrganizationArgs):
    """Ten keys, of all kinds that JSON has."""

    account_id: str
    email: str
    amount: int
    rate: float
    urgent: bool
    tags: list[str]
    origin: dict[str, str | int]
    note: str | None


TEN_KEYS: Final = CloseArgs(
    organization_id="org_5f0c7a",
    actor_id="user_19c3e2",
    account_id="acc_77b1",
    email="ann@northwind.example",
    amount=1_250,
    rate=0.0725,
    urgent=True,
    tags=["billing", "closing"],
    origin={"source": "web", "try": 2},
    note="Closed at the request of its owner, who moves to another company.",
)


SCOPE: Final = AuditScopeBuilder().build(TEN_KEYS)


def close(scope: AuditScope, args: CloseArgs) -> Result[None]:
    """A `perform` that does nothing."""
    return Ok()


async def aclose(scope: AuditScope, args: CloseArgs) -> Result[None]:
    """Its async twin."""
    return Ok()


class Host:
    """Workers on some adapter, with a handle of each kind."""

    def __init__(
        self, adapter: str = "memory", plugins: Sequence[object] = (), queue: str = QUEUE, **settings: Any
    ) -> None:
        self.workers: Final = Workers[AuditScope](adapter=adapter, settings=settings, plugins=plugins)
        self.sync: Final = self._handle("accounts.close", queue)
        self.sync.implement(close)
        self.asynchronous: Final = self._handle("accounts.aclose", queue)
        self.asynchronous.implement(aclose)

    def _handle(self, name: str, queue: str) -> WorkerHandle[AuditScope, CloseArgs, object]:
        return self.workers.declare(name, CloseArgs, queue=queue)


def round_trip() -> object:
    """The yardstick of everything that is done with args."""
    return json.loads(json.dumps(TEN_KEYS))
