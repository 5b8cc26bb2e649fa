"""The servers that are measured with: a database, queues and tables of our own on them, gone at the end."""

import os
from contextlib import ExitStack
from functools import cache
from typing import Any, Final

from dramatiq.brokers.rabbitmq import RabbitmqBroker
from redis import Redis
from sqlalchemy import Engine, MetaData, Table, create_engine

from benchmarks.places import DATABASES, QUEUES, RABBITMQ, REDIS
from sigra_workers_sqlalchemy import audit_events

_MARK: Final = "benchmarks"
"""A key that says that the database is ours to empty: it names our group of processes."""
_opened: Final = ExitStack()


def close() -> None:
    """Remove what is ours from all servers that were used."""
    _opened.close()
    for found in (redis, rabbitmq, audit_table):
        found.cache_clear()


@cache
def redis() -> Any:
    """A client of the Redis database, which has to be empty: it is emptied over and over."""
    client: Any = Redis.from_url(REDIS)
    owner = client.get(_MARK)
    if client.dbsize() and (owner is None or _is_another(int(owner))):
        raise SystemExit(f"{REDIS} is in use: name an empty database in SIGRA_BENCH_REDIS_URL")
    _opened.callback(client.flushdb)
    empty_redis(client)
    return client


def empty_redis(client: Any = None) -> None:
    """Forget everything there."""
    with (client or redis()).pipeline() as pipeline:
        pipeline.flushdb()
        pipeline.set(_MARK, os.getpgrp())
        pipeline.execute()


def asked() -> int:
    """How often Redis has read from a client: for each round trip once."""
    return int(redis().info("stats")["total_reads_processed"])


def _is_another(group: int) -> bool:
    """Whether that group of processes is not this one, and still runs."""
    if group == os.getpgrp():
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@cache
def rabbitmq() -> Any:
    """A channel, with the queues declared as Dramatiq does."""
    redis()  # says that nobody else is at it
    broker: Any = RabbitmqBroker(url=f"{RABBITMQ}?heartbeat=0")  # it is idle for minutes
    _opened.callback(broker.close)
    for queue in QUEUES:
        broker.declare_queue(queue, ensure=True)
        for name in names(queue):
            _opened.callback(broker.channel.queue_delete, name)
    return broker.channel


def versions() -> list[str]:
    """The names and versions of all servers."""
    found = [f"Redis {redis().info('server')['redis_version']}"]
    found.append(f"RabbitMQ {rabbitmq().connection._impl.server_properties['version']}")
    for name in DATABASES:
        with audit_table(name)[0].connect() as connection:
            number = ".".join(map(str, connection.dialect.server_version_info or ()))
            found.append(f"{name} {number}")
    return found


def names(queue: str) -> tuple[str, str, str]:
    """What Dramatiq has of a queue: it, its delayed jobs, its dead ones."""
    return queue, f"{queue}.DQ", f"{queue}.XQ"


def messages(name: str) -> int:
    """How many a queue of RabbitMQ has ready."""
    return int(rabbitmq().queue_declare(name, passive=True).method.message_count)


def empty_rabbitmq() -> None:
    """Forget all messages."""
    for queue in QUEUES:
        for name in names(queue):
            rabbitmq().queue_purge(name)


@cache
def audit_table(database: str) -> tuple[Engine, Table]:
    """A table of audit events, and the engine to reach it by."""
    redis()  # says that nobody else is at it
    engine = create_engine(DATABASES[database])
    metadata = MetaData()
    table = audit_events(metadata, "benchmarks_audit_events")
    metadata.drop_all(engine)
    metadata.create_all(engine)
    _opened.callback(engine.dispose)
    _opened.callback(metadata.drop_all, engine)
    return engine, table
