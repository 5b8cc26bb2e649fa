"""A Redis that is away, lost or full; jobs that nobody of ours made; worker processes that can't start."""

import pickle
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from adapters.arq.tests.support import Harness
from arq.jobs import DeserializationError
from tests.queues.bad_input import BAD_PAYLOADS, BY_HAND, SECRET, Proxy, WithoutRedis, of_each_kind, payload
from tests.queues.harness import Process, script
from tests.queues.host import Host, StepArgs

from arq_host import plain
from arq_host.jobs import SERIALIZERS, make_host
from sigra_workers import (
    DuplicateJobError,
    EnqueueError,
    InvalidSettingsError,
    NotFoundError,
    Workers,
)
from sigra_workers_arq import boot, wire

pytestmark = pytest.mark.integration


class TestWithoutRedis(WithoutRedis):
    make_host = staticmethod(make_host)
    prefix = "arq"
    denied = "-mset"


# -- the answer is lost --------------------------------------------------------------------------------


@pytest.fixture
def proxy(arq: Harness) -> Iterator[Proxy]:
    options: Any = arq.connection.connection_pool.connection_kwargs
    found = Proxy((options["host"], options["port"]))
    yield found
    found.close()


@pytest.fixture
def proxied(arq: Harness, proxy: Proxy) -> Iterator[Host]:
    """The host, sending through the proxy; it has sent a job of each kind before."""
    host = make_host({"url": f"redis://127.0.0.1:{proxy.port}/{arq.url.rpartition('/')[2]}"}, arq.queue)
    with host.workers:
        host.workers.enqueue_many(of_each_kind(host, f"{arq.prefix}-before"))
        yield host


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "request lost"])
@pytest.mark.parametrize("kind", range(4), ids=["at once", "scheduled", "given id", "given id, scheduled"])
def test_a_connection_lost_after_sending_leaves_the_job_unknown(
    arq: Harness, proxy: Proxy, proxied: Host, kind: int, arrived: bool
) -> None:
    job = of_each_kind(proxied, arq.prefix)[kind]
    proxy.lose(job.id.encode(), forward=arrived)
    with pytest.raises(EnqueueError) as caught:
        proxied.workers.enqueue(job)
    assert (caught.value.accepted, caught.value.rejected, caught.value.unknown) == ((), (), (job.id,))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert bool(arq.connection.exists(f"arq:job:{job.id}")) == arrived
    assert (arq.status(job.id) in ("queued", "waiting")) == arrived
    proxied.sync.enqueue(script("ok"))  # over a new connection


def test_a_job_whose_answer_was_lost_runs_and_its_id_is_taken(
    arq: Harness, proxy: Proxy, proxied: Host
) -> None:
    job = proxied.sync.new(script("ok:done"), job_id=f"{arq.prefix}-id")
    proxy.lose(job.id.encode(), forward=True)
    with pytest.raises(EnqueueError):
        proxied.workers.enqueue(job)
    with pytest.raises(DuplicateJobError):
        proxied.workers.enqueue(job)
    arq.worker()
    assert arq.wait(job.id) == "finished"


# -- a serializer refuses -----------------------------------------------------------------------------


def test_what_the_hosts_serializer_refuses_is_rejected_alone(arq: Harness) -> None:
    def refuse_second(found: dict[str, Any]) -> bytes:
        if "second" in found[wire.PAYLOAD_KEY]:
            raise TypeError("no")
        return pickle.dumps(found)

    settings = {"url": arq.url, "job_serializer": refuse_second, "job_deserializer": pickle.loads}
    host = make_host(settings, arq.queue)
    jobs = [host.sync.new(script(step)) for step in ("ok", "ok:second", "ok")]
    with host.workers, pytest.raises(EnqueueError) as caught:
        host.workers.enqueue_many(jobs)
    assert caught.value.accepted == (jobs[0].id, jobs[2].id)
    assert caught.value.rejected == (jobs[1].id,)


# -- jobs that nobody of ours made ---------------------------------------------------------------------


BAD: Final[dict[str, tuple[Any, str]]] = {
    "no payload": ({"other": 1}, "InvalidPayloadError"),
    "id of another job": (payload(id="another"), "its id is another than arq's own record of it says"),
    **BAD_PAYLOADS,
}


BadRun = tuple[Mapping[str, str], str, Process]


@pytest.fixture(scope="module")
def bad_run(shared_arq: Harness) -> BadRun:
    """Every bad job, then a good one, in one worker process."""
    arq = shared_arq
    ids: dict[str, str] = {}
    for number, (name, (found, _)) in enumerate(BAD.items()):
        ids[name] = f"{arq.prefix}-bad{number:02}"
        whole = {"t": None, "f": wire.FUNCTION, "a": (), "k": {}, "et": 1, **found}
        if isinstance(text := found.get("sigra"), str):
            whole["sigra"] = text.replace(BY_HAND, ids[name])
        arq.connection.set(f"arq:job:{ids[name]}", pickle.dumps(whole))
        arq.connection.zadd(arq.queue, {ids[name]: 1})
    good = arq.host.sync.enqueue(script("ok"))
    worker = arq.worker()
    arq.wait_all([*ids.values(), good.id])
    return ids, good.id, worker


@pytest.mark.parametrize("name", BAD)
def test_a_bad_job_is_dead_at_once_with_a_named_error(
    shared_arq: Harness, bad_run: BadRun, name: str
) -> None:
    arq, job_id = shared_arq, bad_run[0][name]
    assert arq.status(job_id) == "failed"
    result = arq.result(job_id)
    assert result is not None
    assert BAD[name][1] in str(result.result)
    (job,) = arq.host.workers.dead(ids=[job_id])
    assert BAD[name][1] in job.reason
    assert arq.keys(job_id) <= {f"arq:result:{job_id}", f"sigra-workers:arq:run:{job_id}"}


def test_no_host_code_runs_for_a_bad_job_and_the_process_serves_the_next(
    shared_arq: Harness, bad_run: BadRun
) -> None:
    _, good, worker = bad_run
    assert [run["job"] for run in shared_arq.runs()] == [good]
    assert shared_arq.status(good) == "finished"
    assert worker.alive


# -- of another serializer -----------------------------------------------------------------------------


def of_another_serializer(arq: Harness) -> str:
    """The id of a job that was sent before the settings had this serializer."""
    host = make_host({"url": arq.url, **SERIALIZERS["json"]}, arq.queue)
    with host.workers:
        return host.sync.enqueue(script("ok", token=SECRET)).id


def put(arq: Harness, name: str, packed: bytes) -> str:
    """The id of a job that lies in the queue in these bytes."""
    job_id = f"{arq.prefix}-{name}"
    arq.connection.set(wire.job_key(job_id), packed)
    arq.connection.zadd(arq.queue, {job_id: 1})
    return job_id


def is_dead_with_its_bytes(arq: Harness, job_id: str, packed: bytes, reason: str) -> None:
    assert arq.wait(job_id) == "failed"
    (job,) = arq.host.workers.dead(ids=[job_id])
    assert reason in job.reason
    assert job.payload.encode("latin-1") == packed
    with pytest.raises(EnqueueError):
        arq.host.workers.resend(job, by="ann")
    assert arq.host.workers.purge(job) == 1


def test_a_job_that_cannot_be_read_is_dead_and_keeps_its_bytes(arq: Harness) -> None:
    job_id = of_another_serializer(arq)
    packed = arq.connection.get(wire.job_key(job_id))
    hidden, odd = zlib.compress(packed), pickle.dumps([wire.FUNCTION])
    hidden_id, odd_id = put(arq, "hidden", hidden), put(arq, "odd", odd)
    worker = arq.worker()
    is_dead_with_its_bytes(arq, job_id, packed, "arq's deserializer can't read it (UnpicklingError)")
    is_dead_with_its_bytes(arq, hidden_id, hidden, "arq's deserializer can't read it (UnpicklingError)")
    is_dead_with_its_bytes(arq, odd_id, odd, "arq's deserializer finds no job in it")
    assert arq.runs() == []
    assert SECRET not in worker.log


def test_beside_functions_of_the_hosts_ours_is_told_by_its_name_and_theirs_is_arqs(arq: Harness) -> None:
    job_id = of_another_serializer(arq)
    packed = arq.connection.get(wire.job_key(job_id))
    theirs = put(arq, "theirs", packed.replace(wire.FUNCTION.encode(), b"add"))
    arq.worker(boot="arq_host.arq_lifecycle_plain")
    is_dead_with_its_bytes(arq, job_id, packed, "arq's deserializer can't read it (UnpicklingError)")
    assert arq.wait(theirs) == "failed"
    result = arq.result(theirs)
    assert result is not None
    assert (result.function, type(result.result)) == ("<unknown>", DeserializationError)
    assert arq.host.workers.dead(ids=[theirs]) == []


# -- unknown to this process ---------------------------------------------------------------------------


def test_a_job_of_an_unknown_worker_waits_uncounted_for_a_process_that_knows_it(arq: Harness) -> None:
    handle = arq.host.workers.declare("steps.new", StepArgs, queue=arq.queue, max_attempts=2)
    ref = handle.enqueue(script("ok:done"))
    before = time.time()
    old = arq.worker()
    arq.wait(ref.id, "waiting")
    assert f"worker 'steps.new' is not implemented in this process: job {ref.id} waits for it" in old.log
    waiting = arq.payload(ref.id)
    assert (waiting.attempt, waiting.snoozes) == (1, 0)
    assert waiting.meta["unknown_since"] == pytest.approx(before, abs=10)
    assert old.stop() in (0, 1)
    arq.worker(boot="arq_host.arq_lifecycle_next")
    arq.wait(ref.id, "finished")
    assert arq.turns(ref.id) == [(1, 0)]


def test_a_registry_without_implementations_is_told_at_start(arq: Harness) -> None:
    ref = arq.host.sync.enqueue(script("ok"))
    worker = arq.worker(boot="arq_host.arq_lifecycle_bare")
    assert "worker 'steps.sync' is not implemented in this process: its jobs wait" in worker.log
    arq.wait(ref.id, "waiting")
    assert (arq.runs(), arq.payload(ref.id).attempt) == ([], 1)


# -- a process that can't be right ---------------------------------------------------------------------

BROKEN: Final = {
    "no boot file": ({}, "start it with its boot file: arq app.arq_lifecycle.WorkerSettings"),
    "no such module": (
        {"SIGRA_WORKERS": "arq_host.nothing:workers"}, "there is no module 'arq_host.nothing'",
    ),
    "no such attribute": (
        {"SIGRA_WORKERS": "arq_host.jobs:nothing"}, "module 'arq_host.jobs' has no such object, its Workers",
    ),
    "another adapter": (
        {"SIGRA_WORKERS": "arq_host.elsewhere:workers"}, "these workers use adapter 'memory', expected 'arq'",
    ),
    "a module that breaks": (
        {"SIGRA_WORKERS": "arq_host.broken:workers"}, "RuntimeError: this module is broken",
    ),
    "several queues": (
        {"SIGRA_WORKERS": "arq_host.implementations:workers"}, "none was given, expected one of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_process_without_a_registry_or_queue_stops_before_it_takes_a_job(arq: Harness, name: str) -> None:
    environment, problem = BROKEN[name]
    ref = arq.host.sync.enqueue(script("ok"))
    wrong = arq.worker(boot="sigra_workers_arq", environment=environment, ready=False)
    assert wrong.popen.wait(30) == 1
    assert problem in wrong.log
    assert arq.status(ref.id) == "queued"


def test_the_environment_binds_a_process_without_a_boot_file(arq: Harness) -> None:
    ref = arq.host.sync.enqueue(script("ok:done"))
    environment = {"SIGRA_WORKERS": "arq_host.implementations:workers", "HOST_OTHER_QUEUE": arq.queue}
    arq.worker(boot="sigra_workers_arq", environment=environment)
    assert arq.wait(ref.id) == "finished"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("arq_host.nothing:workers", NotFoundError),
        ("arq_host.jobs", NotFoundError),
        ("arq_host.jobs:host", NotFoundError),
        (Workers(adapter="memory"), InvalidSettingsError),
    ],
    ids=["no module", "no attribute", "no Workers", "another adapter"],
)
def test_boot_refuses_what_it_cannot_serve(path: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        boot(path)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "none was given, expected one of ['main', 'other']: boot(..., queue='main')"),
        ({"queue": "mine"}, "there is no queue 'mine', expected one of ['main', 'other']"),
        ({"queue": "main", "queue_name": "other"}, "option 'queue_name': it is called queue here"),
        ({"queue": "main", "retry_jobs": False}, "without it arq would drop jobs that are to run again"),
        ({"queue": "main", "log_results": True}, "option 'log_results': results are not logged"),
        ({"queue": "main", "redis_pool": None}, "the adapter's settings say where Redis is"),
        ({"queue": "main", "max_job": 3}, "option 'max_job': arq has no such option, there are "),
        (
            {"queue": "main", "functions": [plain.clash]},
            "the name of function 'sigra_workers_arq.dispatch' is ours",
        ),
    ],
    ids=["no queue", "wrong queue", "queue_name", "retry_jobs", "log_results", "pool", "unknown", "name"],
)
def test_boot_refuses_options_that_cannot_be(options: dict[str, Any], problem: str) -> None:
    workers = make_host({"url": "redis://127.0.0.1:1"}, "main", ["other"]).workers
    with pytest.raises(InvalidSettingsError) as caught:
        boot(workers, **options)
    assert caught.value.subject == "boot"
    assert problem in str(caught.value)


def test_boot_opens_nothing_and_takes_the_only_queue() -> None:
    settings = boot(make_host({"url": "redis://127.0.0.1:1"}, "main").workers, max_jobs=3)
    assert (settings["queue_name"], settings["max_jobs"], settings["job_timeout"]) == ("main", 3, None)
    assert settings["job_completion_wait"] == 25
