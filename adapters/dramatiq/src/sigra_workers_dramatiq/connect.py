"""The settings: a broker and a store, made or the host's own; nothing is opened here."""

from collections.abc import Mapping
from typing import Any, Final

from dramatiq import Broker
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sigra_workers.adapters import check_settings, invalid, wrong_type
from sigra_workers_dramatiq.rabbit import ROUND_TRIP

MAINTENANCE: Final = 1_000_000
"""Of a million commands, how many look for the messages of dead worker processes: all."""
HEARTBEAT: Final = 30_000
"""Milliseconds until Redis gives the messages of a worker process that is not heard of to others."""
CONSUMER_TIMEOUT: Final = 1_800
"""Seconds until RabbitMQ gives a job to another process, unless it is configured otherwise."""
_SETTINGS: Final = ("broker", "consumer_timeout", "store", "url")
_EXAMPLES: Final = "redis://localhost:6379/0 or amqp://guest:guest@localhost:5672"


def make_broker(settings: Mapping[str, Any]) -> Broker:
    """The broker of the settings, or `InvalidSettingsError`."""
    check_settings("dramatiq", settings, _SETTINGS, ("broker", "url"), _EXAMPLES)
    if "broker" in settings:
        broker: object = settings["broker"]
        if not isinstance(broker, (RedisBroker, RabbitmqBroker)):
            raise wrong_type("dramatiq", "broker", broker, "RedisBroker or RabbitmqBroker")
        return broker
    url: object = settings["url"]
    if not isinstance(url, str):
        raise wrong_type("dramatiq", "url", url, "str")
    try:
        if url.startswith(("amqp://", "amqps://")):
            return _rabbitmq(url)
        BlockingConnectionPool.from_url(url)  # RedisBroker takes an empty one for none
        return RedisBroker(  # type: ignore[no-untyped-call]
            url=url, maintenance_chance=MAINTENANCE, heartbeat_timeout=HEARTBEAT
        )
    except Exception:  # of several kinds, and it may hold a password
        problem = f"setting 'url' is none of a Redis or RabbitMQ, such as {_EXAMPLES}"
        raise invalid("dramatiq", problem) from None


def make_store(broker: Broker, settings: Mapping[str, Any]) -> "tuple[Redis | None, str]":
    """The Redis that remembers jobs, and the prefix of its keys, or `InvalidSettingsError`."""
    if isinstance(broker, RedisBroker):
        if "store" in settings:
            raise invalid("dramatiq", "setting 'store' is for RabbitMQ: with Redis, that Redis is the store")
        own: Any = broker
        client = _connect(settings["url"]) if "url" in settings else own.client
        return client, f"sigra-workers:{own.namespace}"
    host = parameters(broker)[0].virtual_host
    store: object = settings.get("store")
    if store is not None and not isinstance(store, (str, Redis)):
        raise wrong_type("dramatiq", "store", store, "a URL or redis.Redis")
    try:
        return _connect(store) if isinstance(store, str) else store, f"sigra-workers:rabbitmq:{host}"
    except ValueError:  # it may hold a password
        problem = "setting 'store' is no Redis URL, such as redis://localhost:6379/0"
        raise invalid("dramatiq", problem) from None


def consumer_timeout(broker: Broker, settings: Mapping[str, Any]) -> float:
    """Seconds that RabbitMQ waits for a job, or `InvalidSettingsError`."""
    if isinstance(broker, RedisBroker) and "consumer_timeout" in settings:
        raise invalid("dramatiq", "setting 'consumer_timeout' is RabbitMQ's: Redis has none")
    found: object = settings.get("consumer_timeout", CONSUMER_TIMEOUT)
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        raise wrong_type("dramatiq", "consumer_timeout", found, "int or float")
    if not found > 0:
        raise invalid("dramatiq", "setting 'consumer_timeout' is expected to be seconds, more than 0")
    return found


def parameters(broker: Any) -> list[Any]:
    """Of each of the RabbitMQ servers that the broker knows."""
    found = broker.parameters
    return [found] if hasattr(found, "virtual_host") else found


def _rabbitmq(url: str) -> RabbitmqBroker:
    broker = RabbitmqBroker(url=url, confirm_delivery=True)
    for link in parameters(broker):
        for option in ("socket_timeout", "stack_timeout", "blocked_connection_timeout"):
            if option not in url:
                setattr(link, option, ROUND_TRIP)
    return broker


def _connect(url: str) -> "Redis":
    # No silent second sending: whether a lost answer means a lost job is for the caller to decide.
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=50,
        timeout=ROUND_TRIP,  # for a connection, when all are busy
        socket_timeout=ROUND_TRIP,
        socket_connect_timeout=ROUND_TRIP,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)
