"""A worker process that runs our jobs and nothing else.

``rq worker -w sigra_workers_rq.Worker --serializer json ...``
"""

from typing import Any

import rq
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer, resolve_serializer

from sigra_workers import InvalidSettingsError, SigraWorkersError
from sigra_workers_rq import wire
from sigra_workers_rq.process import dispatch


class ForeignJobError(SigraWorkersError):
    """A job in our queue that is to call another function than ours; never called."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    @property
    def message(self) -> str:
        """The job, and where it belongs."""
        return (
            f"job {self.job_id!r} is to call another function than {wire.FUNCTION}: this process refuses it\n"
            "send it to a queue of a plain `rq worker`, or run this one without -w sigra_workers_rq.Worker"
        )


class Job(RqJob):
    """An RQ job whose stored strings choose no code: one function, no callbacks."""

    @property
    def func(self) -> Any:
        """Our dispatch function; raises `ForeignJobError` for another."""
        if self.func_name != wire.FUNCTION or self.instance is not None:
            raise ForeignJobError(self.id)
        return dispatch

    @property
    def success_callback(self) -> None:
        """None: its name would choose code."""

    @property
    def failure_callback(self) -> None:
        """None: its name would choose code."""

    @property
    def stopped_callback(self) -> None:
        """None: its name would choose code."""


class Worker(rq.Worker):
    """RQ's worker, for our jobs alone; JSON alone, as reading pickle runs what it holds."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if resolve_serializer(options.get("serializer")) is not JSONSerializer:
            raise InvalidSettingsError(
                "sigra_workers_rq.Worker", "it reads JSON alone: add --serializer json"
            )
        super().__init__(*args, **{**options, "job_class": Job})
        for queue in self.queues:  # made by the command line with RQ's own class: maintenance reads it there
            queue.job_class = Job
