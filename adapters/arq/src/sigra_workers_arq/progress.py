"""What keeps arq from starting a job that runs: a key in Redis, here renewed while the run lives.

arq gives that key, once, the longest time-out of all functions and 10 s more: a job that takes longer runs
twice, one whose process died is held up. So arq knows no time-outs here, which makes those 10 s, and the
host's own are applied inside.
"""

import asyncio
import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from arq.cron import CronJob
from arq.utils import to_seconds
from arq.worker import Function, func

from sigra_workers_arq import wire

F = TypeVar("F", Function, CronJob)
MARGIN: Final = 10.0
"""Seconds from a function's time-out, or from the last renewal, until another process may start the job."""
_SOON: Final = 1e-9
"""A time-out to reckon with: of several None arq can't take the longest (worker.py, `max_timeout`)."""
_NO_LIMIT: Final = 2**31
_log: Final = logging.getLogger("sigra_workers.arq")


class Progress:
    """The functions of one worker process; `job_timeout` (seconds, or a timedelta) where one has none."""

    def __init__(self, queue: str, job_timeout: Any) -> None:
        self._queue = queue
        self.job_timeout: Final[float | None] = to_seconds(job_timeout)
        self._functions: list[Function | CronJob] = []
        self._running: dict[str, float] = {}
        self._renewing: asyncio.Task[None] | None = None

    def ours(self, name: str, coroutine: Any) -> Function:
        """A function of ours: no time-out, and as many tries as it asks for."""
        return self._held(Function(name, coroutine, None, None, None, _NO_LIMIT), None)

    def function(self, found: Any) -> Function:
        """A function of the host's, as arq takes it."""
        function = func(found)
        return self._held(function, self._limit(function))

    def cron(self, job: CronJob) -> CronJob:
        """A cron job of the host's."""
        return self._held(job, self._limit(job))

    def begin(self, pool: Any) -> None:
        """On start-up, when arq has reckoned with the time-outs: take them away."""
        for function in self._functions:
            function.timeout_s = None
        self._leave_out_running(pool)
        self._renewing = asyncio.create_task(self._renew(pool))

    def end(self) -> None:
        """No job runs any more."""
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self, pool: Any) -> None:
        while True:
            await asyncio.sleep(MARGIN / 3)
            if self._running:
                await _hold(pool, self._running)

    def _limit(self, function: Function | CronJob) -> float | None:
        return self.job_timeout if function.timeout_s is None else function.timeout_s

    def _held(self, function: F, timeout: float | None) -> F:
        """The function, in progress for as long as it runs, and stopped after `timeout` seconds."""
        coroutine: Any = function.coroutine
        seconds = (timeout or 0) + MARGIN

        @functools.wraps(coroutine)
        async def run(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
            job_id: str = ctx["job_id"]
            # arq's key lives for MARGIN, and one of the host's may hold the loop up from its start.
            holding = asyncio.create_task(_hold(ctx["redis"], {job_id: seconds})) if timeout else None
            self._running[job_id] = seconds
            try:
                return await asyncio.wait_for(coroutine(ctx, *args, **kwargs), timeout)
            finally:
                self._running.pop(job_id, None)
                if holding is not None:
                    holding.cancel()

        held = replace(function, coroutine=run, timeout_s=_SOON)
        self._functions.append(held)
        return held

    def _leave_out_running(self, pool: Any) -> None:
        """Have arq not find jobs that run in this process, should their keys be lost.

        It would start them, and then forget the first run (worker.py, `job_tasks`), take the `KeyError` of
        that for the job's failure, and delete what the first run has put in the queue.
        """
        find = pool.zrangebyscore

        async def zrangebyscore(name: Any, *args: Any, **options: Any) -> Any:
            found = await find(name, *args, **options)
            if name == self._queue:
                found = [item for item in found if item.decode() not in self._running]
            return found

        pool.zrangebyscore = zrangebyscore


async def _hold(redis: Any, running: Mapping[str, float]) -> None:
    """Have arq's keys of these jobs live for so many seconds each."""
    try:
        async with asyncio.timeout(MARGIN / 3), redis.pipeline(transaction=False) as pipeline:
            for job_id, seconds in running.items():
                pipeline.pexpire(wire.in_progress_key(job_id), int(seconds * 1_000))
            await pipeline.execute()
    except Exception as error:  # out of reach: the jobs go on, and are held by their claims
        _log.warning("%d jobs run, and could not say so: %s", len(running), type(error).__name__)
