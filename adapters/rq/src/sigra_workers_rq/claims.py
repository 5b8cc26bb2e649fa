"""One run of a job at a time: a claim in Redis, renewed while the run lives.

RQ runs a job again when its worker died, even where the work horse lives on.
"""

import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import LockError, RedisError
from redis.lock import Lock

if TYPE_CHECKING:
    from redis import Redis

KEY: Final = "sigra-workers:claim:"
SECONDS: Final = 30.0
"""How long a claim outlives its process, where nobody on the same host can see that it died."""


@contextmanager
def claim(connection: "Redis", job_id: str) -> Generator[str | None]:
    """Claim a job, and renew that while the block runs; None where another process that may be alive has it.

    Give what it yields back with `release`.
    """
    token = f"{_host()} {os.getpid()} {os.urandom(8).hex()}"
    lock = connection.lock(KEY + job_id, timeout=SECONDS, blocking=False, thread_local=False)
    if not lock.acquire(token=token):
        owner: object = connection.get(KEY + job_id)
        if isinstance(owner, bytes) and _is_dead(owner.decode()):
            _drop(connection, job_id, owner)
        if not lock.acquire(token=token):
            yield None
            return
    over = threading.Event()

    def renew() -> None:
        while not over.wait(SECONDS / 3):
            try:
                lock.reacquire()
            except (RedisError, OSError):  # gone or out of reach: the job goes on, it is this one's
                continue

    threading.Thread(target=renew, name="sigra-workers-claim", daemon=True).start()
    try:
        yield token
    finally:
        over.set()


def release(pipeline: Any, job_id: str, token: str) -> None:
    """End a claim in the transaction that ends its run: no other begins before that decision is there."""
    pipeline.eval(Lock.LUA_RELEASE_SCRIPT, 1, KEY + job_id, token)


def _drop(connection: "Redis", job_id: str, owner: bytes) -> None:
    """Release a claim in its dead owner's name, unless somebody else has it by now."""
    lock = connection.lock(KEY + job_id, thread_local=False)
    lock.local.token = owner
    with suppress(LockError):
        lock.release()


def _host() -> str:
    """This host and its process ids: containers of one host name do not see each other's."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = "-"
    return f"{socket.gethostname()}/{space}"


def _is_dead(owner: str) -> bool:
    host, pid, _ = owner.split(" ")
    if host != _host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
