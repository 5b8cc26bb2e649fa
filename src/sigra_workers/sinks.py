"""Sinks without a store of their own: to the log, and to a list."""

import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sigra_workers.errors import AuditError, log
from sigra_workers.events import AuditEvent, event_dict, event_ecs

if TYPE_CHECKING:
    import logging


class LoggingSink:
    """Writes each event as one INFO record, the fields in ``record.audit``."""

    def __init__(self, logger: "logging.Logger | str" = "sigra_workers.audit.trail") -> None:
        self.logger = log(logger) if isinstance(logger, str) else logger

    def write(self, event: AuditEvent, /) -> None:
        """Log one event; raises `AuditError` where the logger would drop it."""
        if why := why_dropped(self.logger):
            problem = f"logger {self.logger.name!r} drops it: {why}; logging.basicConfig(level=logging.INFO)"
            raise AuditError(event.action, ["sink"], problem)
        self.logger.info("%s", self.line(event), extra={"audit": event_dict(event)})

    def line(self, event: AuditEvent, /) -> str:
        """The message of the record."""
        who = f"actor={event.actor_id} organization={event.organization_id}"
        return f"{event.action} {event.outcome} {who} job={event.job_id}"


class JsonLinesSink(LoggingSink):
    """Writes each event as one INFO record whose message is a line of JSON, named as in `event_ecs`.

    Give its logger a handler whose format is the message alone, logging's default.
    """

    def line(self, event: AuditEvent, /) -> str:
        """One object, without line breaks, in ASCII."""
        return json.dumps(event_ecs(event), separators=(",", ":"))


def why_dropped(logger: "logging.Logger") -> str:
    """Why nothing takes its INFO records, "" where something does: what becomes of them no handler tells."""
    import logging

    if not logger.isEnabledFor(logging.INFO):
        return "its level is above INFO"
    found: logging.Logger | None = logger
    while found is not None:
        for handler in found.handlers:
            if handler.level <= logging.INFO and not isinstance(handler, logging.NullHandler):
                return ""
        found = found.parent if found.propagate else None
    return "it has no handler for INFO"


@dataclass
class MemorySink:
    """Keeps events in the process, one an `event_id`, in order: for tests and the embedded adapter."""

    _events: dict[str, AuditEvent] = field(default_factory=dict[str, AuditEvent], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def events(self) -> list[AuditEvent]:
        """The events so far, oldest first."""
        with self._lock:
            return list(self._events.values())

    def write(self, event: AuditEvent, /) -> None:
        """Keep one event, or nothing where its id is kept already."""
        with self._lock:
            self._events.setdefault(event.event_id, replace(event))

    def write_in(self, event: AuditEvent, transaction: object, /) -> None:
        """Keep one event, whatever becomes of the transaction: a list can't roll back."""
        self.write(event)

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._events.clear()
