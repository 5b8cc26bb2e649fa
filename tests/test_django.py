"""Jobs after a commit in Django: the recipe of docs/how-to/after-commit.md, in a minimal Django."""

import json
import subprocess
import sys
import textwrap
from typing import Final

import pytest
from tests.docs.blocks import texts

(RECIPE,) = texts("how-to/after-commit.md", "python", having="def close_accounts")
(THEIR_TEST,) = texts("how-to/after-commit.md", "python", having="TestCase")

HOST: Final = """
import json
import traceback
import unittest
from types import SimpleNamespace

import django
from django.conf import settings

ENGINE = "django.db.backends.sqlite3"
databases = {name: {"ENGINE": ENGINE, "NAME": f"{name}.db"} for name in ("default", "other")}
settings.configure(DATABASES=databases, INSTALLED_APPS=[])
django.setup()

from django.db import connections, models
from django.test import TestCase
from sigra_workers import AuditScope, EnqueueError, OrganizationArgs, Rejected, Workers, organization_args
from sigra_workers.memory import MemoryAdapter


class Account(models.Model):
    id = models.CharField(primary_key=True, max_length=20)
    state = models.CharField(max_length=20, default="open")

    class Meta:
        app_label = "accounts"


class CloseAccountArgs(OrganizationArgs):
    account_id: str


workers = Workers[AuditScope]()
queue = MemoryAdapter.of(workers)
close_account = workers.declare("accounts.close", CloseAccountArgs)
scope = SimpleNamespace(
    user=SimpleNamespace(id="ann"),
    active_organization=SimpleNamespace(id="northwind"),
    impersonating_from=None,
)
request = SimpleNamespace(scope=scope)
jobs = [close_account.new(CloseAccountArgs(**organization_args(scope), account_id="acc_1"))]
for connection in connections.all():
    with connection.schema_editor() as editor:
        editor.create_model(Account)


def sent():
    return [payload.args["account_id"] for payload in queue.payloads]


def closing():
    return Account.objects.filter(state="closing").count()


def attempt(scenario):
    queue.clear()
    queue.__dict__.pop("send", None)
    Account.objects.all().delete()
    Account.objects.bulk_create(Account(id=f"acc_{n}") for n in range(1, 6))
    try:
        exec(scenario, dict(globals()))
    except BaseException:
        return traceback.format_exc()
    return None


"""

SCENARIOS: Final = {
    "the_jobs_are_sent_after_the_commit": """
        close_accounts(request, ["acc_1", "acc_2"])
        assert (sent(), closing()) == (["acc_1", "acc_2"], 2)
        """,
    "nested_blocks_wait_for_the_outermost": """
        with transaction.atomic():
            close_accounts(request, ["acc_1"])
            with transaction.atomic():
                close_accounts(request, ["acc_2"])
            assert sent() == []
        assert (sent(), closing()) == (["acc_1", "acc_2"], 2)
        """,
    "nothing_is_sent_after_a_rollback": """
        try:
            with transaction.atomic():
                close_accounts(request, ["acc_1"])
                1 / 0
        except ZeroDivisionError:
            pass
        assert (sent(), closing()) == ([], 0)
        """,
    "a_nested_rollback_forgets_its_own_jobs_alone": """
        with transaction.atomic():
            close_accounts(request, ["acc_1"])
            try:
                with transaction.atomic():
                    close_accounts(request, ["acc_2"])
                    1 / 0
            except ZeroDivisionError:
                pass
        assert (sent(), closing()) == (["acc_1"], 1)
        """,
    "nothing_is_sent_where_the_block_is_marked_for_rollback": """
        with transaction.atomic():
            close_accounts(request, ["acc_1"])
            transaction.set_rollback(True)
        assert (sent(), closing()) == ([], 0)
        """,
    "args_that_are_refused_undo_the_block": """
        try:
            close_accounts(request, ["acc_1", b"acc_2"])
        except ValueError as error:
            assert "acc_2" not in str(error)
        else:
            raise AssertionError
        assert (sent(), closing()) == ([], 0)
        """,
    "outside_of_a_block_they_are_sent_at_once": """
        transaction.on_commit(lambda: workers.enqueue_many(jobs))
        assert sent() == ["acc_1"]
        """,
    "another_database_is_named": """
        with transaction.atomic():
            with transaction.atomic(using="other"):
                transaction.on_commit(lambda: workers.enqueue_many(jobs), using="other")
                assert sent() == []
            assert sent() == ["acc_1"]
        """,
    "a_queue_that_is_away_is_told_by_the_block_with_the_data_committed": """
        queue.send = lambda jobs: [Rejected(ConnectionError()) for _ in jobs]
        try:
            close_accounts(request, ["acc_1"])
        except EnqueueError as error:
            assert len(error.rejected) == 1
        else:
            raise AssertionError
        assert closing() == 1
        """,
    "callbacks_behind_one_that_fails_are_left_out_unless_it_is_robust": """
        queue.send = lambda jobs: [Rejected(ConnectionError()) for _ in jobs]
        behind = []
        for robust in (False, True):
            try:
                with transaction.atomic():
                    transaction.on_commit(lambda: workers.enqueue_many(jobs), robust=robust)
                    transaction.on_commit(lambda: behind.append(robust))
            except EnqueueError:
                assert not robust
        assert behind == [True]
        """,
    "the_recipes_own_test_passes_in_djangos_test_case": f"""
        {textwrap.indent(THEIR_TEST, " " * 8).strip()}
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(CloseAccountsTest)
        result = unittest.TextTestRunner().run(suite)
        assert result.wasSuccessful(), result.errors
        assert result.testsRun == 1
        """,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """The traceback of each scenario, or None: all in one process, with two databases of its own."""
    folder = tmp_path_factory.mktemp("django")
    scenarios = {name: textwrap.dedent(text) for name, text in SCENARIOS.items()}
    end = "print(json.dumps({name: attempt(scenario) for name, scenario in scenarios.items()}))\n"
    (folder / "program.py").write_text("\n".join([HOST, RECIPE, f"scenarios = {scenarios!r}", end]))
    command = [sys.executable, "-W", "error", "program.py"]
    ran = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str | None] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_recipe_in_django(scenario: str, outcomes: dict[str, str | None]) -> None:
    assert outcomes[scenario] is None, outcomes[scenario]
