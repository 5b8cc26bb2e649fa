"""The command `sigra-workers audit`: list, follow and export an audit trail."""

import argparse
import os
import sys
from contextlib import closing
from typing import Final, cast, get_args

from sigra_workers import (
    EVERY_ORGANIZATION,
    AuditFilters,
    AuditOutcome,
    InvalidOptionError,
    SigraWorkersError,
)
from sigra_workers._plugins import Plugins
from sigra_workers.cli.export import export
from sigra_workers.cli.options import TIMES, as_json, identifier, moment, number, text
from sigra_workers.cli.output import fail, printable, told, without_password
from sigra_workers.cli.trail import OVERLAP, list_events, tail
from sigra_workers.trail import MAX_PAGE, check_audit_filters

URL: Final = "SIGRA_AUDIT_URL"
"""The environment variable for the database, where no argument names it."""
FIRST: Final = 10
"""How many events `tail` begins with where no number is given."""
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as of a shell's command."""
_EPILOG: Final = (
    "All filters have to fit. An ID is a number if it looks like one; for the text 5 say '\"5\"'."
)


def describe(parser: argparse.ArgumentParser, listed: int) -> None:
    """What the command takes; `listed` are listed where no limit is given."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    trail, lines = _trail(), as_json("as lines of JSON, as where the output is no terminal")
    listing = commands.add_parser(
        "list", parents=[trail, lines], epilog=_EPILOG, help="list events, latest first"
    )
    listing.add_argument(
        "--limit",
        metavar="N",
        type=number("events", most=MAX_PAGE),
        default=listed,
        help=f"so many at most, {listed} otherwise",
    )
    listing.add_argument(
        "--cursor", metavar="C", type=text, help="the page beside another, as that one told; same filters"
    )
    listing.set_defaults(run=list_events)

    following = commands.add_parser(
        "tail", parents=[trail, lines], epilog=_EPILOG, help="show the latest events, oldest first"
    )
    following.add_argument(
        "-n",
        dest="first",
        metavar="N",
        type=number("events", 0, MAX_PAGE),
        default=FIRST,
        help=f"so many of them, {FIRST} otherwise",
    )
    following.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help=f"then new ones as they come, until Ctrl-C (exit code {INTERRUPTED}); on a busy trail without"
        f" those that are committed more than {OVERLAP.seconds} s after they happened",
    )
    following.set_defaults(run=tail)

    whole = commands.add_parser(
        "export", parents=[trail], epilog=_EPILOG, help="write all that fit as lines of JSON"
    )
    whole.add_argument(
        "--output",
        metavar="FILE",
        type=text,
        help="to a file that is there once it is complete; to standard output otherwise",
    )
    whole.add_argument("--force", action="store_true", help="replace the file if there is one")
    whole.set_defaults(run=export)


def _trail() -> argparse.ArgumentParser:
    """Which trail, and which of its events."""
    trail = argparse.ArgumentParser(add_help=False)
    trail.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        type=text,
        help="the database, such as postgresql+psycopg://user@host/db; otherwise from the environment"
        f" variable {URL}, which keeps a password out of the list of processes",
    )
    trail.add_argument(
        "--table", metavar="NAME", type=text, default="audit_events", help="audit_events otherwise"
    )
    whose = trail.add_mutually_exclusive_group()
    whose.add_argument(
        "--organization",
        metavar="ID",
        type=identifier,
        default=EVERY_ORGANIZATION,
        help="of this organization_id; of every one otherwise",
    )
    whose.add_argument(
        "--no-organization",
        dest="organization",
        action="store_const",
        const=None,
        help="of no organization",
    )
    trail.add_argument(
        "--real-actor", metavar="ID", type=identifier, help="who really acted: the admin, not who they were"
    )
    trail.add_argument(
        "--effective-user", metavar="ID", type=identifier, help="the account that it was done as"
    )
    trail.add_argument("--action", type=_action, help="such as account.closed; account. is all below it")
    trail.add_argument("--outcome", choices=get_args(AuditOutcome))
    trail.add_argument(
        "--target",
        metavar="TYPE[:ID]",
        type=_target,
        help="what it was done to, such as invoice or invoice:5",
    )
    trail.add_argument("--job", metavar="ID", type=text, help="written by this job")
    trail.add_argument("--since", metavar="TIME", type=moment, help=f"happened then or later: {TIMES}")
    trail.add_argument("--until", metavar="TIME", type=moment, help="happened before")
    return trail


def _action(given: str) -> str:
    try:
        check_audit_filters({"organization": None, "action": given})
    except InvalidOptionError:
        problem = f"{given!r} is no action: expected such as account.closed, or account. for all below"
        raise argparse.ArgumentTypeError(problem) from None
    return given


def _target(given: str) -> AuditFilters:
    kind, colon, target = text(given).partition(":")
    found = {"target_type": text(kind), **({"target_id": identifier(target)} if colon else {})}
    return cast("AuditFilters", found)


# -- running -------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code. No message holds the URL or its password."""
    url: str = options.url or os.environ.get(URL, "")
    if not url.strip():
        return fail(f"which database? give its URL, or set {URL}")
    try:
        with closing(Plugins(()).audit_reader("sqlalchemy", url, options.table)) as reader:
            options.run(reader, _filters(options), options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # of the output: `main` knows what to do
        raise
    except SigraWorkersError as error:
        return fail(printable(without_password(str(error), url)))
    except Exception as error:  # the database library's: out of reach, or refused
        return fail(printable(without_password(told(error), url)))
    return 0


def _filters(options: argparse.Namespace) -> AuditFilters:
    names = ("real_actor", "effective_user", "action", "outcome", "job", "since", "until")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return cast("AuditFilters", {"organization": options.organization, **given, **(options.target or {})})
