"""The worker process's side: the settings that arq reads, and the one function it calls for our jobs."""

import asyncio
import inspect
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from arq.worker import Retry, Worker
from redis.exceptions import RedisError

from sigra_workers import (
    Again,
    Complete,
    Dead,
    DeadJobError,
    Delivery,
    InvalidPayloadError,
    InvalidSettingsError,
    Outcome,
    Payload,
    Workers,
    adispatch,
)
from sigra_workers.adapters import storable, unreadable
from sigra_workers.boot import bind
from sigra_workers.errors import told
from sigra_workers.loops import outlast
from sigra_workers.store import Busy, Claim, Command, Stale
from sigra_workers_arq import wire
from sigra_workers_arq.adapter import ArqAdapter
from sigra_workers_arq.presence import Presence
from sigra_workers_arq.progress import Progress

COMPLETION_WAIT: Final = 25
"""Seconds that jobs may take to end after a SIGTERM: Kubernetes kills after 30."""
JOB_TIMEOUT: Final = 300
"""arq's own time-out of a function that has none, in seconds."""
LAST_WAIT: Final = 4.0
"""Seconds that a process which is to end goes on trying to write a decision."""
PAUSE: Final = 1.0
"""Seconds between attempts to write a decision."""
_COMMAND: Final = "arq app.arq_lifecycle.WorkerSettings"
_OURS: Final = {
    "job_deserializer": "the adapter's settings say it",
    "job_serializer": "the adapter's settings say it",
    "log_results": "results are not logged",
    "queue_name": "it is called queue here",
    "redis_pool": "the adapter's settings say where Redis is",
    "redis_settings": "the adapter's settings say where Redis is",
    "retry_jobs": "without it arq would drop jobs that are to run again",
}
_NOTHING: Final[tuple[bytes, object]] = (b"", None)
_READ: Final[ContextVar[tuple[bytes, object]]] = ContextVar("sigra_workers_arq_read", default=_NOTHING)
"""The job last read in this context, as it lay there and its payload: each run is a task of its own."""
_log: Final = logging.getLogger("sigra_workers.arq")


def boot(
    workers: str | Workers[Any] | None = None, /, *, queue: str | None = None, **options: Any
) -> dict[str, Any]:
    """The settings of a worker process for one queue of the workers, ``module:attribute`` or the object.

    Without one it is that of the environment variable SIGRA_WORKERS. `queue` may be left out where there is
    but one. `options` are arq's own: ``functions``, ``cron_jobs``, ``max_jobs``, ``on_startup`` and so on.
    Raises `NotFoundError` for a path that leads nowhere, `WorkersNotBoundError` without any, and
    `InvalidSettingsError` for workers of another adapter, another queue, or an option that can't be.
    """
    found = bind(workers, "arq", _COMMAND)
    adapter = ArqAdapter.of(found)
    queue = _queue(found, queue)
    known = {*inspect.signature(Worker).parameters} - {*_OURS}
    for name in options:
        if name not in known:
            problem = _OURS.get(name, f"arq has no such option, there are {sorted(known)}")
            raise InvalidSettingsError("boot", f"option {name!r}: {problem}")
    progress = Progress(queue, options.get("job_timeout", JOB_TIMEOUT))
    functions = [*map(progress.function, options.get("functions", ()))]
    if any(function.name == wire.FUNCTION for function in functions):
        raise InvalidSettingsError("boot", f"the name of function {wire.FUNCTION!r} is ours: give it another")
    is_shared = bool(functions or options.get("cron_jobs"))
    dispatch = _Dispatch(found, adapter, queue, is_shared=is_shared)
    ours = progress.ours(wire.FUNCTION, dispatch.dispatch)
    presence = Presence(adapter.store, progress.job_timeout)
    on_startup, on_shutdown = options.get("on_startup"), options.get("on_shutdown")

    async def start(ctx: dict[Any, Any]) -> None:
        progress.begin(ctx["redis"])
        if on_startup is not None:
            await on_startup(ctx)
        presence.begin(ctx["redis"])

    async def stop(ctx: dict[Any, Any]) -> None:
        await presence.end()
        progress.end()
        if on_shutdown is not None:
            await on_shutdown(ctx)

    return {
        "job_completion_wait": COMPLETION_WAIT,
        **options,
        "functions": [ours, *functions],
        "cron_jobs": [*map(progress.cron, options.get("cron_jobs") or ())],
        "on_startup": start,
        "on_shutdown": stop,
        "job_timeout": None,
        "queue_name": queue,
        "redis_settings": adapter.redis_settings,
        "job_serializer": adapter.codec.dumps,
        "job_deserializer": dispatch.read,
        "log_results": False,
    }


def _queue(workers: Workers[Any], queue: str | None) -> str:
    queues = workers.queues
    if queue is None and len(queues) == 1:
        return queues[0]
    if queue not in queues:
        found = "none was given" if queue is None else f"there is no queue {queue!r}"
        raise InvalidSettingsError(
            "boot", f"{found}, expected one of {queues}: boot(..., queue={queues[0]!r})"
        )
    return queue


class _Dispatch:
    """What arq calls for each job: brings it to the core, and carries the decision out.

    arq may only finish a job whose decision is written. For all else it is told to retry, which here means to
    leave the job as it lies in the queue.
    """

    def __init__(self, workers: Workers[Any], adapter: ArqAdapter, queue: str, *, is_shared: bool) -> None:
        self._workers, self._adapter, self._queue = workers, adapter, queue
        self._store, self._codec = adapter.store, adapter.codec
        self._is_shared = is_shared

    def read(self, packed: bytes) -> object:
        """arq's deserializer, which lets a run have the job as arq has just read it.

        arq deletes what it can't read (worker.py, `run_job`): of ours it is given a call, which looks itself.
        Beside functions of the host's those are told by our function's name in the bytes.
        """
        try:
            found = self._codec.read(packed)
        except InvalidPayloadError:
            is_ours = not self._is_shared or wire.FUNCTION.encode() in packed
            return wire.call(time.time()) if is_ours else self._codec.loads(packed)
        if (text := wire.text(found)) is not None:
            _READ.set((packed, text))
        return found

    async def dispatch(self, ctx: dict[Any, Any]) -> object:
        """One run of a job; its payload is not among its args, so that arq's logs show none."""
        job_id: str = ctx["job_id"]
        try:
            return await self._run(ctx["redis"], job_id, ctx["score"])
        except (Retry, DeadJobError):
            raise
        except Exception as error:  # Redis is out of reach, or a serializer of the host's fails
            _log.error("job %s has to run again: %s", job_id, told(error))
            raise Retry from error

    async def _run(self, redis: Any, job_id: str, score: int) -> object:
        packed, text, payload = self._carried(job_id) or await self._look(redis, job_id)
        begun = asyncio.ensure_future(self._store.abegin(redis, payload))
        try:
            match await asyncio.shield(begun):
                case Claim() as claim:
                    outcome = await adispatch(self._workers, Delivery(text, claim.crashes, parsed=payload))
                    return await self._carry_out(redis, job_id, claim, outcome)
                case Busy(seconds):
                    _log.warning("job %s is still running in another process: it waits", job_id)
                    later = int((self._adapter.clock() + seconds) * 1_000)
                    await redis.eval(_POSTPONE, 1, self._queue, job_id, score, later)
                case Stale():
                    _log.warning("job %s went on without this copy of it: it is dropped", job_id)
                    keys = (self._queue, wire.job_key(job_id), wire.retry_key(job_id))
                    await redis.eval(_DROP, 3, *keys, job_id, packed)
            raise Retry
        except (Retry, DeadJobError):
            raise
        except BaseException:  # cancelled, as by a SIGTERM: no decision
            await outlast(asyncio.ensure_future(self._release(redis, begun)))
            raise

    def _carried(self, job_id: str) -> tuple[bytes, object, Payload] | None:
        """The job as arq read it for this run; none that is broken, nor one that a host's hook read since."""
        packed, text = _READ.get()
        _READ.set(_NOTHING)  # or whatever the run starts would hold it
        try:
            payload = Payload.parse(text)
            wire.check(payload, job_id)
        except InvalidPayloadError:
            return None
        return packed, text, payload

    async def _look(self, redis: Any, job_id: str) -> tuple[bytes, object, Payload]:
        """The job as it lies there; one that is broken is dead."""
        packed: bytes | None = await redis.get(wire.job_key(job_id))
        if packed is None:  # another run has just ended it
            raise Retry
        text: object = packed.decode("latin-1")  # kept where nothing can be read from it
        payload = None
        try:
            text = self._codec.text(packed)
            payload = Payload.parse(text)
            wire.check(payload, job_id)
        except InvalidPayloadError as error:
            dead = unreadable(error)
            # Another job's payload is not kept, or a resend would send that one.
            kept = text if payload is None and isinstance(text, str) else ""
            await self._write(redis, job_id, [self._store.bury(job_id, kept, dead, self._adapter.clock())])
            raise dead.failure(job_id) from error
        return packed, text, payload

    async def _carry_out(self, redis: Any, job_id: str, claim: Claim, outcome: Outcome) -> object:
        now = self._adapter.clock()
        commands: list[Command] = []
        if isinstance(outcome, Again):
            commands += [*self._codec.commands(outcome.payload, now), ("DEL", wire.retry_key(job_id))]
        ended = await self._write(redis, job_id, self._store.end(claim, outcome, now, commands))
        self._store.ended(claim)
        match outcome:
            case Complete(value) if ended:
                return storable(value, lambda kept: self._codec.dumps({"r": kept}), job_id, _log)
            case Dead() if ended:
                raise outcome.failure(job_id)
            case _:
                raise Retry

    async def _write(self, redis: Any, job_id: str, commands: Sequence[Command]) -> Any:
        """Write a decision, however long that takes; the first answer.

        Once it is cancelled for `LAST_WAIT` more; then the job runs again, as if the process had been killed.
        """
        try:
            return await self._written(redis, job_id, commands)
        except asyncio.CancelledError:  # the process is to end, and has waited for its jobs
            writing = asyncio.ensure_future(self._written(redis, job_id, commands))
            asyncio.get_running_loop().call_later(LAST_WAIT, writing.cancel)
            await outlast(writing)
            return writing.result()

    async def _written(self, redis: Any, job_id: str, commands: Sequence[Command]) -> Any:
        while True:
            try:
                answer, *_ = [await redis.eval(*command) for command in commands]
            except (RedisError, OSError) as error:
                _log.warning("the decision on job %s waits for Redis: %s", job_id, type(error).__name__)
                await asyncio.sleep(PAUSE)
            else:
                return answer

    async def _release(self, redis: Any, begun: "asyncio.Future[Claim | Busy | Stale]") -> None:
        """Let another process begin at once what this one leaves undecided."""
        with suppress(RedisError, OSError):
            claim = await begun
            if isinstance(claim, Claim):
                self._store.ended(claim)
                await redis.eval(*self._store.released(claim))


# KEYS: queue. ARGV: job id, its score when the run began, its next one. Another than the first stays.
_POSTPONE: Final = """
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) == tonumber(ARGV[2]) then
    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
"""

# KEYS: queue, job, its retries. ARGV: job id, the job as it was read. One that was written anew stays.
_DROP: Final = """
if redis.call('GET', KEYS[2]) == ARGV[2] then
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('DEL', KEYS[2], KEYS[3])
end
"""
