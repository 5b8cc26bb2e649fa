"""Host applications in folders of their own, and their test runs."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

APP = {
    "app/__init__.py": "",
    "app/jobs.py": """
        from sigra_workers import Audit, AuditScope, OrganizationArgs, Workers

        workers = Workers[AuditScope](adapter="rq", settings={"url": "redis://127.0.0.1:1/0"}, audit=Audit())


        class CloseAccountArgs(OrganizationArgs):
            account_id: str


        close_account = workers.declare("accounts.close", CloseAccountArgs, queue="lifecycle")
        """,
    "app/implementations.py": """
        import asyncio

        from app.jobs import CloseAccountArgs, close_account, workers
        from sigra_workers import AuditScope, Ok, Result, TenantArgs


        class CloseAccount:
            def perform(self, scope: AuditScope, args: CloseAccountArgs) -> Result[str]:
                workers.audit.log_safe("account.closed", scope, target_id=args["account_id"])
                return Ok("closed")


        close_account.implement(CloseAccount())


        @workers.worker(name="reports.build")
        async def build_report(scope: AuditScope, args: TenantArgs) -> Result[str]:
            await asyncio.sleep(0)
            args = CloseAccountArgs(organization_id="o1", actor_id=None, account_id="a2")
            await close_account.aenqueue(args)
            return Ok("built")
        """,
}
"""An application of a queue whose server is not there."""

DJANGO_SETTINGS = {
    "settings.py": """
        SECRET_KEY = "x"
        INSTALLED_APPS = ["app"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
        """,
    "manage.py": """
        import os
        import sys

        from django.core.management import execute_from_command_line

        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        execute_from_command_line(sys.argv)
        """,
}
"""A Django project with the application `app`, and a database in memory."""


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files, by their path in the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a module or file with this Python, in the folder; stdout has all that it said."""
    environment = {**os.environ, "PYTHONPATH": "", "PY_COLORS": "0"}
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *command],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a host would, warnings being errors; with no plugin but ours, as others take long."""
    alone = ("--disable-plugin-autoload", "-p", "sigra_workers")
    return run(folder, "-m", "pytest", *alone, "-q", "-W", "error", *options)
