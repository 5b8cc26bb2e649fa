"""What worker processes leave behind for a test to read: one JSON object a line."""

import json
import os
from pathlib import Path
from typing import Any

from sigra_workers import AuditEvent, event_dict


def folder() -> Path:
    """Where to; the test sets it for each process it starts."""
    return Path(os.environ["HOST_DIR"])


def append(name: str, facts: dict[str, Any]) -> None:
    """One line, in one write, so that processes don't mix theirs."""
    line = json.dumps(facts) + "\n"
    descriptor = os.open(folder() / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


class JsonLinesSink:
    """An audit sink: each event as a line of audit.jsonl."""

    def write(self, event: AuditEvent, /) -> None:
        append("audit.jsonl", event_dict(event))
