"""Dramatiq by itself; a worker process's BROKER says where."""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from benchmarks import places


def actors(url: str, *, recovers: bool = False) -> tuple[Any, Any]:
    """An actor that does nothing and one that takes a lock to do so, on a broker of their own.

    One of RabbitMQ confirms, as ours does. One of Redis that `recovers` gives the jobs of a dead process to
    others as soon as ours, which by default takes ten minutes.
    """
    options: dict[str, Any] = {"maintenance_chance": 1_000_000, "heartbeat_timeout": 30_000}
    broker: Any = (
        RabbitmqBroker(url=url, confirm_delivery=True)
        if url == places.RABBITMQ
        else RedisBroker(url=url, **options if recovers else {})  # type: ignore[no-untyped-call]
    )
    redis = Redis.from_url(places.REDIS)

    @dramatiq.actor(broker=broker, queue_name=places.BARE)
    def close(args: dict[str, Any]) -> None:
        """Do nothing."""

    @dramatiq.actor(broker=broker, queue_name=places.BARE)
    def locked(args: dict[str, Any], key: str) -> None:
        """Do nothing, under a lock."""
        if redis.set(key, "1", nx=True, ex=30):
            redis.delete(key)

    return close, locked


if "BROKER" in os.environ:
    dramatiq.set_broker(actors(os.environ["BROKER"], recovers="RECOVERS" in os.environ)[0].broker)
