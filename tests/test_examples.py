"""The examples: `app`, run on the embedded adapter; the settings of `saas`."""

import asyncio
import importlib
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sigra_workers import AuditEvent, MemorySink
from sigra_workers.memory import HeldClock, MemoryAdapter

EXAMPLES = Path(__file__).parents[1] / "examples"


class App(SimpleNamespace):
    """The modules of a freshly imported application, its queue and its audit trail."""

    jobs: Any
    web: Any
    cron: Any
    accounts: Any
    queue: MemoryAdapter
    sink: MemorySink

    def request(self, user: str = "ann", organization: str = "org_1", by: str | None = None) -> Any:
        """A request of a user who may close accounts, maybe with an admin behind it."""
        web = self.web
        admin = None if by is None else web.User(by)
        return web.Request(web.Scope(web.User(user, True), web.Organization(organization), admin))

    def rows(self) -> list[tuple[object, ...]]:
        """The audit trail: action, actor, effective user, organization, target."""

        def row(event: AuditEvent) -> tuple[object, ...]:
            who = (event.actor_id, event.effective_user_id, event.organization_id)
            return (event.action, *who, event.target_id)

        return [row(event) for event in self.sink.events]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Generator[App]:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delenv("APP_QUEUE", raising=False)
    before = {*sys.modules}
    names = ("jobs", "web", "cron", "accounts")
    modules: dict[str, Any] = {name: importlib.import_module(f"app.{name}") for name in names}
    sink = MemorySink()
    with modules["jobs"].audit.using(sink), modules["jobs"].workers as workers:
        queue = MemoryAdapter.of(workers)
        queue.clock = HeldClock()
        yield App(**modules, queue=queue, sink=sink)
    for name in {*sys.modules} - before:
        if name.partition(".")[0] == "app":
            del sys.modules[name]


def test_a_job_of_a_request_runs_as_its_user_in_its_organization(app: App) -> None:
    app.web.close(app.request(), "acc_1")
    app.queue.drain(scheduled=True)
    assert app.rows() == [("account.closed", "ann", "ann", "org_1", "acc_1")]


def test_an_impersonated_request_is_audited_as_the_admin(app: App) -> None:
    app.web.close(app.request(by="root"), "acc_1")
    app.queue.drain(scheduled=True)
    assert app.rows() == [("account.closed", "root", "ann", "org_1", "acc_1")]


def test_a_session_hides_the_accounts_of_other_organizations(app: App) -> None:
    ref = app.web.close(app.request(organization="org_2"), "acc_1")
    app.queue.drain(scheduled=True)
    assert (app.queue.results[ref.id], app.rows()) == ("account_not_found", [])


def test_a_legal_hold_cancels_and_open_invoices_snooze(app: App) -> None:
    first = app.web.close_many(app.request(), ["acc_1", "acc_2"])
    second = app.web.close_many(app.request(organization="org_2"), ["acc_3"])
    assert app.queue.drain() == {"complete": 1, "dead": 1, "snooze": 1}
    assert [dead.id for dead in app.queue.dead] == [first[1].id]
    (waiting,) = app.queue.payloads
    assert (waiting.id, waiting.attempt, waiting.snoozes) == (second[0].id, 1, 1)


def test_an_async_handler_enqueues(app: App) -> None:
    ref = asyncio.run(app.web.aclose(app.request(), "acc_1"))
    assert app.queue.drain() == {"complete": 1}
    assert app.queue.results[ref.id] == "closed"


def test_a_job_of_nobody_is_audited_as_the_system(app: App) -> None:
    app.cron.monthly("org_2", "2026-11")
    assert app.queue.drain() == {"complete": 1}
    assert app.rows() == [("report.built", None, None, "org_2", "2026-11")]
    (event,) = app.sink.events
    assert (event.actor_type, event.metadata) == ("system", {"accounts": 2})


def test_a_user_who_may_not_close_enqueues_nothing(app: App) -> None:
    scope = app.web.Scope(app.web.User("bob"), app.web.Organization("org_1"))
    with pytest.raises(PermissionError, match="bob"):
        app.web.close(app.web.Request(scope), "acc_1")
    assert app.queue.payloads == []


# -- the settings of saas ------------------------------------------------------------------------------


def read_by_saas() -> set[str]:
    """The variables that its modules read."""
    modules = (module.read_text() for module in (EXAMPLES / "saas").glob("*.py"))
    return {name for module in modules for name in re.findall(r'"(SAAS_\w+)"', module)}


def test_the_readme_of_saas_has_every_variable_that_it_reads() -> None:
    page = (EXAMPLES / "saas" / "README.md").read_text()
    table = page.partition("## Settings\n")[2].partition("\n\n")[0]
    names = re.findall(r"`(SAAS_\w+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE)))
    assert sorted(names) == sorted(read_by_saas())


def test_make_example_sets_what_saas_reads() -> None:
    command = ["make", "-n", "example", "ADAPTER=dramatiq", "BROKER=rabbitmq", "PORT=8001"]
    done = subprocess.run(command, cwd=EXAMPLES.parent, check=True, capture_output=True, text=True)
    given = dict(re.findall(r"\b(SAAS_\w+)=(\S*)", done.stdout))
    assert given.keys() <= read_by_saas()
    assert (given.pop("SAAS_ADAPTER"), given.pop("SAAS_PORT")) == ("dramatiq", "8001")
    assert {name: url.partition(":")[0] for name, url in given.items()} == {
        "SAAS_RABBITMQ_URL": "amqp",
        "SAAS_REDIS_URL": "redis",
    }
    assert "tools/servers redis rabbitmq" in done.stdout
