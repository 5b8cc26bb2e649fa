"""What our middleware does in a worker process: it sends parked jobs, and mends what is delivered."""

import inspect
import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, Final

from dramatiq import Actor, Broker, Worker
from dramatiq.middleware import Middleware

from sigra_workers_dramatiq import wire
from sigra_workers_dramatiq.adapter import DramatiqAdapter
from sigra_workers_dramatiq.presence import Presence

PERIOD: Final = 0.5
"""Seconds from one look for parked jobs that are due to the next."""
_log: Final = logging.getLogger("sigra_workers.dramatiq")


class Process(Middleware):
    """Added to the broker by `boot`. `options` are what our actors set, such as `unknown`."""

    def __init__(
        self, adapter: DramatiqAdapter, unknown: Actor[..., object], options: Collection[str]
    ) -> None:
        self._adapter, self._unknown, self._options = adapter, unknown, options
        self._stopped, self._is_booted = threading.Event(), threading.Event()
        self._is_booted.set()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Have jobs wait until Dramatiq's main process has heard that this one has booted.

        It hears so by a multiprocessing.Event, which stays locked where a job kills the process while it is
        being set: the main process would hang for ever, deaf to SIGTERM (cli.py, `worker_process`).
        """
        frame = inspect.currentframe()
        while frame is not None and frame.f_code.co_name != "worker_process":
            frame = frame.f_back
        if frame is None:  # a worker in a process of the host's
            return
        booted, self._is_booted = frame.f_locals["event"], threading.Event()

        def wait() -> None:
            booted.wait()
            self._is_booted.set()

        threading.Thread(target=wait, name="sigra-workers-boot", daemon=True).start()

    def after_worker_thread_boot(self, broker: Broker, thread: Any) -> None:
        """Wait for that, in each thread that is to run jobs."""
        self._is_booted.wait()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Begin to send parked jobs when they are due."""
        if self._adapter.store is not None:
            presence = Presence(self._adapter.store, worker, self._unknown, self._options)
            threading.Thread(
                target=self._move, args=(presence,), name="sigra-workers-parked", daemon=True
            ).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Leave parked jobs to other processes."""
        self._stopped.set()

    def after_consumer_thread_boot(self, broker: Broker, thread: Any) -> None:
        """Look at each message before the consumer does.

        A job of an unknown worker is to reach the core, which has it wait for a deploy: Dramatiq would move
        it to its dead-letter queue (worker.py, `handle_message`).
        """
        handle = thread.handle_message

        def handle_message(message: Any) -> None:
            _tag(message, thread.consumer)
            _mend(thread.consumer)
            if wire.OPTION in message.options:
                broker.actors.setdefault(message.actor_name, self._unknown)
            handle(message)

        thread.handle_message = handle_message

    def before_ack(self, broker: Broker, message: Any) -> None:
        """Write the end of a run that waited for what Dramatiq sends when a job is done."""
        end: Callable[[], object] | None = getattr(message, "run_end", None)
        if end is not None:
            message.run_end = None
            end()

    before_nack = before_ack

    def _move(self, presence: Presence) -> None:
        is_reached = True
        while not self._stopped.wait(PERIOD):
            presence.tell()
            try:
                while self._adapter.move():
                    presence.tell()
                is_reached = True
            except Exception as error:
                if is_reached:
                    _log.warning("parked jobs can't be sent (%s): they wait", type(error).__name__)
                is_reached = False
        presence.end()


def _tag(message: Any, consumer: Any) -> None:
    """Have a message acknowledged on the channel that delivered it, or not at all.

    RabbitMQ counts deliveries anew on each channel. A message that outlived its channel would acknowledge
    another that has its number there now (brokers/rabbitmq.py, `_RabbitmqConsumer.ack`), which is then lost
    with its process.
    """
    if hasattr(message, "_tag"):
        consumer.known_tags.discard(message._tag)
        message._tag = _Tag(message._tag)
        consumer.known_tags.add(message._tag)


def _mend(consumer: Any) -> None:
    """Have a message that was acknowledged with the end of its run not be acknowledged once more."""
    taken: set[str] | None = getattr(consumer, "queued_message_ids", None)  # RabbitMQ's has none
    if taken is None or "ack" in vars(consumer):
        return
    acknowledge = consumer.ack

    def ack(message: Any) -> None:
        if getattr(message, "is_acknowledged", False):
            taken.discard(message.message_id)
        else:
            acknowledge(message)

    consumer.ack = ack


class _Tag(int):
    """A number that equals itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__
