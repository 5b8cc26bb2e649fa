"""The command `sigra-workers audit`, as a user runs it, on a trail in a list."""

import importlib
import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from typing_extensions import Unpack

from sigra_workers import (
    EVERY_ORGANIZATION,
    AuditEvent,
    AuditFilters,
    AuditPage,
    AuditReader,
    InvalidOptionError,
    InvalidSettingsError,
)
from sigra_workers._plugins import Plugins
from sigra_workers.cli import main
from sigra_workers.cli.output import without_password
from sigra_workers.cli.progress import bar
from sigra_workers.cli.trail import OVERLAP
from sigra_workers.trail import PAGE, check_audit_filters, check_limit

ROOT: Final = Path(__file__).parents[1]
URL: Final = "postgresql+psycopg://ann:s3cr3t@db/app"
START: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)


def an_event(number: int, at: datetime, **fields: Any) -> AuditEvent:
    event = AuditEvent(
        event_id=f"event-{number:05}",
        occurred_at=at,
        action="account.closed",
        outcome="success",
        actor_id="ann",
        actor_type="user",
        effective_user_id="ann",
        organization_id="northwind",
        target_type="account",
        target_id="acc-1",
        metadata={},
        job_id="job-1",
        worker="accounts.close",
        queue="default",
        attempt=1,
    )
    return replace(event, **fields)


class ListReader:
    """An `AuditReader` over a list."""

    def __init__(self, events: list[AuditEvent]) -> None:
        self.events = events
        self.closed = False

    def query(
        self, *, limit: int = PAGE, cursor: str | None = None, **filters: Unpack[AuditFilters]
    ) -> AuditPage:
        found = [*self.stream(**filters)][::-1]
        start = 0
        if cursor is not None:
            way, _, event_id = cursor.partition(" ")
            ids = [event.event_id for event in found]
            if way not in ("older", "newer") or event_id not in ids:
                raise InvalidOptionError("cursor", "it is none of this trail")
            at = ids.index(event_id)
            start = at + 1 if way == "older" else max(0, at - limit)
        end = start + check_limit(limit)
        events = found[start:end]
        older = f"older {events[-1].event_id}" if found[end:] else None
        return AuditPage(events, older, f"newer {events[0].event_id}" if start else None)

    def count(self, **filters: Unpack[AuditFilters]) -> int:
        return sum(1 for _ in self.stream(**filters))

    def stream(self, **filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        check_audit_filters(filters)
        found = [event for event in self.events if fits(event, filters)]
        return iter(sorted(found, key=lambda event: (event.occurred_at, event.event_id)))

    def close(self) -> None:
        self.closed = True


def fits(event: AuditEvent, filters: AuditFilters) -> bool:
    exact: dict[str, Any] = {
        "organization": event.organization_id,
        "real_actor": event.actor_id,
        "effective_user": event.effective_user_id,
        "outcome": event.outcome,
        "target_type": event.target_type,
        "target_id": event.target_id,
        "job": event.job_id,
    }
    given: dict[str, Any] = {**filters}
    for name, value in given.items():
        match name:
            case "organization" if value is EVERY_ORGANIZATION:
                same = True
            case "action":
                same = event.action.startswith(value) if value.endswith(".") else event.action == value
            case "since":
                same = event.occurred_at >= value
            case "until":
                same = event.occurred_at < value
            case _:
                same = (type(exact[name]), exact[name]) == (type(value), value)
        if not same:
            return False
    return True


Open = Callable[..., AuditReader]


class Trail:
    """A trail, and the command on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.reader = ListReader([])
        self.opened: list[tuple[str, str, str]] = []
        self.out = self.err = ""
        monkeypatch.setenv("SIGRA_AUDIT_URL", URL)
        self.open_with(self._open)

    def open_with(self, opens: Open) -> None:
        self.monkeypatch.setattr(Plugins, "audit_reader", opens)

    def _open(self, name: str, url: str, table: str) -> AuditReader:
        self.opened.append((name, url, table))
        return self.reader

    def add(self, at: datetime | None = None, **fields: Any) -> str:
        """The id of an event that is there now, a second after the one before."""
        number = len(self.reader.events)
        event = an_event(number, at or START + timedelta(seconds=number), **fields)
        self.reader.events.append(event)
        return event.event_id

    def run(self, action: str, *options: str) -> int:
        """The command's exit code; what it printed is in `out` and `err`, and never a password."""
        try:
            code = main(["audit", action, *options])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        self.out, self.err = self.capsys.readouterr()
        assert "s3cr3t" not in self.out + self.err
        return code

    def found(self, *options: str, action: str = "list") -> list[str]:
        """The ids of the events that are printed as JSON."""
        assert self.run(action, *options) == 0
        return [json.loads(line)["event_id"] for line in self.out.splitlines()]

    def on_terminal(self) -> None:
        self.monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    def between_looks(self, *steps: Callable[[], object]) -> None:
        """What happens each time that `tail --follow` waits; then comes Ctrl-C."""
        left = iter(steps)

        def sleep(seconds: float) -> None:
            step = next(left, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        # The command's own clock alone: threads of other tests sleep too.
        self.monkeypatch.setattr("sigra_workers.cli.trail.time", SimpleNamespace(sleep=sleep))


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trail:
    return Trail(monkeypatch, capsys)


# -- which trail -----------------------------------------------------------------------------------------


def test_the_url_is_the_argument_or_else_from_the_environment(trail: Trail) -> None:
    assert trail.found() == []
    assert trail.found("sqlite:///other.db", "--table", "trail.events") == []
    assert trail.opened == [
        ("sqlalchemy", URL, "audit_events"),
        ("sqlalchemy", "sqlite:///other.db", "trail.events"),
    ]
    assert trail.reader.closed


@pytest.mark.parametrize("value", [None, "", " "], ids=repr)
def test_no_url_is_told(trail: Trail, value: str | None) -> None:
    if value is None:
        trail.monkeypatch.delenv("SIGRA_AUDIT_URL")
    else:
        trail.monkeypatch.setenv("SIGRA_AUDIT_URL", value)
    assert trail.run("list") == 1
    assert trail.err == "sigra-workers: which database? give its URL, or set SIGRA_AUDIT_URL\n"
    assert trail.opened == []


def test_a_distribution_that_is_not_installed_is_told_with_the_install_command(trail: Trail) -> None:
    trail.monkeypatch.undo()
    trail.monkeypatch.setattr("pluggy.PluginManager.load_setuptools_entrypoints", lambda *_, **__: 0)
    trail.monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: EntryPoints())
    assert trail.run("list", URL) == 1
    assert "pip install 'sigra-workers[sqlalchemy]'" in trail.err


@pytest.mark.parametrize("action", ["list", "tail", "export"])
def test_help_tells_of_the_environment_variable(trail: Trail, action: str) -> None:
    assert trail.run(action, "--help") == 0
    assert "SIGRA_AUDIT_URL" in trail.out
    assert "--real-actor ID" in trail.out


def test_help_tells_which_events_are_not_followed(trail: Trail) -> None:
    assert trail.run("tail", "--help") == 0
    assert f"committed more than {OVERLAP.seconds} s after they happened" in " ".join(trail.out.split())


# -- which events ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fields", "other"),
    [
        (["--organization", "acme"], {"organization_id": "acme"}, {}),
        (["--organization", "7"], {"organization_id": 7}, {"organization_id": "7"}),
        (["--organization", "-7"], {"organization_id": -7}, {"organization_id": "-7"}),
        (["--organization", "0"], {"organization_id": 0}, {"organization_id": None}),
        (["--organization", '"7"'], {"organization_id": "7"}, {"organization_id": 7}),
        (["--organization", "07"], {"organization_id": "07"}, {"organization_id": 7}),
        (["--organization", '"7'], {"organization_id": '"7'}, {"organization_id": "7"}),
        (["--organization", r'"\"7"'], {"organization_id": '"7'}, {"organization_id": "7"}),
        (["--organization", "9" * 32], {"organization_id": "9" * 32}, {"organization_id": 7}),
        (["--no-organization"], {"organization_id": None}, {}),
        (["--real-actor", "5"], {"actor_id": 5}, {"actor_id": "5", "effective_user_id": 5}),
        (["--effective-user", "bob"], {"effective_user_id": "bob"}, {"actor_id": "bob"}),
        (["--action", "user.added"], {"action": "user.added"}, {"action": "user.added.twice"}),
        (["--action", "user."], {"action": "user.added.twice"}, {"action": "users.added"}),
        (["--outcome", "failure"], {"outcome": "failure"}, {}),
        (["--target", "invoice"], {"target_type": "invoice"}, {"target_id": "invoice"}),
        (["--target", "a:b:c"], {"target_type": "a", "target_id": "b:c"}, {"target_type": "a"}),
        (["--target", "account:5"], {"target_id": 5}, {"target_id": "5"}),
        (["--target", 'account:"5"'], {"target_id": "5"}, {"target_id": 5}),
        (["--job", "5"], {"job_id": "5"}, {"job_id": None}),
        (["--since", "2026-02-01T00:00Z"], {"occurred_at": datetime(2026, 2, 1, tzinfo=UTC)}, {}),
        (["--until", "2026-01-31T12:00Z"], {"occurred_at": datetime(2026, 1, 1, tzinfo=UTC)}, {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_filter_finds_what_fits(
    trail: Trail, options: list[str], fields: dict[str, Any], other: dict[str, Any]
) -> None:
    trail.add(**other)
    event_id = trail.add(**fields)
    trail.add()
    for action in ("list", "tail", "export"):
        assert trail.found(*options, action=action) == [event_id]


def test_no_filter_is_every_organization_and_several_have_to_fit_all(trail: Trail) -> None:
    first, second = trail.add(organization_id=None), trail.add(organization_id=1)
    third = trail.add(organization_id=1, outcome="failure")
    assert trail.found() == [third, second, first]
    assert trail.found("--organization", "1", "--outcome", "success") == [second]


@pytest.mark.parametrize("name", ["--organization", "--real-actor", "--effective-user", "--target", "--job"])
@pytest.mark.parametrize("value", ["", " ", '""'], ids=repr)
def test_a_filter_that_is_empty_is_refused(trail: Trail, name: str, value: str) -> None:
    if (name, value) == ("--target", '""'):
        value = 'account:""'
    if (name, value) == ("--job", '""'):
        value = "\t"
    assert trail.run("export", name, value) == 2
    assert "it is empty" in trail.err
    assert trail.opened == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([""], "argument URL: it is empty"),
        (["--table", ""], "it is empty"),
        (["--target", ":5"], "it is empty"),
        (["--target", "account:"], "it is empty"),
        (["--action", ""], "'' is no action: expected such as account.closed"),
        (["--action", "Closed!"], "'Closed!' is no action"),
        (["--outcome", "good"], "invalid choice: 'good'"),
        (["--since", "yesterday"], "'yesterday' is no time: expected such as 2h"),
        (["--until", ""], "'' is no time"),
        (["--limit", "0"], "'0' is no number of events: expected 1 to 10000"),
        (["--limit", "10001"], "expected 1 to 10000"),
        (["--cursor", ""], "it is empty"),
        (["--organization", "a", "--no-organization"], "not allowed with"),
        (["--actor", "ann"], "unrecognized arguments: --actor"),
        ([URL, URL], "unrecognized arguments: postgresql+psycopg://..."),
        (["--limit", f"{URL}\n{URL}"], "argument --limit: 'postgresql+psycopg://..."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_is_told_without_a_password(trail: Trail, options: list[str], problem: str) -> None:
    assert trail.run("list", *options) == 2
    assert problem in trail.err
    assert trail.opened == []


def test_a_url_in_place_of_the_command_is_not_repeated(trail: Trail) -> None:
    assert trail.run(URL) == 2
    assert "invalid choice: 'postgresql+psycopg://..." in trail.err


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--organization", "7"], "7 is a number here, for the text: --organization '\"7\"'\n"),
        (["--real-actor", "0"], "0 is a number here, for the text: --real-actor '\"0\"'\n"),
        (["--effective-user", "-1"], "-1 is a number here, for the text: --effective-user '\"-1\"'\n"),
        (["--target", "a b:5"], "5 is a number here, for the text: --target 'a b:\"5\"'\n"),
        (["--organization", '"7"', "--job", "5"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_number_by_which_nothing_is_found_is_told(trail: Trail, options: list[str], hint: str) -> None:
    trail.add(organization_id="acme")
    for action, last in (("list", ""), ("tail", ""), ("export", "0 events exported\n")):
        assert trail.found(*options, action=action) == []
        assert trail.err == hint + last


def test_a_number_by_which_something_is_found_needs_no_hint(trail: Trail) -> None:
    trail.add(organization_id=7)
    assert trail.run("list", "--organization", "7") == 0
    assert trail.err == ""


# -- list ------------------------------------------------------------------------------------------------


def test_list_gives_lines_of_json_where_it_is_no_terminal(trail: Trail) -> None:
    first, second = trail.add(metadata={"name": "Zoë\n"}), trail.add()
    assert trail.found() == [second, first]
    assert trail.out.isascii()
    assert json.loads(trail.out.splitlines()[1]) == {
        "event_id": first,
        "occurred_at": "2026-01-31T12:00:00+00:00",
        "action": "account.closed",
        "outcome": "success",
        "actor_id": "ann",
        "actor_type": "user",
        "effective_user_id": "ann",
        "organization_id": "northwind",
        "target_type": "account",
        "target_id": "acc-1",
        "metadata": {"name": "Zoë\n"},
        "job_id": "job-1",
        "worker": "accounts.close",
        "queue": "default",
        "attempt": 1,
        "schema_version": 1,
    }
    assert trail.err == ""


def test_list_gives_a_table_on_a_terminal_with_ids_as_options_take_them(trail: Trail) -> None:
    trail.on_terminal()
    trail.add(organization_id=7, actor_id="ada", target_id=5)
    trail.add(organization_id="7", effective_user_id=None, target_type=None, target_id=None, job_id=None)
    trail.add(organization_id="-", actor_id="", effective_user_id="", target_type=None, target_id='"5')
    trail.add(organization_id=None, outcome="failure", target_id=None)
    assert trail.run("list") == 0
    titles, _, *rows = (re.split(r"  +", line) for line in trail.out.splitlines())
    assert titles == ["time", "organization", "real actor", "as", "action", "outcome", "target", "job"]
    at = [(START + timedelta(seconds=n)).astimezone().isoformat(" ", "seconds") for n in range(4)]
    assert rows == [
        [at[3], "-", "ann", "account.closed", "failure", "account", "job-1"],
        [at[2], '"-"', '""', "account.closed", "success", '-:"5', "job-1"],
        [at[1], '"7"', "ann", "-", "account.closed", "success", "-", "-"],
        [at[0], "7", "ada", "ann", "account.closed", "success", "account:5", "job-1"],
    ]


def test_list_gives_json_on_a_terminal_where_it_is_asked_for(trail: Trail) -> None:
    trail.on_terminal()
    event_id = trail.add()
    assert trail.found("--json") == [event_id]


def test_a_text_takes_over_neither_the_terminal_nor_another_row(trail: Trail) -> None:
    trail.on_terminal()
    trail.add(
        organization_id="\x1b[31m\n\t", actor_id="\u202e", target_id="x" * 99, action="a\rb", job_id="\x07"
    )
    assert trail.run("list") == 0
    assert len(trail.out.splitlines()) == 3
    row = trail.out.splitlines()[2]
    for shown in (r"\x1b[31m\n\t", r"\u202e", "account:" + "x" * 49 + "...", r"a\rb", r"\x07"):
        assert f"  {shown}" in row
    assert row.isprintable()


def test_list_says_on_a_terminal_that_there_are_none(trail: Trail) -> None:
    trail.on_terminal()
    assert trail.run("list") == 0
    assert trail.out == "no audit events\n"


def test_list_gives_a_page_and_tells_the_pages_beside_it(trail: Trail) -> None:
    ids = [trail.add() for _ in range(5)]
    assert trail.found("--limit", "2") == [ids[4], ids[3]]
    assert trail.err == f"older: --cursor 'older {ids[3]}'\n"
    assert trail.found("--limit", "2", "--cursor", f"older {ids[3]}") == [ids[2], ids[1]]
    assert trail.err == f"older: --cursor 'older {ids[1]}'\nnewer: --cursor 'newer {ids[2]}'\n"
    assert trail.found("--limit", "2", "--cursor", f"newer {ids[2]}") == [ids[4], ids[3]]
    assert trail.found("--limit", "2", "--cursor", f"older {ids[1]}") == [ids[0]]
    assert trail.err == f"newer: --cursor 'newer {ids[0]}'\n"


def test_list_gives_the_latest_100_where_no_limit_is_given(trail: Trail) -> None:
    ids = [trail.add() for _ in range(101)]
    assert trail.found() == ids[:0:-1]
    assert trail.err.startswith("older: --cursor ")


def test_a_cursor_of_nobodys_is_told(trail: Trail) -> None:
    assert trail.run("list", "--cursor", "made-up") == 1
    assert trail.err == "sigra-workers: option 'cursor': it is none of this trail\n"
    assert trail.reader.closed


# -- tail ------------------------------------------------------------------------------------------------


def test_tail_gives_the_latest_oldest_first(trail: Trail) -> None:
    ids = [trail.add() for _ in range(11)]
    assert trail.found(action="tail") == ids[1:]
    assert trail.found("-n", "2", action="tail") == ids[-2:]
    assert trail.found("-n", "0", action="tail") == []
    assert trail.err == ""


def followed(trail: Trail, *options: str) -> list[str]:
    assert trail.run("tail", "-f", *options) == 130
    assert trail.err == ""
    return [json.loads(line)["event_id"] for line in trail.out.splitlines()]


def test_tail_follows_until_ctrl_c(trail: Trail) -> None:
    old = trail.add()
    new: list[str] = []

    def happens(**fields: Any) -> Callable[[], None]:
        return lambda: new.append(trail.add(datetime.now(UTC), **fields))

    trail.between_looks(happens(), lambda: None, happens(), happens())
    assert followed(trail) == [old, *new]
    assert len(new) == 3
    assert trail.reader.closed


def test_tail_follows_what_fits_alone(trail: Trail) -> None:
    new: list[str] = []

    def happen() -> None:
        trail.add(datetime.now(UTC), organization_id=2)
        new.append(trail.add(datetime.now(UTC), organization_id=1))

    trail.between_looks(happen, lambda: None)
    assert followed(trail, "--organization", "1", "--since", "1m", "-n", "0") == new


def test_tail_follows_nothing_from_before_the_time_that_is_asked_for(trail: Trail) -> None:
    trail.between_looks(lambda: trail.add(datetime.now(UTC) - timedelta(seconds=5)), lambda: None)
    assert followed(trail, "--since", "2s") == []


def test_tail_does_not_follow_what_was_there_at_the_start(trail: Trail) -> None:
    now = datetime.now(UTC)
    ids = [trail.add(now + timedelta(milliseconds=n)) for n in range(5)]
    trail.between_looks(lambda: None, lambda: None)
    assert followed(trail, "-n", "2") == ids[-2:]


def test_tail_follows_what_comes_while_it_begins(trail: Trail) -> None:
    new: list[str] = []
    stream = trail.reader.stream

    def streaming(**filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        yield from [*stream(**filters)]
        if not new:
            new.extend(trail.add(datetime.now(UTC)) for _ in range(3))

    trail.monkeypatch.setattr(trail.reader, "stream", streaming)
    trail.monkeypatch.setattr(
        trail.reader, "query", lambda **_: AuditPage([trail.reader.events[-1]], None, None)
    )
    trail.between_looks(lambda: None, lambda: None)
    assert sorted(followed(trail, "-n", "1")) == new


def test_tail_follows_an_event_that_is_committed_late_once(trail: Trail) -> None:
    now = datetime.now(UTC)
    events: list[str] = []

    def after(seconds: float) -> Callable[[], None]:
        return lambda: events.append(trail.add(now + timedelta(seconds=seconds)))

    trail.between_looks(after(-1), after(-4), after(-8), after(0), *[lambda: None] * 3)
    assert followed(trail) == events


def test_tail_follows_others_where_one_clock_is_ahead(trail: Trail) -> None:
    ahead = trail.add(datetime.now(UTC) + timedelta(hours=1))
    new: list[str] = []
    trail.between_looks(*[lambda: new.append(trail.add(datetime.now(UTC)))] * 3)
    assert followed(trail) == [ahead, *new]


def test_tail_that_follows_looks_at_the_last_seconds_alone(trail: Trail) -> None:
    now = datetime.now(UTC)
    asked: list[datetime] = []
    stream = trail.reader.stream

    def streaming(**filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        asked.extend([filters["since"]] if "since" in filters else [])
        return stream(**filters)

    trail.monkeypatch.setattr(trail.reader, "stream", streaming)
    real = datetime

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + timedelta(seconds=60 * len(asked))

    trail.monkeypatch.setattr("sigra_workers.cli.trail.datetime", Later)

    def happen() -> None:
        trail.add(now + timedelta(seconds=60 * len(asked)))

    trail.between_looks(happen, happen, happen)
    assert len(followed(trail)) == 3
    seconds = [round((at - now).total_seconds()) for at in asked]
    assert seconds == [-10, -10, 50, 110]


def test_tail_keeps_its_columns_while_it_follows_on_a_terminal(trail: Trail) -> None:
    trail.on_terminal()
    trail.between_looks(
        lambda: trail.add(datetime.now(UTC)),
        lambda: trail.add(datetime.now(UTC), organization_id="a" * 20),
        lambda: trail.add(datetime.now(UTC)),
    )
    assert trail.run("tail", "-f") == 130
    nothing, titles, _, *rows = trail.out.splitlines()
    assert nothing == "no audit events"
    assert [row.index("account.closed") for row in rows] == [titles.index("action"), 71, 71]


# -- export ----------------------------------------------------------------------------------------------


def test_export_gives_all_that_fit_oldest_first(trail: Trail) -> None:
    ids = [trail.add() for _ in range(201)]
    assert trail.found(action="export") == ids
    assert trail.err == "201 events exported\n"
    assert trail.found("--until", "2026-01-31T12:00:01Z", action="export") == ids[:1]
    assert trail.err == "1 event exported\n"


def test_export_ends_at_the_time_when_it_began(trail: Trail) -> None:
    old = trail.add()
    trail.add(datetime.now(UTC) + timedelta(seconds=30))
    assert trail.found(action="export") == [old]


def test_export_to_a_file_for_its_owner_alone(trail: Trail, tmp_path: Path) -> None:
    event_id = trail.add()
    file = tmp_path / "trail.jsonl"
    assert trail.run("export", "--output", str(file)) == 0
    assert (trail.out, trail.err) == ("", "1 event exported\n")
    assert [json.loads(line)["event_id"] for line in file.read_text().splitlines()] == [event_id]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [file]


def test_export_replaces_no_file_unless_it_is_forced(trail: Trail, tmp_path: Path) -> None:
    file, link = tmp_path / "trail.jsonl", tmp_path / "link"
    file.write_text("before")
    link.symlink_to(file)
    for name in (file, link):
        assert trail.run("export", "--output", str(name)) == 1
        problem = f"option 'output': '{name}' exists: add --force to replace it"
        assert trail.err == f"sigra-workers: {problem}\n"
    assert file.read_text() == "before"
    assert trail.run("export", "--output", str(link), "--force") == 0
    assert file.read_text() == ""
    assert link.is_symlink()


def test_export_replaces_nothing_that_is_no_file(trail: Trail, tmp_path: Path) -> None:
    assert trail.run("export", "--output", str(tmp_path), "--force") == 1
    assert trail.err == f"sigra-workers: option 'output': '{tmp_path}' exists: it is no file\n"
    assert trail.run("export", "--output", str(tmp_path / "no" / "such")) == 1
    assert trail.err.startswith("sigra-workers: FileNotFoundError: ")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("error", "code"), [(ConnectionError("gone"), 1), (KeyboardInterrupt(), 130)], ids=repr
)
def test_export_leaves_nothing_half_written(
    trail: Trail, tmp_path: Path, error: BaseException, code: int
) -> None:
    def breaking(**filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        yield an_event(1, START)
        raise error

    trail.monkeypatch.setattr(trail.reader, "stream", breaking)
    assert trail.run("export", "--output", str(tmp_path / "trail.jsonl")) == code
    assert [*tmp_path.iterdir()] == []
    assert trail.err == ("sigra-workers: ConnectionError: gone\n" if code == 1 else "")
    assert trail.reader.closed


def test_export_does_not_replace_a_file_that_came_meanwhile(trail: Trail, tmp_path: Path) -> None:
    file = tmp_path / "trail.jsonl"

    def another(**filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        file.write_text("another's")
        yield an_event(1, START)

    trail.monkeypatch.setattr(trail.reader, "stream", another)
    assert trail.run("export", "--output", str(file)) == 1
    assert file.read_text() == "another's"
    assert [*tmp_path.iterdir()] == [file]


def test_export_takes_flat_memory(trail: Trail, tmp_path: Path) -> None:
    def many(**filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
        for number in range(2_000):
            yield an_event(number, START, metadata={"note": f"{number:08000}"})

    trail.monkeypatch.setattr(trail.reader, "stream", many)
    file = tmp_path / "trail.jsonl"
    tracemalloc.start()
    try:
        assert trail.run("export", "--output", str(file)) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.stat().st_size > 16_000_000
    assert peak < 4_000_000


def test_export_keeps_nothing_of_the_events_that_it_has_written(trail: Trail, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        def many(**filters: Unpack[AuditFilters]) -> Iterator[AuditEvent]:
            return (an_event(number, START) for number in range(count))

        trail.monkeypatch.setattr(trail.reader, "stream", many)
        tracemalloc.start()
        try:
            assert trail.run("export", "--output", str(tmp_path / f"{count}.jsonl")) == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(500)
    assert peak(10_500) < few + 500_000  # 50 bytes of each


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (0, 10, 0.0, "[--------------------]   0%  0 of 10  0 events/s  ? left"),
        (500, 2_000, 10.0, "[#####---------------]  25%  500 of 2000  50 events/s  0:00:30 left"),
        (12, 10, 1.0, "[####################] 100%  12 of 12  12 events/s  0:00:00 left"),
        (0, 0, 1.0, "[####################] 100%  0 of 0  0 events/s  ? left"),
    ],
)
def test_the_bar_tells_how_far_how_fast_and_how_long(
    done: int, total: int, seconds: float, line: str
) -> None:
    assert bar(done, total, seconds) == line


# -- what goes wrong -------------------------------------------------------------------------------------


def test_an_error_of_the_database_library_is_told_in_a_line(trail: Trail) -> None:
    def away(**filters: object) -> AuditPage:
        raise ConnectionError(f"no \x1b[31m answer from {URL} for 's3cr3t'\nmore")

    trail.monkeypatch.setattr(trail.reader, "query", away)
    assert trail.run("list") == 1
    assert trail.err == "sigra-workers: ConnectionError: no \\x1b[31m answer from *** for '***'\n"
    assert trail.reader.closed


def test_a_database_that_can_not_be_opened_is_told(trail: Trail) -> None:
    def refusing(*_: object) -> AuditReader:
        raise InvalidSettingsError("AuditTrail", f"no driver for {URL}\ninstall it")

    trail.open_with(refusing)
    assert trail.run("list") == 1
    assert trail.err == "sigra-workers: AuditTrail: no driver for ***\ninstall it\n"


@pytest.mark.parametrize(
    ("url", "message", "told"),
    [
        ("a://u:p%40ss@h/db", "bad 'p@ss' or 'p%40ss'", "bad '***@***' or '***%***'"),
        ("a://u:p/w@x@h/db", "int(): 'p', 'w@x'", "int(): '***', '***@***'"),
        ("a://h/db?password=a%2Bb&sslmode=on", "a+b on", "***+*** on"),
        ("a://u@h/db", "user u at h", "user u at h"),
        ("sqlite:///app.db", "no such table: audit_events", "no such table: audit_events"),
    ],
)
def test_no_word_of_a_password_is_told_however_the_url_was_misread(url: str, message: str, told: str) -> None:
    assert without_password(message, url) == told


# -- in processes and on terminals -----------------------------------------------------------------------


def command() -> int:
    """The command in a process of its own, on a trail of three events."""
    events = [an_event(number, START + timedelta(seconds=number)) for number in range(3)]
    pytest.MonkeyPatch().setattr(Plugins, "audit_reader", lambda *_: ListReader(events))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    return main()


SCRIPT: Final = "import sys; from tests.test_cli_audit import command; sys.exit(command())"


def started(*arguments: str, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "audit", *arguments, URL], cwd=ROOT, stdout=stdout, stderr=stderr
    )


def on_terminal(*arguments: str, stdout: int | None = None) -> tuple[int, str]:
    """The exit code, and what a terminal shows; of standard output too, unless that goes elsewhere."""
    ours, theirs = pty.openpty()
    process = started(*arguments, stdout=theirs if stdout is None else stdout, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4_096):
            shown += chunk
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def test_a_terminal_shows_a_table() -> None:
    code, shown = on_terminal("list")
    titles, rule, *rows = shown.splitlines()
    assert (code, titles.split()[0], {*rule}, len(rows)) == (0, "time", {"-", " "}, 3)


def test_a_terminal_shows_how_far_an_export_to_elsewhere_is(tmp_path: Path) -> None:
    file = tmp_path / "trail.jsonl"
    code, shown = on_terminal("export", "--output", str(file))
    line = "[--------------------]   0%  0 of 3  0 events/s  ? left"
    assert (code, shown) == (0, f"\r{line}\r{' ' * len(line)}\r3 events exported\n")
    assert len(file.read_text().splitlines()) == 3

    with (tmp_path / "piped.jsonl").open("w") as piped:
        code, again = on_terminal("export", stdout=piped.fileno())
    assert (code, again) == (0, shown)
    assert (tmp_path / "piped.jsonl").read_text() == file.read_text()


def test_no_bar_is_drawn_into_an_export_to_the_terminal() -> None:
    code, shown = on_terminal("export")
    *lines, last = shown.splitlines()
    assert (code, len(lines), last) == (0, 3, "3 events exported")
    assert all(json.loads(line) for line in lines)


def test_neither_table_nor_bar_is_piped() -> None:
    for action, errors in (("list", b""), ("tail", b""), ("export", b"3 events exported\n")):
        process = started(action, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate()
        assert (process.returncode, err) == (0, errors)
        assert len([json.loads(line) for line in out.splitlines()]) == 3


def test_a_pipe_that_nobody_reads_any_more_ends_it_quietly() -> None:
    for arguments in (["list"], ["export"], ["tail", "-f"]):
        reading, writing = os.pipe()
        os.close(reading)
        process = started(*arguments, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        _, err = process.communicate()
        assert (process.returncode, err) == (141, b"")


def test_ctrl_c_ends_following_quietly() -> None:
    process = started("tail", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert all(json.loads(process.stdout.readline()) for _ in range(3))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"")


def test_the_bar_is_drawn_anew_as_time_goes_by(trail: Trail, tmp_path: Path) -> None:
    ids = [trail.add() for _ in range(3)]
    trail.monkeypatch.setattr("sigra_workers.cli.progress.REDRAW", 0.0)
    trail.monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    trail.monkeypatch.setattr(sys.stderr, "fileno", lambda: 2)
    trail.monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((30, 24)))
    assert trail.run("export", "--output", str(tmp_path / "trail.jsonl")) == 0
    drawn = trail.err.split("\r")
    assert [line[23:] for line in drawn[1:5]] == ["  0%  ", " 33%  ", " 67%  ", "100%  "]
    assert {len(line) for line in drawn[1:6]} == {29}
    assert drawn[-1] == f"{len(ids)} events exported\n"


def test_importing_the_module_that_runs_the_command_runs_nothing() -> None:
    assert importlib.import_module("sigra_workers.cli.__main__").main is main
