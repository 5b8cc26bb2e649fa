"""The registry; importing it opens nothing."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tests.queues.files import append
from tests.queues.host import QUEUE, Host, declare

from sigra_workers import Decision, JobInfo, hookimpl


class Diary:
    """Notes how each run ended, and what died."""

    @hookimpl
    def sigra_finished(self, job: JobInfo, decision: Decision | None) -> None:
        append("finished.jsonl", {"job": job.id, "decision": decision})

    @hookimpl
    def sigra_dead(self, job: JobInfo, reason: str) -> None:
        append("dead.jsonl", {"job": job.id, "reason": reason})


def make_host(settings: Mapping[str, Any], queue: str = "default", queues: Iterable[str] = ()) -> Host:
    """An application on those servers, with its jobs on that queue."""
    return declare("dramatiq", settings, queue, queues, aliases=["steps.old"], plugins=[Diary()])


def settings() -> dict[str, Any]:
    """What the test says, or the host's own broker where it says so."""
    found: dict[str, Any] = json.loads(os.environ.get("HOST_SETTINGS", '{"url": "redis://127.0.0.1:6379/9"}'))
    if os.environ.get("HOST_OWN_BROKER"):
        from dramatiq_host.brokers import make_broker

        found["broker"] = make_broker(found.pop("url"))
    return found


host = make_host(settings(), QUEUE, os.environ.get("HOST_QUEUES", "").split())
workers = host.workers
