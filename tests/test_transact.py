"""A batch of jobs in one transaction: on a real Redis, refused, lost and out of reach."""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Connection, ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from tests.interrupted import Interrupted, TimeUp

from sigra_workers import Duplicate, Rejected, Sent, Unknown
from sigra_workers.transact import Transactions, bare, reach

pytestmark = pytest.mark.integration
URL = os.environ.get("SIGRA_TEST_STORE_URL", "redis://127.0.0.1:6379/13")
KEY = f"test-transact-{uuid.uuid4().hex[:12]}"
"""This process's own: others run these tests beside it."""
SECRET = "the payload"


def transactions(client: Any) -> Transactions:
    return Transactions(client, refused=ResponseError, lost=(RedisError, OSError))


@pytest.fixture
def redis() -> Iterator[Any]:
    client: Any = Redis.from_url(URL)
    try:
        client.delete(KEY)
    except RedisError as error:
        pytest.fail(f"no Redis at {URL} ({error}): run `make servers`, or set SIGRA_TEST_STORE_URL")
    yield client
    client.delete(KEY)
    client.close()


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that takes a connection, and never answers but closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    link = server.accept()[0]
                    link.recv(1_000)
                    link.close()
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def lonely(port: int) -> Any:
    retry = Retry(NoBackoff(), 0)
    return Redis(port=port, retry=retry, lib_name=None, lib_version=None, socket_timeout=5)


def test_each_job_gets_its_own_receipt(redis: Any) -> None:
    refused, wrong = ("EVAL", "return 0", 0), ("INCR", KEY)
    jobs: list[list[tuple[object, ...]]]
    jobs = [[("SET", KEY, SECRET)], [refused], [("GET", KEY), wrong], [("EVAL", "return 1", 0), ("GET", KEY)]]
    first, second, third, fourth = transactions(redis).run(jobs)
    assert (first, second, fourth) == (Sent(), Duplicate(), Sent())
    assert isinstance(third, Rejected)
    assert isinstance(third.cause, ResponseError)


def test_a_zero_that_no_script_answers_is_no_duplicate(redis: Any) -> None:
    assert transactions(redis).run([[("DEL", KEY)]]) == [Sent()]


def test_what_adds_to_one_key_is_one_command_and_keeps_its_place(redis: Any) -> None:
    push = ("EVAL", "return redis.call('RPUSH', KEYS[1], ARGV[1])", 1, KEY, "script")
    jobs: list[list[tuple[object, ...]]]
    jobs = [[("MSET", f"{KEY}-{n}", n), ("HSET", f"{KEY}-hash", n, n), ("RPUSH", KEY, n)] for n in range(3)]
    with Redis.from_url(URL) as watching, watching.monitor() as monitor:
        receipts = transactions(redis).run([*jobs, [push], *jobs])
        redis.echo(KEY)
        seen = [*iter(lambda: str(monitor.next_command()["command"]), f"ECHO {KEY}")]
    assert receipts == [Sent()] * 7
    assert redis.lrange(KEY, 0, -1) == [b"0", b"1", b"2", b"script", b"0", b"1", b"2"]
    assert redis.hgetall(f"{KEY}-hash") == {b"0": b"0", b"1": b"1", b"2": b"2"}
    assert redis.mget(f"{KEY}-0", f"{KEY}-1", f"{KEY}-2") == [b"0", b"1", b"2"]
    ours = [command.split()[0] for command in seen if f" {KEY}" in command]
    assert [ours.count(name) for name in ("HSET", "MSET")] == [2, 2]
    redis.delete(f"{KEY}-hash", f"{KEY}-0", f"{KEY}-1", f"{KEY}-2")


def test_what_one_key_refuses_is_told_of_the_jobs_that_add_to_it(redis: Any) -> None:
    redis.set(f"{KEY}-text", "1")
    jobs = [[("RPUSH", (KEY, f"{KEY}-text")[n % 2], n)] for n in range(4)]
    receipts = transactions(redis).run(jobs)
    assert [type(receipt) for receipt in receipts] == [Sent, Rejected] * 2
    assert redis.lrange(KEY, 0, -1) == [b"0", b"2"]
    redis.delete(f"{KEY}-text")


def test_no_jobs_need_no_server() -> None:
    assert transactions(lonely(1)).run([]) == []


def test_out_of_reach_nothing_was_sent() -> None:
    receipts = transactions(lonely(1)).run([[("SET", KEY, SECRET)]] * 2)
    assert [type(receipt) for receipt in receipts] == [Rejected, Rejected]


def test_what_redis_refuses_as_a_whole_was_not_sent_and_is_told_without_the_payload(redis: Any) -> None:
    receipts = transactions(redis).run([[("SET", KEY, "1")], [("GET", KEY, SECRET)]])
    for receipt in receipts:
        assert isinstance(receipt, Rejected)
        assert SECRET not in str(receipt.cause)
    assert redis.get(KEY) is None


def test_an_answer_that_is_lost_is_unknown(mute: int) -> None:
    (receipt,) = transactions(lonely(mute)).run([[("SET", KEY, SECRET)]])
    assert isinstance(receipt, Unknown)


def test_what_is_not_answered_is_not_sent_again_by_the_client_itself(mute: int) -> None:
    connects: list[object] = []

    class Counted(Connection):
        def on_connect(self) -> None:
            connects.append(self)
            super().on_connect()  # type: ignore[no-untyped-call]

    options: dict[str, Any] = {"retry_on_error": [RedisError, OSError], "lib_name": None, "lib_version": None}
    pool: Any = ConnectionPool(Counted, port=mute, retry=Retry(NoBackoff(), 3), **options)
    (receipt,) = transactions(Redis.from_pool(pool)).run([[("SET", KEY, SECRET)]])
    assert isinstance(receipt, Unknown)
    assert len(connects) == 1


def test_an_interrupt_leaves_no_answer_for_the_next(redis: Any) -> None:
    client: Any = Redis.from_pool(ConnectionPool.from_url(URL, connection_class=Interrupted))
    client.ping()  # it connects, and is answered
    Interrupted.is_up = True
    slow = ("EVAL", "for i = 1, 3000000 do end return ARGV[1]", 0, SECRET)
    with pytest.raises(TimeUp):
        transactions(client).run([[slow]])
    assert client.ping() is True
    client.close()


class OldPool:
    """As redis-py's before 5.3: it wants the name of a command."""

    def __init__(self) -> None:
        self.links: list[str] = []

    def get_connection(self, command: str, /) -> str:
        return command

    def release(self, link: str) -> None:
        self.links.append(link)


class OldClient:
    def __init__(self) -> None:
        self.connection_pool = OldPool()


def test_older_clients_are_reached_too() -> None:
    client = OldClient()
    reach(client)
    assert client.connection_pool.links == ["PING"]


def test_an_error_is_told_without_the_command_in_front_of_it() -> None:
    error = bare(ResponseError(f"Command # 1 (SET {KEY} {SECRET}) of pipeline caused error: OOM"))
    assert (type(error), str(error)) == (ResponseError, "OOM")
