"""Time moved: all that a Redis holds made older, as if nobody had touched it since."""

import re
from collections.abc import Iterator
from typing import Any, Final

_DUE_AT: Final = re.compile(rb'("due_at\\*":\s*)([0-9]+\.[0-9]+)')
"""When a payload is due, whatever it is packed in."""
_UNITS: Final = ((1e9, 1e10, 1), (1e12, 1e13, 1_000))
"""Scores that are times: in seconds, in milliseconds."""


def latest_due(client: Any) -> float:
    """When the last of all payloads in there is due, in epoch seconds; 0 where none is."""
    found = [
        match
        for key in client.scan_iter()
        for value in _values(client, key)
        for match in _DUE_AT.findall(value)
    ]
    return max((float(at) for _, at in found), default=0.0)


def age(client: Any, seconds: int) -> None:
    """Make keys live so much shorter, and times in scores and payloads lie so much earlier.

    Nobody may use it meanwhile.
    """
    for key in [*client.scan_iter()]:
        left = client.pttl(key)
        _rewrite(client, key, seconds)
        if left > 0:
            client.pexpire(key, left - seconds * 1_000)  # gone where that is not positive


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    match client.type(key):
        case b"string":
            yield client.get(key) or b""  # gone meanwhile
        case b"hash":
            yield from client.hvals(key)
        case b"list":
            yield from client.lrange(key, 0, -1)
        case b"zset":
            yield from client.zrange(key, 0, -1)
        case _:
            pass


def _rewrite(client: Any, key: bytes, seconds: int) -> None:
    def earlier(value: bytes) -> bytes:
        return _DUE_AT.sub(lambda found: found[1] + _as_long(float(found[2]) - seconds, found[2]), value)

    match client.type(key):
        case b"string":
            client.set(key, earlier(client.get(key)))
        case b"hash":
            for field, value in client.hgetall(key).items():
                client.hset(key, field, earlier(value))
        case b"list":
            for index, value in enumerate(client.lrange(key, 0, -1)):
                client.lset(key, index, earlier(value))
        case b"zset":
            for member, score in client.zrange(key, 0, -1, withscores=True):
                unit = next((unit for low, high, unit in _UNITS if low <= score < high), 0)
                client.zrem(key, member)
                client.zadd(key, {earlier(member): score - seconds * unit})
        case _:
            pass


def _as_long(at: float, text: bytes) -> bytes:
    """A time in as many bytes, as pickle counts them."""
    return f"{at:.{len(text)}f}".encode()[: len(text)]
