"""The application as one sees it: its processes as `python -m saas` starts them, in a headless Chromium."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pika
import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.integration]
EXAMPLES = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds that anything may take on a busy machine; nothing waits for longer than it has to."""
RABBITMQ = f"amqp://guest:guest@127.0.0.1:{os.environ.get('RABBITMQ_PORT', '5672')}"
KINDS = ("Build a report", "Collect a payment", "Send an invoice", "Call a webhook")
RUNNING = "SELECT id FROM jobs WHERE organization_id = 'acme' AND state = 'running'"

expect.set_options(timeout=PATIENCE * 1000)


def eventually(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def descendants(pid: int) -> set[int]:
    """All processes below one, as the kernel has them now."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child, *descendants(child)}
    return found


@dataclass
class Site:
    """The application, running."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(URLError), urlopen(f"{self.url}/sign-in"):
            return True
        return False

    def end(self) -> None:
        """Ctrl-C: it ends everything that it has started."""
        processes = descendants(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()
        assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []


@contextmanager
def running(folder: Path, **settings: str) -> Generator[Site]:
    """The application on a port of its own, with an empty database."""
    port, log = free_port(), folder / "log"
    default = {
        "PYTHONPATH": str(EXAMPLES),
        "SAAS_PORT": str(port),
        "SAAS_DATABASE_URL": f"sqlite:///{folder / 'saas.db'}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "saas"],
            env={**os.environ, **default, **settings},
            stdout=output,
            stderr=output,
        )
    site = Site(process, f"http://127.0.0.1:{port}", log)
    try:
        eventually(site.answers, "a page")
        yield site
        site.end()
    finally:
        if process.poll() is None:  # a test has failed
            process.terminate()
            process.wait(PATIENCE)


# -- one browser, and a window of it for each test -----------------------------------------------------


@dataclass
class Desk:
    """A window in which somebody works."""

    page: Page
    site: Site

    def sign_in(self, person: str) -> "Desk":
        self.page.goto(self.site.url)
        self.page.get_by_role("button", name=person).click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return self

    def act_as(self, person: str) -> None:
        self.page.get_by_label("Act as").select_option(person)
        self.page.get_by_role("button", name="Go").click()
        expect(self.page.get_by_role("region", name="Impersonation")).to_contain_text(f"acting as {person}")

    def start(self, kind: str) -> str:
        """Enqueue a job; what it is about."""
        self.page.get_by_role("button", name=kind, exact=True).click()
        return self._about(kind)

    def _about(self, kind: str) -> str:
        found = self.page.get_by_text(f"Enqueued: {kind}, ").inner_text()
        return found.removeprefix(f"Enqueued: {kind}, ").removesuffix(".")

    def send(self, path: str, **fields: str) -> int:
        """Send a form of this session by hand; the status of the answer."""
        hidden = {name: self._hidden(name) for name in ("token", "key")}
        form: dict[str, str | float | bool] = {**hidden, **fields}
        return self.page.request.post(f"{self.site.url}{path}", form=form, max_redirects=0).status

    def _hidden(self, name: str) -> str:
        return self.page.locator(f"input[name={name}]").first.get_attribute("value") or ""

    def row(self, table: str, *texts: str) -> Locator:
        """A row of one of the tables."""
        rows = self.page.get_by_role("table", name=table, exact=True).get_by_role("row")
        for text in texts:
            rows = rows.filter(has_text=text)
        return rows

    def cells(self, table: str, *texts: str) -> Locator:
        """The cells of the latest such row: other tests ask for the like, on the same site."""
        return self.row(table, *texts).first.get_by_role("cell")

    def ends(self, kind: str, about: str, state: str, attempt: int, snoozes: int, what: str, by: str) -> None:
        """Wait until the job has ended so."""
        title = re.compile(rf"^\s*{kind} {about}")
        expected: list[str | re.Pattern[str]] = [title, state, f"{attempt}", f"{snoozes}", by, what]
        expect(self.cells("Jobs", kind, about)).to_have_text(expected)


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert path is not None, "there is no chromium here; run: make browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Browser) -> Generator[Callable[..., Desk]]:
    """Opens a window with cookies of its own, with the options of Playwright's `new_context`."""
    with ExitStack() as stack:

        def open_window(site: Site, person: str | None = None, **options: Any) -> Desk:
            context = stack.enter_context(closing(chromium.new_context(**options)))
            desk = Desk(context.new_page(), site)
            desk.page.on("pageerror", lambda error: pytest.fail(f"in the page: {error}"))
            return desk if person is None else desk.sign_in(person)

        yield open_window


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    """On the embedded adapter, for all tests that look at the pages."""
    with running(tmp_path_factory.mktemp("saas"), SAAS_PACE="0.3") as found:
        yield found


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A Redis of these tests' own, for all queues."""
    port = free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--loglevel",
        "warning",
    ]
    process = subprocess.Popen([*command, "--dir", str(tmp_path_factory.mktemp("redis"))])

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    eventually(answers, "a Redis")
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(PATIENCE)


@pytest.fixture(scope="module")
def on_queue(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Site]:
    """On a queue with worker processes of its own; the one on RQ has its rows in PostgreSQL."""
    name = f"saas-{os.getpid()}"
    settings = {"SAAS_ADAPTER": request.param, "SAAS_REDIS_URL": redis_url, "SAAS_PACE": "2"}
    with ExitStack() as stack:
        if request.param == "rq":
            settings |= {"SAAS_DATABASE_URL": request.getfixturevalue("postgres_url")}
        if request.param == "rabbitmq":
            settings |= {"SAAS_ADAPTER": "dramatiq", "SAAS_RABBITMQ_URL": RABBITMQ, "SAAS_QUEUE": name}
            stack.callback(delete_from_rabbitmq, name)
        yield stack.enter_context(running(tmp_path_factory.mktemp("saas"), **settings))


def delete_from_rabbitmq(name: str) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(RABBITMQ))) as connection:
        for queue in (name, f"{name}.DQ", f"{name}.XQ"):
            connection.channel().queue_delete(queue)


Window = Callable[..., Desk]


# -- jobs ----------------------------------------------------------------------------------------------


def four_kinds(desk: Desk, by: str) -> dict[str, str]:
    """Each kind of job ends as it should; what they are about."""
    about = {kind: desk.start(kind) for kind in KINDS}
    desk.page.evaluate("window.kept = true")
    desk.ends("Build a report", about["Build a report"], "done", 1, 0, "Northwind sold more than ever", by)
    desk.ends("Collect a payment", about["Collect a payment"], "done", 1, 1, "the money is there", by)
    desk.ends("Send an invoice", about["Send an invoice"], "done", 3, 0, "the customer has it", by)
    desk.ends("Call a webhook", about["Call a webhook"], "dead", 2, 0, "the endpoint answers 410 Gone", by)
    expect(desk.row("Dead jobs", about["Call a webhook"])).to_contain_text("the endpoint answers 410 Gone")
    assert desk.page.evaluate("window.kept"), "the page was loaded again"
    return about


def test_the_four_kinds_of_job_end_as_they_should(site: Site, window: Window) -> None:
    four_kinds(window(site, "Ann"), "Ann")


@pytest.mark.parametrize("on_queue", ["rq", "dramatiq", "rabbitmq", "arq"], indirect=True)
def test_the_four_kinds_of_job_end_so_on_every_queue(on_queue: Site, window: Window) -> None:
    four_kinds(window(on_queue, "Ann"), "Ann")


@pytest.mark.parametrize("on_queue", ["rq"], indirect=True)
def test_a_job_whose_process_is_killed_ends_once(on_queue: Site, window: Window, postgres_url: str) -> None:
    desk = window(on_queue, "Bob")
    about = desk.start("Collect a payment")
    desk.ends("Collect a payment", about, "done", 1, 1, "the money is there", "Bob")
    idle = descendants(on_queue.process.pid)
    desk.send("/jobs", worker="reports.build")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as database:
        eventually(lambda: database.execute(RUNNING).fetchone(), "a job that runs")
    (horse,) = descendants(on_queue.process.pid) - idle  # which RQ has forked for the job
    os.kill(horse, signal.SIGKILL)
    desk.ends("Build a report", "", "done", 2, 0, "Acme sold more than ever", "Bob")
    expect(desk.row("Audit trail", "report.built")).to_have_count(1)


@pytest.mark.parametrize("on_queue", ["arq", "rabbitmq"], indirect=True)
def test_a_job_whose_worker_processes_are_killed_ends_once_on_those_that_are_started_anew(
    on_queue: Site, window: Window
) -> None:
    desk = window(on_queue, "Bob")
    desk.send("/jobs", worker="reports.build")
    with closing(sqlite3.connect(on_queue.log.with_name("saas.db"))) as database:
        eventually(lambda: database.execute(RUNNING).fetchone(), "a job that runs")
    workers = [pid for pid in descendants(on_queue.process.pid) if is_worker(pid)]
    assert len(workers) >= 2
    for pid in workers:
        with suppress(ProcessLookupError):  # it has followed its parent
            os.kill(pid, signal.SIGKILL)
    desk.ends("Build a report", "", "done", 2, 0, "Acme sold more than ever", "Bob")
    expect(desk.row("Audit trail", "report.built")).to_have_count(1)


def is_worker(pid: int) -> bool:
    """Whether it is a worker process of arq or Dramatiq, or a child of one."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"saas.arq_lifecycle" in command or b"saas.dramatiq_app" in command


# -- dead jobs -----------------------------------------------------------------------------------------


def test_a_dead_job_is_sent_again(site: Site, window: Window) -> None:
    desk = window(site, "Bob")
    about = desk.start("Call a webhook")
    desk.page.get_by_role("button", name=f"Send again: Call a webhook {about}").click()
    expect(desk.page.get_by_text("Sent again.")).to_be_visible()
    desk.ends("Call a webhook", about, "dead", 2, 0, "the endpoint answers 410 Gone", "Bob")
    desk.page.get_by_role("button", name="Repair the endpoint").click()
    expect(desk.page.get_by_text("The endpoint of Acme is up.")).to_be_visible()
    desk.page.get_by_role("button", name=f"Send again: Call a webhook {about}").click()
    desk.ends("Call a webhook", about, "done", 1, 0, "the endpoint answers 200 OK", "Bob")
    expect(desk.row("Dead jobs", about)).to_have_count(0)
    desk.page.get_by_role("button", name="Break the endpoint").click()


# -- who is who ----------------------------------------------------------------------------------------


def test_what_ann_did_is_anns(site: Site, window: Window) -> None:
    desk = window(site, "Ann")
    about = desk.start("Collect a payment")
    cells = desk.cells("Audit trail", "payment.collected", about)
    expect(cells.nth(3)).to_have_text("Ann")
    expect(cells.nth(4)).to_have_text("Ann")


def test_what_an_admin_did_as_ann_is_the_admins(site: Site, window: Window) -> None:
    desk = window(site, "Ada")
    desk.act_as("Ann")
    about = desk.start("Collect a payment")
    desk.ends("Collect a payment", about, "done", 1, 1, "the money is there", "Ada as Ann")
    headers = desk.page.get_by_role("table", name="Audit trail").get_by_role("columnheader")
    expect(headers.nth(3)).to_have_text("Actor")
    expect(headers.nth(4)).to_have_text("Effective user")
    cells = desk.cells("Audit trail", "payment.collected", about)
    expect(cells.nth(3)).to_have_text("Ada")
    expect(cells.nth(4)).to_have_text("Ann")


def test_the_other_organization_sees_and_does_nothing(site: Site, window: Window) -> None:
    ann = window(site, "Ann")
    about = ann.start("Call a webhook")
    button = ann.page.get_by_role("button", name=f"Send again: Call a webhook {about}")
    path = button.get_attribute("formaction")
    bob = window(site, "Bob")
    expect(bob.page.get_by_role("main")).to_contain_text("Acme")
    expect(bob.page.locator("body")).not_to_contain_text("Ann")
    expect(bob.page.locator("body")).not_to_contain_text("Northwind")
    assert path is not None
    job_id = path.split("/")[2]
    expect(ann.row("Audit trail", job_id[:8])).to_be_visible()
    expect(bob.page.locator("body")).not_to_contain_text(job_id[:8])
    assert bob.send(path) == 404
    expect(button).to_be_visible()
    ann.ends("Call a webhook", about, "dead", 2, 0, "the endpoint answers 410 Gone", "Ann")


# -- with and without the script -----------------------------------------------------------------------


def test_all_of_it_works_without_javascript(site: Site, window: Window) -> None:
    desk = window(site, "Cleo", java_script_enabled=False)
    about = {kind: desk.start(kind) for kind in ("Collect a payment", "Call a webhook")}
    expect(desk.page.get_by_label("Live")).to_be_hidden()

    def reloaded(table: str, *texts: str) -> bool:
        desk.page.get_by_role("link", name="Reload to see what is new").click()
        return desk.row(table, *texts).count() == 1

    eventually(lambda: reloaded("Jobs", about["Collect a payment"], "done"), "a job that is done")
    eventually(lambda: reloaded("Dead jobs", about["Call a webhook"]), "a job that is dead")
    desk.page.get_by_role("button", name=f"Send again: Call a webhook {about['Call a webhook']}").click()
    expect(desk.page.get_by_text("Sent again.")).to_be_visible()


def test_news_leave_the_focus_where_it_is(site: Site, window: Window) -> None:
    desk, other = window(site, "Ann"), window(site, "Ada")
    about = desk.start("Call a webhook")
    button = desk.page.get_by_role("button", name=f"Send again: Call a webhook {about}")
    button.focus()
    later = other.start("Call a webhook")
    expect(desk.row("Dead jobs", later)).to_be_visible()
    expect(button).to_be_focused()


def test_news_can_be_held_up(site: Site, window: Window) -> None:
    desk, other = window(site, "Ann"), window(site, "Ada")
    desk.page.get_by_label("Live").uncheck()
    about = other.start("Collect a payment")
    other.ends("Collect a payment", about, "done", 1, 1, "the money is there", "Ada")
    expect(desk.row("Jobs", about)).to_have_count(0)
    desk.page.get_by_label("Live").check()
    expect(desk.row("Jobs", about)).to_be_visible()


def test_a_page_of_somebody_who_has_signed_out_elsewhere_is_left(site: Site, window: Window) -> None:
    desk = window(site, "Ann")
    other = desk.page.context.new_page()
    other.goto(site.url)
    other.get_by_role("button", name="Sign out").click()
    expect(desk.page).to_have_url(f"{site.url}/sign-in")


# -- for everybody -------------------------------------------------------------------------------------


def check(desk: Desk) -> None:
    """No fault that axe finds, its best practices included."""
    results = Axe().run(desk.page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_accessible(site: Site, window: Window, scheme: str, width: int) -> None:
    desk = window(site, color_scheme=scheme, viewport={"width": width, "height": 800})
    desk.page.goto(site.url)
    check(desk)
    desk.sign_in("Ada")
    desk.act_as("Ann")
    about = desk.start("Call a webhook")
    desk.start("Send an invoice")
    expect(desk.row("Dead jobs", about)).to_be_visible()
    check(desk)
    wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not desk.page.evaluate(wider), "it scrolls sideways"
    desk.page.goto(f"{site.url}/nowhere")
    expect(desk.page.get_by_role("heading", level=1)).to_have_text("Not Found")
    check(desk)


def test_a_job_is_started_with_the_keyboard_alone(site: Site, window: Window) -> None:
    desk = window(site, "Ann")
    keyboard, focused = desk.page.keyboard, desk.page.locator(":focus")
    keyboard.press("Tab")
    expect(focused).to_have_text("Skip to the content")
    keyboard.press("Enter")
    keyboard.press("Tab")
    expect(focused).to_have_text("Build a report")
    outline = focused.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"
    keyboard.press("Enter")
    expect(focused).to_contain_text("Enqueued: Build a report")  # so that it is read out
    keyboard.press("Tab")
    expect(focused).to_have_text("Build a report")


@pytest.mark.parametrize(("motion", "animation"), [("reduce", "none"), ("no-preference", "breathe")])
def test_nothing_moves_for_who_does_not_want_it(
    site: Site, window: Window, motion: str, animation: str
) -> None:
    desk = window(site, "Ann", reduced_motion=motion)
    script = """() => {
        const state = document.querySelector("main").appendChild(document.createElement("span"));
        state.className = "state running";
        return getComputedStyle(state).animationName;
    }"""
    assert desk.page.evaluate(script) == animation


def test_states_are_told_to_screen_readers_politely(site: Site, window: Window) -> None:
    desk = window(site, "Ann")
    before = desk.page.get_by_role("status").inner_text()
    desk.start("Build a report")
    expect(desk.page.get_by_role("status")).not_to_have_text(before)
    expect(desk.page.get_by_role("status")).to_contain_text("done")
