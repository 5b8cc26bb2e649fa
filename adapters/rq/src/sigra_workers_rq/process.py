"""The worker process's side: the one function RQ calls, and what it does with the core's decision."""

import functools
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import click
from rq import Queue, Retry, get_current_job
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from rq.serializers import resolve_serializer

from sigra_workers import (
    Again,
    Complete,
    Dead,
    Delivery,
    InvalidPayloadError,
    InvalidSettingsError,
    Outcome,
    Payload,
    Workers,
)
from sigra_workers import dispatch as core_dispatch
from sigra_workers.adapters import storable, unreadable
from sigra_workers.boot import bind
from sigra_workers.store import Busy, Claim, Command, Store
from sigra_workers_rq import wire
from sigra_workers_rq.adapter import RqAdapter

if TYPE_CHECKING:
    from redis import Redis

PAUSE: Final = 15
"""Seconds before a job that can't run in this process, or runs elsewhere, is looked at again."""
_FOR_EVER: Final = 2**31 - 1
_COMMAND: Final = "rq worker -c app.rq_lifecycle --serializer json --with-scheduler"
_log: Final = logging.getLogger("sigra_workers.rq")
_bound: list[Workers[Any]] = []


def boot(workers: str | Workers[Any] | None = None, /) -> Workers[Any]:
    """Bind this worker process to its `Workers`, ``module:attribute`` or the object: for the boot file.

    Without one it is that of the environment variable SIGRA_WORKERS. Raises `NotFoundError` for a path that
    leads nowhere, `WorkersNotBoundError` without any, `InvalidSettingsError` for workers of another adapter,
    and for an `rq worker` of another serializer; warns of what would leave jobs waiting.
    """
    found = bind(workers, "rq", _COMMAND)
    RqAdapter.of(found)
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
    store, start = _store(job.connection), _Start(job)
    begun = start.claim(store)
    if isinstance(begun, Busy):
        _log.warning("job %s is still running in another process: it waits", job.id)
        return end.wait()
    if not isinstance(begun, Claim):
        outcome = _decide(workers, start, begun)
    else:
        end.commands = [store.forgotten(begun)]
        try:
            outcome = _decide(workers, start, begun)
        finally:
            store.ended(begun)  # it lasts for 20 s more at least, in which RQ writes the end
        if isinstance(outcome, (Complete, Dead)):
            end.fields[wire.ENDED] = start.life
    match outcome:
        case None:
            return end.put_back()
        case Complete(value):
            return storable(value, functools.partial(_keep, job), job.id, _log)
        case Again(payload, due_at):
            job.meta[wire.META_KEY] = payload.dump()
            job.retries_left = wire.budget(payload)
            # RQ adds this to the time of day and drops the fraction: the first full second not before due.
            now = time.time()
            return _park(math.ceil(due_at) - math.floor(now) if due_at > now else 0)
        case dead:
            return end.die(dead)


def _decide(workers: Workers[Any], start: "_Start", begun: Claim | InvalidPayloadError) -> Outcome | None:
    """What is to be done with a job; None where this is a copy of one that ended."""
    job = start.job
    try:
        start.refresh()
    except NoSuchJobError:
        _log.warning("job %s was deleted: this copy of it is dropped", job.id)
        return None
    if start.failed:  # requeueing takes a job out of there
        _log.warning("job %s is dead: this copy of it is dropped", job.id)
        return None
    if isinstance(begun, InvalidPayloadError):
        return unreadable(begun)
    payload = start.payload or wire.payload(job)
    start.life = wire.life(payload)
    ended = start.ended == start.life
    if ended and job.id in job.finished_job_registry:
        _log.warning("job %s completed already: this copy of it is dropped", job.id)
        return None
    if ended or wire.DEAD in payload.meta:
        # It ended, and RQ's own requeue brought it back.
        return Again(wire.reopened(payload, time.time()), 0, "retry")
    return core_dispatch(workers, Delivery(wire.text(job), wire.crashes(job, payload), parsed=payload))


class _Start:
    """What Redis is asked when a run starts, in one round trip; the client that it is claimed through."""

    def __init__(self, job: RqJob) -> None:
        self.job = job
        self.payload: Payload | None = None
        """The job's, where it was read."""
        self.life = ""
        """Which life of the job this is, once that is known."""
        self.ended: str | None = None
        """Which of its lives ended last."""
        self.failed = False
        """Whether RQ has filed the job as failed."""
        self._found: list[bytes | None] = []

    def claim(self, store: Store) -> Claim | Busy | InvalidPayloadError:
        """Claim the job for this run, or ask all the same where it can't be read."""
        try:
            self.payload = wire.payload(self.job)
        except InvalidPayloadError as error:
            self._ask()
            return error
        # No turn of it is behind another: it is not stale.
        return cast("Claim | Busy", store.begin(wire.alone(self.payload), client=self))

    def eval(self, *command: Any) -> Any:
        """Make the claim, and ask behind it."""
        return self._ask(command)[0]

    def refresh(self) -> None:
        """Have the job as it is under the claim: since RQ read it, another run may have ended.

        Raises `NoSuchJobError` where it was deleted.
        """
        job, (data, meta, left) = self.job, self._found
        if self.payload is not None and data is not None:
            as_read = (job.serializer.dumps(job.meta), str(job.retries_left).encode())
            if (meta, left) == as_read:
                return
        self.payload = None
        job.refresh()  # type: ignore[no-untyped-call]

    def _ask(self, *commands: Command) -> list[Any]:
        """What the commands answer, and behind them what there is of the job.

        A mark is taken off that RQ sets on a job which is just being begun (intermediate_queue.py,
        `cleanup`): it stays for a day, and in a later run, just being begun, RQ would take the job for stuck
        and fail it.
        """
        job = self.job
        queue = Queue(job.origin, connection=job.connection)
        with job.connection.pipeline(transaction=False) as pipeline:
            pipeline.delete(queue.intermediate_queue.get_first_seen_key(job.id))
            for command in commands:
                pipeline.eval(*command)
            pipeline.hmget(job.key, ["data", "meta", "retries_left", wire.ENDED])
            pipeline.zscore(FailedJobRegistry.key_template.format(job.origin), job.id)
            _, *answers, (*self._found, ended), failed_at = pipeline.execute()
        self.ended = None if ended is None else ended.decode()
        self.failed = failed_at is not None
        return answers


@functools.lru_cache(maxsize=8)
def _store(connection: "Redis") -> Store:
    """The store on RQ's own connection, whose transaction ends a run."""
    return Store(connection, "sigra-workers:rq")


def _workers() -> Workers[Any]:
    return _bound[0] if _bound else boot()


def _keep(job: RqJob, value: object) -> None:
    """Whether RQ will keep the value: its own `Retry` has it run the job again (worker/base.py)."""
    if isinstance(value, Retry):
        raise TypeError("RQ keeps no Retry")
    job.serializer.dumps(value)


def _park(seconds: int) -> Retry:
    """Have RQ run the job again, payload and counts written in the one transaction that sends it."""
    return Retry(max=_FOR_EVER, interval=seconds)


class _End:
    """Everything that is written when a run ends, in RQ's one transaction: the end of the claim too.

    RQ itself writes the status before that transaction where a job runs again (job.py,
    `_handle_retry_result`): a process killed in between would leave a job that no registry holds.
    """

    def __init__(self, job: RqJob) -> None:
        self.commands: list[Command] = []
        self.fields: dict[str, Any] = {}
        """Fields of RQ's record of the job."""
        self._job = job
        self._set_status, self._cleanup = job.set_status, job.cleanup
        job.set_status = self._in_transaction  # type: ignore[method-assign]
        job.cleanup = self._at_the_end  # type: ignore[method-assign]

    def _in_transaction(self, status: Any, pipeline: Any = None) -> None:
        self._set_status(status, pipeline=self._job.connection.pipeline() if pipeline is None else pipeline)

    def _at_the_end(
        self, ttl: int | None = None, pipeline: Any = None, remove_from_queue: bool = True
    ) -> None:
        """RQ calls this in each transaction that ends a run."""
        if self.fields:
            pipeline.hset(self._job.key, mapping=self.fields)
        self._cleanup(ttl, pipeline, remove_from_queue)
        self._write(pipeline)

    def _write(self, pipeline: Any) -> None:
        for command in self.commands:
            pipeline.eval(*command)

    def wait(self) -> Retry:
        """Look again later, and write nothing else of the job: its fields are the other run's."""
        job, at = self._job, math.ceil(time.time()) + PAUSE
        key = ScheduledJobRegistry.key_template.format(job.origin)
        return self._instead(lambda pipeline: pipeline.zadd(key, {job.id: at}, nx=True))

    def put_back(self) -> Retry:
        """Leave the job as it was before RQ brought a copy of it here."""
        job = self._job
        keys = (job.key, job.failed_job_registry.key, job.finished_job_registry.key)
        return self._instead(lambda pipeline: pipeline.eval(_PUT_BACK, 3, *keys, job.id))

    def _instead(self, write: Callable[[Any], object]) -> Retry:
        """Have RQ end its run, and write this in place of all that it writes of the job."""

        def end(*_: object, pipeline: Any, **__: object) -> None:
            write(pipeline)
            self._write(pipeline)

        vars(self._job)["_handle_retry_result"] = end  # called in worker/base.py, `handle_job_retry`
        return _park(0)

    def die(self, dead: Dead) -> object:
        """Have RQ file the job as failed, for good."""
        job = self._job
        if dead.payload is not None:
            payload = dead.payload.again(None, meta={**dead.payload.meta, wire.DEAD: dead.reason})
            job.meta[wire.META_KEY] = payload.dump()
            self.fields["meta"] = job.serializer.dumps(job.meta)
        job.retries_left = 0
        raise dead.failure(job.id)


# KEYS: job; failed jobs and finished ones, by when they are dropped. ARGV: job id.
# What RQ has set there of a job that was deleted, as it began, is no job: it goes.
_PUT_BACK: Final = """
for i, status in ipairs({'failed', 'finished'}) do
    local at = tonumber(redis.call('ZSCORE', KEYS[i + 1], ARGV[1]))
    if at then
        redis.call('HSET', KEYS[1], 'status', status)
        if at > 0 and at < math.huge then redis.call('EXPIREAT', KEYS[1], math.ceil(at)) end
        return
    end
end
if redis.call('HEXISTS', KEYS[1], 'data') == 0 then redis.call('DEL', KEYS[1]) end
"""
