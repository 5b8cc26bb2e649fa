"""What the doctor looks for in Dramatiq: the broker and its middleware, here and in live worker processes."""

import copy
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.common import dq_name
from pika.exceptions import ChannelClosedByBroker

from sigra_workers import Workers
from sigra_workers.checks import (
    Check,
    Finding,
    Process,
    by_queue,
    consumed,
    nobody,
    redis_checks,
    same_clocks,
    same_versions,
    unreachable,
    versions,
)
from sigra_workers_dramatiq.connect import MAINTENANCE, parameters
from sigra_workers_dramatiq.rabbit import ROUND_TRIP

if TYPE_CHECKING:
    from sigra_workers_dramatiq.adapter import DramatiqAdapter

README: Final = "adapters/dramatiq/README.md"
PROCESS: Final = f"{README}#the-worker-process"
RECOVERY: Final = f"{README}#what-happens-when-something-dies"
COMMAND: Final = "dramatiq app.dramatiq_app --processes 2, with no --queues that leaves out {}"
OFTEN: Final = 10_000
"""The maintenance chance below which jobs of a process that died wait for a minute and more."""
_REFUSED: Final = re.compile(r"inequivalent arg '([^']+)'")


def checks(adapter: "DramatiqAdapter", workers: Workers[Any]) -> list[Check]:
    """The checks for the queues of the workers, of the servers that there are."""
    found = _Processes(adapter, workers.queues)
    needs, of_broker = "redis.reachable", [Check("queues.consumed", found.consumed, "redis.reachable")]
    if isinstance(adapter.broker, RabbitmqBroker):
        rabbitmq = _Rabbitmq(adapter, workers)
        needs, reachable = ("redis.reachable" if adapter.store else ""), "rabbitmq.reachable"
        of_broker = [
            Check(reachable, rabbitmq.reachable),
            Check("queues.consumed", rabbitmq.consumed, reachable),
            Check("rabbitmq.durable", rabbitmq.durable, reachable),
            Check("rabbitmq.confirms", found.confirms, needs),
            Check("rabbitmq.consumer_timeout", rabbitmq.consumer_timeout),
            Check("rabbitmq.store", rabbitmq.store),
        ]
    of_store = []
    if adapter.store is not None:
        of_store = [
            *redis_checks(lambda: adapter.redis, RECOVERY),
            Check("processes.versions", found.versions, needs),
            Check("processes.clock", found.clocks, needs),
        ]
    of_redis = (
        []
        if isinstance(adapter.broker, RabbitmqBroker)
        else [Check("dramatiq.maintenance", found.maintenance, needs)]
    )
    return [*of_store, *of_broker, *of_redis, Check("dramatiq.middleware", found.middleware, needs)]


class _Processes:
    """What live worker processes told the store, and what the broker of this process has."""

    def __init__(self, adapter: "DramatiqAdapter", names: list[str]) -> None:
        self._broker: Any = adapter.broker
        self._store, self._names = adapter.store, names

    def _processes(self) -> list[Process]:
        found = [] if self._store is None else self._store.processes()
        return [process for process in found if {*process.queues} & {*self._names}]

    def consumed(self) -> Iterable[Finding]:
        return consumed(self._names, by_queue(self._processes()), COMMAND, PROCESS)

    def versions(self) -> Iterable[Finding]:
        here = versions("sigra-workers-dramatiq", "dramatiq")
        return same_versions(self._processes(), here, COMMAND.partition(",")[0], PROCESS)

    def clocks(self) -> Iterable[Finding]:
        return same_clocks(self._processes(), RECOVERY)

    def _all(self, told: str) -> Iterable[Finding]:
        """It is so here, and in the live processes, where there is a store that they tell."""
        if self._processes():
            return [Finding("ok", f"{told}, here and in live worker processes")]
        unknown = [] if self._store is None else [nobody(PROCESS)]
        return [Finding("ok", f"{told}, here"), *unknown]

    def maintenance(self) -> Iterable[Finding]:
        chances = {"the broker here": int(self._broker.maintenance_chance)}
        chances |= {str(process): process.facts["maintenance_chance"] for process in self._processes()}
        rare = {whose: chance for whose, chance in chances.items() if chance < MAINTENANCE}
        for whose, chance in rare.items():
            what = (
                f"{whose} has maintenance_chance={chance} of {MAINTENANCE}: jobs of a process that died wait"
            )
            mend = f"RedisBroker(..., maintenance_chance={MAINTENANCE})"
            yield Finding("problem" if chance < OFTEN else "warning", what, mend, PROCESS)
        if not rare:
            yield from self._all(f"maintenance_chance is {MAINTENANCE}")

    def confirms(self) -> Iterable[Finding]:
        confirmed = {"the broker here": self._broker.confirm_delivery}
        confirmed |= {str(process): process.facts["confirm_delivery"] for process in self._processes()}
        without = [whose for whose, is_confirmed in confirmed.items() if not is_confirmed]
        lost = "delayed jobs, and those of plain actors" if self._store is None else "jobs of plain actors"
        status: Any = "problem" if self._store is None else "warning"
        for whose in without:
            what = (
                f"{whose} publishes without confirms: when RabbitMQ dies, it loses what it had not written,"
            )
            mend = "RabbitmqBroker(..., confirm_delivery=True)"
            yield Finding(status, f"{what} {lost}", mend, PROCESS)
        if not without:
            yield from self._all("confirm_delivery is True")

    def middleware(self) -> Iterable[Finding]:
        here = [type(middleware).__name__ for middleware in self._broker.middleware]
        chains = {"the broker here": here}
        chains |= {str(process): process.facts["middleware"] for process in self._processes()}
        found: list[Finding] = []
        for process in self._processes():
            unset: list[str] = process.facts["unset"]
            if unset:
                what = f"{process} got middleware behind `boot`: its {', '.join(unset)} ends our jobs too"
                mend = "broker.add_middleware(...) above boot(...) in the boot file"
                found.append(Finding("problem", what, mend, f"{README}#beside-plain-actors"))
        for whose, names in chains.items():
            for name, lost in _NEEDED.items():
                if name not in names:
                    mend = f"broker.add_middleware({name}()), from dramatiq.middleware"
                    what = f"{whose} has no middleware {name}: {lost}; ours do without it"
                    found.append(Finding("warning", what, mend, f"{README}#beside-plain-actors"))
        return found or self._all(f"the broker has {' and '.join(_NEEDED)}")


_NEEDED: Final = {
    "Retries": "plain actors that fail are done, their jobs lost",
    "TimeLimit": "plain actors that hang hold up a thread for ever",
}


class _Rabbitmq:
    def __init__(self, adapter: "DramatiqAdapter", workers: Workers[Any]) -> None:
        self._adapter, self._workers = adapter, workers
        self._broker: Any = adapter.broker

    def reachable(self) -> Iterable[Finding]:
        try:
            with self._connection() as connection:
                version = connection._impl.server_properties.get("version", "?")
        except Exception as error:  # of many kinds
            mend = "rabbitmq-diagnostics ping, and the URL of the adapter's settings"
            return [unreachable("RabbitMQ", error, mend, RECOVERY)]
        return [Finding("ok", f"RabbitMQ {version} answers")]

    def consumed(self) -> Iterable[Finding]:
        counts = {name: self._look(name)[0] or 0 for name in self._workers.queues}
        return consumed(self._workers.queues, counts, COMMAND, PROCESS)

    def durable(self) -> Iterable[Finding]:
        refused = False
        for name in self._workers.queues:
            for there in (name, dq_name(name)):
                refusal = self._look(there)[1]
                if refusal:
                    refused = True
                    what = f"queue {there!r} is there with another {refusal}: no job can be sent to it, and"
                    lost = "those in it go with RabbitMQ" if refusal == "durable" else "none is taken from it"
                    mend = f"rabbitmqctl delete_queue {there}, when it is empty; a worker process declares it"
                    yield Finding("problem", f"{what} {lost}", mend, PROCESS)
        if not refused:
            yield Finding("ok", "the queues that are there are durable, as Dramatiq declares them")

    def consumer_timeout(self) -> Iterable[Finding]:
        limit = self._adapter.consumer_timeout  # no client can ask RabbitMQ for it
        timeouts = {handle.name: handle.timeout for handle in self._workers.handles}
        long = [
            f"{name} ({'none' if timeout is None else f'{timeout:g} s'})"
            for name, timeout in timeouts.items()
            if timeout is None or timeout >= limit
        ]
        if not long:
            return [Finding("ok", f"each worker's time-out is below the {limit:g} s of RabbitMQ")]
        what = f"RabbitMQ takes back a job that runs for {limit:g} s, as far as the settings tell; these may"
        told = f"take as long, by their time-out: {', '.join(long)}"
        then = (
            "delivered again, it waits and is dropped" if self._adapter.store else "it runs twice at a time"
        )
        more = max(36_000, *(2 * round(timeout or 0) for timeout in timeouts.values()))
        mend = (
            f"declare(..., timeout={limit * 5 / 6:g}), or for a longer one consumer_timeout = {more * 1_000}"
            f" (ms) in rabbitmq.conf, and settings={{..., 'consumer_timeout': {more}}}"
        )
        status: Any = "warning" if self._adapter.store else "problem"
        return [Finding(status, f"{what} {told}; {then}", mend, README)]

    def store(self) -> Iterable[Finding]:
        if self._adapter.store is not None:
            return [Finding("ok", "a store counts crashes, and keeps dead jobs")]
        what = (
            "RabbitMQ without a store: crashes are not counted, a job may run twice, dead ones are not kept"
        )
        return [
            Finding("warning", what, "settings={'url': ..., 'store': 'redis://localhost:6379/1'}", README)
        ]

    def _look(self, queue: str) -> tuple[int | None, str]:
        """How many consume the queue, None where it is not there; what Dramatiq would declare otherwise."""
        with self._connection() as connection:
            try:
                count = connection.channel().queue_declare(queue, passive=True).method.consumer_count
            except ChannelClosedByBroker as error:
                if error.reply_code == 404:
                    return None, ""
                raise
            try:
                arguments = self._broker._build_queue_arguments(queue.removesuffix(".DQ"))
                connection.channel().queue_declare(queue, durable=True, arguments=arguments)
            except ChannelClosedByBroker as error:
                refused = _REFUSED.search(error.reply_text)
                return count, refused[1] if refused else f"set-up ({error.reply_code})"
            return count, ""

    @contextmanager
    def _connection(self) -> Generator[Any]:
        """A connection of its own, which ends where RabbitMQ does not answer in time (see rabbit.py)."""
        bounded = [copy.copy(link) for link in parameters(self._broker)]
        for link in bounded:
            link.connection_attempts = 1
            for option in ("socket_timeout", "stack_timeout", "blocked_connection_timeout"):
                setattr(link, option, ROUND_TRIP)
        connection: Any = pika.BlockingConnection(bounded)
        error = TimeoutError(f"RabbitMQ did not answer within {ROUND_TRIP:g} s")
        end: Callable[[], None] = lambda: connection._impl._terminate_stream(error)  # noqa: E731
        timer = connection._impl.ioloop.call_later(ROUND_TRIP, end)
        try:
            yield connection
        finally:
            if connection.is_open:
                connection._impl.ioloop.remove_timeout(timer)
                connection.close()
