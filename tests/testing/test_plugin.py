"""The fixture `sigra` in a host's own test run: found by the setting, with xdist, unittest and loops."""

import re
import shutil
from pathlib import Path

import pytest
from tests.testing.hosts import APP, ROOT, pytest_in, run, write

SETTING = """
    [pytest]
    pythonpath = .
    sigra_workers = {path}
    """
CLOSE = """
    from sigra_workers import Ok
    from sigra_workers.testing import SigraTesting

    from app.jobs import CloseAccountArgs, close_account


    def test_close(sigra: SigraTesting) -> None:      # swaps adapter and audit sink of app.jobs:workers
        args = CloseAccountArgs(organization_id="o1", actor_id="u1", account_id="a1")
        assert sigra.perform_job(close_account, args) == Ok("closed")
        sigra.assert_audit_logged(action="account.closed", organization_id="o1", real_actor="u1")
    """


@pytest.fixture
def host(tmp_path: Path) -> Path:
    write(tmp_path, {**APP, "pytest.ini": SETTING.format(path="app.implementations:workers")})
    return tmp_path


def test_the_fixture_is_there_and_finds_the_workers_by_the_setting(host: Path) -> None:
    write(host, {"test_close.py": CLOSE})
    done = run(host, "-m", "pytest", "-q", "-W", "error")
    assert "1 passed" in done.stdout, done.stdout


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example, with an account more; its setting names the registry, which implements nothing."""
    shutil.copytree(ROOT / "examples" / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    accounts = tmp_path / "app" / "accounts.py"
    accounts.write_text(accounts.read_text().replace("Accounts(\n", 'Accounts(\n    Account("a1", "o1"),\n'))
    write(tmp_path, {"pytest.ini": SETTING.format(path="app.jobs:workers"), "test_close.py": CLOSE})
    return tmp_path


def test_the_setting_may_name_the_registry_where_a_conftest_imports_what_implements_it(example: Path) -> None:
    write(example, {"conftest.py": "import app.implementations\n"})
    done = pytest_in(example)
    assert "1 passed" in done.stdout, done.stdout


def test_a_registry_without_what_implements_it_is_told_with_what_to_do(example: Path) -> None:
    done = pytest_in(example, "--tb=short")
    assert "1 failed" in done.stdout, done.stdout
    told = "WorkerNotImplementedError: worker 'accounts.close' is not implemented in this process"
    assert told in done.stdout
    assert "import what implements it, such as app.implementations, or give a fake" in done.stdout


def test_the_last_frame_that_a_failure_shows_is_the_tests(host: Path) -> None:
    more = """
        from app.jobs import close_account
        from sigra_workers import WorkerNotImplementedError


        def test_nothing_waits(sigra):
            sigra.assert_enqueued(close_account, organization_id="o1")


        def test_nothing_was_logged(sigra):
            sigra.assert_audit_logged(action="account.closed")
        """
    write(host, {"test_close.py": more})
    done = pytest_in(host, "--tb=short")
    assert "2 failed" in done.stdout, done.stdout
    assert "site-packages" not in done.stdout
    assert "src/sigra_workers" not in done.stdout
    assert (
        "E   AssertionError: no job waits with worker='accounts.close', organization_id='o1'" in done.stdout
    )
    assert "E   AssertionError: no audit event was logged with action='account.closed'" in done.stdout


HOW = """\
name the module that implements them, in the pytest section of pyproject.toml:
    [tool.pytest.ini_options]
    pythonpath = ["."]
    sigra_workers = "app.implementations:workers"
or write a fixture of your own: with sigra_workers.testing.testing(workers) as sigra: yield sigra"""


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "the fixture sigra needs the setting sigra_workers"),
        ("json", "the fixture sigra finds no workers: 'json' leads to no Workers object: expected module:"),
        ("nowhere:workers", "'nowhere:workers' leads to no Workers object: there is no module 'nowhere'"),
        ("json:workers", "'json:workers' leads to no Workers object: module 'json' has no such object"),
    ],
)
def test_a_setting_that_leads_nowhere_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, problem: str
) -> None:
    test = """
        def test_close(sigra):
            pass
        """
    write(tmp_path, {"test_close.py": test, "pytest.ini": SETTING.format(path=path)})
    config = ["-c", str(tmp_path / "pytest.ini"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    assert pytest.main(["-q", "-s", "--import-mode=importlib", *config, str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "1 error" in said
    assert problem in said
    assert HOW in said
    assert "Traceback" not in said
    assert "plugin.py" not in said


def test_it_works_in_many_processes_with_a_loop_for_each_test(host: Path) -> None:
    """With xdist, asyncio.run, anyio, pytest-asyncio and unittest; `testing` is imported, and is no test."""
    many = """
        import asyncio
        import unittest

        import pytest

        from app.implementations import build_report, workers
        from app.jobs import CloseAccountArgs, close_account
        from sigra_workers import Ok
        from sigra_workers.testing import *
        from sigra_workers.testing import testing

        ARGS = CloseAccountArgs(organization_id="o1", actor_id="u1", account_id="a1")


        @pytest.mark.parametrize("n", range(20))
        def test_each_test_begins_anew(sigra, n):
            assert sigra.all_enqueued() == sigra.all_audited() == sigra.runs == []
            close_account.enqueue(ARGS, job_id="always-the-same")
            assert sigra.drain() == {"complete": 1}
            sigra.assert_audit_logged(real_actor="u1")


        @pytest.mark.parametrize("n", range(10))
        def test_a_loop_of_its_own(sigra, n):
            async def main():
                await build_report.aenqueue(ARGS)
                assert await sigra.adrain() == {"complete": 2}
                with sigra.run_inline():
                    await build_report.aenqueue(ARGS)
                    build_report.enqueue(ARGS)
                return await sigra.aperform_job(build_report, ARGS)

            assert asyncio.run(main()) == Ok("built")
            assert len(sigra.all_audited()) == 3
            sigra.assert_enqueued(close_account, args={"account_id": "a2"}, real_actor=None)


        @pytest.mark.anyio
        @pytest.mark.parametrize("n", range(10))
        async def test_a_loop_of_anyios(sigra, n):
            assert await sigra.aperform_job(build_report, ARGS) == Ok("built")
            assert sigra.perform_job(build_report, ARGS) == Ok("built")
            await close_account.aenqueue(ARGS)
            assert await sigra.adrain() == {"complete": 3}


        @pytest.fixture
        def anyio_backend():
            return "asyncio"


        @pytest.mark.asyncio
        @pytest.mark.parametrize("n", range(10))
        async def test_a_loop_of_pytest_asyncios(sigra, n):
            assert await sigra.aperform_job(build_report, ARGS) == Ok("built")
            assert sigra.perform_job(build_report, ARGS) == Ok("built")
            await close_account.aenqueue(ARGS)
            assert await sigra.adrain() == {"complete": 3}


        class Case(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.sigra = self.enterContext(testing(workers))

            async def test_one(self):
                self.assertEqual(await self.sigra.aperform_job(build_report, ARGS), Ok("built"))
                self.sigra.assert_enqueued(close_account)

            def test_two(self):
                self.sigra.refute_enqueued(close_account)
        """
    write(host, {"test_many.py": many})
    asyncio = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")
    done = pytest_in(host, "-p", "xdist", "-p", "anyio", *asyncio, "-n", "2")
    assert "52 passed" in done.stdout, done.stdout


def test_it_works_with_unittest_where_there_is_no_pytest(host: Path) -> None:
    block = """
        import sys

        sys.modules["pytest"] = sys.modules["_pytest"] = None  # as if it were not installed
        """
    case = """
        import unittest

        import block
        from app.implementations import build_report, workers
        from app.jobs import CloseAccountArgs, close_account
        from sigra_workers import Cancel, Ok
        from sigra_workers.testing import testing

        ARGS = CloseAccountArgs(organization_id="o1", actor_id="u1", account_id="a1")


        class Case(unittest.TestCase):
            def setUp(self):
                self.sigra = self.enterContext(testing(workers))

            def test_perform(self):
                self.assertEqual(self.sigra.perform_job(close_account, ARGS), Ok("closed"))
                self.sigra.assert_audit_logged(action="account.closed", real_actor="u1")

            def test_replace(self):
                with testing(workers, replace={close_account: lambda scope, args: Cancel("hold")}) as sigra:
                    close_account.enqueue(ARGS)
                    self.assertEqual(sigra.drain(), {"cancel": 1})

            def test_drain(self):
                build_report.enqueue(ARGS)
                self.assertEqual(self.sigra.drain(), {"complete": 2})

            def test_a_failure(self):
                with self.assertRaisesRegex(AssertionError, "no job waits at all"):
                    self.sigra.assert_enqueued(close_account)
        """
    write(host, {"block.py": block, "test_case.py": case})
    done = run(host, "-W", "error", "-m", "unittest")
    assert re.search(r"Ran 4 tests.*\n\nOK\n", done.stdout), done.stdout
