"""What the doctor looks for in RQ: who works on the queues, with which options, and what lies in them."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rq import Queue
from rq import Worker as RqWorker
from rq.job import Job as RqJob
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.utils import str_to_date

from sigra_workers import Workers
from sigra_workers.checks import (
    Check,
    Finding,
    Process,
    by_queue,
    consumed,
    nobody,
    redis_checks,
    same_versions,
    versions,
)

if TYPE_CHECKING:
    from sigra_workers_rq.adapter import RqAdapter

PROCESS: Final = "adapters/rq/README.md#the-worker-process"
RECOVERY: Final = "adapters/rq/README.md#what-happens-when-something-dies"
LONG: Final = 60
"""Seconds of ``--worker-ttl`` beyond which a job of a process that died waits noticeably."""
LOOKED_AT: Final = 50
"""How many jobs of a queue are looked at, the next and the latest, and as many that are scheduled."""
_COMMAND: Final = "rq worker -c app.rq_lifecycle --serializer {serializer} --with-scheduler {}"
_TTLS: Final = "--worker-ttl 20 --maintenance-interval 5 --job-monitoring-interval 5"
_PICKLE: Final = b"\x80"
"""What pickle begins with, of protocol 2 and later."""


def checks(adapter: "RqAdapter", workers: Workers[Any]) -> list[Check]:
    """The checks for the queues of the workers."""
    found = _Queues(adapter.connection, adapter.serializer, workers.queues)
    reachable = "redis.reachable"
    return [
        *redis_checks(lambda: adapter.connection, RECOVERY),
        Check("queues.consumed", found.consumed, reachable),
        Check("processes.versions", found.versions, reachable),
        Check("rq.scheduler", found.scheduler, reachable),
        Check("rq.serializer", found.serializers, reachable),
        Check("rq.worker_ttl", found.ttls, reachable),
        Check("rq.queues_per_worker", found.several, reachable),
    ]


@dataclass(frozen=True, slots=True)
class _Queues:
    connection: Any
    serializer: str
    names: list[str]

    def processes(self) -> list[Process]:
        """RQ's live worker processes on these queues, by their records: RQ's `Worker.all` would tidy."""
        keys = sorted(self.connection.smembers(RqWorker.redis_workers_keys))
        found: list[Process] = []
        for key in keys:
            record = {name.decode(): value.decode() for name, value in self.connection.hgetall(key).items()}
            queues = tuple(record.get("queues", "").split(","))
            if "death" in record or not {*queues} & {*self.names}:
                continue
            heard = str_to_date(record["last_heartbeat"].encode()).timestamp()
            facts = {
                "versions": {"rq": record.get("version", "?")},
                "state": record.get("state"),
                "ttl": self.connection.pttl(key) / 1_000 + max(0, _now() - heard) - 60,  # which RQ adds
            }
            found.append(Process(heard, heard, record["hostname"], int(record["pid"]), queues, facts))
        return found

    @property
    def command(self) -> str:
        return _COMMAND.replace("{serializer}", self.serializer)

    def consumed(self) -> Iterable[Finding]:
        return consumed(self.names, by_queue(self.processes()), self.command, PROCESS)

    def versions(self) -> Iterable[Finding]:
        here = {"rq": versions("rq")["rq"]}
        return same_versions(self.processes(), here, self.command, PROCESS)

    def scheduler(self) -> Iterable[Finding]:
        without = [
            name for name in self.names if not self.connection.exists(RQScheduler.get_locking_key(name))
        ]
        for name in without:
            key = ScheduledJobRegistry.key_template.format(name)
            due = self.connection.zcount(key, "-inf", _now())
            what = (
                f"no scheduler runs for queue {name!r}: retries, snoozes and delays wait, {due} are due now"
            )
            yield Finding("problem", what, self.command.replace("{}", name), PROCESS)
        if not without:
            yield Finding("ok", f"a scheduler runs for each queue ({', '.join(self.names)})")

    def serializers(self) -> Iterable[Finding]:
        seen = 0
        wrong = False
        for name in self.names:
            ids = self._some(name)
            found = [self._is_pickle(job_id) for job_id in ids]
            seen += len(found)
            others = sum(is_pickle is (self.serializer == "json") for is_pickle in found)
            if others:
                wrong = True
                there = "pickle" if self.serializer == "json" else "json"
                what = (
                    f"{others} of {len(found)} jobs looked at in queue {name!r} are {there}, the settings say"
                    f" {self.serializer}: a process that reads {self.serializer} fails them for good"
                )
                mend = f"rq worker --serializer {there} {name}, until these are done; theirs is another queue"
                yield Finding("problem", what, mend, "adapters/rq/README.md#beside-plain-rq-jobs")
        if not wrong:
            yield Finding("ok", f"the {seen} jobs looked at are {self.serializer}, as the settings say")

    def _some(self, name: str) -> list[bytes]:
        queue, scheduled = (
            Queue.redis_queue_namespace_prefix + name,
            ScheduledJobRegistry.key_template.format(name),
        )
        found = [
            *self.connection.lrange(queue, 0, LOOKED_AT - 1),
            *self.connection.lrange(queue, -LOOKED_AT, -1),
            *self.connection.zrange(scheduled, 0, LOOKED_AT - 1),
        ]
        return [*dict.fromkeys(found)]

    def _is_pickle(self, job_id: bytes) -> bool | None:
        """Whether a job was pickled, by its first byte: to read it may run what it holds. None: gone."""
        data = self.connection.hget(RqJob.redis_job_namespace_prefix + job_id.decode(), "data")
        if not data:
            return None
        try:
            return zlib.decompressobj().decompress(data, 1) == _PICKLE
        except zlib.error:  # RQ takes it as it is, then
            return bool(data.startswith(_PICKLE))

    def ttls(self) -> Iterable[Finding]:
        processes = [process for process in self.processes() if process.facts["state"] != "busy"]
        slow = [process for process in processes if process.facts["ttl"] > LONG]
        for process in slow:
            ttl = process.facts["ttl"]
            what = f"{process} has --worker-ttl {ttl:.0f}: when it dies, its job waits for longer than that"
            mend = f"{self.command.replace('{}', process.queues[0])} {_TTLS}"
            yield Finding("warning", what, mend, RECOVERY)
        if not slow:
            longest = max((process.facts["ttl"] for process in processes), default=0)
            told = f"{longest:.0f} s at most" if processes else "RQ tells none: no process waits for jobs now"
            mend = f"{self.command.replace('{}', self.names[0])} {_TTLS}"
            yield Finding("ok" if processes else "unknown", f"--worker-ttl: {told}", mend, RECOVERY)

    def several(self) -> Iterable[Finding]:
        processes = self.processes()
        found = [process for process in processes if len(process.queues) > 1]
        for process in found:
            what = (
                f"{process} serves {', '.join(process.queues)}: a job it has just taken when it dies is lost"
            )
            yield Finding("problem", what, f"one process for each queue: {self.command}", PROCESS)
        if not processes:
            yield nobody(PROCESS)
        elif not found:
            yield Finding("ok", "each live worker process serves one queue")


def _now() -> float:
    return datetime.now(UTC).timestamp()
