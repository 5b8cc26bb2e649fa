"""Jobs with a secret in their args, which end in every way, for tests that look for it in what is logged."""

import io
import json
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

SECRET: Final = "s3cret-41d7"
ENDINGS: Final = {
    "ok": ["ok"],
    "ok with a value": ["ok:done"],
    "error": ["error:no"],
    "raises": ["raise:no"],
    "retried": ["error:no", "raise:no", "ok"],
    "timed out": ["sleep:60"],
    "exits": ["exit"],
    "snoozed": ["snooze:1", "ok"],
    "cancelled": ["cancel:no"],
    "cancel_on": ["gone"],
    "no result": ["none"],
}
"""Steps of a job, by how it ends."""
CHANGES: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "no organization": lambda p: json.dumps({**p, "args": {"token": SECRET, "actor_id": "ann"}}),
    "wrong organization": lambda p: json.dumps({**p, "args": {**p["args"], "organization_id": [SECRET]}}),
    "newer version": lambda p: json.dumps({**p, "v": 2}),
    "cut off": lambda p: json.dumps(p)[:-9],
    "not a string": lambda p: p,
    "wrong field": lambda p: json.dumps({**p, "attempt": SECRET}),
}
"""What somebody makes of a payload by hand, so that the job is dead."""


@contextmanager
def all_logged() -> Generator[io.StringIO]:
    """What every logger of this process says in the block, at DEBUG."""
    root, logged = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(logged), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield logged
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
