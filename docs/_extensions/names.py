"""What a code span on a page names: a place in the reference, or nothing of ours."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

OBJECTS: Final = {
    "audit": "Audit",
    "handle": "WorkerHandle",
    "sigra": "SigraTesting",
    "workers": "Workers",
}
"""What the pages call an object of these classes: `handle.enqueue` is `WorkerHandle.enqueue`."""
PACKAGES: Final = (
    "sigra_workers",
    "sigra_workers.testing",
    "sigra_workers.conformance",
    "sigra_workers.memory",
    "sigra_workers.hooks",
    "sigra_workers.logs",
    "sigra_workers_arq",
    "sigra_workers_dramatiq",
    "sigra_workers_opentelemetry",
    "sigra_workers_rq",
    "sigra_workers_sqlalchemy",
)
"""Where a name is looked for that stands without its package, the first ones first."""
OTHERS: Final = frozenset({"audit.sink"})
"""What looks like one of ours, and is another thing: a check of the doctor."""
_NAME: Final = re.compile(r"@?([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\)|\[.*\])*", re.DOTALL)
_RULE: Final = re.compile(r"R\d\d")
_COMMAND: Final = re.compile(r"sigra-workers(?: [a-z]+)*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the reference says what a name is."""

    name: str
    kind: str
    docname: str
    anchor: str


class Names:
    """All that the reference has a place for."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places: Final = {place.name: place for place in places}

    def find(self, span: str) -> Place | None:
        """What a code span names: a call, a subscript and a decorator are what they call."""
        span = " ".join(span.split())
        return next((self.places[name] for name in _candidates(span) if name in self.places), None)


def _candidates(span: str) -> Iterator[str]:
    if _RULE.fullmatch(span) or _COMMAND.fullmatch(span):
        yield span
        return
    named = _NAME.fullmatch(span)
    if named is None or span in OTHERS:
        return
    name = named[1]
    yield name
    first, _, rest = name.partition(".")
    if first.startswith("sigra_workers") and rest:
        yield f"{first}.{rest.rpartition('.')[2]}"  # as the package exports it
        return
    if rest and first in OBJECTS:
        name = f"{OBJECTS[first]}.{rest}"
    elif not rest and name.islower() and not name.startswith("sigra_"):
        yield f"sigra_workers.{name}"
        return
    yield from (f"{package}.{name}" for package in PACKAGES)
