"""Who is told of dead jobs."""

import logging

from sigra_workers import Id, JobInfo, hookimpl

log = logging.getLogger("app.alerts")


class Alerts:
    """Tells of each dead job, once, in the worker process."""

    @hookimpl
    def sigra_dead(self, job: JobInfo, organization_id: Id | None, exception: BaseException | None) -> None:
        """In place of the log line: a pager, a chat, an error tracker."""
        # Neither the reason nor the text of the exception: they may hold what was in the args.
        kind = type(exception).__name__
        log.error("%s of %s is dead after %d attempts: %s", job.id, organization_id, job.attempt, kind)
