"""What every adapter's worker process begins with."""

import logging

import pytest

from sigra_workers import (
    AuditScope,
    InvalidSettingsError,
    NotFoundError,
    Ok,
    Result,
    TenantArgs,
    Workers,
    WorkersNotBoundError,
)
from sigra_workers.boot import adapter_of, bind
from sigra_workers.memory import MemoryAdapter

COMMAND = "queue app.boot"

workers = Workers[AuditScope]()
workers.declare("accounts.close", TenantArgs)


@workers.worker(name="accounts.open")
def open_account(scope: AuditScope, args: TenantArgs) -> Result[None]:
    return Ok()


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGRA_WORKERS", raising=False)


def test_workers_are_given_as_they_are_by_path_or_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [bind(workers, "queue", COMMAND), bind("sigra_workers.demo.app:workers", "queue", COMMAND)]
    monkeypatch.setenv("SIGRA_WORKERS", "sigra_workers.demo.app:workers")
    assert given == [workers, bind(None, "queue", COMMAND)]


def test_without_any_the_error_shows_the_command() -> None:
    with pytest.raises(WorkersNotBoundError, match=COMMAND):
        bind(None, "queue", COMMAND)


def test_a_path_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        bind("nowhere:workers", "queue", COMMAND)


def test_workers_that_are_not_implemented_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bind(workers, "queue", COMMAND)
    (record,) = caplog.records
    assert record.name == "sigra_workers.queue"
    assert "'accounts.close' is not implemented" in record.getMessage()


def test_an_adapter_is_given_as_its_own_class() -> None:
    assert adapter_of(workers, MemoryAdapter, "memory") is workers.adapter


def test_another_adapter_is_refused_by_both_names() -> None:
    with pytest.raises(InvalidSettingsError, match="adapter 'memory', expected 'other'"):
        adapter_of(workers, int, "other")
