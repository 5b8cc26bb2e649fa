"""The contracts: what a host writes (Worker, ScopeBuilder) and what an adapter supplies (Adapter)."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import field
from typing import Final, Literal, Protocol, TypeAlias

from typing_extensions import TypeVar

from sigra_workers.args import TenantArgs
from sigra_workers.errors import DeadJobError
from sigra_workers.jobs import Job, Payload
from sigra_workers.records import record
from sigra_workers.results import Cancel, Result, Snooze
from sigra_workers.scopes import AuditOnly

ArgsT = TypeVar("ArgsT", bound=TenantArgs, default=TenantArgs)
ArgsT_contra = TypeVar("ArgsT_contra", bound=TenantArgs, contravariant=True, default=TenantArgs)
ScopeT = TypeVar("ScopeT", bound=AuditOnly | None, default=AuditOnly)
ScopeT_co = TypeVar("ScopeT_co", bound=AuditOnly | None, covariant=True, default=AuditOnly)
ScopeT_contra = TypeVar("ScopeT_contra", bound=AuditOnly | None, contravariant=True, default=AuditOnly)
R_co = TypeVar("R_co", covariant=True, default=object)


class Worker(Protocol[ScopeT_contra, ArgsT_contra, R_co]):
    """One kind of job: any object with `perform`, `def` or `async def`; parameter names are yours.

    Laws: it runs at least once, so running it twice with the same args does no harm; it ends with a
    `Result`; it raises only what another attempt may mend.
    """

    def perform(self, scope: ScopeT_contra, args: ArgsT_contra, /) -> Result[R_co] | Awaitable[Result[R_co]]:
        """Do the job for the tenant named in `args`; `scope` is good for audit alone."""
        ...


class ScopeBuilder(Protocol[ScopeT_co]):
    """Makes the audit-only scope of each job, from its args.

    Laws: it never guesses a tenant; a `Cancel` (the organization is gone) or `Snooze` (it is suspended)
    ends the run before arounds and `perform`; raising counts as `perform` raising.
    """

    def build(
        self, args: TenantArgs, /
    ) -> ScopeT_co | Cancel | Snooze | Awaitable[ScopeT_co | Cancel | Snooze]:
        """The scope of one job, or the result that ends it."""
        ...


# -- sending: one receipt a job ------------------------------------------------------------------------


@record(frozen=True, slots=True)
class Sent:
    """The queue has the job."""


@record(frozen=True, slots=True)
class Duplicate:
    """The queue has a job of that id already; this one was not sent."""


@record(frozen=True, slots=True)
class Rejected:
    """The job was not sent."""

    cause: Exception


@record(frozen=True, slots=True)
class Unknown:
    """The job was sent and the answer was lost."""

    cause: Exception


Receipt: TypeAlias = Sent | Duplicate | Rejected | Unknown


@record(frozen=True, slots=True)
class Outgoing:
    """A job on its way out: as the host made it, and as it travels."""

    job: Job
    payload: Payload


# -- dispatch: one job in, one thing to carry out ------------------------------------------------------


@record(frozen=True, slots=True)
class Delivery:
    """One job as the queue delivers it.

    `payload` is the wire form as it came, whatever its type. `crashes` is how often a process died under
    it since it was last sent. `worker` is the name the transport gives, where it gives one. `outside` are
    the exceptions by which a queue library stops a running job: they leave no decision. `parsed` is the
    payload as `Payload.parse` reads it, where the adapter had to: it is the run's, and host code may change
    its args.
    """

    payload: object = field(repr=False)
    crashes: int = 0
    worker: str | None = None
    outside: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
    parsed: Payload | None = field(default=None, repr=False)


@record(frozen=True, slots=True)
class Complete:
    """Done: keep `value` where the queue keeps results."""

    value: object = None


@record(frozen=True, slots=True)
class Again:
    """Send `payload` again, to its own queue, no earlier than `due_at` (epoch seconds).

    In one write with ending this run. `error` is what a retry is for.
    """

    payload: Payload
    due_at: float
    why: "Literal['retry', 'snooze', 'unknown_worker', 'early']"
    error: BaseException | None = None


@record(frozen=True, slots=True)
class Dead:
    """File the job as failed for good, and report it once as an error.

    `payload` is None where it could not be read. `error` is chained to what the adapter raises.
    """

    payload: Payload | None
    reason: str
    traceback: str | None
    error: BaseException | None

    def failure(self, job_id: str) -> DeadJobError:
        """What an adapter raises into its queue library; what killed the job is chained."""
        worker, organization = "?", "?"
        if self.payload is not None:
            worker, organization = self.payload.worker, repr(self.payload.organization_id)
        failure = DeadJobError(job_id, worker, organization, self.reason)
        failure.__cause__ = self.error
        return failure


Outcome: TypeAlias = Complete | Again | Dead


Capability: TypeAlias = Literal["bulk", "dead_jobs", "durable", "results", "stops_sync", "unique_ids"]

CAPABILITIES: Final[Mapping[Capability, str]] = {
    "bulk": "a batch of jobs is sent in one round trip",
    "dead_jobs": "dead jobs are listed, sent again and purged",
    "durable": "jobs outlive the processes that send and run them",
    "results": "the value of Ok is kept where the queue keeps results",
    "stops_sync": "a time-out interrupts a def perform, not only an async one",
    "unique_ids": "a second job of an id that the host gave is refused",
}
"""What an adapter may declare, a line each; what keeps jobs safe is no capability, every adapter has it."""


class Adapter(Protocol):
    """A queue, as the core sees it. Worker processes bring jobs in with `sigra_workers.dispatch`.

    Laws: `send` answers for each job, in order, and never raises; it is safe from many threads and after
    a fork; making an adapter opens nothing. One that declares "dead_jobs" is a `DeadJobs` too.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the queue can do with these settings, beyond what every adapter does."""
        ...

    def clock(self) -> float:
        """Epoch seconds: `time.time`, or what the caller of the embedded adapter holds."""
        ...

    def check(self, job: Job) -> None:
        """Raise `InvalidOptionError` for a `job_id` or `native` option that the queue can't honour."""
        ...

    def send(self, jobs: Sequence[Outgoing], /) -> Sequence[Receipt]:
        """Hand the jobs to the queue, in one round trip where it can; one bounded wait for the caller."""
        ...

    async def asend(self, jobs: Sequence[Outgoing], /) -> Sequence[Receipt]:
        """`send` without blocking the event loop."""
        ...

    def close(self) -> None:
        """Close the connections this process opened; a later `send` opens them again."""
        ...
