"""`sigra-workers audit list` and `audit tail`."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from sigra_workers import AuditEvent, AuditFilters, AuditReader
from sigra_workers.cli.events import EventLines

POLL: Final = 1.0
"""Seconds between two looks for new events."""
OVERLAP: Final = timedelta(seconds=10)
"""How far back `--follow` looks for events that were committed late."""
_IDS: Final = {
    "organization": "--organization",
    "real_actor": "--real-actor",
    "effective_user": "--effective-user",
    "target_id": "--target",
}
"""The options for filters that are ids."""


def list_events(reader: AuditReader, filters: AuditFilters, options: argparse.Namespace) -> None:
    """A page of events, latest first, and the cursors of the pages beside it."""
    page = reader.query(limit=options.limit, cursor=options.cursor, **filters)
    _show(EventLines(as_json=_json(options)), page.events, filters)
    sys.stdout.flush()
    for which, cursor in (("older", page.older), ("newer", page.newer)):
        if cursor is not None:
            print(f"{which}: --cursor {shlex.quote(cursor)}", file=sys.stderr)


def tail(reader: AuditReader, filters: AuditFilters, options: argparse.Namespace) -> None:
    """The latest events, oldest first, and then those that come."""
    lines = EventLines(as_json=_json(options), steady=options.follow)
    since = datetime.now(UTC) - OVERLAP
    seen = _times(_after(since, reader, filters)) if options.follow else {}
    if options.first:
        latest = reader.query(limit=options.first, **filters).events[::-1]
        _show(lines, latest, filters)
        seen.update(_times(latest))
    if options.follow:
        _follow(reader, filters, lines, since, seen)


def _follow(
    reader: AuditReader, filters: AuditFilters, lines: EventLines, since: datetime, seen: dict[str, datetime]
) -> None:
    """Show new events as they come, for ever; `seen` are those that are not new, and when they happened.

    Each look goes back by `OVERLAP` from the latest: events are not committed in the order of their times.
    """
    while True:
        sys.stdout.flush()
        time.sleep(POLL)
        newest = min(max(seen.values(), default=since), datetime.now(UTC))
        since = max(since, newest - OVERLAP)
        seen = {event: at for event, at in seen.items() if at >= since - OVERLAP}
        for event in _after(since, reader, filters):
            if event.event_id not in seen:
                seen[event.event_id] = event.occurred_at
                lines.show([event])


def _after(since: datetime, reader: AuditReader, filters: AuditFilters) -> Iterator[AuditEvent]:
    since = max(since, filters.get("since", since))
    return reader.stream(**cast("AuditFilters", {**filters, "since": since}))


def _times(events: Iterable[AuditEvent]) -> dict[str, datetime]:
    return {event.event_id: event.occurred_at for event in events}


def _json(options: argparse.Namespace) -> bool:
    return options.json or not sys.stdout.isatty()


def _show(lines: EventLines, events: Sequence[AuditEvent], filters: AuditFilters) -> None:
    lines.show(events)
    if events:
        return
    if not lines.as_json:
        print("no audit events", flush=True)
    say_how_ids_are_read(filters)


def say_how_ids_are_read(filters: AuditFilters) -> None:
    """Where nothing was found: by a number, as which it was read, nothing is found that is a text."""
    given = cast("Mapping[str, object]", filters)
    for name, option in _IDS.items():
        if isinstance(given.get(name), int):
            one = json.dumps(str(given[name]))
            one = f"{given['target_type']}:{one}" if name == "target_id" else one
            print(
                f"{given[name]} is a number here, for the text: {option} {shlex.quote(one)}", file=sys.stderr
            )
