"""Audit events as the command line shows them: a table on a terminal, lines of JSON otherwise."""

import json
from collections.abc import Sequence
from typing import Final

from sigra_workers import AuditEvent, Id, event_dict
from sigra_workers.cli.options import read_id
from sigra_workers.cli.output import cell

TITLES: Final = ("time", "organization", "real actor", "as", "action", "outcome", "target", "job")
_STEADY: Final = (25, 12, 12, 6, 24, 7, 20, 36)
"""The least widths of a table whose later rows are not known yet."""


class EventLines:
    """Prints events one a line, in columns that only get wider."""

    def __init__(self, *, as_json: bool, steady: bool = False) -> None:
        self.as_json = as_json
        self._widths = _STEADY if steady else tuple(map(len, TITLES))
        self._titled = False

    def show(self, events: Sequence[AuditEvent]) -> None:
        """Print events; the titles stand above the first."""
        if self.as_json:
            for event in events:
                print(json.dumps(event_dict(event)))
            return
        rows = [_row(event) for event in events]
        self._widths = tuple(map(max, zip(self._widths, *(map(len, row) for row in rows), strict=True)))
        if rows and not self._titled:
            rows = [[*TITLES], ["-" * width for width in self._widths], *rows]
            self._titled = True
        for row in rows:
            print("  ".join(map(str.ljust, row, self._widths)).rstrip())


def _row(event: AuditEvent) -> list[str]:
    at = event.occurred_at.astimezone().isoformat(" ", "seconds")
    organization, actor, user = map(_id, (event.organization_id, event.actor_id, event.effective_user_id))
    target = "-" if event.target_type is None else event.target_type
    if event.target_id is not None:
        target += f":{_id(event.target_id)}"
    cells = (organization, actor, "" if user == actor else user, event.action, event.outcome)
    return [at, *map(cell, (*cells, target, event.job_id or "-"))]


def _id(value: Id | None) -> str:
    """An id as an option takes it; one that isn't there is a dash."""
    if value is None:
        return "-"
    plain = str(value)
    return plain if plain not in ("", "-") and read_id(plain) == value else json.dumps(value)
