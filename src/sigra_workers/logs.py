"""The running job in log records: its id, worker, organization and attempt, never its args."""

import logging

from typing_extensions import ReadOnly, TypedDict

from sigra_workers.args import Id
from sigra_workers.jobs import CURRENT_RUN

__all__ = ["JobFields", "JobLogFilter", "job_fields"]


class JobFields(TypedDict):
    """What a log record says of the running job; None outside of one."""

    job_id: ReadOnly[str | None]
    worker: ReadOnly[str | None]
    """The worker's name, as the job has it."""
    organization_id: ReadOnly[Id | None]
    """None too for a job of no organization."""
    attempt: ReadOnly[int | None]
    """From 1."""


def job_fields() -> JobFields:
    """The job that runs here, in this thread or task, such as for a processor of structlog."""
    run = CURRENT_RUN.get()
    if run is None:
        return JobFields(job_id=None, worker=None, organization_id=None, attempt=None)
    job = run.payload
    return JobFields(
        job_id=job.id, worker=job.worker, organization_id=run.organization_id, attempt=job.attempt
    )


class JobLogFilter(logging.Filter):
    """Lets every record pass, with the attributes of `JobFields`.

    Add it to a handler: a filter of a logger does not see the records of the loggers below it. What a record
    has already stays: from ``extra={...}``, or from this filter in front of a queue to another thread.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add to the record what it does not have."""
        record.__dict__ = {**job_fields(), **record.__dict__}
        return True
