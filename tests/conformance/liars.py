"""A liar for every rule of the kit: an adapter that works, but for one thing.

How far that is so is looked at by sample: against its own rule, the first one and three more (test_liars.py).
"""

import asyncio
import inspect
import logging
import math
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from sigra_workers import (
    Again,
    AuditOnly,
    AuditScope,
    Complete,
    Dead,
    DeadJob,
    Delivery,
    Id,
    InvalidResultError,
    Job,
    JobCancelledError,
    Outcome,
    Outgoing,
    Payload,
    Receipt,
    Rejected,
    Resend,
    Sent,
    dispatch,
    hookimpl,
)
from sigra_workers.dead import DeadFilters
from sigra_workers.dispatch import Running, begin
from sigra_workers.handles import Around
from sigra_workers.memory import MemoryAdapter, QueueEntry

DAY: Final = 86_400
LIARS: Final[dict[int, "type[Liar]"]] = {}
"""By the number of the rule they break."""
LiarT = TypeVar("LiarT", bound="type[Liar]")


class Liar(MemoryAdapter):
    """The embedded adapter, with places to lie in."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.down = bool(settings.get("down"))

    @hookimpl
    def sigra_adapter(self, name: str, settings: Mapping[str, Any]) -> "Liar | None":
        """A plugin that makes an adapter of its own class."""
        return type(self)(settings) if name == "liar" else None

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        if self.down:
            return [Rejected(ConnectionError("out of reach")) for _ in jobs]
        return super().send(jobs)

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        return self.send(jobs)

    def _run(self, entry: QueueEntry) -> Outcome:
        try:
            return self.carry(entry, self.dispatch(Delivery(entry.text, entry.crashes)))
        except BaseException:
            self._crashed(entry)
            raise

    def _crashed(self, entry: QueueEntry) -> None:
        entry.due_at = self.clock() + 0.1  # other jobs come first
        super()._crashed(entry)

    def dispatch(self, delivery: Delivery) -> Outcome:
        """What the core decides."""
        return dispatch(self._bound(), delivery)

    def carry(self, entry: QueueEntry, outcome: Outcome) -> Outcome:
        """What is carried out."""
        match outcome:
            case Again(payload, due_at, why):
                changed = self.again(payload, why)
                return Again(changed, due_at if changed.due_at is None else changed.due_at, why)
            case Dead(Payload() as payload):
                again = self.revived(payload, outcome.error)
                return outcome if again is None else Again(again, 0, "retry")
            case _:
                return outcome

    def again(self, payload: Payload, why: str) -> Payload:
        """What runs again."""
        return payload

    def revived(self, payload: Payload, error: BaseException | None) -> Payload | None:
        """What runs again though it is dead."""
        return None


class Threaded(Liar):
    """Runs four jobs at a time, without what keeps them apart."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._stopping.clear()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._stopping.wait(0.01):
            with self._changed:
                entry = self._pop()
            if entry is not None:
                with suppress(KeyboardInterrupt):
                    self._settle(entry, self._run(entry))


def breaks(rule: int) -> Callable[[LiarT], LiarT]:
    """Say which rule a liar breaks."""

    def add(liar: LiarT) -> LiarT:
        assert rule not in LIARS
        LIARS[rule] = liar
        return liar

    return add


# -- sending ---------------------------------------------------------------------------------------------


@breaks(1)
class ForgetsWhatIsSentAsync(Liar):
    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        return [Sent()] if len(jobs) == 1 else self.send(jobs)


@breaks(2)
class TakesFalsyIdsForNone(Liar):
    def _put(self, payload: Payload, now: float | None = None) -> None:
        who = payload.args.get("actor_id", "absent")
        super()._put(
            replace(payload, args_or_json={**payload.args, "actor_id": who or None}) if not who else payload,
            now,
        )


@breaks(3)
class LosesTheLastOfABatch(Liar):
    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        if len(jobs) < 20:
            return super().send(jobs)
        return [*super().send(jobs[:-1]), Sent()]


@breaks(4)
class AcceptsWhatItCannotSend(Liar):
    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        return [Sent() for _ in jobs] if self.down else super().send(jobs)


@breaks(5)
class ForgetsTheIdsOfDeadJobs(Liar):
    def _knows(self, job_id: str) -> bool:
        return super()._knows(job_id) and all(dead.id != job_id for dead in self.dead)


@breaks(6)
class TakesAnyNativeOption(Liar):
    def check(self, job: Job) -> None:
        pass


@breaks(7)
class SendsOneBatchAtATime(Liar):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.busy = threading.Lock()

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        if any(sent.job.given_id for sent in jobs):
            return super().send(jobs)
        if not self.busy.acquire(blocking=False):
            return [Rejected(RuntimeError("used by another thread")) for _ in jobs]
        try:
            time.sleep(0.002)
            return super().send(jobs)
        finally:
            self.busy.release()


# -- the decision table ----------------------------------------------------------------------------------


@breaks(8)
class DropsValues(Liar):
    def _settle(self, entry: QueueEntry, outcome: Outcome) -> Any:
        return super()._settle(entry, Complete() if isinstance(outcome, Complete) else outcome)


@breaks(9)
class GivesUpAfterThreeAttempts(Liar):
    def carry(self, entry: QueueEntry, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Again) and outcome.payload.attempt > 3:
            return Dead(outcome.payload, "too many attempts", None, None)
        return outcome


@breaks(10)
class RunsOnceMore(Liar):
    def revived(self, payload: Payload, error: BaseException | None) -> Payload | None:
        again = type(error) is LookupError and payload.max_attempts == 1 and "again" not in payload.meta
        return replace(payload, meta={"again": True}) if again else None


@breaks(11)
class CountsOneSnooze(Liar):
    def again(self, payload: Payload, why: str) -> Payload:
        return replace(payload, snoozes=min(payload.snoozes, 1))


@breaks(12)
class ForgetsWhatIsFarOff(Liar):
    def _put(self, payload: Payload, now: float | None = None) -> None:
        if (payload.due_at or 0) - self.clock() < 100 * DAY:
            super()._put(payload, now)


@breaks(13)
class RetriesWhatIsCancelled(Liar):
    def revived(self, payload: Payload, error: BaseException | None) -> Payload | None:
        left = payload.max_attempts == 3 and payload.attempt < 3
        return (
            replace(payload, attempt=payload.attempt + 1)
            if isinstance(error, JobCancelledError) and left
            else None
        )


@breaks(14)
class RetriesWhatReturnedNothing(Liar):
    def revived(self, payload: Payload, error: BaseException | None) -> Payload | None:
        left = payload.attempt < payload.max_attempts
        return (
            replace(payload, attempt=payload.attempt + 1)
            if isinstance(error, InvalidResultError) and left
            else None
        )


@breaks(15)
class KnowsNoTimeOuts(Liar):
    def _put(self, payload: Payload, now: float | None = None) -> None:
        super()._put(replace(payload, timeout=None), now)


# -- the contract at run time ----------------------------------------------------------------------------


@breaks(16)
class FillsInATenant(Liar):
    def _put(self, payload: Payload, now: float | None = None) -> None:
        super()._put(
            replace(payload, args_or_json={"organization_id": None, "actor_id": None, **payload.args}), now
        )


@breaks(17)
class WaitsForNoDeploy(Liar):
    def _put(self, payload: Payload, now: float | None = None) -> None:
        super()._put(replace(payload, meta={**payload.meta, "unknown_since": 0}), now)


@breaks(18)
class DiesOfABrokenPayload(Liar):
    def carry(self, entry: QueueEntry, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Dead) and outcome.payload is None:
            self._thread = None
        return super().carry(entry, outcome)


# -- processes -------------------------------------------------------------------------------------------


@breaks(19)
class ForgetsTheImpersonator(Liar):
    def again(self, payload: Payload, why: str) -> Payload:
        args = {key: value for key, value in payload.args.items() if key != "impersonating_from"}
        return replace(payload, args_or_json=args)


@breaks(20)
class CountsOneCrash(Liar):
    def _crashed(self, entry: QueueEntry) -> None:
        entry.crashes = 0
        super()._crashed(entry)


@breaks(21)
class ForgetsWhatWaitsWhenStopped(Liar):
    def stop(self) -> None:
        super().stop()
        with self._changed:
            self._heap[:] = [entry for entry in self._heap if not self._waits(entry)]

    def _waits(self, entry: QueueEntry) -> bool:
        return entry.due_at <= self.clock() and Payload.parse(entry.text).queue.endswith("-restarts")


@breaks(22)
class LosesWhatRuns(Liar):
    def _crashed(self, entry: QueueEntry) -> None:
        if Payload.parse(entry.text).max_attempts < 3:
            super()._crashed(entry)


@breaks(23)
class RunsCopiesSideBySide(Threaded):
    pass


# -- isolation -------------------------------------------------------------------------------------------


class _Building(Liar):
    """Builds other scopes than the host does."""

    def start(self) -> None:
        workers: Any = self._bound()
        if not isinstance(workers.scope_builder, _Builder):
            workers.scope_builder = _Builder(workers.scope_builder, self.scope)
        super().start()

    def scope(self, scope: Any, args: Any) -> Any:
        """What the job gets for the scope that the host built."""
        raise NotImplementedError


class _Builder:
    def __init__(self, inner: Any, change: Callable[[Any, Any], Any]) -> None:
        self.inner = inner
        self.change = change

    def build(self, args: Any) -> Any:
        scope = self.inner.build(args)
        return self._abuild(scope, args) if inspect.isawaitable(scope) else self._changed(scope, args)

    async def _abuild(self, scope: Any, args: Any) -> Any:
        return self._changed(await scope, args)

    def _changed(self, scope: Any, args: Any) -> Any:
        return self.change(scope, args) if isinstance(scope, AuditScope) else scope


@breaks(24)
class CachesScopesByActor(_Building):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.cache: dict[Id | None, Any] = {}

    def scope(self, scope: Any, args: Any) -> Any:
        return self.cache.setdefault(args["actor_id"], scope)


class _Current(AuditOnly):
    """The scope of whoever was set last."""

    __slots__ = ("adapter",)

    def __init__(self, adapter: "KeepsOneCurrentTenant") -> None:
        self.adapter = adapter

    @property
    def user(self) -> Any:
        return self.adapter.current.user

    @property
    def active_organization(self) -> Any:
        return self.adapter.current.active_organization

    @property
    def impersonating_from(self) -> Any:
        return self.adapter.current.impersonating_from


@breaks(25)
class KeepsOneCurrentTenant(_Building, Threaded):
    current: AuditScope

    def scope(self, scope: Any, args: Any) -> Any:
        self.current = scope
        return _Current(self)


@breaks(26)
class KeepsTheContext(Liar):
    def _crashed(self, entry: QueueEntry) -> None:
        entry.due_at = self.clock() + 0.1  # other jobs come first
        super()._crashed(entry)

    def dispatch(self, delivery: Delivery) -> Outcome:
        begun = begin(self._bound(), delivery)
        return begun.here() if isinstance(begun, Running) else begun


@breaks(27)
class BlocksTheLoop(Liar):
    def _crashed(self, entry: QueueEntry) -> None:
        entry.due_at = self.clock() + 0.1  # other jobs come first
        super()._crashed(entry)

    def dispatch(self, delivery: Delivery) -> Outcome:
        async def on_a_loop() -> Outcome:
            return dispatch(self._bound(), delivery)

        return asyncio.run(on_a_loop())


@breaks(28)
class EntersArroundsBackwards(Liar):
    def start(self) -> None:
        arounds: Any = self._bound().arounds
        if arounds[0].label.endswith("outer"):
            arounds.reverse()
        super().start()


@breaks(29)
class CommitsInVain(Liar):
    """What an around raises on exit is lost."""

    def start(self) -> None:
        arounds: Any = self._bound().arounds
        arounds[:] = [Around(each.label, _quiet(each.sync), _aquiet(each.asynchronous)) for each in arounds]
        super().start()


def _quiet(around: Any) -> Any:
    @contextmanager
    def quiet(*args: Any) -> Generator[None]:
        manager: AbstractContextManager[None] = around(*args)
        manager.__enter__()
        try:
            yield
        finally:
            with suppress(LookupError):
                manager.__exit__(None, None, None)

    return quiet


def _aquiet(around: Any) -> Any:
    @asynccontextmanager
    async def quiet(*args: Any) -> AsyncGenerator[None]:
        manager = around(*args)
        await manager.__aenter__()
        try:
            yield
        finally:
            with suppress(LookupError):
                await manager.__aexit__(None, None, None)

    return None if around is None else quiet


# -- delays ----------------------------------------------------------------------------------------------


@breaks(30)
class DropsFractionsOfASecond(Liar):
    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        return super().send([replace(sent, payload=self._whole(sent.payload)) for sent in jobs])

    @staticmethod
    def _whole(payload: Payload) -> Payload:
        return payload if payload.due_at is None else replace(payload, due_at=math.floor(payload.due_at))


@breaks(31)
class RetriesEarly(Liar):
    def again(self, payload: Payload, why: str) -> Payload:
        due_at = (payload.due_at or 0) - 0.3
        return replace(payload, due_at=due_at) if why == "retry" else payload


@breaks(32)
class WakesEarly(Liar):
    def again(self, payload: Payload, why: str) -> Payload:
        due_at = (payload.due_at or 0) - 0.3
        return replace(payload, due_at=due_at) if why == "snooze" else payload


class IsAlwaysEarly(DropsFractionsOfASecond):
    """Breaks all three: a busy queue must not hide it."""

    def again(self, payload: Payload, why: str) -> Payload:
        return replace(payload, due_at=(payload.due_at or 0) - 0.3)


# -- hooks -----------------------------------------------------------------------------------------------


def _enqueued(payload: Payload, hook: Any) -> None:
    hook.sigra_enqueued(job=payload.ref(), organization_id=payload.organization_id)


@breaks(33)
class TellsTwice(Liar):
    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        plugins = self._bound().plugins
        for payload in [sent.payload for sent in jobs]:
            plugins.tell("sigra_enqueued", partial(_enqueued, payload))
        return super().send(jobs)


@breaks(34)
class LetsHooksRaise(Liar):
    def start(self) -> None:
        plugins: Any = self._bound().plugins
        plugins.tell = lambda name, call: [call(manager.hook) for manager in plugins._managers]
        super().start()


# -- dead jobs -------------------------------------------------------------------------------------------


@breaks(35)
class ForgetsTracebacks(Liar):
    def _bury(self, entry: QueueEntry, dead: Dead) -> None:
        super()._bury(entry, replace(dead, traceback=None))


@breaks(36)
class ComparesIdsAsText(Liar):
    def dead_jobs(self, filters: DeadFilters, /) -> list[DeadJob]:
        rest: Any = {name: value for name, value in filters.items() if name != "organization"}
        found = super().dead_jobs(rest)
        if "organization" in filters:
            found = [job for job in found if str(job.organization_id) == str(filters["organization"])]
        return found


@breaks(37)
class MakesTheOperatorTheActor(Liar):
    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        return super().resend([replace(job, payload=self._acting(job.payload)) for job in jobs])

    @staticmethod
    def _acting(payload: Payload) -> Payload:
        return replace(payload, args_or_json={**payload.args, "actor_id": payload.meta["resent"][-1]["by"]})


@breaks(38)
class SendsAgainWhatIsGone(Liar):
    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        super().resend(jobs)
        for job in jobs:
            self._put(job.payload, self.clock())
        return [Sent() for _ in jobs]


@breaks(39)
class PurgesNothing(Liar):
    def purge(self, ids: Sequence[str], /) -> int:
        return sum(job.id in ids for job in self.dead)


# -- the adapter itself ----------------------------------------------------------------------------------


@breaks(40)
class LogsPayloads(Liar):
    def _put(self, payload: Payload, now: float | None = None) -> None:
        logging.getLogger("liar").info("queued %s", payload.dump())
        super()._put(payload, now)


@breaks(41)
class AsksForEachJob(Liar):
    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        here, there = socket.socketpair()
        with here, there:
            for _ in jobs:
                there.send(b"+")
                here.recv(1)
        return super().send(jobs)


@breaks(42)
class DeclaresTooMuch(Liar):
    capabilities: Any = MemoryAdapter.capabilities | {"durable"}


@breaks(43)
class CallsWhatIsLostRejected(Liar):
    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        receipts = super().send(jobs)
        here, there = socket.socketpair()
        with here, there:
            try:
                here.sendall(" ".join(sent.job.id for sent in jobs).encode())
                there.send(b"+")
                here.recv(1)
            except OSError as error:
                return [Rejected(error) for _ in jobs]
        return receipts
