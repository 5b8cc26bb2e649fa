"""The sending side: jobs into RQ's queues, a batch in one transaction."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.job import Job as RqJob
from rq.job import JobStatus

from sigra_workers import (
    Capability,
    DeadFilters,
    DeadJob,
    InvalidOptionError,
    Job,
    Outgoing,
    Payload,
    Receipt,
    Rejected,
    Resend,
    Sent,
    Unknown,
    Workers,
)
from sigra_workers.adapters import check_settings, invalid, wrong_type
from sigra_workers.boot import adapter_of
from sigra_workers.checks import Check
from sigra_workers.loops import in_thread
from sigra_workers.transact import bare, reach
from sigra_workers_rq import checks, wire
from sigra_workers_rq.dead import FailedJobs

SERIALIZERS: Final = ("json", "pickle")
ROUND_TRIP: Final = 5.0
"""Seconds that one round trip to Redis may take, for a connection that the adapter makes."""
MAX_TTL: Final = 10 * 366 * 86_400
_SETTINGS: Final = ("connection", "serializer", "url")
_EXAMPLE: Final = "{'url': 'redis://localhost:6379/0'}"
_NATIVE: Final[dict[str, type]] = {"at_front": bool, "result_ttl": int, "failure_ttl": int}


class RqAdapter:
    """RQ behind `Workers(adapter="rq")`.

    Settings: ``url`` of a Redis, or ``connection``, the host's own `redis.Redis`; ``serializer``, "json"
    (the default) or "pickle", the same as the worker processes' ``--serializer``.
    """

    capabilities: frozenset[Capability] = frozenset(
        ("bulk", "dead_jobs", "durable", "results", "stops_sync", "unique_ids")
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.clock: Callable[[], float] = time.time
        check_settings("rq", settings, _SETTINGS, ("url", "connection"), _EXAMPLE)
        self.serializer: Final[str] = settings.get("serializer", "json")
        if self.serializer not in SERIALIZERS:
            raise invalid("rq", f"setting 'serializer' is none of {SERIALIZERS}")
        self._owned = "url" in settings
        self._connection: Redis = (
            _connect(settings["url"]) if self._owned else _check_connection(settings["connection"])
        )
        self._queues: dict[str, Queue] = {}
        self._failed = FailedJobs(self._connection, self.serializer)

    @classmethod
    def of(cls, workers: Workers[Any]) -> "RqAdapter":
        """The RQ adapter of `workers`; raises `InvalidSettingsError` where they use another one."""
        return adapter_of(workers, cls, "rq")

    @property
    def connection(self) -> Redis:
        """The Redis client; it connects when it is first used, and anew after a fork."""
        return self._connection

    def queue(self, name: str) -> Queue:
        """RQ's queue of that name."""
        if name not in self._queues:
            self._queues[name] = Queue(name, connection=self._connection, serializer=self.serializer)
        return self._queues[name]

    # -- the Adapter protocol --------------------------------------------------------------------------

    def check(self, job: Job) -> None:
        """Refuse native options other than ``at_front``, ``result_ttl`` and ``failure_ttl`` (seconds)."""
        for name, value in job.native.items():
            kind = _NATIVE.get(name)
            if kind is None:
                raise InvalidOptionError("native", f"RQ has no {name!r} here, known are {sorted(_NATIVE)}")
            if type(value) is not kind:
                found = type(value).__name__
                raise InvalidOptionError("native", f"{name!r} is of type {found}, expected {kind.__name__}")
            if kind is int and not -1 <= cast("int", value) <= MAX_TTL:
                raise InvalidOptionError(
                    "native", f"{name!r} is out of range, expected -1 to {MAX_TTL} seconds"
                )

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """One transaction for all jobs but those with an id of the host, which are checked one by one."""
        try:
            reach(self._connection)
        except (RedisError, OSError) as error:
            return [Rejected(error) for _ in jobs]
        answers: dict[int, Receipt] = {}
        lost: Exception | None = None
        for index, sent in enumerate(jobs):
            if sent.job.given_id:
                answers[index] = self._send_unique(sent) if lost is None else Rejected(lost)
                if isinstance(answers[index], Unknown):  # one wait is enough
                    lost = cast("Unknown", answers[index]).cause
        rest = [sent for sent in jobs if not sent.job.given_id]
        answer: Receipt = Sent()
        if rest:
            answer = self._send_all(rest) if lost is None else Rejected(lost)
        return [answers.get(index, answer) for index in range(len(jobs))]

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """`send` in a thread of our own."""
        return await in_thread(self.send, jobs)

    # -- the DeadJobs protocol ---------------------------------------------------------------------------

    def dead_jobs(self, filters: DeadFilters, /) -> Generator[DeadJob]:
        """Our jobs in RQ's failed registries, latest first."""
        return self._failed.find(filters)

    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        """One transaction a job, which takes it out of the failed registry into its queue."""
        return [*self._failed.resend(jobs)]

    def purge(self, ids: Sequence[str], /) -> int:
        """Delete failed jobs."""
        return self._failed.purge(ids)

    # -- the Checks protocol -----------------------------------------------------------------------------

    def checks(self, workers: Workers[Any], /) -> list[Check]:
        """What ``sigra-workers doctor`` looks for: Redis, worker processes, and what lies in the queues."""
        return checks.checks(self, workers)

    def close(self) -> None:
        """Close the connections the adapter made; a connection of the host is the host's."""
        if self._owned:
            self._connection.close()

    # -- sending ---------------------------------------------------------------------------------------

    def _send_all(self, jobs: Sequence[Outgoing]) -> Receipt:
        by_queue: dict[str, list[Outgoing]] = {}
        with self._connection.pipeline() as pipeline:
            try:
                for sent in jobs:
                    if sent.payload.due_at is None:
                        by_queue.setdefault(sent.payload.queue, []).append(sent)
                    else:
                        self.queue(sent.payload.queue).schedule_job(
                            self._scheduled(sent), due(sent.payload), pipeline=pipeline
                        )
                for name, group in by_queue.items():
                    _enqueue(self.queue(name), group, pipeline)
            except Exception as error:  # what RQ refuses; nothing was sent yet
                return Rejected(error)
            failed: list[Exception] = []

            def execute() -> None:
                replies: list[object] = pipeline.execute(raise_on_error=False)
                failed.extend(reply for reply in replies if isinstance(reply, Exception))

            answer = wire.answer(execute)
            if not failed:
                return answer
            # Redis refused a part of the transaction, such as a queue whose key is one of the host's.
            places = {(sent.payload.queue, sent.payload.due_at is None) for sent in jobs}
            return Rejected(bare(failed[0])) if len(places) == 1 else Unknown(bare(failed[0]))

    def _send_unique(self, sent: Outgoing) -> Receipt:
        queue = self.queue(sent.payload.queue)

        def send() -> None:
            if sent.payload.due_at is None:
                at_front = bool(sent.job.native.get("at_front"))
                queue.enqueue_job(self._create(sent, JobStatus.QUEUED), at_front=at_front, unique=True)
            else:
                queue.schedule_job(self._scheduled(sent), due(sent.payload), unique=True)

        return wire.answer(send)

    def _scheduled(self, sent: Outgoing) -> RqJob:
        job = self._create(sent, JobStatus.SCHEDULED)
        if sent.job.native.get("at_front"):
            job.enqueue_at_front = True
        return job

    def _create(self, sent: Outgoing, status: JobStatus) -> RqJob:
        data = _data(sent)
        del data["at_front"]
        return self.queue(sent.payload.queue).create_job(**data, status=status)


def _enqueue(queue: Queue, jobs: Iterable[Outgoing], pipeline: Any) -> None:
    """Jobs into their queue, in order: RQ makes the first of a kind, and the others are written like it.

    To make one takes RQ several times as long as to write it, and few of its fields are a job's own.
    """
    kinds: dict[tuple[object, ...], dict[str, Any]] = {}
    for sent in jobs:
        payload, native = sent.payload, sent.job.native
        kind = (wire.timeout(payload), wire.budget(payload), *map(native.get, _NATIVE))
        alike = kinds.get(kind)
        if alike is None:
            (job,) = queue.enqueue_many([Queue.prepare_data(**_data(sent))], pipeline=pipeline)
            kinds[kind] = job.to_dict(include_meta=False)
            continue
        own = {"description": wire.description(payload), "meta": queue.serializer.dumps(wire.meta(payload))}
        pipeline.hset(RqJob.key_for(payload.id), mapping=alike | own)
        queue.push_job_id(payload.id, pipeline=pipeline, at_front=bool(native.get("at_front")))


def due(payload: Payload) -> datetime:
    """When RQ may move the job to its queue: RQ drops fractions of a second, so the next full one."""
    return datetime.fromtimestamp(math.ceil(payload.due_at or 0), UTC)


def _data(sent: Outgoing) -> dict[str, Any]:
    payload, native = sent.payload, sent.job.native
    return {
        "func": wire.FUNCTION,
        "timeout": wire.timeout(payload),
        "description": wire.description(payload),
        "job_id": payload.id,
        "meta": wire.meta(payload),
        "retry": Retry(max=wire.budget(payload)),
        "result_ttl": native.get("result_ttl"),
        "failure_ttl": native.get("failure_ttl"),
        "at_front": bool(native.get("at_front")),
    }


def _connect(url: object) -> Redis:
    if not isinstance(url, str):
        raise wrong_type("rq", "url", url, "str")
    try:
        # No silent second sending: whether a lost answer means a lost job is for the caller to decide.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=50,
            timeout=ROUND_TRIP,  # for a connection, when all are busy
            socket_timeout=ROUND_TRIP,
            socket_connect_timeout=ROUND_TRIP,
            retry=RedisRetry(NoBackoff(), 0),
        )
        return Redis.from_pool(pool)
    except ValueError:  # whose text may hold a part of the password
        raise invalid("rq", "setting 'url' is no Redis URL, such as redis://localhost:6379/0") from None


def _check_connection(connection: object) -> Redis:
    if not isinstance(connection, Redis):
        raise wrong_type("rq", "connection", connection, "redis.Redis")
    if connection.connection_pool.connection_kwargs.get("decode_responses"):
        problem = "decodes responses, RQ needs bytes: make it with decode_responses=False"
        raise invalid("rq", f"setting 'connection' {problem}")
    return connection
