"""The sink of the example over Django's ORM: what it promises, on SQLite and on PostgreSQL."""

from pathlib import Path
from typing import Final

import pytest
from tests.django_project.support import POSTGRES, Django, postgres, project

from sigra_workers import EVERY_ORGANIZATION
from sigra_workers_sqlalchemy import AuditTrail

pytestmark = pytest.mark.integration

BEGIN: Final = """
import asyncio
from types import SimpleNamespace

from accounts.models import Organization
from config.jobs import audit
from django.db import connection, transaction
from sigra_workers import AuditError
from trail.models import AuditRow

scope = SimpleNamespace(
    user=SimpleNamespace(id=7),
    active_organization=SimpleNamespace(id=5),
    impersonating_from=SimpleNamespace(id=1),
)


def actions():
    return sorted(AuditRow.objects.values_list("action", flat=True))


"""
SCENARIOS: Final = {
    "an_event_is_one_row_however_often_it_is_written": """
        for n in range(3):
            audit.log("a.sent", scope, event_key="one", metadata={"n": n})
        assert [row.metadata for row in AuditRow.objects.all()] == [{"n": 0}]
        """,
    "in_a_transaction_it_shares_its_fate": """
        for rollback in (True, False):
            with transaction.atomic():
                Organization.objects.create(name="Acme")
                audit.log("a.made", scope, transaction=connection, event_key="one")
                transaction.set_rollback(rollback)
            assert len(actions()) == Organization.objects.count() == (not rollback)
        """,
    "a_repeated_one_leaves_the_transaction_usable": """
        with transaction.atomic():
            for _ in range(2):
                audit.log("a.made", scope, transaction=connection, event_key="one")
            Organization.objects.create(name="Acme")
        assert (actions(), Organization.objects.count()) == (["a.made"], 1)
        """,
    "without_a_transaction_such_an_event_is_refused": """
        try:
            audit.log("a.made", scope, transaction=connection)
        except AuditError as error:
            assert error.fields == ("transaction",)
        else:
            raise AssertionError
        assert actions() == []
        """,
    "async_code_writes_too": """
        async def main():
            await audit.alog("a.sent", scope)
            await audit.alog_safe("b.sent", None)

        asyncio.run(main())
        assert actions() == ["a.sent", "b.sent"]
        """,
    "the_doctor_finds_that_its_table_is_there_or_not": """
        from config.jobs import workers
        from sigra_workers.doctor import examine

        def rename(old, new):
            connection.cursor().execute(f"ALTER TABLE {old} RENAME TO {new}")
            return [one.finding.status for one in examine(workers, ["audit"])]

        try:
            assert rename("audit_events", "elsewhere") == ["ok", "problem"]
        finally:
            assert rename("elsewhere", "audit_events") == ["ok", "ok"]
        """,
}
ON_POSTGRES: Final = {
    "without_transaction_it_stays_when_the_caller_rolls_back": """
        with transaction.atomic():
            Organization.objects.create(name="Acme")
            audit.log("a.refused", scope)
            audit.log_safe("b.refused", scope)
            transaction.set_rollback(True)
        assert (actions(), Organization.objects.count()) == (["a.refused", "b.refused"], 0)
        """,
    "what_the_table_cannot_hold_is_told": """
        audit.log_safe("a.sent", scope, target_id="x" * 256)
        try:
            audit.log("a.sent", scope, target_id="x" * 256)
        except Exception as error:
            assert type(error).__name__ == "DataError"
        else:
            raise AssertionError
        assert actions() == []
        """,
    "a_lock_is_not_waited_for_longer_than_two_seconds": """
        import time
        with transaction.atomic():
            connection.cursor().execute("LOCK TABLE audit_events")
            begun = time.monotonic()
            audit.log_safe("a.sent", scope)
            assert 1.9 < time.monotonic() - begun < 10
        assert actions() == []
        """,
}
ON_SQLITE: Final = {
    "inside_of_an_own_transaction_it_is_told_as_lost": """
        lost = []
        audit.on_failure(lambda action, fields, error: lost.append(action))
        with transaction.atomic():
            Organization.objects.create(name="Acme")
            audit.log_safe("a.sent", scope)
        assert (lost, actions(), Organization.objects.count()) == (["a.sent"], [], 1)
        """,
}
RUN: Final = """
import textwrap, traceback
for name, text in scenarios.items():
    AuditRow.objects.all().delete()
    Organization.objects.all().delete()
    try:
        exec(textwrap.dedent(text), dict(globals()))
    except BaseException:
        print("FAILED", name, traceback.format_exc())
    else:
        print("passed", name)
"""


def tell(django: Django, scenarios: dict[str, str]) -> str:
    """What becomes of the scenarios, all in one process."""
    return django.python(f"{BEGIN}scenarios = {scenarios!r}\n{RUN}")


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, migrated: str) -> str:
    with postgres(migrated) as name, project(tmp_path_factory.mktemp("postgres"), name) as django:
        return tell(django, SCENARIOS | ON_POSTGRES)


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    with project(tmp_path_factory.mktemp("sqlite"), None) as django:
        django.manage("migrate", "-v0")
        return tell(django, SCENARIOS | ON_SQLITE)


@pytest.mark.parametrize("scenario", [*SCENARIOS, *ON_POSTGRES])
def test_on_postgres(on_postgres: str, scenario: str) -> None:
    assert f"passed {scenario}\n" in on_postgres, on_postgres


@pytest.mark.parametrize("scenario", [*SCENARIOS, *ON_SQLITE])
def test_on_sqlite(on_sqlite: str, scenario: str) -> None:
    assert f"passed {scenario}\n" in on_sqlite, on_sqlite


@pytest.mark.parametrize("database", ["django", "django_on_postgres"])
def test_sigra_workers_sqlalchemy_reads_the_table(request: pytest.FixtureRequest, database: str) -> None:
    django: Django = request.getfixturevalue(database)
    django.python(BEGIN + 'audit.log("a.sent", scope, target_id=3, metadata={"deep": [{"x": None}]})')
    url = f"postgresql+psycopg://postgres@{POSTGRES}/{django.database}"
    if django.database is None:
        url = f"sqlite:///{Path(django.folder, 'db.sqlite3')}"
    trail = AuditTrail.at(url)
    try:
        (event,) = trail.query(organization=5, effective_user=7, real_actor=1).events
        assert [*trail.stream(organization=EVERY_ORGANIZATION)] == [event]
    finally:
        trail.close()
    assert (event.action, event.target_id, event.metadata) == ("a.sent", 3, {"deep": [{"x": None}]})
    assert event.occurred_at.tzinfo is not None
