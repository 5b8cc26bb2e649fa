"""The conformance kit on the real `arq` worker."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.arq.tests.support import PYTHONPATH, URL, reach
from arq.jobs import deserialize_result
from tests.losses.servers import free_port

from sigra_workers import Workers
from sigra_workers.conformance import AdapterConformance, Harness
from sigra_workers_arq import ArqAdapter, wire

pytestmark = pytest.mark.integration
ARQ: Final = str(Path(sys.executable).with_name("arq"))


def result(workers: Workers[Any], job_id: str) -> object:
    """The value that arq keeps of a job."""
    packed: Any = ArqAdapter.of(workers).connection.get(wire.result_key(job_id))
    return deserialize_result(packed).result if packed else None


def clean(queues: Sequence[str]) -> None:
    """Forget the queues, and the dead jobs of them."""
    adapter = ArqAdapter({"url": URL})
    connection: Any = adapter.connection
    for queue in queues:
        ids = connection.zrange(queue, 0, -1)
        connection.delete(queue, f"{queue}:health-check", *(wire.job_key(job_id.decode()) for job_id in ids))
    adapter.purge([job.id for job in adapter.dead_jobs({}) if job.queue in queues])
    adapter.close()


class TestArq(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Harness:
        reach(URL).close()
        return Harness(
            adapter="arq",
            settings={"url": URL},
            command=[ARQ, "arq_host.conformance_boot.WorkerSettings"],
            env={"PYTHONPATH": PYTHONPATH},
            unreachable_settings={"url": f"redis://127.0.0.1:{free_port()}/0"},
            result=result,
            clean=clean,
        )
