"""The sending side: jobs into RQ's queues, a batch in one transaction."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.job import Job as RqJob
from rq.job import JobStatus

from sigra_workers import (
    Duplicate,
    InvalidOptionError,
    InvalidSettingsError,
    Job,
    Outgoing,
    Payload,
    Receipt,
    Rejected,
    Sent,
    Unknown,
    Workers,
)
from sigra_workers.loops import in_thread
from sigra_workers_rq import wire

SERIALIZERS: Final = ("json", "pickle")
ROUND_TRIP: Final = 5.0
"""Seconds that one round trip to Redis may take, for a connection that the adapter makes."""
MAX_TTL: Final = 10 * 366 * 86_400
_NATIVE: Final[dict[str, type]] = {"at_front": bool, "result_ttl": int, "failure_ttl": int}


class RqAdapter:
    """RQ behind `Workers(adapter="rq")`.

    Settings: ``url`` of a Redis, or ``connection``, the host's own `redis.Redis`; ``serializer``, "json"
    (the default) or "pickle", the same as the worker processes' ``--serializer``.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.clock: Callable[[], float] = time.time
        unknown = sorted({*settings} - {"url", "connection", "serializer"})
        if unknown:
            raise _invalid(f"there is no setting {unknown}, known are 'url', 'connection' and 'serializer'")
        if ("url" in settings) == ("connection" in settings):
            raise _invalid(
                "it takes either 'url' or 'connection', such as {'url': 'redis://localhost:6379/0'}"
            )
        self.serializer: Final[str] = settings.get("serializer", "json")
        if self.serializer not in SERIALIZERS:
            raise _invalid(f"setting 'serializer' is none of {SERIALIZERS}")
        self._owned = "url" in settings
        self._connection: Redis = (
            _connect(settings["url"]) if self._owned else _check_connection(settings["connection"])
        )
        self._queues: dict[str, Queue] = {}

    @classmethod
    def of(cls, workers: Workers[Any]) -> "RqAdapter":
        """The RQ adapter of `workers`; raises `InvalidSettingsError` where they use another one."""
        adapter = workers.adapter
        if not isinstance(adapter, cls):
            problem = f"these workers use adapter {workers.adapter_name!r}, expected 'rq'"
            raise InvalidSettingsError("boot", f"{problem}: is it chosen here as it is by the sender?")
        return adapter

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
            self._reach()
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

    def close(self) -> None:
        """Close the connections the adapter made; a connection of the host is the host's."""
        if self._owned:
            self._connection.close()

    # -- sending ---------------------------------------------------------------------------------------

    def _reach(self) -> None:
        """Connect, so that what fails from here on was sent."""
        pool: Any = self._connection.connection_pool
        try:
            link = pool.get_connection()
        except TypeError:  # redis-py 5 wants the name of a command
            link = pool.get_connection("PING")
        pool.release(link)

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
                    data = [Queue.prepare_data(**_data(sent)) for sent in group]
                    self.queue(name).enqueue_many(data, pipeline=pipeline)
            except Exception as error:  # what RQ refuses; nothing was sent yet
                return Rejected(error)
            return _answer(pipeline.execute)

    def _send_unique(self, sent: Outgoing) -> Receipt:
        queue = self.queue(sent.payload.queue)

        def send() -> None:
            if sent.payload.due_at is None:
                at_front = bool(sent.job.native.get("at_front"))
                queue.enqueue_job(self._create(sent, JobStatus.QUEUED), at_front=at_front, unique=True)
            else:
                queue.schedule_job(self._scheduled(sent), due(sent.payload), unique=True)

        return _answer(send)

    def _scheduled(self, sent: Outgoing) -> RqJob:
        job = self._create(sent, JobStatus.SCHEDULED)
        if sent.job.native.get("at_front"):
            job.enqueue_at_front = True
        return job

    def _create(self, sent: Outgoing, status: JobStatus) -> RqJob:
        data = _data(sent)
        del data["at_front"]
        return self.queue(sent.payload.queue).create_job(**data, status=status)


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


def _answer(send: Callable[[], object]) -> Receipt:
    try:
        send()
    except DuplicateJobError:
        return Duplicate()
    except ResponseError as error:
        # Redis refused the transaction. redis-py puts the whole command, our payload included, in front.
        return Rejected(type(error)(str(error).rpartition("caused error: ")[2]))
    except (RedisError, OSError) as error:
        return Unknown(error)
    return Sent()


def _connect(url: object) -> Redis:
    if not isinstance(url, str):
        raise _invalid(f"setting 'url' is of type {type(url).__name__}, expected str")
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
    except ValueError as error:
        raise _invalid("setting 'url' is no Redis URL, such as redis://localhost:6379/0") from error


def _check_connection(connection: object) -> Redis:
    if not isinstance(connection, Redis):
        raise _invalid(f"setting 'connection' is of type {type(connection).__name__}, expected redis.Redis")
    if connection.connection_pool.connection_kwargs.get("decode_responses"):
        raise _invalid(
            "setting 'connection' decodes responses, RQ needs bytes: make it with decode_responses=False"
        )
    return connection


def _invalid(problem: str) -> InvalidSettingsError:
    return InvalidSettingsError("adapter 'rq'", problem)
