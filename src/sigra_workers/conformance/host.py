"""The kit's own host application: workers that follow a script and record what they see.

Senders declare its workers; worker processes implement them as well, see `script`.
"""

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypeAlias

from sigra_workers.args import Id, OrganizationArgs, TenantArgs
from sigra_workers.audit import Audit
from sigra_workers.conformance.records import Records, here
from sigra_workers.events import AuditEvent, event_dict
from sigra_workers.hooks import Decision, hookimpl
from sigra_workers.jobs import JobInfo, JobRef, current_job
from sigra_workers.results import Cancel, Snooze
from sigra_workers.scopes import AuditScope, AuditScopeBuilder
from sigra_workers.workers import Workers

Kind: TypeAlias = Literal["def", "async"]
KINDS: Final[tuple[Kind, ...]] = ("def", "async")
ENVIRONMENT: Final = "SIGRA_CONFORMANCE"
GRACE: Final = 2.0
"""How long a job of an unknown worker waits for a deploy, in seconds."""
FORMER: Final = "kit:former_name.v-1"
"""An alias of the worker "kit.def"."""
SESSION: Final[ContextVar[Id | None]] = ContextVar("sigra_workers_conformance_session", default=None)
"""Set by an around, for `perform` to find: it stands for a database session of one organization."""


class ScriptArgs(TenantArgs):
    """Args of a scripted job."""

    steps: list[str]
    """What each run does, in order; the last repeats. See `script`."""
    kind: NotRequired[Kind]
    build: NotRequired[str]
    """What the scope builder does: "cancel", "raise", or "snooze" the first time."""
    around: NotRequired[str]
    """What an around does: raise on "enter" or "exit", or "swallow" what `perform` raised."""
    data: NotRequired[Any]


class OrganizationScriptArgs(OrganizationArgs):
    """The same, not without an organization."""

    steps: list[str]


class Permanent(Exception):  # not an error in the host's words
    """An exception that the workers' `cancel_on` names."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Which application this is: in each process the same, through the environment."""

    adapter: str
    settings: Mapping[str, Any]
    folder: str
    prefix: str
    inside: bool = False
    """Whether the worker runs inside the sender's process: then nothing may kill it."""

    @property
    def queues(self) -> dict[str, str]:
        """The queues by what they are for, as they are named in this run."""
        return {name: f"{self.prefix}-{name}" for name in ("main", "restarts", "poison")}

    @property
    def records(self) -> Records:
        """Where the workers and hooks record what happens."""
        return Records(Path(self.folder))

    def dump(self) -> str:
        """As JSON, for the environment."""
        return json.dumps(asdict(self))


class Watcher:
    """A plugin that records what the lifecycle hooks are told."""

    def __init__(self, records: Records) -> None:
        self.records = records

    @hookimpl
    def sigra_enqueued(self, job: JobRef, organization_id: Id | None) -> None:
        """Record it."""
        self._told("enqueued", job, organization=organization_id)

    @hookimpl
    def sigra_started(self, job: JobInfo, organization_id: Id | None) -> None:
        """Record it."""
        self._told("started", job, organization=organization_id, attempt=job.attempt, snoozes=job.snoozes)

    @hookimpl
    def sigra_finished(
        self,
        job: JobInfo,
        organization_id: Id | None,
        decision: Decision | None,
        exception: BaseException | None,
        duration: float,
    ) -> None:
        """Record it."""
        error = None if exception is None else type(exception).__name__
        facts = {"attempt": job.attempt, "snoozes": job.snoozes, "duration": duration}
        self._told("finished", job, organization=organization_id, decision=decision, error=error, **facts)

    @hookimpl
    def sigra_dead(
        self, job: JobInfo, organization_id: Id | None, reason: str, exception: BaseException | None
    ) -> None:
        """Record it."""
        error = None if exception is None else type(exception).__name__
        self._told("dead", job, organization=organization_id, reason=reason, error=error, attempt=job.attempt)

    def _told(self, what: str, job: JobRef | JobInfo, **facts: Any) -> None:
        self.records.add(what, job.id, worker=job.worker, **facts)
        if job.worker == "kit.hooked":
            raise RuntimeError("a hook that raises")


class Sink:
    """Records the audit trail."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def write(self, event: AuditEvent, /) -> None:
        """Record one event."""
        self.records.add("audit", event.job_id, event=event_dict(event))


class Builder:
    """Builds the scope as the default builder does, in an `async def` for async workers, and records it."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def build(self, args: Any, /) -> Any:
        """The scope, or what the script says."""
        return self._abuild(args) if args.get("kind") == "async" else self._build(args)

    async def _abuild(self, args: Any) -> Any:
        return self._build(args)

    def _build(self, args: Any) -> Any:
        job = self._job()
        first = self.records.count("scope", job) == 0
        self.records.add("scope", job)
        match args.get("build"):
            case "cancel":
                return Cancel("the organization is gone")
            case "snooze" if first:
                return Snooze(1)
            case "raise":
                raise LookupError("the scope can't be built")
            case _:
                return AuditScopeBuilder().build(args)

    @staticmethod
    def _job() -> str:
        job = current_job()
        return "outside of a job" if job is None else job.id


def make_workers(setup: Setup, plugins: Sequence[object] = ()) -> Workers[AuditScope]:
    """The application's `Workers`, with all workers declared and none implemented."""
    records, queues = setup.records, setup.queues
    workers = Workers[AuditScope](
        adapter=setup.adapter,
        settings=setup.settings,
        audit=Audit(Sink(records)),
        scope_builder=Builder(records),
        queues=list(queues.values()),
        cancel_on=(Permanent,),
        unknown_worker_grace=GRACE,
        plugins=[*plugins, Watcher(records)],
    )
    main = queues["main"]
    workers.declare("kit.def", ScriptArgs, queue=main, aliases=[FORMER])
    workers.declare("kit.async", ScriptArgs, queue=main)
    workers.declare("kit.hooked", ScriptArgs, queue=main)
    workers.declare("kit.backoff", ScriptArgs, queue=main, backoff=lambda attempt: 0.4 * attempt)
    workers.declare("kit.organization", OrganizationScriptArgs, queue=main)
    _put_around(workers, records)
    return workers


def _put_around(workers: Workers[AuditScope], records: Records) -> None:
    @workers.around
    def outer(job: JobInfo, scope: AuditScope, args: Any) -> Generator[None]:
        records.add("enter", job.id, name="outer", **here())
        token = SESSION.set(args["organization_id"])
        try:
            yield
        finally:
            SESSION.reset(token)  # raises in another context than that of the line above
            records.add("exit", job.id, name="outer", **here())

    @contextmanager
    def inside(job: JobInfo, args: Any) -> Generator[None]:
        records.add("enter", job.id, name="inner", **here())
        if args.get("around") == "enter":
            raise LookupError("an around that fails on entry")
        try:
            yield
        except LookupError:
            if args.get("around") != "swallow":
                raise
        finally:
            records.add("exit", job.id, name="inner", **here())
        if args.get("around") == "exit":
            raise LookupError("an around that fails on exit")

    def inner(job: JobInfo, scope: AuditScope, args: Any) -> Generator[None]:
        with inside(job, args):
            yield

    async def ainner(job: JobInfo, scope: AuditScope, args: Any) -> AsyncGenerator[None]:
        with inside(job, args):
            yield

    workers.around(inner, ainner)
