"""The sending side: jobs into arq's queues, a batch in one transaction."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from arq.connections import RedisSettings
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from redis.sentinel import Sentinel

from sigra_workers import (
    Capability,
    DeadFilters,
    DeadJob,
    InvalidOptionError,
    Job,
    Outgoing,
    Receipt,
    Rejected,
    Resend,
    Workers,
)
from sigra_workers.adapters import check_settings, invalid, wrong_type
from sigra_workers.boot import adapter_of
from sigra_workers.checks import Check
from sigra_workers.loops import in_thread
from sigra_workers.store import Command, Store
from sigra_workers.transact import Transactions
from sigra_workers_arq import checks, wire

ROUND_TRIP: Final = 5.0
"""Seconds that one round trip to Redis may take."""
_SETTINGS: Final = ("job_deserializer", "job_serializer", "redis_settings", "url")
_EXAMPLE: Final = "{'url': 'redis://localhost:6379/0'}"


class ArqAdapter:
    """arq behind `Workers(adapter="arq")`.

    Settings: ``url`` of a Redis, or ``redis_settings``, the host's own `arq.connections.RedisSettings`;
    ``job_serializer`` and ``job_deserializer``, both or none, as arq's (pickle where none are given).
    """

    capabilities: frozenset[Capability] = frozenset(
        ("bulk", "dead_jobs", "durable", "results", "stops_sync", "unique_ids")
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.clock: Callable[[], float] = time.time
        check_settings("arq", settings, _SETTINGS, ("url", "redis_settings"), _EXAMPLE)
        self.redis_settings: Final = (
            _parse(settings["url"]) if "url" in settings else _check(settings["redis_settings"])
        )
        self.codec: Final = _codec(settings)
        self.connection: Final = _connect(self.redis_settings)
        """The Redis client; it connects when it is first used, and anew after a fork."""
        self._transactions = Transactions(self.connection, refused=ResponseError, lost=(RedisError, OSError))
        self.store: Final = Store(self.connection, wire.PREFIX)

    @classmethod
    def of(cls, workers: Workers[Any]) -> "ArqAdapter":
        """The arq adapter of `workers`; raises `InvalidSettingsError` where they use another one."""
        return adapter_of(workers, cls, "arq")

    # -- the Adapter protocol --------------------------------------------------------------------------

    def check(self, job: Job) -> None:
        """Refuse native options: arq has none that our jobs need."""
        if job.native:
            raise InvalidOptionError("native", f"arq has no options here, got {sorted(job.native)}")

    def send(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """One transaction for all jobs."""
        now = self.clock()
        ready: list[list[Command] | Rejected] = []
        for sent in jobs:
            try:
                ready.append(self._queueing(sent, now))
            except Exception as error:  # what the host's serializer refuses
                ready.append(Rejected(error))
        return self._send(ready)

    async def asend(self, jobs: Sequence[Outgoing], /) -> list[Receipt]:
        """`send` in a thread of our own.

        So no connection belongs to an event loop, to be left behind when that is closed, and a caller that is
        cancelled does not cut a transaction.
        """
        return await in_thread(self.send, jobs)

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    # -- the Checks protocol ---------------------------------------------------------------------------

    def checks(self, workers: Workers[Any], /) -> list[Check]:
        """What ``sigra-workers doctor`` looks for: Redis, worker processes, and what they run with."""
        return checks.checks(self, workers)

    # -- the DeadJobs protocol -------------------------------------------------------------------------

    def dead_jobs(self, filters: DeadFilters, /) -> Generator[DeadJob]:
        """The dead jobs that fit, latest first."""
        return self.store.dead_jobs(filters)

    def resend(self, jobs: Sequence[Resend], /) -> list[Receipt]:
        """One transaction for all jobs."""
        now = self.clock()
        queueing = [(job, self.codec.commands(job.payload, now)) for job in jobs]
        return self._send([[("EVAL", *self.store.resend(*both))] for both in queueing])

    def purge(self, ids: Sequence[str], /) -> int:
        """Forget dead jobs."""
        return self.store.purge(ids)

    # -- sending ---------------------------------------------------------------------------------------

    def _queueing(self, sent: Outgoing, now: float) -> list[Command]:
        commands: list[Command] = self.codec.commands(sent.payload, now)
        if not sent.job.given_id:
            return commands
        absent = (wire.job_key(sent.job.id), wire.result_key(sent.job.id))
        # Redis refuses a queue whose key is one of the host's, which must not leave the id taken.
        commands = [("ZCARD", sent.payload.queue), *commands]
        return [("EVAL", *self.store.once(sent.payload, commands, absent))]

    def _send(self, jobs: Sequence[list[Command] | Rejected]) -> list[Receipt]:
        receipts = iter(self._transactions.run([job for job in jobs if isinstance(job, list)]))
        return [job if isinstance(job, Rejected) else next(receipts) for job in jobs]


# -- settings ------------------------------------------------------------------------------------------


def _parse(url: object) -> RedisSettings:
    if not isinstance(url, str):
        raise wrong_type("arq", "url", url, "str")
    try:
        query = parse_qs(urlsplit(url).query)
        settings = RedisSettings.from_dsn(url)
    except (RuntimeError, ValueError):  # whose text may hold a part of the password
        raise invalid("arq", "setting 'url' is no Redis URL, such as redis://localhost:6379/0") from None
    if query.keys() - {"db"}:
        raise invalid(
            "arq", f"setting 'url' has options {sorted(query)}, expected 'db' alone: use redis_settings"
        )
    # arq takes these as they are, every other reader of such a URL decodes them.
    username, password = (part and unquote(part) for part in (settings.username, settings.password))
    return replace(settings, username=username, password=password)


def _check(settings: object) -> RedisSettings:
    if not isinstance(settings, RedisSettings):
        raise wrong_type("arq", "redis_settings", settings, "arq.connections.RedisSettings")
    return settings


def _codec(settings: Mapping[str, Any]) -> wire.Codec:
    found = [settings.get(name) for name in ("job_serializer", "job_deserializer")]
    if found == [None, None]:
        return wire.Codec()
    if not all(map(callable, found)):
        raise invalid("arq", "it takes 'job_serializer' and 'job_deserializer' together, both callable")
    return wire.Codec(*cast("Any", found))


def _connect(settings: RedisSettings) -> Redis:
    """A client as arq's `create_pool` makes one, but blocking, and for a bounded time.

    It sends nothing again by itself: whether a lost answer means a lost job is for the caller to decide.
    """
    options: dict[str, Any] = {
        "username": settings.username,
        "password": settings.password,
        "db": settings.database,
        "ssl": settings.ssl,
        "socket_connect_timeout": settings.conn_timeout,
        "socket_timeout": ROUND_TRIP,
    }
    if settings.sentinel:
        sentinel: Any = Sentinel(settings.host, **options)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(settings.sentinel_master)
        return master
    names = (
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_check_hostname",
    )
    options.update({name: getattr(settings, name) for name in ("host", "port", "unix_socket_path", *names)})
    return Redis(**options)
