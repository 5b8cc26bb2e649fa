"""The conformance kit on RQ: a real Redis and real `rq worker` processes."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from adapters.rq.tests.support import PYTHONPATH, RQ, URL, reach
from redis import Redis
from rq.job import Job

from sigra_workers import Workers
from sigra_workers.conformance import AdapterConformance, Harness
from sigra_workers_rq.adapter import RqAdapter

COMMAND: Final = [
    *(RQ, "worker", "-u", URL, "-c", "rq_host.conformance_boot", "--serializer", "json"),
    *("--with-scheduler", "--worker-ttl", "20"),
    *("--maintenance-interval", "5", "--job-monitoring-interval", "5", "{queue}"),
]


def result(workers: Workers[Any], job_id: str) -> object:
    """What RQ keeps of a job."""
    return Job.fetch(job_id, RqAdapter.of(workers).connection, "json").return_value()


def clean(queues: Sequence[str]) -> None:
    """Forget the queues, and every job of them."""
    with Redis.from_url(URL) as connection:
        for key in connection.scan_iter("rq:job:*", count=1000, _type="hash"):
            origin: Any = connection.hget(key, "origin")
            if (origin or b"").decode() in queues:
                connection.delete(key)
        for queue in queues:
            connection.srem("rq:queues", f"rq:queue:{queue}")
            for key in connection.scan_iter(f"*{queue}*", count=1000):
                connection.delete(key)


@pytest.mark.slow
@pytest.mark.timeout(400)
class TestRq(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Harness:
        reach(URL).close()
        return Harness(
            adapter="rq",
            settings={"url": URL},
            command=COMMAND,
            env={"PYTHONPATH": PYTHONPATH},
            processes=2,
            unreachable_settings={"url": "redis://127.0.0.1:1/0"},
            result=result,
            clean=clean,
            recovery=90.0,
        )
