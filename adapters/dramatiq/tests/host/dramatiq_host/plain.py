"""Actors of the host's own, which note that no job of ours runs."""

import asyncio
import os
import time

import dramatiq
from tests.queues.files import append

from sigra_workers import current_job

QUEUE = os.environ.get("HOST_QUEUE", "default")


def wrote(**facts: object) -> None:
    append("plain.jsonl", {**facts, "job": getattr(current_job(), "id", None)})


@dramatiq.actor(queue_name=QUEUE)
def add(first: int, second: int) -> int:
    wrote(sum=first + second)
    return first + second


@dramatiq.actor(queue_name=QUEUE, min_backoff=50, max_backoff=100)
def fail() -> None:
    wrote(failed=True)
    raise RuntimeError("plain")


@dramatiq.actor(queue_name=QUEUE)
def note(*values: object) -> None:
    wrote(noted=values, at=time.time())


@dramatiq.actor(queue_name=QUEUE)
async def which_loop() -> None:
    wrote(loop=id(asyncio.get_running_loop()))
