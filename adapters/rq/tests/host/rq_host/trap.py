"""Leaves a trace when it is imported, and when it is called."""

from tests.queues.files import append

append("trap.jsonl", {"trace": "imported"})


def spring(*args: object, **kwargs: object) -> str:
    append("trap.jsonl", {"trace": "called"})
    return "sprung"
