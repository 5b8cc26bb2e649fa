"""What sending costs on each queue, beside the library's own way to send the same JSON."""

from collections.abc import Iterator
from typing import Final

from benchmarks.host import TEN_KEYS, CloseArgs, round_trip
from benchmarks.libraries import ARQ, DRAMATIQ_RABBITMQ, DRAMATIQ_REDIS, LIBRARIES, RQ, Library
from benchmarks.measuring import Row, Target, added, rate, ratio, timed
from sigra_workers.workers import BATCH

MANY: Final = 5_000
"""Jobs of one `enqueue_many`."""
LOOPS: Final = 50
"""Jobs one by one, before it is the other's turn."""
LARGE: Final[CloseArgs] = {**TEN_KEYS, "tags": ["closing-2026"] * (255 * 1_024 // 16)}
"""Args nearly as large as they may be."""
_TIMES: Final[dict[Library, float]] = {RQ: 1.05, ARQ: 1.05, DRAMATIQ_RABBITMQ: 1.05}
"""How often the library's own may fit into `enqueue`."""
_FASTER: Final[dict[Library, float]] = {DRAMATIQ_REDIS: 4, DRAMATIQ_RABBITMQ: 6, ARQ: 20}
"""How often `enqueue_many` has to fit into the library one by one."""


def rows() -> Iterator[Row]:
    """The rows of sending."""
    for library in LIBRARIES:
        yield from _one(library)
    for library in LIBRARIES:
        yield from _many(library)


def _one(library: Library) -> Iterator[Row]:
    works = {"ours": library.ours(), "bare": library.bare(), "floor": library.carried(1)}
    yield Row(
        "enqueue",
        f"`handle.enqueue` on {library.name}: what it adds, in JSON round trips",
        Target(3, "round trips"),
        {**works, "round trip": timed(round_trip)},
        added(),
        LOOPS,
        rounds=101,
    )
    yield Row(
        "enqueue",
        f"`handle.enqueue` on {library.name}, against the library's own",
        Target(_TIMES.get(library), "x"),
        works,
        ratio(),
        LOOPS,
        rounds=101,
    )
    yield Row(
        "enqueue",
        f"`handle.enqueue` of args of 256 KiB on {library.name}, against the library's own",
        Target(None, "x"),
        {"ours": library.ours(LARGE), "bare": library.bare(LARGE)},
        ratio(),
        5,
        rounds=31,
    )
    if library is ARQ:
        yield Row(
            "enqueue",
            f"`handle.aenqueue` on {library.name}, against the library's own",
            Target(None, "x"),
            {"ours": ARQ.awaited(), "bare": ARQ.bare()},
            ratio(),
            20,
            rounds=101,
        )


def _many(library: Library) -> Iterator[Row]:
    if library is RQ:
        yield Row(
            "bulk",
            f"`enqueue_many` of {MANY:,} on RQ, against its own `enqueue_many`",
            Target(1.05, "x"),
            {"ours": RQ.ours_at_once(), "bare": RQ.bare_at_once(), "floor": RQ.carried(BATCH)},
            ratio(),
            MANY,
            rounds=9,
        )
    yield Row(
        "bulk",
        f"`enqueue_many` of {MANY:,} on {library.name}, against the library one by one",
        Target(_FASTER.get(library), "x", at_least=True),
        {"ours": library.ours_at_once(), "bare": library.bare(), "floor": library.carried(BATCH)},
        rate(),
        MANY,
        rounds=9,
    )
