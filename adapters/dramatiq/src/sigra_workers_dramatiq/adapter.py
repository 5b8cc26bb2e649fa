"""The sending side: jobs into Dramatiq's queues, a batch in one transaction; dead jobs; parked jobs."""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dramatiq import Broker, Message
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import q_name
from dramatiq.results import Results
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from sigra_workers import (
    Capability,
    DeadFilters,
    DeadJob,
    InvalidOptionError,
    Job,
    NotSupportedError,
    Outgoing,
    Payload,
    Receipt,
    Rejected,
    Resend,
    Sent,
    Unknown,
    Workers,
)
from sigra_workers.boot import adapter_of
from sigra_workers.checks import Check
from sigra_workers.errors import told
from sigra_workers.loops import in_thread
from sigra_workers.store import Command, Store
from sigra_workers.transact import Transactions
from sigra_workers_dramatiq import checks, wire
from sigra_workers_dramatiq.connect import consumer_timeout, make_broker, make_store
from sigra_workers_dramatiq.rabbit import Encoded, Publisher

MAX_PRIORITY: Final = 255
_PUSH: Final = """
redis.call('LLEN', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('RPUSH', KEYS[1], ARGV[1])
"""
_log: Final = logging.getLogger("sigra_workers.dramatiq")


class Group(NamedTuple):
    """Redis commands that go together, and the message that they send, where they send one."""

    commands: list[Command]
    message: Encoded | None = None


class DramatiqAdapter:
    """Dramatiq behind `Workers(adapter="dramatiq")`.

    Settings: ``url`` of a Redis or RabbitMQ, or ``broker``, the host's own `RedisBroker` or
    `RabbitmqBroker`; with RabbitMQ also ``store``, the URL of a Redis or a `redis.Redis`, and for the doctor
    ``consumer_timeout``, the seconds of its rabbitmq.conf.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.clock: Callable[[], float] = time.time
        self.broker: Final[Broker] = make_broker(settings)
        self.consumer_timeout: Final = consumer_timeout(self.broker, settings)
        self.redis, prefix = make_store(self.broker, settings)
        self.store: Final = None if self.redis is None else Store(self.redis, prefix)
        self._transactions = (
            None
            if self.redis is None
            else Transactions(self.redis, refused=ResponseError, lost=(RedisError, OSError))
        )
        self._publisher = Publisher(self.broker) if isinstance(self.broker, RabbitmqBroker) else None
        self._own_broker, self._own_store = "url" in settings, not isinstance(settings.get("store"), Redis)

    @classmethod
    def of(cls, workers: Workers[Any]) -> "DramatiqAdapter":
        """The Dramatiq adapter of `workers`; raises `InvalidSettingsError` where they use another one."""
        return adapter_of(workers, cls, "dramatiq")

    @property
    def results(self) -> Results | None:
        """The broker's middleware that keeps results, where it has one."""
        return next((found for found in self.broker.middleware if isinstance(found, Results)), None)

    # -- the Adapter protocol --------------------------------------------------------------------------

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Without a store dead jobs and ids are Dramatiq's; results need its middleware `Results`."""
        found: set[Capability] = {"bulk", "durable", "stops_sync"}
        if self.store is not None:
            found |= {"dead_jobs", "unique_ids"}
        if self.results is not None:
            found.add("results")
        return frozenset(found)

    def check(self, job: Job) -> None:
        """Refuse a `job_id` where no store knows the others, and native options but ``broker_priority``."""
        if job.given_id and self.store is None:
            raise InvalidOptionError(
                "job_id", "RabbitMQ can't tell whether it is taken: give the setting 'store', a Redis"
            )
        for name, value in job.native.items():
            if name != "broker_priority" or not isinstance(self.broker, RabbitmqBroker):
                raise InvalidOptionError(
                    "native", f"Dramatiq has no {name!r} here, known is 'broker_priority' with RabbitMQ"
                )
            if type(value) is not int or not 0 <= value <= MAX_PRIORITY:
                raise InvalidOptionError("native", f"{name!r} is expected to be an int, 0 to {MAX_PRIORITY}")

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """One transaction for all; on RabbitMQ one more, in the store, for those with an id or a delay."""
        answers: dict[int, Receipt] = {}
        stored: dict[int, Group] = {}
        published: dict[int, Encoded] = {}
        now = self.clock()
        for index, sent in enumerate(jobs):
            payload = wire.with_options(sent.payload, sent.job.native)
            try:
                check_queue(payload.queue)
                group = self._group(payload, now, sent.job.given_id)
                if group.commands:
                    stored[index] = group
                elif group.message is not None:
                    published[index] = group.message
            except Exception as error:  # what the host's middleware or encoder refuses
                answers[index] = Rejected(error)
        answers.update(zip(stored, self._write_all([*stored.values()]), strict=True))
        answers.update(zip(published, self._publish([*published.values()]), strict=True))
        return [answers[index] for index in range(len(jobs))]

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """`send` in a thread of our own."""
        return await in_thread(self.send, jobs)

    def close(self) -> None:
        """Close the connections the adapter made; what the host gave is the host's."""
        if self._publisher is not None:
            self._publisher.close()
        if self._own_broker:
            self.broker.close()
            if isinstance(self.broker, RedisBroker):
                self.broker.client.close()
        if self.redis is not None and (self._own_store if self._publisher else self._own_broker):
            self.redis.close()

    # -- the Checks protocol ---------------------------------------------------------------------------

    def checks(self, workers: Workers[Any], /) -> list[Check]:
        """What ``sigra-workers doctor`` looks for: servers, worker processes, and what they run with."""
        return checks.checks(self, workers)

    # -- dead jobs -------------------------------------------------------------------------------------

    def dead_jobs(self, filters: DeadFilters, /) -> Generator[DeadJob]:
        """See `DeadJobs.dead_jobs`."""
        return self._shelf.dead_jobs(filters)

    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        """See `DeadJobs.resend`; a worker process sends them to their queues."""
        store, now = self._shelf, self.clock()
        return self._write_all(
            [Group([("EVAL", *store.resend(job, store.park(job.payload, now)))]) for job in jobs]
        )

    def purge(self, ids: Sequence[str], /) -> int:
        """See `DeadJobs.purge`; Dramatiq's own dead-letter queue keeps its copy for 7 days."""
        return self._shelf.purge(ids)

    @property
    def _shelf(self) -> Store:
        if self.store is None:
            raise NotSupportedError("dramatiq", "dead_jobs")
        return self.store

    # -- queueing ----------------------------------------------------------------------------------------

    def publish(self, payload: Payload, due_at: float) -> None:
        """Publish one job to RabbitMQ, raising why where it was not taken or answered."""
        _raise_first(self._publish([self._encoded(wire.message(payload), due_at)]))

    def write(self, commands: Sequence[Command]) -> None:
        """Run Redis commands in one transaction, raising why where Redis did not take or answer it."""
        _raise_first(self._write_all([Group([*commands])]))

    def acknowledging(self, message: Any) -> list[Command]:
        """Redis commands that acknowledge a message, as Dramatiq's do (brokers/redis/dispatch.lua).

        None on RabbitMQ, where the host's broker may do so in a way of its own, and for one made by hand.
        """
        broker: Any = self.broker
        queue, message_id = message.queue_name, message.options.get("redis_message_id")
        if type(broker) is not RedisBroker or message_id is None:
            return []
        return [
            ("SREM", f"{broker.namespace}:__acks__.{broker.broker_id}.{queue}", message_id),
            ("HDEL", f"{broker.namespace}:{queue}.msgs", message_id),
        ]

    def move(self) -> int:
        """Send the parked jobs that are due; how many there were. Raises what `send` has as a receipt."""
        store, groups = self._shelf, dict[str, Group]()
        if self._publisher is not None:
            self._publisher.reach()  # or they would be kept from others for a while
        due = store.due(self.clock())
        for ticket, text in due:
            try:
                groups[ticket] = self._unparking(ticket, Payload.parse(text))
            except Exception as error:  # it is of a newer wire version, or middleware refuses it: it waits
                _log.error("parked job %s can't be sent from here: %s", ticket.partition(":")[0], told(error))
        if self._publisher is None:
            receipts = self._write_all([*groups.values()])
        else:
            receipts = self._publish([group.message for group in groups.values() if group.message])
            sent = [ticket for ticket, receipt in zip(groups, receipts, strict=True) if receipt == Sent()]
            if sent:
                self.write([("EVAL", *store.unpark(sent))])
        _raise_first(receipts)
        return len(due)

    def _unparking(self, ticket: str, payload: Payload) -> Group:
        """How a parked job is sent: on Redis at once with the end of its parking, or not at all."""
        group = self._enqueueing(payload)
        if self._publisher is not None:
            return group
        return Group([("EVAL", *self._shelf.unpark([ticket], _whole(group)))], group.message)

    def _group(self, payload: Payload, now: float, unique: bool) -> Group:
        """How a job is sent: by Redis commands, or by a message alone, to be published."""
        later = payload.due_at is not None and payload.due_at > now
        if self.store is None:
            group = self._enqueueing(payload, payload.due_at)
        elif not (later or (unique and self._publisher)):
            group = self._enqueueing(payload)
        else:
            group = Group(self.store.park(payload, payload.due_at or now))
        if not unique:
            return group
        return Group([("EVAL", *self._shelf.once(payload, _whole(group)))], group.message)

    def _enqueueing(self, payload: Payload, due_at: float | None = None) -> Group:
        """A message, and on Redis what `RedisBroker.enqueue` writes (brokers/redis/dispatch.lua)."""
        if self._publisher is not None:
            return Group([], self._encoded(wire.message(payload), due_at))
        broker: Any = self.broker
        message_id = f"{payload.id}-{time.time_ns():x}"  # each copy needs one of its own
        found = self._encoded(wire.message(payload, redis_message_id=message_id))
        queue = f"{broker.namespace}:{payload.queue}"
        commands: list[Command] = [
            ("HSET", f"{queue}.msgs", message_id, found.body),
            ("RPUSH", queue, message_id),
        ]
        return Group(commands, found)

    def _encoded(self, message: Message[Any], due_at: float | None = None) -> Encoded:
        """The message, as the broker's middleware makes it, encoded; raises what they do."""
        delay = None
        if due_at is not None and due_at > self.clock():
            message, delay = wire.delayed(message, due_at), round((due_at - self.clock()) * 1_000)
        self.broker.emit_before("enqueue", message, delay)
        return Encoded(message, message.encode())

    def _publish(self, messages: Sequence[Encoded]) -> list[Receipt]:
        """Publish to RabbitMQ in one transaction."""
        receipts = self._publisher.send(messages) if self._publisher and messages else []
        for found, receipt in zip(messages, receipts, strict=True):
            self._told(found.message, receipt)
        return receipts

    def _write_all(self, groups: Sequence[Group]) -> list[Receipt]:
        """Run all groups in one transaction."""
        if self._transactions is None:
            return []
        jobs = [group.commands for group in groups]
        if len(jobs) == 1 and groups[0].message and len(jobs[0]) == 2:
            jobs = [[_pushed(*jobs[0])]]
        receipts = self._transactions.run(jobs)
        for group, receipt in zip(groups, receipts, strict=True):
            if group.message is not None:
                self._told(group.message.message, receipt)
        return receipts

    def _told(self, message: Message[Any], receipt: Receipt) -> None:
        if isinstance(receipt, Sent):
            self.broker.emit_after("enqueue", message, None)


def check_queue(queue: str) -> None:
    """Refuse a queue that Dramatiq can't have, or would take for the delayed or dead jobs of another."""
    if ":" in queue:
        raise InvalidOptionError("queue", f"{queue!r} holds a colon, which Dramatiq's queues can't have")
    if q_name(queue) != queue:
        raise InvalidOptionError("queue", f"{queue!r} ends as Dramatiq's own queues do: name it otherwise")


def _whole(group: Group) -> list[Command]:
    """The commands for a script, which ends before it writes where the queue's key is one of the host's."""
    looks: list[Command] = [("LLEN", key) for name, key, *_ in group.commands if name == "RPUSH"]
    return [*looks, *group.commands]


def _pushed(hset: Command, rpush: Command) -> Command:
    """How one job is sent: a script is answered once, a transaction once a command."""
    (_, texts, message_id, body), (_, queue, _) = hset, rpush
    return ("EVAL", _PUSH, 2, queue, texts, message_id, body)


def _raise_first(receipts: Sequence[Receipt]) -> None:
    for receipt in receipts:
        if isinstance(receipt, (Rejected, Unknown)):
            raise receipt.cause
