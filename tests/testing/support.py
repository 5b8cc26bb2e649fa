"""A host under test: workers with one worker, in the hands of the kit."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple, TypeAlias

from tests.support import KEYS, Host, Kind, Mode, of_kind

from sigra_workers import JobRef, Outcome, Payload, Result, TenantArgs, WorkerHandle
from sigra_workers.testing import RunEnding, SigraTesting, testing


class Way(NamedTuple):
    """From where the kit is called, and of which kind the worker is."""

    call: Literal["here", "in_a_loop", "awaited"]
    kind: Kind


WAYS = [Way(call, kind) for call in ("here", "in_a_loop", "awaited") for kind in ("def", "async def")]


class Kit(Host):
    """A host whose jobs go through the kit, in each of the ways there are."""

    def __init__(self, stack: ExitStack, way: Way, **options: Any) -> None:
        super().__init__(Mode("dispatch", way.kind), **options)
        self.way = way
        self.sigra: SigraTesting[Any] = stack.enter_context(testing(self.workers, clock=self.clock))

    def call(self, function: Callable[..., Any], twin: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.way.call == "here":
            return function(*args, **options)

        async def main() -> Any:
            if self.way.call == "awaited":
                return await twin(*args, **options)
            return function(*args, **options)

        return asyncio.run(main())

    def perform(self, args: Any = KEYS, **facts: Any) -> Result[Any]:
        sigra = self.sigra
        found: Result[Any] = self.call(sigra.perform_job, sigra.aperform_job, self.handle, args, **facts)
        return found

    def perform_payload(self, payload: object, **facts: Any) -> Outcome:
        sigra = self.sigra
        found: Outcome = self.call(sigra.perform_payload, sigra.aperform_payload, payload, **facts)
        return found

    def enqueue(self, args: Any = KEYS, handle: Any = None, **options: Any) -> str:
        sender: WorkerHandle[Any, Any, Any] = handle or self.handle
        ref: JobRef = self.call(sender.enqueue, sender.aenqueue, args, **options)
        return ref.id

    def drain(self, **options: Any) -> Counter[RunEnding]:
        found: Counter[RunEnding] = self.call(self.sigra.drain, self.sigra.adrain, **options)
        return found

    def other(self, name: str, body: Any, **options: Any) -> WorkerHandle[Any, Any, Any]:
        """One more worker, of the same kind."""
        handle: WorkerHandle[Any, Any, Any] = self.workers.declare(name, TenantArgs, **options)
        handle.implement(of_kind(self.way.kind, body))
        return handle

    @property
    def waiting(self) -> list[Payload]:
        return self.sigra.all_enqueued()


Make: TypeAlias = Callable[..., Kit]
