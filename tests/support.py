"""A host in a few lines, shared by the tests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from sigra_workers import (
    Again,
    Audit,
    AuditEvent,
    Complete,
    Dead,
    Delivery,
    MemorySink,
    Outcome,
    Payload,
    TenantArgs,
    WorkerHandle,
    Workers,
    adispatch,
    dispatch,
    hookimpl,
)
from sigra_workers.memory import HeldClock

Kind = Literal["def", "async def"]
Perform = Callable[[Any, Any], Any]
NOW = 1_800_000_000.0
KEYS: TenantArgs = {"organization_id": "org-1", "actor_id": "ann"}


class Mode(NamedTuple):
    """How a job is dispatched, and of which kind its worker is."""

    way: Literal["dispatch", "adispatch"]
    kind: Kind


MODES = [Mode(way, kind) for way in ("dispatch", "adispatch") for kind in ("def", "async def")]


def of_kind(kind: Kind, body: Perform) -> Perform:
    """The body as a worker's `perform` of that kind."""
    if kind == "def":
        return lambda scope, args: body(scope, args)

    async def perform(scope: Any, args: Any) -> Any:
        await asyncio.sleep(0)
        return body(scope, args)

    return perform


def after(action: Callable[[Any], object], result: Any) -> Perform:
    """A body that does something with its args and then returns the result."""

    def body(scope: Any, args: Any) -> Any:
        action(args)
        return result

    return body


class Builder:
    """A scope builder of either kind."""

    def __init__(self, kind: Kind, build: Callable[[Any], Any]) -> None:
        async def abuild(args: Any) -> Any:
            await asyncio.sleep(0)
            return build(args)

        self.build = build if kind == "def" else abuild


@dataclass
class Told:
    """A plugin that notes what the lifecycle hooks are told."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def of(self, name: str) -> dict[str, Any]:
        """What the one call of that hook was told."""
        (found,) = (facts for called, facts in self.calls if called == name)
        return found

    @hookimpl
    def sigra_enqueued(self, job: object, organization_id: object) -> None:
        self.calls.append(("enqueued", {"job": job, "organization_id": organization_id}))

    @hookimpl
    def sigra_started(self, job: object, organization_id: object) -> None:
        self.calls.append(("started", {"job": job, "organization_id": organization_id}))

    @hookimpl
    def sigra_finished(
        self, job: object, organization_id: object, decision: object, exception: object, duration: float
    ) -> None:
        facts = {"job": job, "organization_id": organization_id, "decision": decision}
        self.calls.append(("finished", {**facts, "exception": exception, "duration": duration}))

    @hookimpl
    def sigra_dead(self, job: object, organization_id: object, reason: str, exception: object) -> None:
        facts = {"job": job, "organization_id": organization_id, "reason": reason}
        self.calls.append(("dead", {**facts, "exception": exception}))


class Host:
    """Workers with one worker, a clock that is held, and everything that watches them."""

    def __init__(self, mode: Mode = MODES[0], *, plugins: tuple[object, ...] = (), **options: Any) -> None:
        self.mode = mode
        self.clock = HeldClock(NOW)
        self.told = Told()
        self.sink = MemorySink()
        self.outside: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
        self.audit = Audit(self.sink)
        self.workers: Workers[Any] = Workers(
            settings={"clock": self.clock}, audit=self.audit, plugins=[*plugins, self.told], **options
        )
        self.handle: WorkerHandle[Any, Any, Any]

    def worker(self, body: Perform, args_type: Any = TenantArgs, **options: Any) -> "Host":
        """Declare the worker and implement it with `body`, made to be of the mode's kind."""
        return self.exact(of_kind(self.mode.kind, body), args_type, **options)

    def exact(self, perform: Perform, args_type: Any = TenantArgs, **options: Any) -> "Host":
        """Declare the worker and implement it with `perform` as it is."""
        self.handle = self.workers.declare("accounts.close", args_type, **options)
        self.handle.implement(perform)
        return self

    def payload(self, args: Any = KEYS, **options: Any) -> Payload:
        """A job as it travels."""
        return self.handle.new(args, **options).payload(self.clock())

    def deliver(self, payload: object, crashes: int = 0, worker: str | None = None) -> Outcome:
        """Dispatch one delivery as the mode says."""
        text = payload.dump() if isinstance(payload, Payload) else payload
        delivery = Delivery(text, crashes, worker, self.outside)
        if self.mode.way == "dispatch":
            return dispatch(self.workers, delivery)
        return asyncio.run(adispatch(self.workers, delivery))

    def run(self, args: Any = KEYS, *, crashes: int = 0, **options: Any) -> Outcome:
        """Make a job and dispatch it."""
        return self.deliver(self.payload(args, **options), crashes)

    @property
    def events(self) -> list[AuditEvent]:
        return self.sink.events


def again(outcome: Outcome) -> Again:
    assert isinstance(outcome, Again), outcome
    return outcome


def dead(outcome: Outcome) -> Dead:
    assert isinstance(outcome, Dead), outcome
    return outcome


def completed(outcome: Outcome) -> Any:
    assert isinstance(outcome, Complete), outcome
    return cast("Any", outcome.value)
