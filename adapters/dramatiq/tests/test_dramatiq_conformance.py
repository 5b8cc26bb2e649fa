"""The conformance kit on Dramatiq: real servers and real `dramatiq` processes, on both brokers."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.dramatiq.tests.support import PYTHONPATH, SETTINGS, reach, reach_rabbitmq
from dramatiq import Message
from dramatiq.common import dq_name, xq_name
from dramatiq.results import ResultMissing
from tests.losses.servers import free_port

from dramatiq_host.brokers import keep_results
from sigra_workers import Workers, hookimpl
from sigra_workers.conformance import AdapterConformance, Harness
from sigra_workers_dramatiq import DramatiqAdapter

DRAMATIQ: Final = str(Path(sys.executable).with_name("dramatiq"))


class Keeping:
    """Makes the adapter, with a broker that keeps results."""

    @hookimpl
    def sigra_adapter(self, name: str, settings: Mapping[str, Any]) -> DramatiqAdapter:
        adapter = DramatiqAdapter(settings)
        keep_results(adapter)
        return adapter


def result(workers: Workers[Any], job_id: str) -> object:
    """The value that Dramatiq keeps of a job."""
    for handle in workers.handles:
        message: Message[Any] = Message(handle.queue, handle.name, (), {}, {}, message_id=job_id)
        with suppress(ResultMissing):
            return message.get_result(backend=DramatiqAdapter.of(workers).broker.get_results_backend())
    return None


def forget(way: str, queues: Sequence[str]) -> None:
    """Remove what is left of the queues, and their dead jobs."""
    adapter = DramatiqAdapter(SETTINGS[way])
    adapter.purge([job.id for job in adapter.dead_jobs({}) if job.queue in queues])
    adapter.close()
    names = [name for queue in queues for name in (queue, dq_name(queue), xq_name(queue))]
    if way == "redis":
        with reach(SETTINGS[way]["url"]) as connection:
            connection.delete(*(f"dramatiq:{name}{kind}" for name in names for kind in ("", ".msgs")))
    else:
        with reach_rabbitmq(SETTINGS[way]["url"]) as connection:
            for name in names:
                connection.channel().queue_delete(name)


def make_harness(way: str, nowhere: Mapping[str, Any], recovery: float) -> Harness:
    forget(way, ["nothing"])  # fails here where there is no server
    return Harness(
        adapter="dramatiq",
        settings=SETTINGS[way],
        command=[DRAMATIQ, "dramatiq_host.conformance_boot", "--processes", "1", "--queues", "{queue}"],
        env={"PYTHONPATH": PYTHONPATH},
        unreachable_settings={**SETTINGS[way], **nowhere},
        result=result,
        clean=lambda queues: forget(way, queues),
        recovery=recovery,
        plugins=[Keeping()],
    )


@pytest.mark.slow
@pytest.mark.timeout(400)  # a job that kills its process twice is found twice, after a minute each
class TestDramatiqOnRedis(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Harness:
        return make_harness("redis", {"url": f"redis://127.0.0.1:{free_port()}"}, 60)


@pytest.mark.slow
class TestDramatiqOnRabbitMQ(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Harness:
        return make_harness("rabbitmq", {"url": f"amqp://127.0.0.1:{free_port()}"}, 60)
