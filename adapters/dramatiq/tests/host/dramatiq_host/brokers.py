"""A host's own broker, with middleware of its own and of Dramatiq, and plain actors of each kind."""

import os
import signal
from typing import Any, Final

import dramatiq
from dramatiq import Broker
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, GroupCallbacks, Middleware, Retries
from dramatiq.rate_limits.backends import RedisBackend as Barriers
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from tests.queues.files import append, folder

from sigra_workers_dramatiq import DramatiqAdapter

REDIS_URL: Final = os.environ.get("HOST_REDIS_URL", "redis://127.0.0.1:6379/9")


def die(where: str) -> None:
    """kill -9 of this process, once, where a test made a file of that name."""
    mark = folder() / f"die-{where}"
    if mark.exists():
        mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class Noting(Middleware):
    """Notes what it sees, and puts a trace into each message."""

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        message.options.setdefault("trace", f"trace of {message.message_id}")
        self._note("enqueue", message)

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self._note("failed" if exception else "processed", message)

    def after_skip_message(self, broker: Broker, message: Any) -> None:
        self._note("skipped", message)

    def _note(self, what: str, message: Any) -> None:
        found = {"what": what, "id": message.message_id, "actor": message.actor_name}
        append("middleware.jsonl", {**found, "trace": message.options.get("trace")})


class Dying(Middleware):
    """Dies when a job is done, before any other middleware hears of it."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        die("processed")


def results() -> RedisBackend:
    """It may die before it stores one."""
    backend: Any = RedisBackend(url=REDIS_URL)
    store = backend.store_result

    def store_result(*args: Any) -> None:
        die("stored")
        store(*args)

    backend.store_result = store_result
    return backend


def keep_results(adapter: DramatiqAdapter) -> None:
    """Have its broker keep results, beside the store."""
    keep: Any = Results
    adapter.broker.add_middleware(keep(backend=RedisBackend(client=adapter.redis)))


def make_broker(url: str) -> Broker:
    """It retries what fails by a rule of its own, and keeps results of all."""
    make: Any = RedisBroker if url.startswith("redis") else RabbitmqBroker
    more: Any = {"maintenance_chance": 1_000_000} if make is RedisBroker else {"confirm_delivery": True}
    broker: Broker = make(url=url, **more)
    for found in broker.middleware:
        if isinstance(found, Retries):
            found.retry_when = lambda retries, error: retries < 4
    broker.add_middleware(Noting())
    broker.add_middleware(AsyncIO())
    keep: Any = Results
    broker.add_middleware(keep(backend=results(), store_results=True))
    broker.add_middleware(GroupCallbacks(Barriers(url=REDIS_URL)))
    broker.add_middleware(Dying())
    dramatiq.set_broker(broker)
    return broker
