"""docs/how-to/audit.md: its code, run as it stands there, and what it says of the code."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.blocks import path, texts
from tests.support import KEYS, Host, again

from sigra_workers import AuditEvent, Error, Ok, Snooze
from sigra_workers.audit import FORBIDDEN_KEYS, MAX_METADATA_BYTES
from sigra_workers.memory import MemoryAdapter

PAGE: Final = path("how-to/audit.md").read_text()
PYTHON: Final = texts("how-to/audit.md", "python")
(ECS,) = (json.loads(text) for text in texts("how-to/audit.md", "json"))
(LOGGED,) = texts("how-to/audit.md", "text")

BEFORE: Final = """
import json
import logging
import sqlite3
import threading
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from sigra_workers import (
    AuditError,
    AuditEvent,
    JsonLinesSink,
    OrganizationArgs,
    Ok,
    Result,
    TransactionalSink,
    event_dict,
    hookimpl,
    organization_args,
)
from sigra_workers.memory import MemoryAdapter


def request_of(user: str, admin: str | None = None) -> Any:
    parts = {"user": user, "active_organization": "northwind", "impersonating_from": admin}
    found = {part: None if value is None else SimpleNamespace(id=value) for part, value in parts.items()}
    return SimpleNamespace(scope=SimpleNamespace(**found))


class BrokenSink:
    def write(self, event: AuditEvent, /) -> None:
        raise ConnectionError("s3cr3t")


request = request_of("ann")
request_as_ann_by_admin = request_of("ann", "admin")
lost: list[tuple[str, tuple[str, ...], str]] = []
with closing(sqlite3.connect("app.db")) as connection, connection:
    connection.execute("CREATE TABLE audit (event_id TEXT PRIMARY KEY, event TEXT NOT NULL)")
    connection.execute("CREATE TABLE accounts (id TEXT PRIMARY KEY, state TEXT NOT NULL)")
    connection.execute("INSERT INTO accounts VALUES ('acc_5', 'open')")
"""
"""The application around the page's code."""

BEHIND_THE_FIRST: Final = """
class CloseAccountArgs(OrganizationArgs):
    account_id: str


class CloseAccount:
    def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
        audit.log_safe("account.closed", scope, target_type="account", target_id=args["account_id"])
        return Ok("closed")


close_account = workers.declare("accounts.close", CloseAccountArgs)
close_account.implement(CloseAccount())
"""
"""What needs the page's own `workers`."""

PROGRAM: Final = "\n\n".join([BEFORE, PYTHON[0], BEHIND_THE_FIRST, *PYTHON[1:]])


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that there are behind all of the page's code, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(PROGRAM, "docs/how-to/audit.md", "exec", dont_inherit=True), names)
    yield names
    for handler in [*names["logger"].handlers]:
        names["logger"].removeHandler(handler)
        handler.close()


# -- its code --------------------------------------------------------------------------------------------


def test_the_json_line_is_the_one_on_the_page(ran: dict[str, Any]) -> None:
    (line,) = Path("audit.jsonl").read_text().splitlines()
    found = json.loads(line)
    ids_and_times = {"@timestamp": ECS["@timestamp"], "event": {**found["event"], "id": ECS["event"]["id"]}}
    assert {**found, **ids_and_times} == ECS


def test_a_failure_is_logged_as_on_the_page(ran: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with ran["audit"].using(ran["BrokenSink"]()):
        ran["audit"].log_safe("account.closed", None)
    assert [f"{record.getMessage()}\n" for record in caplog.records] == [LOGGED]


def test_the_pages_file_sink_keeps_one_event_an_id(ran: dict[str, Any]) -> None:
    sink, event = ran["FileSink"]("events.jsonl"), ran["event"]
    sink.write(event)
    sink.write(event)
    (line,) = Path("events.jsonl").read_text().splitlines()
    assert json.loads(line)["event_id"] == event.event_id


def test_the_pages_transactional_sink_keeps_one_event_an_id_and_none_of_a_rollback(
    ran: dict[str, Any],
) -> None:
    sink, event = ran["SqliteSink"]("app.db"), ran["event"]
    with closing(sqlite3.connect("app.db")) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)
        assert connection.execute("SELECT state FROM accounts").fetchall() == [("closed",)]
        sink.write_in(event, connection)
        connection.rollback()
        sink.write(event)
        sink.write(event)
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (2,)


@pytest.mark.typing
def test_mypy_accepts_the_pages_code(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "page.py"]
    checked = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


# -- what it says ----------------------------------------------------------------------------------------


def test_the_table_of_fields_has_every_field_of_an_event() -> None:
    table = PAGE.split("## What a row holds")[1].split("##")[0]
    found = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE)))
    assert found == [*AuditEvent.__dataclass_fields__]


def test_the_forbidden_keys_and_the_limit_are_those_of_the_code() -> None:
    told = PAGE.split("at any depth and in any spelling:")[1].split("alone, in the plural")[0]
    assert {*re.findall(r"`(\w+)`", told)} == FORBIDDEN_KEYS
    assert MAX_METADATA_BYTES == 8 * 1024
    assert "more than 8 KiB" in PAGE


def rows(body: Any, deliveries: int, *, snoozed: bool = False) -> int:
    """How many events a job leaves that is delivered so often, each time as its last run decided."""
    host = Host().worker(lambda scope, args: body(host.audit, scope))
    payload = host.payload()
    for _ in range(deliveries):
        outcome = host.deliver(payload)
        if snoozed:
            payload = again(outcome).payload
            host.clock.advance(86_400)
    return len(host.events)


def test_the_table_of_runs_and_rows_is_true() -> None:
    outcomes = iter(["failure", "success", "success"])

    def once(audit: Any, scope: Any) -> Any:
        audit.log("account.closed", scope)
        return Ok()

    def failed_and_then_not(audit: Any, scope: Any) -> Any:
        outcome = next(outcomes)
        audit.log("account.closed", scope, outcome=outcome)
        return Ok() if outcome == "success" else Error("not yet")

    def reminds(audit: Any, scope: Any) -> Any:
        audit.log("reminder.sent", scope)
        return Snooze(86_400)

    def thrice(audit: Any, scope: Any) -> Any:
        for _ in range(3):
            audit.log("mail.sent", scope)
        return Ok()

    def at_another_time(audit: Any, scope: Any) -> Any:
        audit.log("account.closed", scope, occurred_at=datetime.now(UTC), metadata={"try": next(tries)})
        return Ok()

    tries = iter([1, 2])
    assert rows(once, 2) == 1
    assert rows(failed_and_then_not, 3) == 2
    assert rows(reminds, 5, snoozed=True) == 5
    assert rows(thrice, 2) == 3
    assert rows(at_another_time, 2) == 1


def test_an_operator_who_sends_a_dead_job_again_makes_one_row_more() -> None:
    def perform(scope: Any, args: Any) -> Any:
        host.audit.log("account.closed", scope, outcome="failure")
        return Error("no")

    host = Host().worker(perform, max_attempts=1)
    adapter = MemoryAdapter.of(host.workers)
    host.handle.enqueue(KEYS)
    adapter.drain()
    host.workers.resend(host.workers.dead(), by="ops")
    adapter.drain()
    assert len(host.events) == 2
