"""Database connections around a job, as Django has them around a request."""

from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import asynccontextmanager, contextmanager

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections


@contextmanager
def tended_connections() -> Generator[None]:
    """Of this thread: those that are old or broken are closed, before and after."""
    held = in_transaction()
    close(held)
    try:
        yield
    except BaseException:  # such as a time-out, which may have cut a transaction anywhere
        close(held, old_alone=False)
        raise
    close(held)


@asynccontextmanager
async def atended_connections() -> AsyncGenerator[None]:
    """Those of async code: in a thread of the job's own, as under ASGI, and closed when it ends."""
    async with ThreadSensitiveContext():
        held = await sync_to_async(in_transaction)()
        try:
            yield
        finally:
            await sync_to_async(close)(held, old_alone=False)


def in_transaction() -> set[str]:
    """Connections whose transaction is somebody else's, such as a TestCase's: they are left alone."""
    return {found.alias for found in connections.all(initialized_only=True) if found.in_atomic_block}


def close(held: Collection[str], *, old_alone: bool = True) -> None:
    """Do what Django's `close_old_connections` does to the others, or close them all."""
    for found in connections.all(initialized_only=True):
        if found.alias in held:
            continue
        if old_alone:
            found.close_if_unusable_or_obsolete()
        else:
            found.in_atomic_block = False  # also where a block was cut off, and nobody has left it
            found.close()
