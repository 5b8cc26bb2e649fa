"""Lifecycle hooks: what becomes of a job is noted in its row, by whichever process it happens in.

The row is there before the job is sent (see `jobs.start`). So no news can come too early for it, and the
hooks need only change it.
"""

from typing import Any

from sqlalchemy import update

from saas.database import session_for
from saas.models import JobRow
from sigra_workers import Id, JobInfo, JobRef, hookimpl
from sigra_workers.hooks import Decision

_STATES: dict[Decision | None, str] = {
    "complete": "done",
    "retry": "retrying",
    "snooze": "snoozing",
    "dead": "dead",
    "cancel": "dead",
    None: "waiting",  # its process was told to stop: it runs again
}


class Tracking:
    """Keeps the rows of jobs up to date. Each news is a short transaction of its own."""

    @hookimpl
    def sigra_enqueued(self, job: JobRef, organization_id: Id | None) -> None:
        """The queue has it. A worker process may have begun it by now: that news is the newer one."""
        _note(job.id, organization_id, only_from="saved", state="waiting")

    @hookimpl
    def sigra_started(self, job: JobInfo, organization_id: Id | None) -> None:
        """A run begins."""
        _note(job.id, organization_id, state="running", attempt=job.attempt, snoozes=job.snoozes)

    @hookimpl
    def sigra_finished(
        self,
        job: JobInfo,
        organization_id: Id | None,
        decision: Decision | None,
        exception: BaseException | None,
    ) -> None:
        """A run ended; its work is committed, or rolled back."""
        facts: dict[str, Any] = {"state": _STATES[decision]}
        if decision == "retry":
            facts["note"] = f"{exception}"  # of this application's own, whose texts hold no args
        _note(job.id, organization_id, **facts)

    @hookimpl
    def sigra_dead(self, job: JobInfo, organization_id: Id | None, reason: str) -> None:
        """A job is dead; told for those too that never ran, or whose process died each time."""
        _note(job.id, organization_id, state="dead", note=reason)


def _note(job_id: str, organization_id: Id | None, *, only_from: str | None = None, **facts: Any) -> None:
    news = update(JobRow).where(JobRow.id == job_id).values(**facts)
    if only_from is not None:
        news = news.where(JobRow.state == only_from)
    with session_for(organization_id) as session, session.begin():
        session.execute(news)
