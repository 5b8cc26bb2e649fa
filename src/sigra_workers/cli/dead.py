"""The command `sigra-workers dead`: list, show, send again and purge dead jobs."""

import argparse
import getpass
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from sigra_workers import (
    DeadFilters,
    DeadJob,
    EnqueueError,
    InvalidOptionError,
    InvalidPayloadError,
    SigraWorkersError,
    Workers,
)
from sigra_workers.cli.options import TIMES, application, as_json, moment, number, text
from sigra_workers.cli.output import fail, printable, told
from sigra_workers.table import table


def describe(parser: argparse.ArgumentParser, listed: int) -> None:
    """What the command takes; `listed` are listed where no limit is given."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    filters, bulk = _filters(), argparse.ArgumentParser(add_help=False)
    bulk.add_argument("ids", metavar="ID", nargs="*", help="job ids; or filters and --all")
    bulk.add_argument(
        "--all",
        action="store_true",
        help="all that fit the filters, without any every one, but for those that can't be read",
    )
    listing = [application(), filters, as_json()]
    actions.add_parser("list", parents=listing, help="list them, latest first").set_defaults(listed=listed)
    show = actions.add_parser("show", parents=[application(), as_json()], help="show one, with its traceback")
    show.add_argument("id", metavar="ID")
    show.add_argument("--args", action="store_true", help="its args too: they may be confidential")
    resend = actions.add_parser("resend", parents=[application(), bulk, filters], help="send them again")
    resend.add_argument(
        "--by", metavar="NAME", type=text, help="who does, for the record; your login name otherwise"
    )
    purge = actions.add_parser("purge", parents=[application(), bulk, filters], help="delete them for good")
    purge.add_argument("--yes", action="store_true", help="don't ask before deleting what filters found")


def _filters() -> argparse.ArgumentParser:
    filters = argparse.ArgumentParser(add_help=False)
    whose = filters.add_mutually_exclusive_group()
    whose.add_argument(
        "--organization",
        metavar="ID",
        type=text,
        help="of this organization_id, a text or a number; --all is refused where there are jobs of both",
    )
    whose.add_argument("--no-organization", action="store_true", help="of no organization")
    filters.add_argument("--worker", metavar="NAME", type=text, help="of this worker")
    filters.add_argument("--since", metavar="TIME", type=moment, help=f"died since then: {TIMES}")
    filters.add_argument("--limit", metavar="N", type=number("jobs"), help="so many at most, the latest")
    return filters


def run(workers: Workers[Any], options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run the command; returns its exit code."""
    try:
        if options.action == "list":
            return _list_dead(workers, options)
        if options.action == "show":
            return _show(workers, options)
        filters = _asked(options)
        if bool(options.ids) == bool(options.all) or (options.ids and filters):
            parser.error(f"dead {options.action}: give job ids, or --all with filters that say which")
        found: Sequence[str] = options.ids or _find_all(workers, options)
        return (
            _resend(workers, found, options)
            if options.action == "resend"
            else _purge(workers, found, options)
        )
    except (SigraWorkersError, BrokenPipeError):  # the latter of the output
        raise
    except Exception as error:  # the queue library's: out of reach, or refused
        return fail(told(error))


def _asked(options: argparse.Namespace) -> list[str]:
    """The filters that were given."""
    names = ("organization", "no_organization", "worker", "since", "limit")
    return [name for name in names if getattr(options, name)]


def _find(workers: Workers[Any], options: argparse.Namespace, limit: int | None = None) -> list[DeadJob]:
    """The dead jobs that fit; an organization_id is the text, or the int that it looks like.

    Raises `InvalidOptionError` where it is both, as two tenants have it, unless they are only listed.
    """
    filters: dict[str, Any] = {name: getattr(options, name) for name in ("worker", "since", "limit")}
    filters = {name: value for name, value in {**filters, "limit": limit or options.limit}.items() if value}
    if options.no_organization:
        filters["organization"] = None
    if options.organization is None:
        return workers.dead(**cast("DeadFilters", filters))
    ids: list[Any] = [options.organization]
    if re.fullmatch(r"0|-?[1-9]\d{0,30}", options.organization):
        ids.append(int(options.organization))
    both = [workers.dead(**cast("DeadFilters", {**filters, "organization": one})) for one in ids]
    if options.action != "list" and len(both) > 1 and all(both):
        word, number = ids
        raise InvalidOptionError(
            "organization",
            f"there are dead jobs of two: the text {word!r} and the number {number!r}\n"
            f"give the ids of one: sigra-workers dead list {options.path} --organization={word}\n"
            f"or choose in Python, workers.dead(organization={word!r}) or dead(organization={number!r})",
        )
    found = [job for jobs in both for job in jobs]
    return sorted(found, key=lambda job: job.died_at, reverse=True)[: filters.get("limit")]


def _find_all(workers: Workers[Any], options: argparse.Namespace) -> list[str]:
    """The dead jobs that --all means: none that can't be read, as those may be another application's."""
    found = _find(workers, options)
    ids = [job.id for job in found if job.worker is not None]
    if left := len(found) - len(ids):
        print(
            f"{_jobs(left)} left, which can't be read and may be another application's: give ids for those",
            file=sys.stderr,
        )
    return ids


def _list_dead(workers: Workers[Any], options: argparse.Namespace) -> int:
    limit = options.limit or options.listed
    found = _find(workers, options, limit + 1)
    jobs = found[:limit]
    if options.json:
        print(json.dumps([_facts(job) for job in jobs], indent=2))
    elif jobs:
        titles = ("id", "died", "worker", "organization", "attempts", "resends", "reason")
        print(table(titles, [_row(job) for job in jobs]))
    else:
        print("no dead jobs")
    if len(found) > limit and not options.limit:
        print(f"these are the latest {limit}, there are more: --limit N", file=sys.stderr)
    return 0


def _show(workers: Workers[Any], options: argparse.Namespace) -> int:
    found = workers.dead(ids=[options.id])
    if not found:
        return fail(f"job {options.id!r} is not dead (any more): sigra-workers dead list {options.path}")
    facts = {**_facts(found[0]), "traceback": found[0].traceback}
    if options.args:
        try:
            facts["args"] = found[0].args
        except InvalidPayloadError as error:
            return fail(str(error))
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    trace = facts.pop("traceback")
    for name, value in facts.items():
        shown = json.dumps(value, indent=2) if name == "args" else _known(value)
        print(f"{name.replace('_', ' ') + ':':17}{shown}")
    print(f"\n{printable(trace)}" if trace else "\nno traceback")
    return 0


def _resend(workers: Workers[Any], ids: Sequence[str], options: argparse.Namespace) -> int:
    try:
        by = options.by or getpass.getuser()
    except (KeyError, OSError):  # as in a container, for a user that has no name
        return fail("who are you? --by NAME")
    try:
        sent: Sequence[object] = workers.resend(ids, by=by)
    except EnqueueError as error:
        print(f"{_jobs(len(error.accepted))} sent again")
        fail(str(error))
        for what in ("rejected", "unknown"):
            for job_id in getattr(error, what):
                print(f"  {what}: {job_id}", file=sys.stderr)
        return 1
    print(f"{_jobs(len(sent))} sent again")
    return 0


def _purge(workers: Workers[Any], ids: Sequence[str], options: argparse.Namespace) -> int:
    if options.all and ids and not options.yes:
        which = "that fit" if _asked(options) else "of every organization"
        question = f"purge {_jobs(len(ids))} {which}, for good?"
        if not sys.stdin.isatty():
            return fail(f"{question} then add --yes")
        if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
            return fail("nothing was purged")
    print(f"{_jobs(workers.purge(ids))} purged")
    return 0


def _jobs(count: int) -> str:
    return f"{count} dead job{'' if count == 1 else 's'}"


def _facts(job: DeadJob) -> dict[str, Any]:
    """What is shown of a dead job without being asked: no args, no payload."""
    facts = {**asdict(job), "died_at": job.died_at.isoformat()}
    return {name: value for name, value in facts.items() if name not in ("payload", "traceback")}


def _row(job: DeadJob) -> list[str]:
    reason = (job.reason.splitlines() or [""])[0]
    organization = "-" if job.organization_id is None else repr(job.organization_id)
    died, attempts = job.died_at.astimezone().isoformat(" ", "seconds"), f"{job.attempts}/{job.max_attempts}"
    row = [_known(job.id), died, _known(job.worker), organization, "?" if job.worker is None else attempts]
    return [*row, _known(job.resends), printable(reason if len(reason) <= 60 else reason[:57] + "...")]


def _known(value: object) -> str:
    return "?" if value is None else printable(str(value))
