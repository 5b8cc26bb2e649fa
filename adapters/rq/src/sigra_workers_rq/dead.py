"""Dead jobs: what RQ's failed registries hold of ours, which `rq requeue` and dashboards see as well."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import RedisError, WatchError
from rq import Queue
from rq.exceptions import DuplicateJobError, InvalidJobOperation
from rq.job import Job as RqJob
from rq.results import Result
from rq.utils import str_to_date

from sigra_workers import (
    DeadFilters,
    DeadJob,
    Duplicate,
    InvalidPayloadError,
    Payload,
    Receipt,
    Rejected,
    Resend,
    Sent,
    Unknown,
)
from sigra_workers.dead import fits
from sigra_workers_rq import wire

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

_PAGE: Final = 200


class _Found(NamedTuple):
    job: RqJob
    dead: DeadJob


class FailedJobs:
    """Our jobs in RQ's failed registries of all queues."""

    def __init__(self, connection: "Redis", serializer: str) -> None:
        self._connection, self._serializer = connection, serializer

    def find(self, filters: DeadFilters) -> Generator[DeadJob]:
        """See `DeadJobs.dead_jobs`."""
        since = filters["since"].timestamp() if "since" in filters else 0.0
        died = [(at, job_id) for at, job_id in self._died(filters.get("ids")) if at >= since - 1]
        died.sort(reverse=True)
        found = (found.dead for found in self._read(job_id for _, job_id in died))
        yield from islice((dead for dead in found if fits(dead, filters)), filters.get("limit"))

    def resend(self, jobs: Sequence[Resend]) -> Generator[Receipt]:
        """See `DeadJobs.resend`."""
        lost: Exception | None = None
        for job in jobs:
            receipt = self._resend(job) if lost is None else Rejected(lost)
            yield receipt
            if not isinstance(receipt, (Sent, Duplicate)) and isinstance(
                receipt.cause, (RedisError, OSError)
            ):
                lost = receipt.cause  # one wait is enough

    def purge(self, ids: Iterable[str]) -> int:
        """See `DeadJobs.purge`."""

        def delete(job: RqJob, pipeline: "Pipeline") -> None:
            job.failed_job_registry.remove(job, pipeline=pipeline)  # whatever its status says
            job.delete(pipeline=pipeline, remove_from_queue=False)

        return sum(self._take(job_id, None, delete) for job_id in dict.fromkeys(ids))

    def _resend(self, resend: Resend) -> Receipt:
        payload, written = resend.payload, list[str]()
        if payload.id != resend.dead.id:
            return Rejected(InvalidPayloadError("its id is another than RQ's own record of it says"))

        def enqueue(job: RqJob, pipeline: "Pipeline") -> None:
            job.meta[wire.META_KEY] = payload.dump()
            job.retries_left = wire.budget(payload)
            job.started_at = job.ended_at = None
            job.failed_job_registry.remove(job, pipeline=pipeline)
            pipeline.persist(job.key)
            queue = Queue(job.origin, connection=self._connection, serializer=self._serializer)
            queue.enqueue_job(job, pipeline=pipeline)
            written.append(job.id)

        def send() -> None:
            if not self._take(payload.id, resend.dead.payload, enqueue):
                raise DuplicateJobError

        receipt = wire.answer(send)
        return Rejected(receipt.cause) if isinstance(receipt, Unknown) and not written else receipt

    def _take(self, job_id: str, text: str | None, write: "Callable[[RqJob, Pipeline], None]") -> bool:
        """Let `write` into a transaction if the job is dead, with that payload where one is given."""
        with self._connection.pipeline() as pipeline:
            pipeline.watch(RqJob.key_for(job_id))  # type: ignore[no-untyped-call]
            found = next(self._read([job_id]), None)
            if found is None or text not in (None, found.dead.payload):
                return False
            pipeline.multi()
            try:
                write(found.job, pipeline)
                pipeline.execute()
            except (InvalidJobOperation, WatchError):  # somebody was here first: look again
                return self._take(job_id, text, write)
            return True

    def _died(self, ids: Iterable[str] | None) -> Generator[tuple[float, str]]:
        """When jobs ended, in epoch seconds; of all in failed registries where no ids are given."""
        if ids is None:
            queues = Queue.all(self._connection, serializer=self._serializer)
            ids = (job_id for queue in queues for job_id in queue.failed_job_registry.get_job_ids())
        for page in _pages(ids):
            with self._connection.pipeline(transaction=False) as pipeline:
                for job_id in page:
                    pipeline.hmget(RqJob.key_for(job_id), ["ended_at", "enqueued_at"])
                for job_id, times in zip(page, pipeline.execute(), strict=True):
                    if any(times):
                        yield str_to_date(times[0] or times[1]).timestamp(), job_id

    def _read(self, ids: Iterable[str]) -> Generator[_Found]:
        """Those of the jobs that are ours, and dead."""
        for page in _pages(ids):
            with self._connection.pipeline(transaction=False) as pipeline:
                for job_id in page:
                    pipeline.hgetall(RqJob.key_for(job_id))
                    pipeline.xrevrange(Result.get_key(job_id), count=1)  # type: ignore[no-untyped-call]
                answers = pipeline.execute()
                jobs = [
                    (job, results)
                    for job_id, raw, results in zip(page, answers[::2], answers[1::2], strict=True)
                    if (job := self._job(job_id, raw)) is not None
                ]
                for job, _ in jobs:
                    pipeline.zscore(job.failed_job_registry.key, job.id)
                for (job, results), place in zip(jobs, pipeline.execute(), strict=True):
                    if place is not None:
                        yield _Found(job, self._dead(job, results))

    def _job(self, job_id: str, raw: dict[bytes, bytes]) -> RqJob | None:
        job = RqJob(job_id, connection=self._connection, serializer=self._serializer)
        try:
            job.restore(raw)
            return job if job.func_name == wire.FUNCTION and job.get_status(refresh=False) else None
        except Exception:  # there no more, or of another serializer: not ours
            return None

    def _dead(self, job: RqJob, results: list[tuple[bytes, dict[Any, Any]]]) -> DeadJob:
        traceback: str | None = None
        for result_id, fields in results:
            restored = Result.restore(
                job.id, result_id.decode(), fields, connection=self._connection, serializer=self._serializer
            )
            traceback = restored.exc_string
        lines = (traceback or "").strip().splitlines()
        text, reason = wire.text(job), lines[-1] if lines else "failed in RQ, without a reason"
        text = text if isinstance(text, str) else ""
        with suppress(InvalidPayloadError):
            reason = Payload.parse(text).meta.get(wire.DEAD, reason)
        died = job.ended_at or job.enqueued_at or datetime.now(UTC)
        return DeadJob.of(job.id, text, reason, traceback, died.timestamp())


def _pages(ids: Iterable[str]) -> Generator[list[str]]:
    rest = iter(ids)
    while page := [*islice(rest, _PAGE)]:
        yield page
