"""The command `sigra-workers`: a demo, an application's workers and dead jobs, its audit trail, a doctor."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Final, cast

from sigra_workers import SigraWorkersError, __version__, load_workers
from sigra_workers.cli import audit, dead, doctor
from sigra_workers.cli.options import Parser, application, as_json
from sigra_workers.cli.output import fail
from sigra_workers.table import table

LISTED: Final = 100
"""How many dead jobs or audit events are listed where no limit is given."""
CLOSED_PIPE: Final = 141
"""The exit code where nobody reads the output any more, as of a shell's command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 1 for an error that is told on standard error."""
    parser = make_parser()
    options = parser.parse_args(argv)
    sys.path.insert(0, os.getcwd())  # as python -m does: the application is in this folder
    try:
        code = _run(options, parser)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return CLOSED_PIPE
    return code


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        if options.command == "demo":
            from sigra_workers.demo.run import run

            return run(options.adapter)
        if options.command == "workers":
            return _list_workers(options.path, as_json=options.json)
        if options.command == "audit":
            return audit.run(options)
        with load_workers(options.path) as workers:
            if options.command == "doctor":
                return doctor.run(workers, options)
            return dead.run(workers, options, parser)
    except SigraWorkersError as error:
        return fail(str(error))


def make_parser() -> argparse.ArgumentParser:
    """Everything that the command takes."""
    parser = Parser(prog="sigra-workers", description="Tenant-safe background jobs.")
    parser.add_argument("--version", action="version", version=f"sigra-workers {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run a few jobs and show their audit trail")
    demo.add_argument(
        "--adapter", default="memory", help="the embedded 'memory' (default), or an installed one"
    )
    parents = [application(), as_json()]
    commands.add_parser("workers", parents=parents, help="list the workers of an application")
    dead.describe(commands.add_parser("dead", help="list, show, send again and purge dead jobs"), LISTED)
    audit.describe(commands.add_parser("audit", help="list, follow and export an audit trail"), LISTED)
    doctor.describe(commands)
    return parser


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
