"""A worker process says that it is alive, and what it runs with: for the doctor."""

import asyncio
from contextlib import suppress
from typing import Any, Final

from arq.worker import Worker
from redis.exceptions import RedisError

from sigra_workers.checks import versions
from sigra_workers.store import ANNOUNCED, Command, Store
from sigra_workers_arq import wire

PATIENCE: Final = 5.0
"""Seconds that Redis may take to hear it."""
LAST_PATIENCE: Final = 1.0
"""The same where the process is to end."""


class Presence:
    """Tells the store, every 10 s; whether Redis hears it makes no difference to any job."""

    def __init__(self, store: Store, job_timeout: float | None) -> None:
        self._store, self._job_timeout = store, job_timeout
        self._redis: Any = None
        self._token = ""
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None

    def begin(self, redis: Any) -> None:
        """On start-up, once the functions have their final time-outs."""
        worker = _running()
        if worker is not None:
            self._redis, self._token = redis, self._store.token()
            self._tick(worker.queue_name, self._facts(worker))

    async def end(self) -> None:
        """The process takes no more jobs."""
        if self._timer is not None:
            self._timer.cancel()
            await self._tell(self._store.leave(self._token), LAST_PATIENCE)

    def _tick(self, queue: str, facts: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(ANNOUNCED, self._tick, queue, facts)
        command = self._store.announce(self._token, [queue], facts)
        self._telling = loop.create_task(self._tell(command, PATIENCE))

    async def _tell(self, command: Command, seconds: float) -> None:
        with suppress(RedisError, OSError):  # a time-out is one
            await asyncio.wait_for(self._redis.eval(*command), seconds)

    def _facts(self, worker: Worker) -> dict[str, Any]:
        """What arq goes by, whatever became of the settings behind `boot`."""
        ours = worker.functions.get(wire.FUNCTION)
        found: Any = worker
        return {
            "versions": versions("sigra-workers-arq", "arq"),
            "our_tries": 0 if ours is None else ours.max_tries or worker.max_tries,
            "our_timeout": worker.job_timeout_s if ours is None else ours.timeout_s or worker.job_timeout_s,
            "max_tries": worker.max_tries,
            "job_timeout": self._job_timeout,
            "job_completion_wait": found._job_completion_wait,
            "retry_jobs": worker.retry_jobs,
            "poll_delay": worker.poll_delay_s,
        }


def _running() -> Worker | None:
    """arq's worker that calls `on_startup`, in its own task (worker.py, `main`): arq hands it to nobody."""
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task else None
    found: object = frame.f_locals.get("self") if frame else None
    return found if isinstance(found, Worker) else None
