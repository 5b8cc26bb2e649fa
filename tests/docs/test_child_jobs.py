"""docs/how-to/child-jobs.md, on real queues."""

import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from tests.docs.application import Application, eventually
from tests.docs.blocks import code, texts
from tests.losses.servers import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

CODE: Final = code("docs/code/child-jobs")
(CRONTAB,) = texts("how-to/child-jobs.md", "text")
INVOICES: Final = Counter(["acme c1", "acme c2", "northwind c1", "northwind c2", "northwind c3"])
# A boot file that has each run and the audit trail written down, and can have a process die behind its work.
BOOT: Final = """
import logging
import os
from pathlib import Path

import app.implementations
from app.jobs import REDIS_URL, workers
from sigra_workers_{queue} import boot

logger = logging.getLogger("sigra_workers.audit.trail")
logger.setLevel(logging.INFO)
logger.addHandler(logging.FileHandler("trail"))


@workers.around
def note(job, scope, args):
    with open("runs", "a") as file:
        file.write(job.worker + "\\n")
    yield
    if job.worker == os.environ.get("DIES") and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), 9)


WorkerSettings = boot(workers)
"""
COMMANDS: Final = {
    "rq": "rq worker -c app.boot --serializer json --with-scheduler invoices",
    "dramatiq": "dramatiq app.boot --processes 1 --threads 4 --path .",
    "arq": "arq app.boot.WorkerSettings",
}
AS_ANN: Final = """
from app.jobs import BillArgs, bill
from sigra_workers import organization_args

who = organization_args(organization_id="northwind", actor_id="ann", impersonating_from="admin")
bill.enqueue(BillArgs(**who, month="2026-01"))
"""


class Billing:
    """The application of the page, on one queue."""

    def __init__(self, application: Application, queue: str) -> None:
        self.application = application
        application.deploy(CODE)
        (application.folder / "app" / "boot.py").write_text(BOOT.format(queue=queue))
        application.environment = {**application.environment, "APP_QUEUE": queue}
        self.command = COMMANDS[queue]
        with closing(sqlite3.connect(self._database)) as database, database:
            database.execute(
                "CREATE TABLE invoices (organization_id, customer_id, month,"
                " PRIMARY KEY (organization_id, customer_id, month))"
            )

    @property
    def _database(self) -> Path:
        return self.application.folder / "app.db"

    def start(self, **environment: str) -> None:
        self.application.environment = {**self.application.environment, **environment}
        self.application.start(self.command)

    def tick(self, month: str) -> None:
        self.application.run(sys.executable, "-m", "app.tick", month)

    def invoices(self, month: str) -> Counter[str]:
        """How many of each customer were sent."""
        with closing(sqlite3.connect(self._database, timeout=30)) as database:
            sql = "SELECT organization_id || ' ' || customer_id FROM invoices WHERE month = ?"
            return Counter(row[0] for row in database.execute(sql, (month,)))

    def billed(self, month: str, invoices: Counter[str] = INVOICES) -> None:
        """Wait until all are."""
        eventually(lambda: self.invoices(month) == invoices, f"the invoices of {month}")
        eventually(lambda: len(self.trail(month)) == invoices.total(), f"the audit trail of {month}")

    @property
    def runs(self) -> Counter[str]:
        """How often each worker ran."""
        file = self.application.folder / "runs"
        return Counter(file.read_text().split() if file.exists() else [])

    def trail(self, month: str, part: str = "") -> list[str]:
        """Of the month's invoices, what the audit trail says."""
        file = self.application.folder / "trail"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if f"-{month}-" in line and part in line]


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    found = Application(tmp_path / "app", {"REDIS_URL": redis.url, "RQ_REDIS_URL": redis.url})
    yield found
    found.close()
    redis.kill()


@pytest.mark.parametrize("queue", COMMANDS)
def test_ticks_send_each_invoice_once(application: Application, queue: str) -> None:
    billing = Billing(application, queue)
    month = datetime.now(UTC).strftime("%Y-%m")
    line = re.sub(r"^(\S+ +){5}", "", CRONTAB).replace("\\%", "%")
    line = line.replace("/srv/app", str(application.folder)).replace(".venv/bin/python", sys.executable)
    environment = {**application.environment, "PATH": "/usr/bin:/bin"}
    both = [subprocess.Popen(["sh", "-c", line], env=environment) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]

    billing.start()
    billing.billed(month)
    expected = {"invoices.bill_all": 1, "invoices.bill": 2, "invoices.send": 5}
    assert billing.runs == expected
    assert len(billing.trail(month, "actor=cron ")) == INVOICES.total()

    billing.tick(month)  # long behind the end
    billing.tick("2027-01")
    billing.billed("2027-01")
    assert billing.invoices(month) == INVOICES
    assert len(billing.trail(month)) == INVOICES.total()


def test_a_parent_that_is_killed_sends_no_child_twice(application: Application) -> None:
    billing = Billing(application, "rq")
    application.run(sys.executable, "-c", AS_ANN)
    billing.start(DIES="invoices.bill")
    eventually(lambda: billing.runs["invoices.bill"] == 2, "the parent to run again")
    billing.tick("2026-02")
    billing.billed("2026-02")
    assert billing.runs == {"invoices.bill_all": 1, "invoices.bill": 2 + 2, "invoices.send": 3 + 5}
    assert billing.invoices("2026-01") == Counter(each for each in INVOICES if each.startswith("northwind"))
    assert len(billing.trail("2026-01", "actor=admin organization=northwind ")) == 3
