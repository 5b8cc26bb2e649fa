"""Hooks: how an adapter or an audit trail plugs in, and how others watch jobs go by.

Implement one with the `hookimpl` marker, on a module or object given as ``Workers(plugins=[...])``.
Lifecycle hooks observe: what they raise is logged and changes nothing. Those of a run are called in the
job's own context, in the thread or task that runs `perform`: what they set there is seen by the scope
builder, arounds and `perform`, and is gone when the job is over.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import pluggy

from sigra_workers.args import Id

if TYPE_CHECKING:
    from sigra_workers.jobs import JobInfo, JobRef
    from sigra_workers.protocols import Adapter, Receipt
    from sigra_workers.trail import AuditReader

PROJECT: Final = "sigra_workers"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Decision: TypeAlias = Literal["complete", "retry", "snooze", "dead", "cancel"]
"""What the queue must do now with a job that ran."""


@hookspec(firstresult=True)
def sigra_adapter(name: str, settings: Mapping[str, Any]) -> "Adapter | None":
    """Make the adapter `name`, opening nothing; None where the name is another's.

    Raise `InvalidSettingsError` for settings that can't work.
    """


@hookspec(firstresult=True)
def sigra_audit_reader(url: str, table: str) -> "AuditReader | None":
    """Read the audit trail in a table at a database URL, for the command line; None where it is another's.

    Raise `InvalidSettingsError`, without the URL's password, for what can't be opened.
    """


@hookspec
def sigra_sending(  # type: ignore[empty-body]
    adapter: str, jobs: "Sequence[JobRef]", organization_ids: "Sequence[Id | None]"
) -> "Generator[Mapping[str, str] | None, Sequence[Receipt]]":  # pyright: ignore[reportReturnType]
    """Around the sending of a batch, in the sender: a generator that yields once.

    What it yields goes along with each of the jobs: `sigra_started` is given it at every run, after retries,
    snoozes and resends too. It is resumed with what became of each job, in order, and closed where the sender
    was stopped before that was known. `organization_ids` has one for each job. Not for jobs sent again.
    """


@hookspec
def sigra_enqueued(job: "JobRef", organization_id: "Id | None") -> None:
    """A job was accepted by the queue; called in the sender, once a job."""


@hookspec
def sigra_started(
    job: "JobInfo", organization_id: "Id | None", adapter: str, waited: float, meta: Mapping[str, str]
) -> None:
    """A run begins: the args are checked, the scope is not built yet.

    `waited` is in seconds, from when the job could have run. `meta` is what `sigra_sending` gave it along.
    """


@hookspec
def sigra_finished(
    job: "JobInfo",
    organization_id: "Id | None",
    decision: "Decision | None",
    exception: BaseException | None,
    duration: float,
) -> None:
    """A run ended, told before its decision is carried out; `duration` is in seconds.

    `decision` is None where the run was cancelled or shut down from outside. `exception` is what
    `perform` raised, or stands for the `Error` or `Cancel` it returned.
    """


@hookspec
def sigra_dead(
    job: "JobInfo", organization_id: "Id | None", reason: str, exception: BaseException | None
) -> None:
    """A job is dead: it will not run again by itself. Also told for jobs that never ran.

    Not told for a payload that can't be read, as there is no job to name.
    """


@hookspec
def sigra_audit_failed(action: str, fields: tuple[str, ...], exception: BaseException) -> None:
    """An audit event was not written. `fields` are the names of those at fault, never values."""
