"""A connection to Redis for each thread that runs jobs: to take one from a pool costs more than a command."""

import threading
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError


class ThreadClient:
    """A client of scripts, on connections like those of `client`'s pool, beside what that may hold."""

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._here = threading.local()

    def eval(self, *command: Any) -> Any:
        """Run a Lua script: once, and not again where it was not answered."""
        link = getattr(self._here, "link", None)
        if link is None:
            link = self._here.link = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            link.send_command("EVAL", *command)
            return link.read_response()
        except ResponseError:
            raise
        except BaseException:  # an answer that comes late is not the next one's; it connects anew by itself
            link.disconnect()
            raise
