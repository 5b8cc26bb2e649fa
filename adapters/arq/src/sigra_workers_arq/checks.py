"""What the doctor looks for in arq: which live worker processes there are, and what they run with."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from arq.constants import health_check_key_suffix

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
    versions,
)

if TYPE_CHECKING:
    from sigra_workers_arq.adapter import ArqAdapter

PROCESS: Final = "adapters/arq/README.md#the-worker-process"
RECOVERY: Final = "adapters/arq/README.md#what-happens-when-something-dies"
COMMAND: Final = "arq app.arq_lifecycle.WorkerSettings"
BOOT: Final = 'WorkerSettings = boot("app.jobs:workers", queue={!r})'
LONG_POLL: Final = 5.0
"""Seconds of ``poll_delay`` beyond which jobs begin noticeably late."""
FEW_TRIES: Final = 1_000
"""Starts of one job that arq allows; each outage of Redis and each wait for another run takes one."""


def checks(adapter: "ArqAdapter", workers: Workers[Any]) -> list[Check]:
    """The checks for the queues of the workers."""
    found = _Queues(adapter, workers.queues)
    reachable = "redis.reachable"
    return [
        *redis_checks(lambda: adapter.connection, RECOVERY),
        Check("queues.consumed", found.consumed, reachable),
        Check("processes.versions", found.versions, reachable),
        Check("processes.clock", found.clocks, reachable),
        Check("arq.max_tries", found.tries, reachable),
        Check("arq.completion_wait", found.waits, reachable),
        Check("arq.timeouts", found.timeouts, reachable),
        Check("arq.poll_delay", found.delays, reachable),
    ]


class _Queues:
    def __init__(self, adapter: "ArqAdapter", names: list[str]) -> None:
        self._adapter, self._names = adapter, names

    def _processes(self) -> list[Process]:
        found = self._adapter.store.processes()
        return [process for process in found if {*process.queues} & {*self._names}]

    def consumed(self) -> Iterable[Finding]:
        counts = by_queue(self._processes())
        mend = f'{COMMAND}, with boot("app.jobs:workers", queue="{{}}")'
        yield from consumed(self._names, counts, mend, PROCESS)
        redis: Any = self._adapter.connection
        for name in self._names:
            if not counts.get(name) and redis.exists(name + health_check_key_suffix):
                what = (
                    f"an arq process without `boot` is, or was just now, on queue {name!r}: it drops our jobs"
                )
                yield Finding("problem", what, BOOT.format(name), PROCESS)

    def versions(self) -> Iterable[Finding]:
        return same_versions(self._processes(), installed(), COMMAND, PROCESS)

    def clocks(self) -> Iterable[Finding]:
        return same_clocks(self._processes(), RECOVERY)

    def tries(self) -> Iterable[Finding]:
        def look(process: Process, queue: str) -> Iterable[Finding]:
            facts = process.facts
            if not facts["retry_jobs"]:
                what = f"{process} has retry_jobs=False: arq drops a job that is to run again"
                yield Finding("problem", what, f"{BOOT.format(queue)}, unchanged", PROCESS)
            elif facts["our_tries"] < FEW_TRIES:
                what = f"{process} starts a job at most {facts['our_tries']} times: then arq drops it"
                yield Finding("problem", what, f"{BOOT.format(queue)}, unchanged", PROCESS)

        told = "max_tries is no limit for our jobs, and {max_tries} for functions of your own"
        return self._each(look, told)

    def waits(self) -> Iterable[Finding]:
        def look(process: Process, queue: str) -> Iterable[Finding]:
            wait = process.facts["job_completion_wait"]
            if wait < 1:
                what = f"{process} has job_completion_wait={wait}: each stop costs its jobs an attempt"
                yield Finding("problem", what, "boot(..., job_completion_wait=25)", PROCESS)

        return self._each(look, "job_completion_wait is {job_completion_wait} s")

    def timeouts(self) -> Iterable[Finding]:
        def look(process: Process, queue: str) -> Iterable[Finding]:
            limit = process.facts["our_timeout"]
            if limit is not None:
                what = f"{process} has job_timeout={limit:g} behind `boot`: arq drops a job that takes longer"
                mend = (
                    f"boot(..., job_timeout={limit:g}), which is for functions of your own; ours have theirs"
                )
                yield Finding("problem", what, mend, "adapters/arq/README.md#how-a-job-lies-in-arq")

        return self._each(
            look, "job_timeout is none for our jobs, and {job_timeout} s for functions of your own"
        )

    def delays(self) -> Iterable[Finding]:
        def look(process: Process, queue: str) -> Iterable[Finding]:
            delay = process.facts["poll_delay"]
            if delay > LONG_POLL:
                what = f"{process} has poll_delay={delay:g}: each job begins up to {delay:g} s late"
                yield Finding("warning", what, "boot(..., poll_delay=0.5)", PROCESS)

        return self._each(look, "poll_delay is {poll_delay} s")

    def _each(self, look: Callable[[Process, str], Iterable[Finding]], told: str) -> Iterable[Finding]:
        """What `look` finds in the live processes; else what they have, or that there is none."""
        processes = self._processes()
        found = [finding for process in processes for finding in look(process, process.queues[0])]
        if not processes:
            return [nobody(PROCESS)]
        return found or [Finding("ok", line) for line in sorted({told.format(**p.facts) for p in processes})]


def installed() -> dict[str, str]:
    """The versions of this installation."""
    return versions("sigra-workers-arq", "arq")
