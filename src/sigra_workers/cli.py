"""The command `sigra-workers`: a demo, and what a `Workers` object holds."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import cast

from sigra_workers import SigraWorkersError, __version__, load_workers
from sigra_workers.table import table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 1 for an error that is told on standard error."""
    parser = argparse.ArgumentParser(prog="sigra-workers", description="Tenant-safe background jobs.")
    parser.add_argument("--version", action="version", version=f"sigra-workers {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run a few jobs and show their audit trail")
    demo.add_argument(
        "--adapter", default="memory", help="the embedded 'memory' (default), or an installed one"
    )
    workers = commands.add_parser("workers", help="list the workers of an application")
    workers.add_argument("path", metavar="MODULE:ATTRIBUTE", help="such as app.jobs:workers")
    workers.add_argument("--json", action="store_true", help="as JSON, one array")
    options = parser.parse_args(argv)
    sys.path.insert(0, os.getcwd())  # as python -m does: the application is in this folder
    try:
        if options.command == "demo":
            from sigra_workers.demo.run import run

            return run(options.adapter)
        return _list_workers(options.path, as_json=options.json)
    except SigraWorkersError as error:
        print(f"sigra-workers: {error}", file=sys.stderr)
        return 1


def _list_workers(path: str, *, as_json: bool) -> int:
    rows = [
        {
            "name": handle.name,
            "aliases": list(handle.aliases),
            "queue": handle.queue,
            "max_attempts": handle.max_attempts,
            "required_keys": list(handle.form.required),
            "implemented": handle.implementation is not None,
        }
        for handle in load_workers(path).handles
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        titles = ("name", "aliases", "queue", "max attempts", "required keys", "implemented")
        cells = [[_cell(value) for value in row.values()] for row in rows]
        print(table(titles, cells))
    return 0


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(cast("list[str]", value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
