"""The worker process's side: the one function RQ calls, and what it does with the core's decision."""

import logging
import math
import os
import time
from typing import Any, Final

import click
from rq import Retry, get_current_job
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.serializers import resolve_serializer

from sigra_workers import (
    Again,
    Complete,
    Dead,
    DeadJobError,
    Delivery,
    InvalidPayloadError,
    InvalidSettingsError,
    Payload,
    Workers,
    WorkersNotBoundError,
    load_workers,
)
from sigra_workers import dispatch as core_dispatch
from sigra_workers_rq import claims, wire
from sigra_workers_rq.adapter import RqAdapter

PAUSE: Final = 15
"""Seconds before a job that can't run in this process, or runs elsewhere, is looked at again."""
_FOR_EVER: Final = 2**31 - 1
_COMMAND: Final = "rq worker -c app.rq_lifecycle --serializer json --with-scheduler"
_log: Final = logging.getLogger("sigra_workers.rq")
_bound: list[Workers[Any]] = []


def boot(workers: str | Workers[Any], /) -> Workers[Any]:
    """Bind this worker process to its `Workers`, ``module:attribute`` or the object: for the boot file.

    Raises `NotFoundError` for a path that leads nowhere, `InvalidSettingsError` for workers of another
    adapter, and for an `rq worker` of another serializer; warns of what would leave jobs waiting.
    """
    found = load_workers(workers) if isinstance(workers, str) else workers
    RqAdapter.of(found)
    for handle in found.handles:
        if handle.implementation is None:
            _log.warning(
                "worker %r is not implemented in this process: its jobs wait for one that does", handle.name
            )
    _check_command(found)
    _bound[:] = [found]
    return found


def _check_command(workers: Workers[Any]) -> None:
    """Compare the options of the `rq worker` that reads the boot file with what the workers need."""
    context = click.get_current_context(silent=True)
    if context is None or "serializer" not in context.params:
        return
    wanted = RqAdapter.of(workers).serializer
    found = context.params["serializer"] or "pickle"
    if resolve_serializer(found) is not resolve_serializer(wanted):
        problem = f"this process reads {found!r}, the workers' settings say {wanted!r}"
        raise InvalidSettingsError("rq worker", f"{problem}: add --serializer {wanted}")
    if context.params.get("with_scheduler") is False:
        _log.warning(
            "this process runs without --with-scheduler: retries and snoozes wait for one that has it"
        )
    queues = context.params.get("queues") or ()
    for queue in sorted({*queues} - {*workers.queues}):
        _log.warning("no worker is declared for queue %r, known are %s", queue, workers.queues)
    if len(queues) > 1:
        _log.warning("a process of several queues may lose a job when it dies: start one for each")


def dispatch(*_args: object, **_kwargs: object) -> object:
    """What RQ calls for each job: brings it to the core, and carries the decision out.

    Arguments, in a job made by hand, are not looked at: the payload is in the job's meta.
    """
    job = get_current_job()
    if job is None:
        raise RuntimeError("sigra_workers_rq.dispatch is for RQ's worker processes to call")
    end = _End(job)
    try:
        workers = _workers()
    except Exception as error:  # no registry, or one that SIGRA_WORKERS names and nobody can import
        _log.error("job %s waits: %s: %s", job.id, type(error).__name__, error)
        return _park(PAUSE)
    with claims.claim(job.connection, job.id) as end.token:
        if end.token is None:
            _log.warning("job %s is still running in another process: it waits", job.id)
            end.yield_to_the_other_run()
            return _park(PAUSE)
        try:
            # RQ read it before the claim: another run may have ended since.
            job.refresh()  # type: ignore[no-untyped-call]
        except NoSuchJobError:
            _log.warning("job %s was deleted: this copy of it is dropped", job.id)
            return None
        if wire.is_settled(job):
            _log.warning("job %s completed already: this copy of it is dropped", job.id)
            return job.return_value(refresh=True)
        text = wire.text(job)
        outcome = _reopened(job, text) or core_dispatch(workers, Delivery(text, wire.crashes(job, text)))
    match outcome:
        case Complete(value):
            job.retries_left = wire.SETTLED
            return _storable(job, value)
        case Again(payload, due_at):
            job.meta[wire.META_KEY] = payload.dump()
            job.retries_left = wire.budget(payload)
            # RQ adds this to the time of day and drops the fraction: the first full second not before due.
            now = time.time()
            return _park(math.ceil(due_at) - math.floor(now) if due_at > now else 0)
        case dead:
            return _die(job, dead)


def _workers() -> Workers[Any]:
    if not _bound:
        path = os.environ.get("SIGRA_WORKERS")
        if not path:
            raise WorkersNotBoundError("rq", _COMMAND)
        boot(path)
    return _bound[0]


def _park(seconds: int) -> Retry:
    """Have RQ run the job again, payload and counts written in the one transaction that sends it."""
    return Retry(max=_FOR_EVER, interval=seconds)


class _End:
    """Everything that RQ writes when a run ends, in one transaction: the end of the claim too.

    RQ itself writes the status before that transaction where a job runs again (job.py,
    `_handle_retry_result`): a process killed in between would leave a job that no registry holds.
    """

    def __init__(self, job: RqJob) -> None:
        self.token: str | None = None
        self._job = job
        self._write = job.set_status
        job.set_status = self._set_status  # type: ignore[method-assign]

    def yield_to_the_other_run(self) -> None:
        """Write nothing of the job: its fields are the other run's."""
        self._job.set_status = self._job.save = _nothing  # type: ignore[method-assign]

    def _set_status(self, status: Any, pipeline: Any = None) -> None:
        self._write(status, pipeline=self._job.connection.pipeline() if pipeline is None else pipeline)
        if pipeline is not None and self.token is not None:
            claims.release(pipeline, self._job.id, self.token)


def _nothing(*_args: object, **_kwargs: object) -> None:
    pass


def _reopened(job: RqJob, text: object) -> Again | Dead | None:
    """A dead job that RQ's own requeue brought back begins anew: as a resend, with all its attempts."""
    try:
        payload = Payload.parse(text)
    except InvalidPayloadError:
        return None
    if "dead" not in payload.meta:
        return None
    if job.id in job.failed_job_registry:  # a copy left behind, as requeueing takes the job out of there
        return Dead(payload, payload.meta["dead"], None, None)
    meta = {key: value for key, value in payload.meta.items() if key != "dead"}
    payload = payload.again(None, attempt=1, resends=payload.resends + 1, meta=meta)
    return Again(payload, 0, "retry")


def _die(job: RqJob, dead: Dead) -> object:
    worker, organization = "?", "?"
    if dead.payload is not None:
        worker, organization = dead.payload.worker, repr(dead.payload.organization_id)
        _store(job, dead.payload.again(None, meta={**dead.payload.meta, "dead": dead.reason}), 0)
    job.retries_left = 0
    raise DeadJobError(job.id, worker, organization, dead.reason) from dead.error


def _store(job: RqJob, payload: Payload, retries_left: int) -> None:
    """Write payload and count at once, outside of RQ's own transactions."""
    job.meta[wire.META_KEY] = payload.dump()
    job.retries_left = retries_left
    job.connection.hset(
        job.key, mapping={"meta": job.serializer.dumps(job.meta), "retries_left": retries_left}
    )


def _storable(job: RqJob, value: object) -> object:
    """A value that RQ can keep, or None: one it can't would fail a job that is done."""
    try:
        job.serializer.dumps(value)
    except Exception:  # depends on the serializer
        _log.warning(
            "the result of job %s is of type %s, which can't be stored: dropped", job.id, type(value).__name__
        )
        return None
    return value
