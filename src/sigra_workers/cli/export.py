"""`sigra-workers audit export`: all events that fit, to standard output or a file."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

from sigra_workers import AuditFilters, AuditReader, InvalidOptionError, event_dict
from sigra_workers.cli.progress import Progress
from sigra_workers.cli.trail import say_how_ids_are_read


def export(reader: AuditReader, filters: AuditFilters, options: argparse.Namespace) -> None:
    """All events that fit, oldest first, as lines of JSON."""
    filters = cast("AuditFilters", {"until": datetime.now(UTC), **filters})
    watched = sys.stderr.isatty() and (options.output is not None or not sys.stdout.isatty())
    output = whole_file(options.output, force=options.force) if options.output else nullcontext(sys.stdout)
    with output as file, Progress(reader.count(**filters) if watched else None) as progress:
        for event in reader.stream(**filters):
            print(json.dumps(event_dict(event)), file=file)
            progress.step()
    sys.stdout.flush()
    if not progress.done:
        say_how_ids_are_read(filters)
    print(f"{progress.done} event{'' if progress.done == 1 else 's'} exported", file=sys.stderr)


@contextmanager
def whole_file(name: str, *, force: bool) -> Generator[TextIO]:
    """A file that is there once the block is through, readable for its owner alone, and not at all otherwise.

    Raises `InvalidOptionError` where there is one already, unless it may be replaced.
    """
    path = Path(name).resolve()
    _check(path, name, force=force)
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # through `finally`
    try:
        with open(descriptor, "w", encoding="ascii", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        _check(path, name, force=force)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(path: Path, name: str, *, force: bool) -> None:
    if path.exists() and not (force and path.is_file()):
        problem = "add --force to replace it" if path.is_file() else "it is no file"
        raise InvalidOptionError("output", f"{name!r} exists: {problem}")
