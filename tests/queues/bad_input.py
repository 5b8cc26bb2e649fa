"""A Redis that is away, lost or full, and jobs that nobody of ours made: for queues that lie in Redis."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.losses.servers import free_port
from tests.queues.harness import RedisServer, script
from tests.queues.host import Host, StepArgs

from sigra_workers import EnqueueError, Job

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


REFUSING: Final = {
    "full": ("maxmemory", "--maxmemory", "1", "--maxmemory-policy", "noeviction"),
    "read-only": ("read only", "--replicaof", "127.0.0.1", "1"),
    "not permitted": ("run ", "--user", "default", "on", "nopass", "~*", "&*", "+@all"),
}


class WithoutRedis:
    """A Redis that is away, silent or full, for a sender."""

    make_host: ClassVar[Callable[..., Host]]
    prefix: ClassVar[str]
    """What the queue's keys begin with."""
    denied: ClassVar[str]
    """The command without which no job can be sent, as an ACL takes it away."""
    left: ClassVar[frozenset[bytes]] = frozenset()
    """The keys that may be there, though no job is."""

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_without_redis_nothing_was_sent(self, kind: str) -> None:
        host = self.make_host({"url": f"redis://127.0.0.1:{free_port()}/0"})
        jobs = of_each_kind(host, "id")

        async def asend() -> None:
            await host.workers.aenqueue_many(jobs)

        with pytest.raises(EnqueueError) as caught:
            host.workers.enqueue_many(jobs) if kind == "sync" else asyncio.run(asend())
        assert caught.value.rejected == tuple(job.id for job in jobs)
        assert (caught.value.accepted, caught.value.unknown) == ((), ())
        assert isinstance(caught.value.__cause__, RedisConnectionError)

    def test_a_redis_that_does_not_answer_costs_a_bounded_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
            host = self.make_host({"url": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"})
            begun = time.monotonic()
            with pytest.raises(EnqueueError) as caught:
                host.sync.enqueue(script("ok"))
            assert time.monotonic() - begun < 6
            assert len(caught.value.rejected) == 1

    def test_once_redis_is_back_the_next_job_is_sent(self, redis_server: Callable[..., RedisServer]) -> None:
        server = redis_server()
        host = self.make_host({"url": server.url})
        with host.workers:
            host.sync.enqueue(script("ok"))
            server.process.kill()
            with pytest.raises(EnqueueError) as caught:
                host.sync.enqueue(script("ok"))
            assert len(caught.value.rejected) == 1
            server.start()
            ref = host.sync.enqueue(script("ok"))
            with server.client() as client:
                assert client.exists(f"{self.prefix}:job:{ref.id}")

    @pytest.mark.parametrize("why", REFUSING)
    def test_what_redis_refuses_is_rejected_without_a_word_of_the_payload(
        self, redis_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, why: str
    ) -> None:
        caplog.set_level(logging.DEBUG)
        word, *options = REFUSING[why]
        server = redis_server(*options, *([self.denied] if why == "not permitted" else []))
        host = self.make_host({"url": server.url})
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
                assert f"{self.prefix}:" not in cause  # redis-py puts the whole command in front
        assert SECRET not in caplog.text
        with server.client() as client:
            assert {*client.keys()} <= self.left


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


# -- jobs that nobody of ours made ---------------------------------------------------------------------

BY_HAND: Final = "by-hand"
"""The id of such a job, to be replaced by that of the queue's own record."""
NO_GRACE: Final = {"unknown_since": 1_000.0}


def payload(**changes: Any) -> dict[str, Any]:
    """A job with a payload of wire version 1; a change to ... leaves the field out."""
    whole: dict[str, Any] = {
        "v": 1,
        "id": BY_HAND,
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


BAD_PAYLOADS: Final[dict[str, tuple[Any, str]]] = {
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
"""What may lie where the payload is expected, and what each job of it dies of."""
