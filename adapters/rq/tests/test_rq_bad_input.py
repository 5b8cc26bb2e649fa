"""A Redis that is away, lost or full; jobs that nobody of ours made; worker processes without a registry."""

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from adapters.rq.tests.support import Harness
from rq import Retry
from tests.queues.bad_input import BAD_PAYLOADS, BY_HAND, SECRET, Proxy, WithoutRedis, of_each_kind, payload
from tests.queues.harness import Process, script
from tests.queues.host import Host, StepArgs

from rq_host.jobs import make_host
from sigra_workers import (
    DuplicateJobError,
    EnqueueError,
    InvalidSettingsError,
    NotFoundError,
    Workers,
)
from sigra_workers_rq import boot, process, wire

pytestmark = pytest.mark.integration


class TestWithoutRedis(WithoutRedis):
    make_host = staticmethod(make_host)
    prefix = "rq"
    denied = "-hset"
    left = frozenset({b"rq:queues"})  # RQ's list of names


# -- the answer is lost --------------------------------------------------------------------------------


@pytest.fixture
def proxy(rq: Harness) -> Iterator[Proxy]:
    kwargs = rq.connection.connection_pool.connection_kwargs
    found = Proxy((kwargs["host"], kwargs["port"]))
    yield found
    found.close()


@pytest.fixture
def proxied(rq: Harness, proxy: Proxy) -> Iterator[Host]:
    """The host, sending through the proxy; it has sent a job of each kind before."""
    host = make_host({"url": f"redis://127.0.0.1:{proxy.port}/{rq.url.rpartition('/')[2]}"}, rq.queue)
    with host.workers:
        host.workers.enqueue_many(of_each_kind(host, f"{rq.prefix}-before"))
        yield host


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "request lost"])
@pytest.mark.parametrize("kind", range(4), ids=["at once", "scheduled", "given id", "given id, scheduled"])
def test_a_connection_lost_after_sending_leaves_the_job_unknown(
    rq: Harness, proxy: Proxy, proxied: Host, kind: int, arrived: bool
) -> None:
    job = of_each_kind(proxied, rq.prefix)[kind]
    proxy.lose(b"EVALSHA" if job.given_id else b"EXEC", forward=arrived)
    with pytest.raises(EnqueueError) as caught:
        proxied.workers.enqueue(job)
    assert (caught.value.accepted, caught.value.rejected, caught.value.unknown) == ((), (), (job.id,))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert bool(rq.connection.exists(f"rq:job:{job.id}")) == arrived
    assert bool(rq.places(job.id)) == arrived
    proxied.sync.enqueue(script("ok"))  # over a new connection


def test_a_job_whose_answer_was_lost_runs(rq: Harness, proxy: Proxy, proxied: Host) -> None:
    proxy.lose(b"EXEC", forward=True)
    job = proxied.sync.new(script("ok:done"))
    with pytest.raises(EnqueueError):
        proxied.workers.enqueue(job)
    rq.work()
    assert rq.job(job.id).return_value() == "done"


def test_an_unknown_job_of_a_given_id_is_a_duplicate_when_it_is_sent_again(
    rq: Harness, proxy: Proxy, proxied: Host
) -> None:
    proxy.lose(b"EVALSHA", forward=True)
    job = proxied.sync.new(script("ok"), job_id=f"{rq.prefix}-id")
    with pytest.raises(EnqueueError):
        proxied.workers.enqueue(job)
    with pytest.raises(DuplicateJobError):
        proxied.workers.enqueue(job)


# -- jobs that nobody of ours made ---------------------------------------------------------------------


BAD: Final[dict[str, tuple[Any, str]]] = {
    "no meta": ({}, "is dead: InvalidPayloadError"),
    "meta of another kind": (["sigra"], "is dead: InvalidPayloadError"),
    "meta that is not JSON": (b"\xff{", "is dead: InvalidPayloadError"),
    "no payload": ({"other": 1}, "is dead: InvalidPayloadError"),
    "id of another job": (payload(id="another"), "its id is another than RQ's own record of it says"),
    **BAD_PAYLOADS,
}


def make_by_hand(rq: Harness, meta: object, retry: int | None) -> str:
    """A job that plain RQ sends, with that meta."""
    queue = rq.rq_queue()
    job = queue.create_job(wire.FUNCTION, retry=Retry(max=retry) if retry else None)
    with rq.connection.pipeline() as pipeline:
        queue.enqueue_job(job, pipeline=pipeline)
        text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
        pipeline.hset(job.key, "meta", text.replace(BY_HAND.encode(), job.id.encode()))
        pipeline.execute()
    return str(job.id)


BadRun = tuple[Mapping[tuple[str, int | None], str], str, Process]


@pytest.fixture(scope="module")
def bad_run(shared_rq: Harness) -> BadRun:
    """Every bad job, with and without retries of RQ's own, then a good one, in one worker process."""
    ids: dict[tuple[str, int | None], str] = {}
    for name, (found, _) in BAD.items():
        for retry in (None, 4):
            ids[name, retry] = make_by_hand(shared_rq, found, retry)
    good = shared_rq.host.sync.enqueue(script("ok"))
    worker = shared_rq.worker()
    shared_rq.wait_all([*ids.values(), good.id])
    return ids, good.id, worker


@pytest.mark.parametrize("retry", [None, 4], ids=["no retries", "retries"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_job_fails_at_once_with_a_named_error(
    shared_rq: Harness, bad_run: BadRun, name: str, retry: int | None
) -> None:
    job_id = bad_run[0][name, retry]
    assert shared_rq.status(job_id) == "failed"
    assert shared_rq.places(job_id) == {"failed"}
    assert [result.type.name for result in shared_rq.results(job_id)] == ["FAILED"]
    assert BAD[name][1] in shared_rq.error(job_id)
    assert shared_rq.job(job_id).retries_left == 0


def test_no_host_code_runs_for_a_bad_job_and_the_process_serves_the_next(
    shared_rq: Harness, bad_run: BadRun
) -> None:
    _, good, worker = bad_run
    assert [run["job"] for run in shared_rq.runs()] == [good]
    assert shared_rq.status(good) == "finished"
    assert worker.alive


# -- unknown to this process ---------------------------------------------------------------------------


def test_a_job_of_an_unknown_worker_waits_uncounted_for_a_process_that_knows_it(rq: Harness) -> None:
    handle = rq.host.workers.declare("steps.new", StepArgs, queue=rq.queue, max_attempts=2)
    ref = handle.enqueue(script("ok:done"))
    before = time.time()
    old = rq.work()
    assert f"worker 'steps.new' is not implemented in this process: job {ref.id} waits for it" in old.log
    waiting = rq.payload(ref.id)
    assert (waiting.attempt, waiting.snoozes, rq.job(ref.id).retries_left) == (1, 0, 2)
    assert waiting.meta["unknown_since"] == pytest.approx(before, abs=10)
    assert rq.places(ref.id) == {"scheduled"}

    rq.worker(boot="rq_host.rq_lifecycle_next")
    rq.wait(ref.id, "finished")
    (run,) = rq.runs(ref.id)
    assert (run["attempt"], run["snoozes"]) == (1, 0)
    assert rq.job(ref.id).return_value() == "done"


def come_due(rq: Harness, job_id: str) -> None:
    """Let the time pass that RQ holds a job for."""
    rq.rq_queue().scheduled_job_registry.schedule(rq.job(job_id), datetime.now(UTC))


def waits(rq: Harness, job_id: str) -> bool:
    left = (rq.payload(job_id).attempt, rq.job(job_id).retries_left)
    return rq.places(job_id) == {"scheduled"} and left == (1, 3) and rq.runs() == []


BROKEN: Final = {
    "no boot file": ({}, "start it with its boot file: rq worker -c app.rq_lifecycle --serializer json"),
    "no such module": (
        {"SIGRA_WORKERS": "rq_host.nothing:workers"}, "there is no module 'rq_host.nothing'",
    ),
    "no such attribute": (
        {"SIGRA_WORKERS": "rq_host.jobs:nothing"}, "module 'rq_host.jobs' has no such object, its Workers",
    ),
    "another adapter": (
        {"SIGRA_WORKERS": "rq_host.elsewhere:workers"}, "these workers use adapter 'memory', expected 'rq'",
    ),
    "a module that breaks": (
        {"SIGRA_WORKERS": "rq_host.broken:workers"}, "RuntimeError: this module is broken",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_without_a_registry_jobs_wait_uncounted_for_a_right_process(rq: Harness, name: str) -> None:
    environment, problem = BROKEN[name]
    ref = rq.host.sync.enqueue(script("ok"))
    wrong = rq.work(boot=None, environment=environment)
    assert f"job {ref.id} waits: " in wrong.log
    assert problem in wrong.log
    assert waits(rq, ref.id)

    come_due(rq, ref.id)
    rq.worker()
    rq.wait(ref.id, "finished")
    assert [(run["attempt"], run["snoozes"]) for run in rq.runs(ref.id)] == [(1, 0)]


def test_the_environment_binds_a_process_without_a_boot_file(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("ok:done"))
    rq.work(boot=None, environment={"SIGRA_WORKERS": "rq_host.implementations:workers"})
    assert rq.job(ref.id).return_value() == "done"


def test_a_boot_file_that_breaks_stops_the_process_before_it_takes_a_job(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("ok"))
    worker = rq.worker(boot="rq_host.broken", ready=False)
    assert worker.popen.wait(30) != 0
    assert "RuntimeError: this module is broken" in worker.log
    assert rq.places(ref.id) == {"queued"}


def test_a_registry_without_implementations_is_told_at_start(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("ok"))
    worker = rq.work(boot="rq_host.rq_lifecycle_bare")
    assert "worker 'steps.sync' is not implemented in this process: its jobs wait" in worker.log
    assert waits(rq, ref.id)


@pytest.mark.parametrize(("ours", "process"), [("json", "pickle"), ("pickle", "json")])
def test_a_process_of_another_serializer_stops_before_it_takes_a_job(
    rq: Harness, ours: str, process: str
) -> None:
    rq.serializer = ours
    host = make_host({"url": rq.url, "serializer": ours}, rq.queue)
    with host.workers:
        ref = host.sync.enqueue(script("ok"))
    worker = rq.worker("--serializer", process, ready=False)
    assert worker.popen.wait(30) != 0
    assert f"this process reads {process!r}, the workers' settings say {ours!r}" in worker.log
    assert f"add --serializer {ours}" in worker.log
    assert rq.places(ref.id) == {"queued"}


def test_options_that_leave_jobs_waiting_or_lost_are_told_at_start(rq: Harness) -> None:
    warnings = (
        "this process runs without --with-scheduler: retries and snoozes wait for one that has it",
        f"no worker is declared for queue 'nobody', known are ['{rq.queue}']",
        "a process of several queues may lose a job when it dies: start one for each",
    )
    wrong, right = rq.worker(queues=(rq.queue, "nobody"), scheduler=False), rq.worker()
    for warning in warnings:
        assert warning in wrong.log
        assert warning not in right.log


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("rq_host.nothing:workers", NotFoundError),
        ("rq_host.jobs", NotFoundError),
        ("rq_host.jobs:host", NotFoundError),
        (Workers(adapter="memory"), InvalidSettingsError),
    ],
    ids=["no module", "no attribute", "no Workers", "another adapter"],
)
def test_boot_refuses_what_it_cannot_serve(
    monkeypatch: pytest.MonkeyPatch, path: Any, error: type[Exception]
) -> None:
    monkeypatch.setattr(process, "_bound", [])
    with pytest.raises(error):
        boot(path)
    assert process._bound == []
