"""The queue libraries, each by itself and with sigra-workers; nothing is opened before it is used."""

import asyncio
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from time import perf_counter, time
from typing import Any, Final
from uuid import uuid4

import pika
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import serialize_job
from rq import Queue, Retry

from benchmarks import places, servers
from benchmarks.apps import bare_dramatiq, bare_rq
from benchmarks.host import TEN_KEYS, Host
from benchmarks.measuring import Timer, timed
from sigra_workers import Payload


class Library(ABC):
    """A queue library. Its bare jobs get the args as their one argument; `locked` ones take a lock to run."""

    name: str
    adapter: str
    looks_at_redis: bool = True
    """Whether `left` asks Redis."""

    def settings(self) -> dict[str, Any]:
        """Those of the adapter."""
        return {"url": places.REDIS}

    @cached_property
    def host(self) -> Host:
        """The application with sigra-workers."""
        return Host(self.adapter, queue=places.OURS, **self.settings())

    @cached_property
    def handle(self) -> Any:
        """Of the kind of worker that is the library's own."""
        return self.host.sync

    # -- sending -----------------------------------------------------------------------------------------

    def ours(self, args: Any = TEN_KEYS) -> Timer:
        """The time of `handle.enqueue`."""
        return self.emptied(timed(lambda: self.handle.enqueue(args)))

    @abstractmethod
    def bare(self, args: Any = TEN_KEYS) -> Timer:
        """The time of the library's own way to send one job."""

    def ours_at_once(self) -> Timer:
        """The time of `enqueue_many`, making the jobs included."""
        return self.emptied(_once(self.fill_ours))

    def bare_at_once(self) -> Timer:
        """The time of the library's own way to send many."""
        return self.emptied(_once(self.fill_bare))

    def carried(self, batch: int) -> Timer:
        """The time of the library, or its client, alone to send what our jobs carry, so many at a time."""

        def timer(loops: int) -> float:
            jobs = [self.handle.new(TEN_KEYS).payload(time()) for _ in range(loops)]
            ready = [self.prepared(jobs[start : start + batch]) for start in range(0, loops, batch)]
            begun = perf_counter()
            for send in ready:
                send()
            return perf_counter() - begun

        return self.emptied(timer)

    @abstractmethod
    def prepared(self, payloads: Sequence[Payload]) -> Callable[[], object]:
        """What sends these in one transaction."""

    def emptied(self, timer: Timer) -> Timer:
        """A timer that leaves empty queues behind."""

        def timed_and_emptied(loops: int) -> float:
            servers.redis()  # ours to use
            try:
                return timer(loops)
            finally:
                self.empty()

        return timed_and_emptied

    def fill_ours(self, count: int) -> None:
        """Send many with sigra-workers."""
        new = self.handle.new
        self.host.workers.enqueue_many(new(TEN_KEYS) for _ in range(count))

    @abstractmethod
    def fill_bare(self, count: int, *, locked: bool = False) -> None:
        """Send many by the library alone."""

    def empty(self) -> None:
        """Forget all jobs."""
        servers.empty_redis()

    # -- what is there -----------------------------------------------------------------------------------

    @abstractmethod
    def left(self, queue: str) -> int:
        """How many jobs wait."""

    @abstractmethod
    def failed(self, queue: str) -> int:
        """How many jobs that ran did not complete."""


class BlockingLibrary(Library):
    """One whose own client is not awaited."""

    @abstractmethod
    def send(self, args: Any, *, locked: bool = False) -> object:
        """Send one job by the library alone."""

    def bare(self, args: Any = TEN_KEYS) -> Timer:
        return self.emptied(timed(lambda: self.send(args)))

    def fill_bare(self, count: int, *, locked: bool = False) -> None:
        for _ in range(count):
            self.send(TEN_KEYS, locked=locked)


class Rq(BlockingLibrary):
    """RQ, whose serializer is ours: JSON."""

    name, adapter = "RQ", "rq"

    @cached_property
    def _queue(self) -> Queue:
        return Queue(places.BARE, connection=servers.redis(), serializer="json")

    def send(self, args: Any, *, locked: bool = False) -> object:
        return self._queue.enqueue(bare_rq.locked if locked else bare_rq.close, args)

    def fill_bare(self, count: int, *, locked: bool = False) -> None:
        function = bare_rq.locked if locked else bare_rq.close
        self._queue.enqueue_many([Queue.prepare_data(function, (TEN_KEYS,)) for _ in range(count)])

    def prepared(self, payloads: Sequence[Payload]) -> Callable[[], object]:
        facts: list[dict[str, Any]] = [
            {
                "job_id": payload.id,
                "description": f"{payload.worker} {payload.id} organization={payload.organization_id!r}",
                "meta": {"sigra": payload.dump()},
                "timeout": -1,
            }
            for payload in payloads
        ]

        def send() -> None:
            data = [Queue.prepare_data(bare_rq.close, retry=Retry(max=20), **fact) for fact in facts]
            self._queue.enqueue_many(data)

        return send

    def left(self, queue: str) -> int:
        return int(servers.redis().llen(f"rq:queue:{queue}"))

    def failed(self, queue: str) -> int:
        return sum(int(servers.redis().zcard(f"rq:{name}:{queue}")) for name in ("failed", "scheduled"))


class Dramatiq(BlockingLibrary):
    """Dramatiq on Redis."""

    name, adapter = "Dramatiq on Redis", "dramatiq"
    broker = places.REDIS

    def settings(self) -> dict[str, Any]:
        return places.dramatiq(self.broker)

    @cached_property
    def _actors(self) -> Any:
        return bare_dramatiq.actors(self.broker)

    def send(self, args: Any, *, locked: bool = False) -> object:
        close, under_lock = self._actors
        return under_lock.send(args, f"lock:{uuid4()}") if locked else close.send(args)

    def _encoded(self, text: str) -> tuple[str, bytes]:
        """The id and the body of a message, as `Broker.enqueue` makes them."""
        actor = self._actors[0]
        message = actor.message_with_options(kwargs={}, sigra=text)
        actor.broker.emit_before("enqueue", message, None)
        return message.message_id, message.encode()

    def prepared(self, payloads: Sequence[Payload]) -> Callable[[], object]:
        texts = [payload.dump() for payload in payloads]

        def send() -> None:
            with servers.redis().pipeline() as pipeline:
                for message_id, body in map(self._encoded, texts):
                    pipeline.hset(f"dramatiq:{places.BARE}.msgs", message_id, body)
                    pipeline.rpush(f"dramatiq:{places.BARE}", message_id)
                pipeline.execute()

        return send

    def left(self, queue: str) -> int:
        return int(servers.redis().hlen(f"dramatiq:{queue}.msgs"))

    def failed(self, queue: str) -> int:
        client = servers.redis()
        parked = sum(int(client.zcard(key)) for key in client.scan_iter("sigra-workers:*:parked:at"))
        return parked + sum(self.left(name) for name in servers.names(queue)[1:])


class DramatiqRabbitmq(Dramatiq):
    """Dramatiq on RabbitMQ, with a Redis as our store."""

    name = "Dramatiq on RabbitMQ"
    broker = places.RABBITMQ
    looks_at_redis = False

    def empty(self) -> None:
        super().empty()
        servers.empty_rabbitmq()

    @cached_property
    def _channel(self) -> Any:
        channel = servers.rabbitmq().connection.channel()
        channel.tx_select()
        return channel

    def prepared(self, payloads: Sequence[Payload]) -> Callable[[], object]:
        texts, channel = [payload.dump() for payload in payloads], self._channel

        def send() -> None:
            for message_id, body in map(self._encoded, texts):
                properties = pika.BasicProperties(delivery_mode=2, message_id=message_id)
                channel.basic_publish("", places.BARE, body, properties, mandatory=True)
            channel.tx_commit()

        return send

    def left(self, queue: str) -> int:
        return servers.messages(queue)


class Arq(Library):
    """arq, which is async: its own client is awaited, and so is its job."""

    name, adapter = "arq", "arq"

    @cached_property
    def handle(self) -> Any:
        return self.host.asynchronous

    @cached_property
    def _loop(self) -> asyncio.Runner:
        return asyncio.Runner()

    @cached_property
    def _pool(self) -> Any:
        settings = RedisSettings.from_dsn(places.REDIS)
        return self._loop.run(create_pool(settings, default_queue_name=places.BARE))

    def bare(self, args: Any = TEN_KEYS) -> Timer:
        async def send(pool: Any, loops: int) -> float:
            begun = perf_counter()
            for _ in range(loops):
                await pool.enqueue_job("close", args)
            return perf_counter() - begun

        return self.emptied(lambda loops: self._loop.run(send(self._pool, loops)))

    def awaited(self, args: Any = TEN_KEYS) -> Timer:
        """The time of `handle.aenqueue`."""

        async def send(loops: int) -> float:
            begun = perf_counter()
            for _ in range(loops):
                await self.handle.aenqueue(args)
            return perf_counter() - begun

        return self.emptied(lambda loops: self._loop.run(send(loops)))

    def fill_bare(self, count: int, *, locked: bool = False) -> None:
        name = "locked" if locked else "close"

        async def send(pool: Any) -> None:
            for begin in range(0, count, 100):
                some = range(min(100, count - begin))
                await asyncio.gather(*(pool.enqueue_job(name, TEN_KEYS) for _ in some))

        self._loop.run(send(self._pool))

    def prepared(self, payloads: Sequence[Payload]) -> Callable[[], object]:
        jobs = [
            (
                payload.id,
                serialize_job("close", (payload.dump(),), {}, None, int(payload.enqueued_at * 1_000)),
            )
            for payload in payloads
        ]

        def send() -> None:
            with servers.redis().pipeline() as pipeline:
                for job_id, body in jobs:
                    pipeline.psetex(f"arq:job:{job_id}", 86_400_000, body)
                    pipeline.zadd(places.BARE, {job_id: 1})
                pipeline.execute()

        return send

    def left(self, queue: str) -> int:
        return int(servers.redis().zcard(queue))

    def failed(self, queue: str) -> int:
        client = servers.redis()
        results = client.mget([*client.scan_iter("arq:result:*", count=1_000)])
        return sum(not pickle.loads(found)["s"] for found in results)  # noqa: S301  # arq's


RQ: Final = Rq()
ARQ: Final = Arq()
DRAMATIQ_REDIS: Final = Dramatiq()
DRAMATIQ_RABBITMQ: Final = DramatiqRabbitmq()
LIBRARIES: Final = (RQ, ARQ, DRAMATIQ_REDIS, DRAMATIQ_RABBITMQ)


def _once(send: Any) -> Timer:
    def timer(loops: int) -> float:
        begun = perf_counter()
        send(loops)
        return perf_counter() - begun

    return timer
