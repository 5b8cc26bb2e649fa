"""The queues without sigra-workers: the same catastrophes, servers and settings, and their own retries."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import dramatiq
import pika
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job as ArqJob
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import xq_name
from rq import Queue, Retry
from tests.losses.back_ends import BACK_ENDS, BackEnd, Place
from tests.losses.host import BACKOFF
from tests.losses.stage import Stage, Story

WORKER: Final = "tests.losses.bare_worker"
ATTEMPTS: Final = 3
SETTLED: Final = 30.0
"""Seconds that a queue has to be empty for a job to be lost that has not ended."""
SHOWN: Final = {
    "killed": "worker-killed",
    "broker: fails": "broker-killed",
    "poison, all": "poison-all",
    "stopped, too long": "stopped-too-long",
}
"""The rows of the table beside the bare queues, and the catastrophes that they are of."""


@dataclass(frozen=True)
class Bare:
    """A queue library by itself."""

    back_end: BackEnd
    send: Callable[[Place, str, list[str], int], object]
    """Send a job: where to, its id, its script, how often it is tried."""
    dead: Callable[[Place, str], bool]
    """Whether the library filed a job as failed."""


class BareStage(Stage):
    """The same stage, whose jobs are the library's own."""

    def __init__(self, bare: Bare, *others: Any) -> None:
        super().__init__(bare.back_end, *others)
        self._bare = bare

    def set_up(self, *, own_broker: bool = False, jobs: int = 1, grace: int | None = None) -> None:
        """For the one job that is shown."""
        super().set_up(own_broker=own_broker, jobs=1, grace=grace)

    def send(self, row: str, *steps: str, kinds: Sequence[str] = ("sync",), **options: Any) -> None:
        """Send the job, where the table has the row."""
        if row not in SHOWN:
            return
        (job,) = self.jobs(
            row, *steps, kinds=["sync"], max_attempts=options.get("max_attempts", ATTEMPTS)
        ).values()
        self._bare.send(self.place, job.id, [*steps], job.max_attempts)

    def send_in_vain(self, jobs: Sequence[Any]) -> list[Any]:
        """Not shown."""
        self.stories[:] = [story for story in self.stories if story.job_id not in {job.id for job in jobs}]
        return []

    def finish(self) -> None:
        """Wait until each job has ended, seems never to end, or is in no queue any more."""
        busy = time.monotonic()

        def is_over() -> bool:
            nonlocal busy
            self.read()
            if self.back_end.left(self.place):
                busy = time.monotonic()
            else:
                for story in self.stories:
                    if self._bare.dead(self.place, story.job_id):
                        story.dead = "failed"
            over = all(self._ended(story) or is_endless(story) for story in self.stories)
            return over or time.monotonic() - busy > SETTLED

        self.until(is_over, "the end of each job")


def is_endless(story: Story) -> bool:
    """Whether a job had more than twice the runs that it has attempts."""
    return len(story.runs) > 2 * story.max_attempts


def outcome(story: Story) -> str:
    """What became of a job, in the words of that table."""
    if is_endless(story):
        return "again and again"
    if story.runs and story.runs[-1].decision == "ok":
        return "runs again" if len(story.runs) > 1 else "completed"
    return "dead" if story.dead is not None else "lost"


def _rq(place: Place) -> Queue:
    return Queue(place.queue, connection=place.redis.client(), serializer="json")


def _send_rq(place: Place, job: str, steps: list[str], attempts: int) -> None:
    retry = Retry(max=attempts - 1, interval=BACKOFF)
    _rq(place).enqueue(f"{WORKER}.step", job, steps, job_id=job, retry=retry, job_timeout=-1)


def _broker(place: Place) -> Any:
    if place.broker is place.redis:
        return RedisBroker(url=place.broker.url)  # type: ignore[no-untyped-call]
    return RabbitmqBroker(url=place.broker.url, confirm_delivery=True)


def _send_dramatiq(place: Place, job: str, steps: list[str], attempts: int) -> None:
    broker = _broker(place)
    broker.declare_queue(place.queue)
    options: Mapping[str, Any] = {"max_retries": attempts - 1}
    broker.enqueue(
        dramatiq.Message(
            queue_name=place.queue, actor_name="step", args=(job, steps), kwargs={}, options=dict(options)
        )
    )
    broker.close()


def _dead_dramatiq(place: Place, job: str) -> bool:
    name = xq_name(place.queue)
    if place.broker is place.redis:
        with place.redis.client() as client:
            return any(job.encode() in message for message in client.hvals(f"dramatiq:{name}.msgs"))
    with pika.BlockingConnection(pika.URLParameters(place.broker.url)) as connection:
        channel = connection.channel()
        found = False
        while (body := channel.basic_get(name)[2]) is not None:
            found |= job.encode() in body
        return found


def _send_arq(place: Place, job: str, steps: list[str], attempts: int) -> None:
    async def send() -> None:
        pool = await create_pool(RedisSettings.from_dsn(place.redis.url))
        await pool.enqueue_job(f"step{attempts}", job, steps, _job_id=job, _queue_name=place.queue)
        await pool.aclose()

    asyncio.run(send())


def _dead_arq(place: Place, job: str) -> bool:
    async def look() -> bool:
        pool = await create_pool(RedisSettings.from_dsn(place.redis.url))
        result = await ArqJob(job, pool).result_info()
        await pool.aclose()
        return result is not None and not result.success

    return asyncio.run(look())


def _command(back_end: BackEnd) -> Callable[[str, Place], list[str]]:
    def command(folder: str, place: Place) -> list[str]:
        words = back_end.command(folder, place)
        if back_end.name == "rq":
            return [word for word in words if word not in ("-c", "tests.losses.boot_rq")] + [
                "--url",
                place.redis.url,
            ]
        return [word.replace(f"tests.losses.boot_{back_end.adapter}", WORKER) for word in words]

    return command


_LIBRARIES: Final[dict[str, tuple[Any, Any]]] = {
    "rq": (_send_rq, lambda place, job: job in _rq(place).failed_job_registry.get_job_ids(cleanup=False)),
    "dramatiq": (_send_dramatiq, _dead_dramatiq),
    "arq": (_send_arq, _dead_arq),
}
BARE: Final = {
    f"bare-{name}": Bare(replace(back_end, command=_command(back_end)), *_LIBRARIES[back_end.adapter])
    for name, back_end in BACK_ENDS.items()
}
