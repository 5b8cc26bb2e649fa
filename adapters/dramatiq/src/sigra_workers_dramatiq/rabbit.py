"""Publishing to RabbitMQ: one job confirmed, a batch in one transaction; durable once it is answered.

Dramatiq's own broker publishes one message at a time, and unless it is made with ``confirm_delivery`` loses
what RabbitMQ had not written when it was killed.
"""

import os
import select
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Final, NamedTuple

import pika
from dramatiq import Message
from dramatiq.brokers.rabbitmq import DEAD_MESSAGE_TTL, RabbitmqBroker
from dramatiq.common import dq_name, q_name, xq_name
from pika.exceptions import AMQPConnectionError, AMQPError, NackError, UnroutableError

from sigra_workers import Receipt, Rejected, Sent, Unknown

ROUND_TRIP: Final = 5.0
"""Seconds that RabbitMQ may take to answer."""
IDLE: Final = 20.0
"""Seconds after which a connection is made anew: RabbitMQ closes one that sends no heartbeats."""
BEAT: Final = 1.0
"""Seconds after which a connection is to see to its heartbeats."""
BUFFER: Final = 1 << 20
"""Bytes of a batch that are held before they are written."""
LOST: Final = (AMQPError, OSError)


class NoQueueError(Exception):
    """A message came back, though its queue had just been declared."""


class Encoded(NamedTuple):
    """A message, and what its encoder made of it."""

    message: Message[Any]
    body: bytes


class Publisher:
    """One connection for each thread that publishes, made when first needed, and anew after a fork."""

    def __init__(self, broker: RabbitmqBroker) -> None:
        self._broker = broker
        self._here = threading.local()
        self._links: set[_Link] = set()

    def send(self, messages: Sequence[Encoded]) -> list[Receipt]:
        """Publish all in one transaction, each to the queue it names, which is declared if it is missing.

        Where RabbitMQ refuses that, as for a queue that it has otherwise, in one transaction a queue.
        """
        receipts = self._send(messages)
        by_queue: dict[str, dict[int, Encoded]] = {}
        for n, found in enumerate(messages):
            by_queue.setdefault(q_name(found.message.queue_name), {})[n] = found
        if len(by_queue) < 2 or not _is_refused(receipts[0]):
            return receipts
        answers: dict[int, Receipt] = {}
        for theirs in by_queue.values():
            answers.update(zip(theirs, self._send([*theirs.values()]), strict=True))
        return [answers[n] for n in range(len(messages))]

    def _send(self, messages: Sequence[Encoded]) -> list[Receipt]:
        receipts, returned = self._try(messages)
        if not returned:
            return receipts
        # Their queues were deleted since they were declared: once more, declaring them.
        again = [found for found in messages if found.message.message_id in returned]
        later, still = self._try(again)
        error = NoQueueError("its queue is not there")
        rest = iter(
            Rejected(error) if found.message.message_id in still else receipt
            for found, receipt in zip(again, later, strict=True)
        )
        return [next(rest) if found.message.message_id in returned else Sent() for found in messages]

    def _try(self, messages: Sequence[Encoded]) -> tuple[list[Receipt], set[str]]:
        """What became of them, and the ids of those that came back, as their queue is not there."""
        answer: type[Rejected | Unknown] = Rejected  # nothing is there before it is committed
        try:
            link = self.reach()
            link.hand_over(messages)
            answer = Unknown
            returned = link.publish(messages)
        except NackError as error:  # RabbitMQ has no room for it
            return [Rejected(error)], set()
        except Exception as error:
            self._drop()
            return [answer(error)] * len(messages), set()
        except BaseException:  # a job's time-out, amid a frame: the next one may not go on from there
            self._drop(at_once=True)
            raise
        return [Sent()] * len(messages), returned

    def reach(self) -> "_Link":
        """This thread's connection, open as far as can be seen; raises what RabbitMQ or the network does."""
        link: _Link | None = getattr(self._here, "link", None)
        if link is not None and not link.is_usable():
            self._drop()
            link = None
        if link is None:
            link = self._here.link = _Link(self._broker)
            self._links.add(link)
        return link

    def close(self) -> None:
        """Close the connections of all threads."""
        for link in [*self._links]:
            self._links.discard(link)
            link.close()
        self._here.__dict__.pop("link", None)

    def _drop(self, *, at_once: bool = False) -> None:
        """Close this thread's connection; `at_once` without a word to RabbitMQ."""
        link: _Link | None = self._here.__dict__.pop("link", None)
        if link is not None:
            self._links.discard(link)
            link.abort() if at_once else link.close()


class _Link:
    """A connection, with a channel that confirms and one in transaction mode, opened when first needed."""

    def __init__(self, broker: RabbitmqBroker) -> None:
        self._broker, self._pid = broker, os.getpid()
        self._declared: set[str] = set()
        self._returned: set[str] = set()
        self._connection: Any = pika.BlockingConnection(broker.parameters)
        self._incoming = select.poll()
        self._incoming.register(self._connection._impl._transport._sock, select.POLLIN)
        self._used = time.monotonic()

    @cached_property
    def _confirming(self) -> Any:
        with self._bounded():
            channel = self._connection.channel()
            channel.confirm_delivery()
        return channel

    @cached_property
    def _transaction(self) -> Any:
        with self._bounded():
            channel = self._connection.channel()
            channel.tx_select()
        channel.add_on_return_callback(self._on_return)
        return channel

    def is_usable(self) -> bool:
        """Whether it is this process's and, as far as can be seen, still open."""
        unused = time.monotonic() - self._used
        if self._pid != os.getpid() or unused > IDLE:
            return False
        if unused > BEAT or self._incoming.poll(0):  # pika itself takes long to see that there is nothing
            with suppress(*LOST):
                self._connection.process_data_events(0)
                self._used = time.monotonic()
        return bool(self._connection.is_open)

    def hand_over(self, messages: Sequence[Encoded]) -> None:
        """Declare their queues, and hand over a batch that `publish` will commit."""
        for queue in {q_name(found.message.queue_name) for found in messages} - self._declared:
            self._declare(queue)
        if len(messages) > 1:
            channel = self._transaction._impl
            with self._bounded():
                held = 0
                for found in messages:  # by the channel within: the other looks for an answer after each
                    _publish(channel, found)
                    held += len(found.body)
                    if held > BUFFER or found is messages[-1]:
                        self._connection.process_data_events(0)
                        held = 0

    def publish(self, messages: Sequence[Encoded]) -> set[str]:
        """Publish; the ids of messages whose queue is not there. Raises `NackError` where one is refused."""
        self._returned.clear()
        channel = self._transaction if len(messages) > 1 else self._confirming
        with self._bounded():
            if len(messages) > 1:
                channel.tx_commit()
                self._connection.process_data_events(0)  # RabbitMQ returns them before it answers
            else:
                try:
                    _publish(channel, messages[0])
                except UnroutableError:
                    self._returned.add(messages[0].message.message_id)
        if self._returned:
            self._declared.clear()
        self._used = time.monotonic()
        return {*self._returned}

    def close(self) -> None:
        """Close it, unless it is the parent process's."""
        if self._pid == os.getpid() and self._connection.is_open:
            with suppress(*LOST), self._bounded():
                self._connection.close()

    def abort(self) -> None:
        """Close it in whatever state it is; RabbitMQ drops what was not committed."""
        with suppress(Exception):  # that it is closed, among others
            self._connection._impl._terminate_stream(ConnectionAbortedError())
            self._connection.process_data_events(0)

    def _declare(self, queue: str) -> None:
        """As Dramatiq does (brokers/rabbitmq.py); its own `declare_queue` would begin to consume it here."""
        broker: Any = self._broker
        arguments = broker._build_queue_arguments(queue)
        names = {
            queue: arguments,
            dq_name(queue): arguments,
            xq_name(queue): {"x-message-ttl": DEAD_MESSAGE_TTL},
        }
        channel = self._confirming
        for name, theirs in names.items():
            with self._bounded():
                channel.queue_declare(name, durable=True, arguments=theirs)
        self._declared.add(queue)

    def _on_return(self, _channel: object, _method: object, properties: Any, _body: object) -> None:
        self._returned.add(properties.message_id)

    @contextmanager
    def _bounded(self) -> Generator[None]:
        """End the connection where RabbitMQ takes longer than a round trip may.

        pika itself would wait on; it ends a connection this way when RabbitMQ blocks it (connection.py,
        `_on_blocked_connection_timeout`).
        """
        link = self._connection._impl
        error = TimeoutError(f"RabbitMQ did not answer within {ROUND_TRIP:g} s")
        timer = link.ioloop.call_later(ROUND_TRIP, lambda: link._terminate_stream(error))
        try:
            yield
        finally:
            link.ioloop.remove_timeout(timer)


def _publish(channel: Any, found: Encoded) -> None:
    message, body = found
    channel.basic_publish(
        exchange="",
        routing_key=message.queue_name,
        body=body,
        properties=pika.BasicProperties(
            delivery_mode=2,
            priority=message.options.get("broker_priority"),
            message_id=message.message_id,
        ),
        mandatory=True,
    )


def _is_refused(receipt: Receipt) -> bool:
    """Whether RabbitMQ, which is there, or its client did not take a message."""
    return isinstance(receipt, Rejected) and not isinstance(receipt.cause, (AMQPConnectionError, OSError))
