"""The kit under a FastAPI TestClient and under Django's test runner."""

import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from tests.testing.hosts import APP, DJANGO_SETTINGS, run, write

from sigra_workers import AuditScope, Error, Ok, Result, SigraWorkersError, TenantArgs, Workers
from sigra_workers.testing import SigraTesting, testing

ARGS = TenantArgs(organization_id="o1", actor_id="u1")
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")

workers = Workers[AuditScope](adapter="rq", settings={"url": "redis://127.0.0.1:1/0"})


@workers.worker(name="accounts.close")
def close_account(scope: AuditScope, args: TenantArgs) -> Result[str]:
    workers.audit.log_safe("account.closed", scope, metadata={"tenant": TENANT.get()})
    return Ok("closed")


@workers.worker(name="reports.build")
async def build_report(scope: AuditScope, args: TenantArgs) -> Result[str]:
    await close_account.aenqueue(args)
    return Ok("built")


def tenant() -> None:
    """What a middleware of the host does."""
    TENANT.set("the request's")


app = FastAPI(dependencies=[Depends(tenant)])


@app.post("/sync")
def by_def() -> str:
    TENANT.set("the request's")
    close_account.enqueue(ARGS)
    return build_report.enqueue(ARGS).id


@app.post("/async")
async def by_async_def() -> str:
    TENANT.set("the request's")
    await close_account.aenqueue(ARGS)
    return (await build_report.aenqueue(ARGS)).id


@app.post("/mixed")
async def by_async_def_that_blocks() -> str:
    TENANT.set("the request's")
    close_account.enqueue(ARGS)
    return build_report.enqueue(ARGS).id


PATHS = ["/sync", "/async", "/mixed"]


@pytest.fixture
def kit() -> Iterator[SigraTesting[AuditScope]]:
    with testing(workers) as found:
        yield found


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as found:
        yield found


@pytest.mark.parametrize("path", PATHS)
def test_jobs_of_a_request_wait_for_the_test(
    kit: SigraTesting[AuditScope], client: TestClient, path: str
) -> None:
    job_id = client.post(path).json()
    kit.assert_enqueued(close_account, organization_id="o1", real_actor="u1")
    kit.assert_enqueued(build_report, job_id=job_id)
    assert kit.drain() == {"complete": 3}
    assert len(kit.all_audited(action="account.closed", metadata={"tenant": "nobody"})) == 2


@pytest.mark.parametrize("path", PATHS)
def test_jobs_of_a_request_run_inside_of_it(
    kit: SigraTesting[AuditScope], client: TestClient, path: str
) -> None:
    with kit.run_inline():
        job_id = client.post(path).json()
    kit.refute_enqueued()
    assert kit.queue.results[job_id] == "built"
    assert len(kit.all_audited(action="account.closed", metadata={"tenant": "nobody"})) == 2


@pytest.mark.parametrize("path", PATHS)
def test_what_fails_a_job_fails_its_request(client: TestClient, path: str) -> None:
    def fail(scope: Any, args: Any) -> Error:
        return Error("no")

    with (
        testing(workers, replace={close_account: fail}) as kit,
        kit.run_inline(),
        pytest.raises(Exception, match=r"^no$"),
    ):
        client.post(path)


def test_behind_the_test_requests_need_the_server_again(client: TestClient) -> None:
    with pytest.raises(SigraWorkersError):
        client.post("/sync")


# -- Django ----------------------------------------------------------------------------------------------

DJANGO = {
    **APP,
    **DJANGO_SETTINGS,
    "app/models.py": """
        from django.db import models


        class Account(models.Model):
            name = models.CharField(max_length=20)
            closed = models.BooleanField(default=False)
        """,
    "app/implementations.py": """
        from app.jobs import CloseAccountArgs, close_account, workers
        from app.models import Account
        from sigra_workers import AuditScope, Ok, Result


        class CloseAccount:
            def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[int]:
                workers.audit.log_safe("account.closed", scope, target_id=args["account_id"])
                return Ok(Account.objects.filter(name=args["account_id"]).update(closed=True))


        close_account.implement(CloseAccount())
        """,
    "app/web.py": """
        from django.db import transaction

        from app.jobs import CloseAccountArgs, close_account, workers
        from app.models import Account


        @transaction.atomic
        def close(name):
            Account.objects.create(name=name)
            args = CloseAccountArgs(organization_id="o1", actor_id="u1", account_id=name)
            job = close_account.new(args)
            transaction.on_commit(lambda: workers.enqueue_many([job]))
        """,
    "app/tests.py": """
        from django.test import TestCase, TransactionTestCase

        from app.implementations import workers
        from app.jobs import close_account
        from app.models import Account
        from app.web import close
        from sigra_workers.testing import testing


        class InATransaction(TestCase):
            def setUp(self):
                self.sigra = self.enterContext(testing(workers))

            def test_jobs_wait_behind_the_commit(self):
                with self.captureOnCommitCallbacks(execute=True):
                    close("a1")
                    self.sigra.refute_enqueued(close_account)
                self.sigra.assert_enqueued(close_account, args={"account_id": "a1"}, real_actor="u1")
                self.assertEqual(self.sigra.drain(), {"complete": 1})
                self.assertTrue(Account.objects.get().closed)

            def test_jobs_run_in_the_tests_transaction(self):
                with self.sigra.run_inline(), self.captureOnCommitCallbacks(execute=True):
                    close("a1")
                self.assertTrue(Account.objects.get().closed)
                self.sigra.assert_audit_logged(action="account.closed", organization_id="o1")

            async def test_in_async_code(self):
                await self.sigra.adrain()
                self.sigra.refute_enqueued()


        class Committed(TransactionTestCase):
            def test_jobs_are_sent_by_the_commit(self):
                with testing(workers) as sigra, sigra.run_inline():
                    close("a1")
                self.assertTrue(Account.objects.get().closed)
        """,
}


def test_it_works_under_djangos_test_runner(tmp_path: Path) -> None:
    write(tmp_path, DJANGO)
    done = run(tmp_path, "-W", "error", "manage.py", "test", "--parallel", "1")
    assert re.search(r"Ran 4 tests.*\n\nOK\n", done.stdout), done.stdout
