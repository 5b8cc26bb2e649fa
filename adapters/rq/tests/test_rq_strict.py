"""`rq worker -w sigra_workers_rq.Worker`: what is stored in Redis chooses no code."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.rq.tests.support import RQ, Harness
from rq import Retry, Worker
from rq.job import Job as RqJob
from rq.job import JobStatus
from tests.queues.harness import Process, script
from tests.queues.host import Host

import sigra_workers_rq
from sigra_workers import InvalidSettingsError
from sigra_workers_rq import wire

pytestmark = pytest.mark.integration
STRICT: Final = ("-w", "sigra_workers_rq.Worker")
TRAP: Final = "rq_host.trap.spring"
CALLBACKS: Final[dict[Any, Any]] = {
    "success_callback_name": TRAP,
    "failure_callback_name": TRAP,
    "stopped_callback_name": TRAP,
}


def traces(rq: Harness) -> set[str]:
    return {line["trace"] for line in rq.lines("trap.jsonl")}


def send(rq: Harness, function: str, *args: Any, instance: object = None, **options: Any) -> str:
    """A job of plain RQ."""
    job = rq.rq_queue().create_job(function, args=args, **options)
    if instance is not None:
        job.instance = instance
    rq.rq_queue().enqueue_job(job)
    return str(job.id)


def with_callbacks(rq: Harness, host: Host, step: str) -> str:
    """A job of ours, with callbacks that somebody wrote into it."""
    ref = host.sync.enqueue(script(step))
    rq.connection.hset(rq.job(ref.id).key, mapping=CALLBACKS)
    return ref.id


def abandoned(rq: Harness) -> str:
    """A job of ours that claims to run in a process that died, with callbacks: RQ's maintenance meets it."""
    job = rq.rq_queue().create_job(wire.FUNCTION, status=JobStatus.STARTED)
    job.origin = rq.queue
    job.save()
    rq.connection.hset(job.key, mapping=CALLBACKS)
    rq.connection.zadd(rq.rq_queue().started_job_registry.key, {f"{job.id}:execution": time.time() - 60})
    return str(job.id)


Ran = tuple[Mapping[str, str], Process]


@pytest.fixture(scope="module")
def strict(shared_rq: Harness) -> Ran:
    """Foreign jobs, and ours with callbacks, before a strict worker process."""
    rq = shared_rq
    ids = {
        "os.system": send(rq, "os.system", f"touch {rq.folder}/owned"),
        "a function of the host": send(rq, TRAP),
        "retried": send(rq, TRAP, retry=Retry(max=2)),
        "another function of ours": send(rq, "sigra_workers_rq.boot", "rq_host.trap:workers"),
        "a method": send(rq, "upper", instance="text"),
        "a method named as ours": send(rq, wire.FUNCTION, instance="text"),
        "abandoned": abandoned(rq),
        "ok": with_callbacks(rq, rq.host, "ok:done"),
        "dead": with_callbacks(rq, rq.host, "cancel:no"),
    }
    process = rq.worker(*STRICT)
    rq.wait_all(list(ids.values()))
    return ids, process


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "a function of the host",
        "retried",
        "another function of ours",
        "a method",
        "a method named as ours",
    ],
)
def test_another_function_than_ours_is_refused(shared_rq: Harness, strict: Ran, name: str) -> None:
    job_id = strict[0][name]
    assert shared_rq.status(job_id) == "failed"
    assert f"ForeignJobError: job {job_id!r} is to call another function" in shared_rq.error(job_id)


def test_nothing_that_a_job_names_was_imported_or_called(shared_rq: Harness, strict: Ran) -> None:
    assert traces(shared_rq) == set()
    assert not Path(shared_rq.folder, "owned").exists()
    assert {shared_rq.status(strict[0][name]) for name in ("abandoned", "dead")} == {"failed"}


def test_our_jobs_run_in_the_process_that_refused_the_others(shared_rq: Harness, strict: Ran) -> None:
    ids, process = strict
    assert shared_rq.job(ids["ok"]).return_value() == "done"
    assert "cancelled: no" in shared_rq.error(ids["dead"])
    assert [run["job"] for run in shared_rq.runs()] == [ids["ok"], ids["dead"]]
    assert process.alive


@pytest.mark.parametrize("make", ["function", "callbacks", "abandoned"])
def test_a_plain_worker_would_have_called_it(rq: Harness, make: str) -> None:
    if make == "function":
        send(rq, TRAP)
    elif make == "callbacks":
        with_callbacks(rq, rq.host, "ok")
    else:
        abandoned(rq)
    rq.work()
    assert traces(rq) == {"imported", "called"}


@pytest.mark.parametrize(
    "serializer",
    [(), ("--serializer", "pickle"), ("--serializer", "rq.serializers.PickleSerializer")],
    ids=str,
)
def test_it_does_not_start_where_it_would_read_pickle(rq: Harness, serializer: tuple[str, ...]) -> None:
    ref = rq.host.sync.enqueue(script("ok"))
    command = [RQ, "worker", "-u", rq.url, *STRICT, *serializer, rq.queue]
    process = rq.run(command)
    assert process.popen.wait(30) != 0
    assert "sigra_workers_rq.Worker: it reads JSON alone: add --serializer json" in process.log
    assert rq.places(ref.id) == {"queued"}


def test_the_long_name_of_the_json_serializer_will_do(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("ok"))
    rq.work(*STRICT, "--serializer", "rq.serializers.JSONSerializer")
    assert rq.status(ref.id) == "finished"


def test_it_is_strict_when_a_host_makes_it_too(rq: Harness) -> None:
    with pytest.raises(InvalidSettingsError):
        sigra_workers_rq.Worker([rq.queue], connection=rq.connection)
    worker = sigra_workers_rq.Worker(
        [rq.queue], connection=rq.connection, serializer="json", job_class=RqJob, name=f"{rq.prefix}-strict"
    )
    assert isinstance(worker, Worker)
    assert worker.job_class is sigra_workers_rq.Job
    assert {queue.job_class for queue in worker.queues} == {sigra_workers_rq.Job}
