"""Beside a host's own: its broker, middleware, plain actors, results, pipelines, groups and event loop."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import dramatiq
import pytest
from adapters.dramatiq.tests.support import STORED, Harness, harness
from dramatiq import Message
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Barriers
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend
from tests.losses.servers import free_port
from tests.queues.harness import Process, RedisServer, eventually, script
from tests.queues.host import StepArgs

from sigra_workers import Complete, Delivery, Ok, Outcome
from sigra_workers_dramatiq import process, wire

pytestmark = pytest.mark.integration
ENDED: Final = ("complete", "dead", "cancel")


@dataclass
class Ran:
    """What a host's worker process did with its own jobs and ours, mixed in one queue."""

    queue: Harness
    process: Process
    ids: dict[str, str]
    results: Any

    def plain(self, key: str) -> list[Any]:
        """What plain actors noted."""
        return [line[key] for line in self.queue.lines("plain.jsonl") if key in line]

    def noted(self, name: str) -> list[tuple[str, Any]]:
        """What the host's middleware saw of a job in the worker process, and the trace that it had."""
        lines = self.queue.lines("middleware.jsonl")
        return [(line["what"], line["trace"]) for line in lines if line["id"] == self.ids[name]]

    def result(self, name: str) -> Any:
        """What is kept of a job, or `ResultMissing`."""
        message: Message[Any] = Message(self.queue.queue, "steps.sync", (), {}, {}, message_id=self.ids[name])
        return message.get_result(backend=self.results)


@pytest.fixture(scope="module", params=STORED)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    # A Redis of its own: parked jobs are sent by any process of a store, with the middleware that it has.
    server = RedisServer(free_port(), tmp_path_factory.mktemp("redis"), ())
    here = {"url" if request.param == "redis" else "store": server.url}
    with harness(tmp_path_factory.mktemp("own"), request.param, **here) as queue:
        broker, sync = queue.adapter.broker, queue.host.sync
        results: Any = RedisBackend(url=queue.redis_url)
        ids = {
            name: sync.enqueue(script(*steps)).id
            for name, steps in {
                "ok": ["ok:done"],
                "dead": ["error:no"],
                "snoozed": ["snooze:1", "ok:late"],
                "object": ["object"],
                "waits": ["snooze:900"],
            }.items()
        }

        def plain(actor: str, *args: Any, **options: Any) -> "Message[Any]":
            return Message(queue.queue, actor, args, {}, options)

        def ours(name: str, *steps: str, **options: Any) -> "Message[Any]":
            """The message of a job, which somebody composes with others."""
            job = sync.new(script(*steps))
            ids[name] = job.id
            return wire.message(job.payload(time.time())).copy(options=options)

        broker.enqueue(ours("traced", "error:no", "ok", trace="of the request"))
        broker.enqueue(plain("add", 1, 2))
        broker.enqueue(plain("fail"))
        broker.enqueue(plain("which_loop"))
        queue.host.workers.declare("steps.loop", StepArgs, queue=queue.queue).enqueue(script())
        piped = [ours("piped", "snooze:1", "error:no", "ok:piped"), plain("note")]
        compose: Any = dramatiq
        compose.pipeline(piped, broker=broker).run()
        broker.enqueue(ours("died in a pipe", "cancel:no", pipe_target=plain("note", "never").asdict()))
        broker.add_middleware(GroupCallbacks(Barriers(url=queue.redis_url)))
        group = compose.group([ours("grouped", "snooze:2", "ok"), plain("add", 3, 4)], broker=broker)
        group.add_completion_callback(plain("note", "group"))
        group.run()
        process = queue.worker(
            boot="dramatiq_host.dramatiq_app_own", environment={"HOST_OWN_BROKER": "1"}
        )  # fmt: skip
        queue.wait(*(job_id for name, job_id in ids.items() if name != "waits"))
        found = Ran(queue, process, ids, results)
        eventually(lambda: len(found.plain("failed")) == 5, "the plain job to be given up")
        eventually(lambda: ["group"] in found.plain("noted"), "the group to end")
        eventually(lambda: len(found.plain("noted")) == 2, "the pipeline to end")
        yield found
        results.client.close()
    server.process.kill()


def test_plain_actors_run_beside_ours_by_their_own_rules(ran: Ran) -> None:
    assert sorted(ran.plain("sum")) == [3, 7]
    assert len(ran.plain("failed")) == 5  # by the host's own rule, which is not for ours
    assert [run["attempt"] for run in ran.queue.runs(ran.ids["dead"])] == [1, 2, 3]


def test_plain_actors_behind_ours_in_their_threads_and_on_their_loop_run_in_no_job(ran: Ran) -> None:
    assert {*ran.plain("job")} == {None}


def test_the_value_of_ok_is_kept_where_the_host_keeps_results(ran: Ran) -> None:
    assert ran.result("ok") == "done"
    assert ran.result("snoozed") == "late"


@pytest.mark.parametrize("name", ["dead", "waits", "object"])
def test_nothing_but_the_value_of_ok_is_kept(ran: Ran, name: str) -> None:
    with pytest.raises(ResultMissing):
        ran.result(name)


def test_a_value_that_cannot_be_stored_is_dropped_with_a_warning(ran: Ran) -> None:
    assert f"the result of job {ran.ids['object']} is of type object and can't be stored" in ran.process.log
    assert ran.queue.decisions(ran.ids["object"]) == ["complete"]


def test_a_pipeline_goes_on_with_the_value_of_ok_alone(ran: Ran) -> None:
    assert ran.queue.decisions(ran.ids["piped"]) == ["snooze", "retry", "complete"]
    assert ["piped"] in ran.plain("noted")
    assert ran.queue.decisions(ran.ids["died in a pipe"]) == ["cancel"]


def test_a_group_ends_when_its_jobs_have(ran: Ran) -> None:
    assert ran.queue.decisions(ran.ids["grouped"]) == ["snooze", "complete"]
    (called,) = (line["at"] for line in ran.queue.lines("plain.jsonl") if line.get("noted") == ["group"])
    first, last = (run["at"] for run in ran.queue.runs(ran.ids["grouped"]))
    assert last >= first + 2
    assert called > last


def test_the_hosts_middleware_sees_our_jobs_and_what_it_adds_stays(ran: Ran) -> None:
    trace = "of the request"
    seen = ran.noted("traced")
    assert [what for what, _ in seen if what != "enqueue"] == ["skipped", "processed"]
    assert ("enqueue", trace) in seen
    assert {found for _, found in seen} == {trace}


def test_async_workers_share_the_loop_of_the_hosts_async_actors(ran: Ran) -> None:
    (loop,) = eventually(lambda: ran.queue.lines("loops.jsonl"), "our async worker")
    (plain,) = eventually(lambda: ran.plain("loop"), "the plain async actor")
    assert loop["loop"] == plain


@pytest.fixture
def loop_thread() -> Iterator[Any]:
    """The loop of Dramatiq's middleware `AsyncIO`, as it starts one."""
    thread: Any = EventLoopThread(logging.getLogger("test"))
    thread.start()
    set_event_loop_thread(thread)
    yield thread
    set_event_loop_thread(None)
    thread.stop()


def dispatch(queue: Harness, perform: Callable[[], Any]) -> Outcome:
    """What an actor makes of a job of an async worker that does that."""

    async def body(scope: Any, args: Any) -> Any:
        return perform()

    host = queue.host
    host.asynchronous.implement(body)
    payload = host.asynchronous.new(script()).payload(time.time())
    delivery = Delivery(payload.dump(), outside=process._OUTSIDE, parsed=payload)
    return process._Body(host.workers)._dispatch(payload, delivery)


def test_an_interrupted_async_worker_leaves_the_loop_of_the_host_running(
    on_redis: Harness, loop_thread: Any
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dispatch(on_redis, interrupted)
    assert loop_thread.loop.is_running()


def test_async_workers_run_on_a_loop_of_ours_where_that_of_the_host_has_ended(
    on_redis: Harness, loop_thread: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loop_thread.stop()
    assert dispatch(on_redis, lambda: Ok("done")) == Complete("done")
    assert "the event loop of Dramatiq's middleware has ended" in caplog.text


def test_the_worker_process_ends_as_it_should(ran: Ran) -> None:
    assert "Unexpected failure" not in ran.process.log
    assert "You've found a bug" not in ran.process.log
    assert ran.process.alive


def test_what_goes_on_with_a_job_goes_on_though_its_process_is_killed_before(queue: Harness) -> None:
    broker, job = queue.adapter.broker, queue.host.sync.new(script("ok:done"))

    def note(word: str) -> "Message[Any]":
        return Message(queue.queue, "note", (word,), {}, {})

    compose: Any = dramatiq
    broker.add_middleware(GroupCallbacks(Barriers(url=queue.redis_url)))
    message = wire.message(job.payload(time.time())).copy(options={"pipe_target": note("piped").asdict()})
    group = compose.group([message], broker=broker)
    group.add_completion_callback(note("grouped"))
    group.run()
    deaths = ("stored", "processed")
    for where in deaths:
        (queue.folder / f"die-{where}").touch()
    own: Any = {"boot": "dramatiq_host.dramatiq_app_own", "environment": {"HOST_OWN_BROKER": "1"}}
    for _ in deaths:
        queue.worker("--worker-fork-timeout", "1000", ready=False, **own).popen.wait(30)
        queue.redeliver()
    queue.worker(**own)
    eventually(lambda: len(queue.lines("plain.jsonl")) == 2, "the pipeline and the group to go on")
    noted = [line["noted"] for line in queue.lines("plain.jsonl")]
    assert sorted(noted) == [["grouped"], ["piped", "done"]]
    assert [run["attempt"] for run in queue.runs(job.id)] == [1, 2, 3]
    results: Any = RedisBackend(url=queue.redis_url)
    assert results.get_result(message) == "done"
    results.client.close()
    eventually(lambda: queue.record(job.id)["owner"] == "", "the end to be written")


def test_capabilities_name_results_where_the_broker_keeps_them(on_redis: Harness) -> None:
    adapter = on_redis.adapter
    assert "results" not in adapter.capabilities
    backend: Any = RedisBackend(url=on_redis.redis_url)
    keep: Any = Results
    adapter.broker.add_middleware(keep(backend=backend))
    assert "results" in adapter.capabilities
    backend.client.close()
