"""docs/how-to/migrate.md, with an application whose queue is never empty: no job is lost or done twice."""

import math
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from dramatiq.common import compute_backoff
from dramatiq.middleware.retries import DEFAULT_MAX_BACKOFF, DEFAULT_MIN_BACKOFF, Retries
from tests.docs.application import Application, Process, eventually
from tests.docs.blocks import code, directives, path, texts
from tests.losses.servers import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PAGE: Final = "how-to/migrate.md"
CODE: Final = code("docs/code/migrate")
COMMANDS: Final = [line.removeprefix("$ ") for text in texts(PAGE, "console") for line in text.splitlines()]
DIES: Final = """

_remind = remind


def remind(invoice_id: str) -> None:
    _remind(invoice_id)
    os.kill(os.getpid(), 9)
"""
SEND: Final = """
import asyncio, sys
from shop.scopes import Organization, RequestScope, User
from shop.web import remind_customer

async def main():
    organization, *invoices = sys.argv[1:]
    scope = RequestScope(User("ann"), Organization(organization))
    for invoice in invoices:
        sending = remind_customer(scope, invoice)
        if sending is not None:
            await sending

asyncio.run(main())
"""


@dataclass(frozen=True)
class Library:
    """A queue library of the page: the command that was, and what a process logs when it is ready."""

    name: str
    before: str
    ready: str
    more: str = ""
    """Options that its command has, before and after."""

    @property
    def folder(self) -> Path:
        return CODE / self.name

    @property
    def after(self) -> str:
        """The command that the page shows."""
        (command,) = (command for command in COMMANDS if command.startswith(f"{self.name} "))
        return f"{command}{self.more}"


LIBRARIES: Final = {
    "rq": Library("rq", "rq worker mail", "Listening on"),
    "dramatiq": Library(
        "dramatiq", "dramatiq shop.tasks", "Dramatiq '2", more=" --processes 1 --threads 4 --path ."
    ),
    "arq": Library("arq", "arq shop.tasks.WorkerSettings", "redis_version="),
}


def invoices(kind: str, count: int) -> list[str]:
    """Some of northwind."""
    return [f"n-{kind}-{number}" for number in range(count)]


@dataclass
class Shop:
    """The application of the page, deployed as it was."""

    library: Library
    application: Application

    def __post_init__(self) -> None:
        self.application.deploy(CODE / "app", self.library.folder / "before")
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("CREATE TABLE reminders (organization_id, invoice_id)")

    @property
    def database(self) -> Path:
        return self.application.folder / "shop.db"

    def learn(self) -> None:
        """Step 1: the code of worker processes."""
        self.application.deploy(CODE / "new", self.library.folder / "workers")

    def start(self, command: str) -> Process:
        process = self.application.start(command)
        process.logged(self.library.ready)
        return process

    def start_old(self) -> Process:
        return self.start(self.library.before + self.library.more)

    def start_new(self) -> Process:
        return self.start(self.library.after)

    def stop(self, process: Process, redis: RedisServer) -> None:
        """SIGTERM while there is more to do; on RQ early in a job.

        RQ gives up one that it is just taking off its queue, until its maintenance finds it minutes later.
        """
        with redis.client() as client:

            def running() -> set[object]:
                return {*client.zrange("rq:wip:mail", 0, -1)}

            if self.library.name == "rq":
                before = running()
                eventually(lambda: running() - before, "a job to begin")
        process.stop()

    def send(self, ids: list[str], organization: str = "northwind") -> list[str]:
        self.application.run(sys.executable, "-c", SEND, organization, *ids)
        return ids

    @property
    def reminded(self) -> Counter[str]:
        """How many reminders of each invoice were sent."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return Counter(invoice for (invoice,) in connection.execute("SELECT invoice_id FROM reminders"))

    def all_reminded(self, ids: list[str]) -> None:
        """Wait until each was, and see that none was twice."""
        eventually(lambda: self.reminded.keys() >= {*ids}, f"{len(ids)} reminders")
        assert self.reminded == Counter(ids)

    def command(self, part: str) -> str:
        """Run the page's command that begins with this; what it prints."""
        (command,) = (found for found in COMMANDS if found.startswith(part))
        return self.application.run(*command.split())

    def dead(self, reason: str) -> list[str]:
        """Reasons of dead jobs that are like this one."""
        listed = self.application.run("sigra-workers", "dead", "list", "shop.implementations:workers")
        return re.findall(reason, listed)


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer) -> Iterator[Shop]:
    environment = {"REDIS_URL": redis.url, "RQ_REDIS_URL": redis.url, "SHOP_MAIL_SECONDS": "0.2"}
    application = Application(tmp_path / "shop", environment)
    yield Shop(LIBRARIES[request.param], application)
    application.close()


@pytest.mark.parametrize("shop", LIBRARIES, indirect=True)
def test_no_reminder_is_lost_or_sent_twice_on_the_way(shop: Shop, redis: RedisServer) -> None:
    sent = shop.send(invoices("plain", 60))
    process = shop.start_old()
    eventually(lambda: shop.reminded, "an old job to be done")
    shop.stop(process, redis)
    done = len(shop.reminded)
    assert done < len(sent)

    shop.learn()
    process = shop.start_new()
    eventually(lambda: len(shop.reminded) > done, "an old job to be done by a new process")
    shop.stop(process, redis)
    assert len(shop.reminded) < len(sent)

    sent += shop.send(invoices("late", 5))  # by a process that has the old sender still
    shop.application.deploy(shop.library.folder / "after")
    sent += shop.send(invoices("new", 20))
    processes = [shop.start_new(), shop.start_new()]
    shop.all_reminded(sent)
    assert "problem" not in shop.command("sigra-workers doctor")
    assert [process.stop() for process in processes] == [0, 0]


@pytest.mark.parametrize("shop", ["rq"], indirect=True)
def test_a_shadow_finds_a_wrong_organization_and_sends_nothing(shop: Shop) -> None:
    shop.learn()
    shop.application.deploy(shop.library.folder / "shadow")
    shop.start_new()
    sent = shop.send(invoices("right", 3))
    sent += shop.send(invoices("wrong", 1), organization="acme")
    shop.all_reminded(sent)
    found = eventually(lambda: shop.dead("cancelled: .*"), "a dead shadow")
    assert found == ["cancelled: the invoice is another organization's"]
    assert found[0] in shop.command("sigra-workers dead list")
    shop.all_reminded(sent)


@pytest.mark.parametrize("shop", ["rq"], indirect=True)
def test_shadows_that_wait_do_nothing_under_the_real_worker(shop: Shop) -> None:
    shop.learn()
    shop.application.deploy(shop.library.folder / "shadow")
    sent = shop.send(invoices("shadowed", 3))
    shop.application.deploy(shop.library.folder / "after")
    sent += shop.send(invoices("new", 3))
    assert shop.application.start(shop.library.after.replace("worker", "worker --burst")).popen.wait(60) == 0
    shop.all_reminded(sent)


@pytest.mark.parametrize("shop", ["rq"], indirect=True)
def test_what_is_left_of_the_old_jobs_is_told(shop: Shop) -> None:
    shop.send(invoices("old", 2))
    shop.application.run(
        sys.executable,
        "-c",
        "import datetime, shop.queues, shop.tasks;"
        " shop.queues.mail.enqueue_in(datetime.timedelta(hours=1), shop.tasks.remind, 'n-1');"
        " shop.queues.mail.enqueue(shop.tasks.remind, 'x-1', at_front=True)",
    )
    shop.learn()
    shop.application.deploy(shop.library.folder / "after")
    shop.send(invoices("new", 2))
    assert shop.command("python") == "{'queued': 3, 'scheduled': 1}\n"
    burst = shop.library.after.replace("worker", "worker --burst").replace("--with-scheduler ", "")
    assert shop.application.start(burst).popen.wait(60) == 0
    assert shop.command("python") == "{'scheduled': 1, 'failed': 1}\n"


@pytest.mark.parametrize("shop", ["rq"], indirect=True)
def test_a_job_of_one_attempt_is_begun_once_though_its_process_dies(shop: Shop) -> None:
    shop.learn()
    shop.application.deploy(shop.library.folder / "after")
    with (shop.application.folder / "shop" / "invoices.py").open("a") as file:
        file.write(DIES)
    shop.start_new()
    shop.send(["n-1"])
    assert eventually(lambda: shop.dead("crashed"), "a dead job") == ["crashed"]
    shop.all_reminded(["n-1"])


FORGOTTEN: Final = {"rq": "Invalid attribute name", "dramatiq": "ActorNotFound", "arq": "not found"}


@pytest.mark.parametrize("shop", LIBRARIES, indirect=True)
def test_a_process_that_was_forgotten_takes_new_jobs_away(shop: Shop, redis: RedisServer) -> None:
    """What the page warns of, and why all of them are deployed before anything sends."""
    environment = shop.application.environment
    if shop.library.name == "rq":  # whose process would find the distribution that is installed here
        hidden = shop.application.folder / "hidden"
        hidden.mkdir()
        (hidden / "sigra_workers_rq.py").write_text("raise ImportError\n")
        shop.application.environment = {**environment, "PYTHONPATH": str(hidden)}
    forgotten = shop.start_old()
    shop.application.environment = environment
    shop.learn()
    shop.application.deploy(shop.library.folder / "after")
    shop.send(["n-1"])
    forgotten.logged(FORGOTTEN[shop.library.name])
    with redis.client() as client:
        if shop.library.name == "rq":
            eventually(lambda: client.zcard("rq:failed:mail"), "a job that RQ tries no more")
    forgotten.stop()

    shop.start_new()
    shop.send(["n-2"])
    shop.all_reminded(["n-2"])
    dead = shop.dead(r"\b[0-9a-f]{32}\b")
    assert len(dead) == (shop.library.name == "rq")
    with redis.client() as client:
        assert client.zcard("dramatiq:mail.XQ") == (shop.library.name == "dramatiq")
    for job_id in dead:
        shop.application.run(
            *("sigra-workers", "dead", "resend", "shop.implementations:workers", job_id, "--by", "ann")
        )
        shop.all_reminded(["n-1", "n-2"])


def test_the_page_shows_every_file_but_the_applications_own() -> None:
    shown = {found.target for found in directives(PAGE, "literalinclude")}
    files = {file for file in CODE.rglob("*.py") if "__pycache__" not in file.parts}
    rest = {file.relative_to(CODE) for file in files - shown}
    unseen = ("queues", "tasks")
    assert rest == {
        *(file.relative_to(CODE) for file in (CODE / "app").rglob("*.py")),
        *(Path(name, "before", "shop", f"{module}.py") for name in LIBRARIES for module in unseen),
        Path("dramatiq/after/shop/web.py"),
    }
    web = [(CODE / name / "after" / "shop" / "web.py").read_text() for name in ("rq", "dramatiq")]
    assert web[0] == web[1]


def test_retries_of_dramatiq_take_no_longer_than_the_page_says() -> None:
    longest = [  # up to twice the backoff, and never more than the longest of them
        compute_backoff(n, factor=2 * DEFAULT_MIN_BACKOFF, jitter=False, max_backoff=DEFAULT_MAX_BACKOFF)[1]
        for n in range(Retries().max_retries)
    ]
    days = math.ceil(sum(longest) / 86_400_000)
    page = " ".join(path(PAGE).read_text().split())
    assert f"{len(longest)} retries that wait up to a week each, these take up to {days} days" in page
    assert f"The first waits 15 to {longest[0] // 1000} s" in page
