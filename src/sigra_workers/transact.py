"""A batch of jobs in one transaction of a Redis client, and what became of each: for adapters.

This module imports no Redis client; it is given one, as redis-py's, and the classes of its errors.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from sigra_workers.protocols import Duplicate, Receipt, Rejected, Sent, Unknown

Command: TypeAlias = Sequence[Any]
_VARIADIC: Final = {"HSET": 2, "MSET": 1, "RPUSH": 2, "ZADD": 2}
"""Commands that take many to add, and the words before those: all but MSET name a key."""


class Transactions:
    """Transactions of a client. `refused` is what it raises for an answer that says no, `lost` for none."""

    def __init__(self, client: Any, *, refused: type[Exception], lost: tuple[type[Exception], ...]) -> None:
        self._client = client
        self._refused, self._lost = refused, lost

    def run(self, jobs: Sequence[Sequence[Command]]) -> list[Receipt]:
        """Run the Redis commands of all jobs in one transaction; `Duplicate` is a script that answered 0.

        On a connection of the client's, as the client itself may send again what was not answered.
        """
        if not jobs:
            return []
        commands, places = _joined(jobs)
        pool = self._client.connection_pool
        try:
            link = _connection(pool)
        except self._lost as error:
            return [Rejected(error)] * len(jobs)
        try:
            replies = self._replies(link, commands)
        except self._refused as error:  # as a whole
            return [Rejected(error)] * len(jobs)
        except BaseException as error:  # such as a job's time-out: the rest of the answer is not for the next
            link.disconnect()
            if isinstance(error, self._lost):
                return [Unknown(error)] * len(jobs)
            raise
        finally:
            pool.release(link)
        failed = {n: Rejected(reply) for n, reply in enumerate(replies) if isinstance(reply, Exception)}
        taken = {n for n, reply in enumerate(replies) if reply == 0 and commands[n][0] == "EVAL"}
        return [_receipt(theirs, failed, taken) for theirs in places]

    def _replies(self, link: Any, commands: Sequence[Command]) -> list[Any]:
        """What EXEC answers; one command needs none."""
        if len(commands) == 1:
            link.send_command(*commands[0])
            return [link.read_response()]
        link.send_packed_command(link.pack_commands([("MULTI",), *commands, ("EXEC",)]))
        refusals: list[Exception] = []
        for _ in range(len(commands) + 1):
            try:
                link.read_response()
            except self._refused as error:
                refusals.append(error)
        try:
            found: list[Any] = link.read_response()
        except self._refused as error:
            raise [*refusals, error][0] from None
        return found


def reach(client: Any) -> None:
    """Connect, so that what fails from here on was sent; raises what the client does."""
    client.connection_pool.release(_connection(client.connection_pool))


def bare(error: Exception) -> Exception:
    """The error without what redis-py puts in front of it: the whole command, our payload included."""
    return type(error)(str(error).rpartition("caused error: ")[2])


def _connection(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:  # redis-py before 5.3 wants the name of a command
        return pool.get_connection("PING")


def _joined(jobs: Iterable[Iterable[Command]]) -> tuple[list[list[Any]], list[list[int]]]:
    """The commands of all jobs, and where those of each are: what adds to one thing is one command.

    But what came behind a script stays behind it, as it may look at any key; others have keys of their own.
    """
    commands: list[list[Any]] = []
    places: list[list[int]] = []
    adding: dict[tuple[Any, ...], int] = {}
    for job in jobs:
        theirs: list[int] = []
        for command in job:
            name = command[0]
            words = _VARIADIC.get(name, 0)
            to = tuple(command[:words])
            place = adding.get(to)
            if place is None:
                place = len(commands)
                commands.append([*command])
                if words:
                    adding[to] = place
                elif name == "EVAL":
                    adding.clear()
            else:
                commands[place] += command[words:]
            theirs.append(place)
        places.append(theirs)
    return commands, places


def _receipt(places: Iterable[int], failed: dict[int, Rejected], taken: set[int]) -> Receipt:
    for place in places:
        if place in failed:
            return failed[place]
    return Sent() if taken.isdisjoint(places) else Duplicate()
