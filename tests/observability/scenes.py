"""Scenes on a queue that is watched, and what was seen of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
from tests.observability.stage import Stage


@dataclass
class Seen:
    """What became of the jobs of one scene on one queue."""

    jobs: Mapping[str, str] = field(default_factory=dict[str, str])
    """What each was to do, by its id."""
    lines: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """What watchers wrote, by the name of their files."""
    error: str | None = None


Scene: TypeAlias = Callable[[Stage], Mapping[str, str]]
"""Sends jobs, waits for their ends, and tells what each was to do."""
Play: TypeAlias = Callable[[str, Scene, tuple[str, ...]], Mapping[str, Seen]]
"""From how it is watched, the scene, and the files of the watcher, to what was seen on each queue."""


def seen_on(seen: Mapping[str, Seen], back_end: str) -> Seen:
    """What was seen on that queue, where the scene came to its end."""
    found = seen[back_end]
    if found.error is not None:
        pytest.fail(found.error, pytrace=False)
    return found
