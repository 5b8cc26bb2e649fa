"""What stays as it is when there is more of it: args, workers, organizations, jobs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import cycle, islice, repeat
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks import servers
from benchmarks.core import NOW
from benchmarks.host import TEN_KEYS, CloseArgs, Host, close
from benchmarks.libraries import LIBRARIES, Library
from benchmarks.measuring import Row, Target, Timer, ratio
from benchmarks.queues import MANY
from sigra_workers import AuditScope, Delivery, Ok, OrganizationArgs, Result, Workers, dispatch

KIB: Final = 1_024
SIZES: Final = {"100 B": 100, "1 KiB": KIB, "16 KiB": 16 * KIB, "64 KiB": 64 * KIB, "256 KiB": 256 * KIB}
"""How much JSON the args are."""
COUNTS: Final = (1, 100, 10_000)
"""Of registered workers."""
ORGANIZATIONS: Final = (1, 1_000, 100_000)
JOBS: Final = 1_000_000
REFERENCE: Final = 8
"""Bytes of a reference: a job of which less is left is not kept anywhere."""


class SizedArgs(OrganizationArgs):
    """Args of any size."""

    lines: list[dict[str, str | int]]
    rest: str


def sized(size: int) -> SizedArgs:
    """Args of exactly so many bytes of JSON."""
    line: dict[str, str | int] = {"article": "A-1007", "count": 3, "unit": "piece"}
    args = SizedArgs(organization_id="org", actor_id="ann", lines=[], rest="")
    room = size - len(json.dumps(args))
    args["lines"] = [line.copy() for _ in range(room // (len(json.dumps(line)) + 2))]
    args["rest"] = "x" * (size - len(json.dumps(args)))
    return args


def perform(scope: AuditScope, args: SizedArgs) -> Result[None]:
    """Do nothing."""
    return Ok()


def through(workers: Workers[Any], handle: Any, args: Any) -> object:
    """One job's whole way through the core."""
    return dispatch(workers, Delivery(handle.new(args).payload(NOW).dump()))


def each(jobs: Iterator[tuple[Any, Any]], workers: Workers[Any]) -> Timer:
    """A timer of jobs, by handle and args, without an end."""

    def timer(loops: int) -> float:
        some = [*islice(jobs, loops)]
        begun = perf_counter()
        for handle, args in some:
            through(workers, handle, args)
        return perf_counter() - begun

    return timer


def lazily(make: Callable[[], Timer]) -> Timer:
    """A timer that is made when it is first used."""
    made = cache(make)
    return lambda loops: made()(loops)


def rows() -> Iterator[Row]:
    """The rows of scale."""
    yield _sizes()
    yield _grown(
        f"`new` and `dispatch` of a job with {COUNTS[-1]:,} registered workers, against one",
        {f"{count:,}": lazily(partial(_workers, count)) for count in COUNTS},
    )
    yield _grown(
        f"`new` and `dispatch` of a job of {ORGANIZATIONS[-1]:,} organizations, against one",
        {f"{count:,}": lazily(partial(_organizations, count)) for count in ORGANIZATIONS},
    )
    for library in LIBRARIES:
        yield Row(
            "memory",
            f"what each of {JOBS:,} jobs, sent in batches, leaves in memory, on {library.name}",
            Target(REFERENCE, "bytes"),
            {"ours": partial(_process, library)},
            lambda seconds: seconds["ours"],
            JOBS,
            rounds=1,
            warms=False,
        )


def _sizes() -> Row:
    workers = Workers[AuditScope]()
    handle = workers.declare("sized", SizedArgs)
    handle.implement(perform)
    works: dict[str, Timer] = {}
    for name, size in SIZES.items():
        args = sized(size)
        part = max(1, size // 1_000)  # as long for each size
        works[name] = _slowly(each(repeat((handle, args)), workers), part)
        works[f"round trip of {name}"] = _slowly(_round_trips(args), part)

    def dearest(seconds: Mapping[str, float]) -> float:
        _, first, *rest = (seconds[name] / seconds[f"round trip of {name}"] for name in SIZES)
        return max(rest) / first

    return Row(
        "scale",
        "`new` and `dispatch` of a job in JSON round trips of its args, from 1 to 256 KiB, against 1 KiB",
        Target(1.1, "x"),
        works,
        dearest,
        300,
    )


def _round_trips(args: SizedArgs) -> Timer:
    def timer(loops: int) -> float:
        begun = perf_counter()
        for _ in range(loops):
            json.loads(json.dumps(args))
        return perf_counter() - begun

    return timer


def _slowly(timer: Timer, part: int) -> Timer:
    """A timer that does but a part of its loops, one at least, and reckons with all."""

    def fewer(loops: int) -> float:
        some = max(1, loops // part)
        return timer(some) * loops / some

    return fewer


def _grown(what: str, works: Mapping[str, Timer]) -> Row:
    first, *_, last = works
    return Row("scale", what, Target(1.1, "x"), works, ratio(last, first), 2_000)


def _workers(count: int) -> Timer:
    workers = Workers[AuditScope]()
    handles = [workers.declare(f"workers.number_{number}", CloseArgs) for number in range(count)]
    for handle in handles:
        handle.implement(close)
    return each(cycle([(handle, TEN_KEYS) for handle in handles]), workers)


def _organizations(count: int) -> Timer:
    host = Host()
    ids = cycle([f"org_{number}" for number in range(count)])
    return each(((host.sync, {**TEN_KEYS, "organization_id": found}) for found in ids), host.workers)


# -- memory ----------------------------------------------------------------------------------------------


def _process(library: Library, count: int) -> float:
    """`leave_behind` in a process of its own."""
    servers.redis()
    library.empty()  # opened here, they are closed here
    code = f"from benchmarks.scale import leave_behind; print(leave_behind({library.name!r}, {count}))"
    done = subprocess.run(  # noqa: S603  # this Python
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout)


def leave_behind(name: str, count: int) -> int:
    """By how many bytes this process grows while it enqueues so many jobs, behind the first tenth."""
    (library,) = (found for found in LIBRARIES if found.name == name)
    jobs = (library.handle.new({**TEN_KEYS, "account_id": f"acc_{number}"}) for number in range(count))
    done, first, highest = 0, 0, 0
    servers.redis()  # ours to use
    while batch := [*islice(jobs, MANY)]:
        library.host.workers.enqueue_many(batch)
        library.empty()
        done += len(batch)
        highest = max(highest, _resident())
        if not first and done >= count / 10:
            first = highest
    return highest - first


def _resident() -> int:
    """The memory that this process takes, in bytes, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
