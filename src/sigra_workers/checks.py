"""What the doctor looks for: checks that the core, an adapter or a sink brings, and what they find."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal, Protocol, TypeAlias

from sigra_workers.errors import told

Status: TypeAlias = Literal["ok", "warning", "problem", "unknown"]
"""`problem`: jobs or events would be lost, leak or stall; `warning`: they may; `unknown`: nobody tells."""

SKEW: Final = 1.0
"""Seconds that the clocks of this host and of a server may differ."""
ROUND_TRIP: Final = 5.0
"""Seconds that a server may take to answer, for a client that has no time-out of its own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; where that is not ok, what it does to jobs, the mend, and where to read on."""

    status: Status
    what: str
    mend: str = ""
    page: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `name` is dotted, such as ``redis.persistence``; `run` may raise: that is a finding too.

    Where the check that it `needs` has a problem, such as ``redis.reachable``, it is not run.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """A live worker process. `facts` are the settings it really runs with, as the adapter tells them.

    `at` is when it was last heard of, by the server's clock, and `clock` the same by its own: epoch seconds.
    """

    at: float
    clock: float
    host: str
    pid: int
    queues: tuple[str, ...]
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Checks(Protocol):
    """What an adapter or a sink may supply beside its own Protocol, for ``sigra-workers doctor``.

    Laws: checks change nothing, send no job, and answer within seconds where a server is away.
    """

    def checks(self, workers: Any, /) -> Iterable[Check]:
        """The checks for an application's `Workers`, most telling first."""
        ...


# -- Redis -----------------------------------------------------------------------------------------------


def redis_checks(connect: Callable[[], Any], page: str) -> list[Check]:
    """The checks of a Redis that keeps jobs; `connect` makes or gives a client of it, redis-py's."""
    reachable = "redis.reachable"
    given = cache(connect)
    client = cache(lambda: _in_time(given()))
    return [
        Check(reachable, lambda: _reachable(given, client, page)),
        Check("redis.persistence", lambda: _persistence(client(), page), reachable),
        Check("redis.eviction", lambda: _eviction(client(), page), reachable),
        Check("redis.clock", lambda: _clock(client(), page), reachable),
    ]


def _in_time(client: Any) -> Any:
    """The client; where it would wait for an answer without end, one like it that does not."""
    pool: Any = client.connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    if options.get("socket_timeout") or "connection_pool" in options:  # the latter is a Sentinel's
        return client
    limits = {"socket_timeout": ROUND_TRIP, "socket_connect_timeout": ROUND_TRIP, "retry": None}
    options = {**options, **limits}
    make_pool, make = pool.__class__, client.__class__
    return make(connection_pool=make_pool(connection_class=pool.connection_class, **options))


def _reachable(given: Callable[[], Any], client: Callable[[], Any], page: str) -> Iterable[Finding]:
    try:
        client().ping()
    except Exception as error:  # the client's own
        yield unreachable(
            "Redis", error, "redis-cli -u URL ping, with the URL of the adapter's settings", page
        )
    else:
        if given().connection_pool.connection_kwargs.get("socket_timeout") is None:
            what = "the client has no socket_timeout: where Redis is silent, enqueue waits without end"
            yield Finding("warning", what, "Redis(..., socket_timeout=5)", page)
        yield Finding("ok", "Redis answers")


def unreachable(server: str, error: Exception, mend: str, page: str) -> Finding:
    """A server does not answer."""
    what = f"{server} does not answer ({told(error)}): no job is accepted, and none is run"
    return Finding("problem", what, mend, page)


def _persistence(client: Any, page: str) -> Iterable[Finding]:
    setting, when = _setting(client, "appendonly"), _setting(client, "appendfsync")
    if setting is None:
        yield _hidden("appendonly", "where it is no, a Redis that ends takes every job with it", page)
    elif setting != "yes":
        what = f"Redis keeps no log of its writes (appendonly {setting}): when it dies, jobs are lost"
        yield Finding("problem", what, "redis-cli config set appendonly yes, and in redis.conf", page)
    elif when != "always":
        last = "the last second" if when == "everysec" else "half a minute"
        what = (
            f"appendonly yes, appendfsync {when}: when Redis or its machine dies, {last} of jobs may be lost"
        )
        mend = "redis-cli config set appendfsync always, and in redis.conf"
        yield Finding("warning", what, mend, page)
    else:
        yield Finding("ok", "appendonly yes, appendfsync always")


def _eviction(client: Any, page: str) -> Iterable[Finding]:
    policy, most = _setting(client, "maxmemory-policy"), _setting(client, "maxmemory")
    if policy is None:
        yield _hidden("maxmemory-policy", "any but noeviction throws jobs away when Redis is full", page)
    elif policy == "noeviction":
        yield Finding("ok", "maxmemory-policy noeviction")
    else:
        is_limited = most not in (None, "0")
        when = "" if is_limited else ", once it has a maxmemory"
        what = f"maxmemory-policy {policy}: a Redis that is full throws jobs away{when}"
        mend = "redis-cli config set maxmemory-policy noeviction, and in redis.conf"
        yield Finding("problem" if is_limited else "warning", what, mend, page)


def _clock(client: Any, page: str) -> Iterable[Finding]:
    before = time.time()
    seconds, micros = client.time()
    after = time.time()
    there = seconds + micros / 1_000_000
    skew = there - min(max(there, before), after)
    if abs(skew) > SKEW:
        yield skewed("the clock of Redis", "this host's", skew, page)
    else:
        yield Finding("ok", "the clock of Redis is this host's")


def skewed(whose: str, other: str, seconds: float, page: str) -> Finding:
    """A clock is so many seconds ahead of another one."""
    way = "ahead of" if seconds > 0 else "behind"
    what = f"{whose} is {abs(seconds):.1f} s {way} {other}: delays and retries are off by that"
    return Finding("warning", what, "timedatectl set-ntp true, on all hosts", page)


def _setting(client: Any, name: str) -> str | None:
    """A setting of the server; None where it does not tell, as hosted ones."""
    try:
        found: dict[Any, Any] = client.config_get(name)
    except Exception as error:
        if type(error).__name__ in ("ResponseError", "NoPermissionError"):
            return None
        raise
    value = found.get(name, found.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else value


def _hidden(setting: str, matters: str, page: str) -> Finding:
    what = f"Redis does not tell its {setting}: {matters}"
    return Finding("unknown", what, f"look {setting} up where this Redis is hosted", page)


# -- worker processes ------------------------------------------------------------------------------------


def versions(*distributions: str) -> dict[str, str]:
    """What is installed here, by distribution; the core among it."""
    return {name: version(name) for name in ("sigra-workers", *distributions)}


def consumed(queues: Iterable[str], counts: Mapping[str, int], command: str, page: str) -> Iterator[Finding]:
    """Which of the queues no live worker process consumes; `command` starts one, `{}` being the queue."""
    idle = [queue for queue in queues if not counts.get(queue)]
    for queue in idle:
        what = f"no live worker process consumes queue {queue!r}: its jobs wait"
        yield Finding("problem", what, command.replace("{}", queue), page)
    if not idle:
        told = ", ".join(f"{queue} by {counts[queue]}" for queue in queues)
        yield Finding("ok", f"each queue is consumed by a live worker process ({told})")


def by_queue(processes: Iterable[Process]) -> dict[str, int]:
    """How many of the processes consume each queue."""
    counts: dict[str, int] = {}
    for process in processes:
        for queue in process.queues:
            counts[queue] = counts.get(queue, 0) + 1
    return counts


def nobody(page: str) -> Finding:
    """There is no live worker process that tells what it runs with."""
    what = "no live worker process tells what it runs with: it was not looked at"
    return Finding("unknown", what, "start a worker process: queues.consumed says how", page)


def same_versions(
    processes: Sequence[Process], here: Mapping[str, str], command: str, page: str
) -> Iterator[Finding]:
    """Which processes run another version of the libraries than this one; `command` starts a process."""
    seen = False
    for process in processes:
        there: Mapping[str, str] = process.facts["versions"]
        others = [
            f"{name} {there[name]} (here {wanted})"
            for name, wanted in here.items()
            if there.get(name, wanted) != wanted
        ]
        if others:
            seen = True
            what = f"{process} runs {', '.join(others)}: what one of them sends, the other may not know"
            yield Finding("warning", what, f"start it anew from this installation: {command}", page)
    if not processes:
        yield nobody(page)
    elif not seen:
        yield Finding("ok", f"live worker processes run what is installed here of {', '.join(here)}")


def same_clocks(processes: Sequence[Process], page: str) -> Iterator[Finding]:
    """Which processes have another clock than the server."""
    wrong = [process for process in processes if abs(process.clock - process.at) > SKEW]
    for process in wrong:
        yield skewed(f"the clock of {process}", "that of Redis", process.clock - process.at, page)
    if not processes:
        yield nobody(page)
    elif not wrong:
        yield Finding("ok", "live worker processes have the clock of Redis")
