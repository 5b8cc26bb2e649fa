"""A Redis that is away, lost or full; jobs that nobody of ours made; worker processes without a registry."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from adapters.rq.tests.support import Harness, Process, RedisServer, free_port, script
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Retry

from rq_host.jobs import Host, StepArgs, make_host
from sigra_workers import (
    DuplicateJobError,
    EnqueueError,
    InvalidSettingsError,
    Job,
    NotFoundError,
    Workers,
)
from sigra_workers_rq import boot, process, wire

pytestmark = pytest.mark.integration
SECRET: Final = "s3cret-9f2c"


def of_each_kind(host: Host, prefix: str) -> list[Job[StepArgs]]:
    """A job at once, a scheduled one, one with an id of the host, and one with both."""
    args = script("ok", token=SECRET)
    return [
        host.sync.new(args),
        host.asynchronous.new(args, schedule_in=60),
        host.sync.new(args, job_id=f"{prefix}-1"),
        host.sync.new(args, job_id=f"{prefix}-2", schedule_in=60),
    ]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that is chained to it, in any way."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# -- Redis is away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_without_redis_nothing_was_sent(kind: str) -> None:
    host = make_host({"url": f"redis://127.0.0.1:{free_port()}/0"})
    jobs = of_each_kind(host, "id")

    async def asend() -> None:
        await host.workers.aenqueue_many(jobs)

    with pytest.raises(EnqueueError) as caught:
        host.workers.enqueue_many(jobs) if kind == "sync" else asyncio.run(asend())
    assert caught.value.rejected == tuple(job.id for job in jobs)
    assert (caught.value.accepted, caught.value.unknown) == ((), ())
    assert isinstance(caught.value.__cause__, RedisConnectionError)


def test_a_redis_that_does_not_answer_costs_a_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        host = make_host({"url": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"})
        begun = time.monotonic()
        with pytest.raises(EnqueueError) as caught:
            host.sync.enqueue(script("ok"))
        assert time.monotonic() - begun < 6
        assert len(caught.value.rejected) == 1


def test_once_redis_is_back_the_next_job_is_sent(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    host = make_host({"url": server.url})
    with host.workers:
        host.sync.enqueue(script("ok"))
        server.process.kill()
        with pytest.raises(EnqueueError) as caught:
            host.sync.enqueue(script("ok"))
        assert len(caught.value.rejected) == 1
        server.start()
        ref = host.sync.enqueue(script("ok"))
        with server.client() as client:
            assert client.exists(f"rq:job:{ref.id}")


# -- the answer is lost --------------------------------------------------------------------------------


class Proxy:
    """Between a sender and Redis: loses one request that holds a word, or the answer to it."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._word = b""
        self._forward = True
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def lose(self, word: bytes, *, forward: bool) -> None:
        """Cut the connection on the next request that holds `word`: after Redis answered, or before."""
        self._word, self._forward = word, forward

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sender, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [sender, server]
                self._serve(sender, server)

    def _serve(self, sender: socket.socket, server: socket.socket) -> None:
        """One connection at a time; each request fits into one read, as does its answer."""
        while request := sender.recv(1 << 20):
            cut = bool(self._word) and self._word in request
            if cut and not self._forward:
                break
            server.sendall(request)
            answer = server.recv(1 << 20)
            if cut:
                break
            sender.sendall(answer)
        self._word = b""
        sender.close()
        server.close()


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


# -- Redis refuses -------------------------------------------------------------------------------------

REFUSING: Final = {
    "full": ("maxmemory", "--maxmemory", "1", "--maxmemory-policy", "noeviction"),
    "read-only": ("read only", "--replicaof", "127.0.0.1", "1"),
    "not permitted": ("run ", "--user", "default", "on", "nopass", "~*", "&*", "+@all", "-hset"),
}


@pytest.mark.parametrize("why", REFUSING)
def test_what_redis_refuses_is_rejected_without_a_word_of_the_payload(
    redis_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, why: str
) -> None:
    caplog.set_level(logging.DEBUG)
    word, *options = REFUSING[why]
    server = redis_server(*options)
    host = make_host({"url": server.url})
    with host.workers:
        jobs = of_each_kind(host, "id")
        for sent in ([jobs[0]], [jobs[1]], [jobs[2]], [jobs[3]], jobs):
            with pytest.raises(EnqueueError) as caught:
                host.workers.enqueue_many(sent)
            assert caught.value.rejected == tuple(job.id for job in sent)
            assert (caught.value.accepted, caught.value.unknown) == ((), ())
            for error in chain(caught.value):
                assert SECRET not in f"{error} {error!r} {error.args!r}"
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            cause = str(caught.value.__cause__)
            assert word in cause
            assert "rq:" not in cause  # redis-py puts the whole command in front
    assert SECRET not in caplog.text
    with server.client() as client:
        assert {*client.keys()} <= {b"rq:queues"}  # RQ's list of names


# -- jobs that nobody of ours made ---------------------------------------------------------------------


def payload(**changes: Any) -> dict[str, Any]:
    """The meta of a job with a payload of wire version 1; a change to ... leaves the field out."""
    whole: dict[str, Any] = {
        "v": 1,
        "id": "by-hand",
        "worker": "steps.sync",
        "queue": "default",
        "args": args(),
        "attempt": 1,
        "max_attempts": 3,
        "snoozes": 0,
        "resends": 0,
        "backoff": 0,
        "timeout": None,
        "enqueued_at": 1_790_000_000.0,
        "due_at": None,
        "meta": {},
    }
    found = {key: value for key, value in {**whole, **changes}.items() if value is not ...}
    return {"sigra": json.dumps(found)}


def args(**changes: Any) -> dict[str, Any]:
    """Its args with changes."""
    whole = {"organization_id": "org-1", "actor_id": "ann", "steps": ["ok"], **changes}
    return {key: value for key, value in whole.items() if value is not ...}


NO_GRACE: Final = {"unknown_since": 1_000.0}
BAD: Final[dict[str, tuple[Any, str]]] = {
    "no meta": ({}, "is dead: InvalidPayloadError"),
    "meta of another kind": (["sigra"], "is dead: InvalidPayloadError"),
    "meta that is not JSON": (b"\xff{", "is dead: InvalidPayloadError"),
    "no payload": ({"other": 1}, "is dead: InvalidPayloadError"),
    "null": ({"sigra": None}, "it is of type NoneType, expected one JSON string"),
    "number": ({"sigra": 7}, "it is of type int, expected one JSON string"),
    "object instead of a string": ({"sigra": payload()}, "it is of type dict, expected one JSON string"),
    "garbage": ({"sigra": "\x00{"}, "InvalidPayloadError: the job's payload is broken: it is not JSON"),
    "cut off": ({"sigra": payload()["sigra"][:-9]}, "it is not JSON"),
    "array": ({"sigra": "[]"}, "it is a JSON list, expected an object"),
    "NaN": (payload(timeout=float("nan")), "it is not JSON"),
    "no version": (payload(v=...), "field 'v'"),
    "version 0": (payload(v=0), "field 'v'"),
    "newer version": (
        {"sigra": json.dumps({"v": 2, "new": "form"})},
        "PayloadVersionError: it is of wire version 2, this process knows up to 1",
    ),
    "no worker": (payload(worker=...), "field 'worker' is missing"),
    "attempt of the wrong type": (payload(attempt="1"), "field 'attempt' is of type str, expected int"),
    "id of another job": (payload(id="another"), "its id is another than RQ's own record of it says"),
    "negative attempt": (payload(attempt=-5), "field 'attempt' is -5, expected at least 1"),
    "due at no time": (payload(due_at=1e300), "field 'due_at' is out of range"),
    "args of the wrong type": (payload(args=["org-1"]), "field 'args' is of type list, expected dict"),
    "no organization": (
        payload(args=args(organization_id=...)), "MissingArgError: job args have no key 'organization_id'"
    ),
    "no actor": (payload(args=args(actor_id=...)), "MissingArgError: job args have no key 'actor_id'"),
    "neither": (payload(args={"steps": ["ok"]}), "MissingArgError: job args have no key 'organization_id'"),
    "no key of the worker": (payload(args=args(steps=...)), "MissingArgError: job args have no key 'steps'"),
    "organization of the wrong type": (payload(args=args(organization_id=True)), "InvalidArgsError"),
    "actor of the wrong type": (payload(args=args(actor_id=["ann"])), "InvalidArgsError"),
    "unknown worker, grace over": (
        payload(worker="nobody", meta=NO_GRACE),
        "UnknownWorkerError: worker 'nobody' is not implemented",
    ),
    "a module as worker": (
        payload(worker="os:system", meta=NO_GRACE), "UnknownWorkerError: worker 'os:system'"
    ),
}  # fmt: skip


def make_by_hand(rq: Harness, meta: object, retry: int | None) -> str:
    """A job that plain RQ sends, with that meta."""
    queue = rq.rq_queue()
    job = queue.create_job(wire.FUNCTION, retry=Retry(max=retry) if retry else None)
    with rq.connection.pipeline() as pipeline:
        queue.enqueue_job(job, pipeline=pipeline)
        text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
        pipeline.hset(job.key, "meta", text.replace(b"by-hand", job.id.encode()))
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
