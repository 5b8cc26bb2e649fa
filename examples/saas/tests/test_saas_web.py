"""The application in this process, on the embedded adapter: what it refuses, and what it keeps apart."""

import re
import socket
import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import delete, func, select, update

from sigra_workers import AuditOnlyScopeError, AuditScope, Cancel, Ok, Result, Workers
from sigra_workers.memory import HeldClock, MemoryAdapter
from sigra_workers.testing import testing

if TYPE_CHECKING:
    from fastapi import FastAPI

EXAMPLES = Path(__file__).parents[2]


@dataclass
class Browser:
    """A session, and what the page and its forms do."""

    client: TestClient

    def page(self) -> str:
        """What one sees."""
        answer = self.client.get("/", follow_redirects=True)
        assert answer.status_code == 200
        return answer.text

    def send(self, path: str, **fields: str) -> Response:
        """Send a form as the page has it, with the token of this session and the key of the form."""
        return self.client.post(path, data={**self.hidden(), **fields})

    def hidden(self) -> dict[str, str]:
        """What the page's forms have that nobody sees."""
        found = dict(re.findall(r'name="(token|key)" value="([^"]+)"', self.page()))
        assert "token" in found
        return found

    def start(self, worker: str) -> str:
        """Enqueue a job; what it is about."""
        assert self.send("/jobs", worker=worker).headers["location"] == "/"
        found = re.search(r"Enqueued: [A-Za-z ]+, ([0-9A-Z-]+)\.", self.page())
        assert found is not None
        return found[1]


@dataclass
class Site:
    """The application and its queue, whose jobs the test runs."""

    app: "FastAPI"
    queue: MemoryAdapter

    def browser(self, person: str | None = None) -> Browser:
        """One in which somebody has signed in."""
        browser = Browser(TestClient(self.app, follow_redirects=False))
        if person is not None:
            assert browser.send("/sign-in", person=person).headers["location"] == "/"
        return browser

    def dead_webhook(self, person: str) -> str:
        """Have a job of that person die; its id."""
        self.browser(person).start("webhooks.call")
        assert self.queue.drain(scheduled=True)["dead"] == 1
        return self.queue.dead[-1].id


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    url = f"sqlite:///{tmp_path_factory.mktemp('saas') / 'saas.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        patch.setenv("SAAS_DATABASE_URL", url)
        patch.setenv("SAAS_PACE", "0")
        import saas.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
        from saas.audit import trail
        from saas.database import engine
        from saas.jobs import workers
        from saas.people import prepare
        from saas.web import create_app

        prepare()
        prepare()  # a second process does it too
        with workers, closing(trail):
            yield Site(create_app(), MemoryAdapter.of(workers))
        engine.dispose()
        for name in [*sys.modules]:
            if name.partition(".")[0] == "saas":
                del sys.modules[name]


@pytest.fixture(autouse=True)
def begun_anew(site: Site) -> None:
    site.queue.clear()
    site.queue.clock = HeldClock()


# -- who is asking -------------------------------------------------------------------------------------


def test_nobody_is_sent_to_the_sign_in_page(site: Site) -> None:
    browser = site.browser()
    assert browser.client.get("/").headers["location"] == "/sign-in"
    assert browser.send("/jobs", worker="reports.build").headers["location"] == "/sign-in"
    assert site.queue.payloads == []


@pytest.mark.parametrize(
    "path", ["/sign-in", "/jobs", "/act-as", "/act-as-yourself", "/sign-out", "/endpoint"]
)
@pytest.mark.parametrize("token", [None, "", "another"])
def test_a_form_without_the_token_of_its_session_is_refused(site: Site, path: str, token: str | None) -> None:
    browser = site.browser("ada")
    fields = {"worker": "reports.build", "person": "ann", "up": "true"}
    answer = browser.client.post(path, data=fields if token is None else {**fields, "token": token})
    assert answer.status_code == 403
    assert site.queue.payloads == []
    assert "Ada" in browser.page()


def test_the_token_of_another_session_is_refused(site: Site) -> None:
    stolen = re.search(r'name="token" value="([^"]+)"', site.browser("bob").page())
    assert stolen is not None
    answer = site.browser("ann").client.post("/jobs", data={"token": stolen[1], "worker": "reports.build"})
    assert answer.status_code == 403


def test_a_session_begins_anew_with_signing_in(site: Site) -> None:
    browser = site.browser()
    before = re.search(r'name="token" value="([^"]+)"', browser.page())
    browser.send("/sign-in", person="ann")
    assert before is not None
    assert before[1] not in browser.page()


def test_a_cookie_that_somebody_has_changed_signs_nobody_in(site: Site) -> None:
    browser = site.browser("ann")
    cookie = browser.client.cookies["ledger"]
    browser.client.cookies.clear()
    browser.client.cookies.set("ledger", "A" + cookie[1:])
    assert browser.client.get("/").headers["location"] == "/sign-in"


def test_the_cookie_is_hidden_from_scripts_and_from_other_sites(site: Site) -> None:
    cookie = site.browser().client.get("/sign-in").headers["set-cookie"]
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_a_page_runs_no_foreign_script_and_is_kept_nowhere(site: Site) -> None:
    headers = site.browser("ann").client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_somebody_who_does_not_exist_can_not_sign_in(site: Site) -> None:
    assert site.browser().send("/sign-in", person="nobody").status_code == 404


def test_a_form_that_lacks_something_is_not_shown_back(site: Site) -> None:
    answer = site.browser("ann").send("/endpoint", up="<b>perhaps</b>")
    assert answer.status_code == 400
    assert "perhaps" not in answer.text


# -- impersonation -------------------------------------------------------------------------------------


def test_who_is_no_admin_may_act_as_nobody(site: Site) -> None:
    browser = site.browser("ann")
    assert "Act as" not in browser.page()
    assert browser.send("/act-as", person="ada").status_code == 403


def test_an_admin_acts_as_nobody_of_another_organization(site: Site) -> None:
    browser = site.browser("ada")
    assert browser.send("/act-as", person="bob").status_code == 404
    assert "acting as" not in browser.page()


def test_the_audit_trail_says_when_somebody_was_impersonated(site: Site) -> None:
    from saas.audit import trail

    browser = site.browser("ada")
    browser.send("/act-as", person="ann")
    assert "You are Ada, acting as <strong>Ann</strong>" in browser.page()
    browser.send("/act-as-yourself")
    assert "acting as" not in browser.page()
    ended, begun = trail.query(organization="northwind", action="impersonation.", limit=2).events
    assert (begun.actor_id, begun.effective_user_id, begun.target_id) == ("ada", "ada", "ann")
    assert (ended.action, ended.actor_id, ended.effective_user_id) == ("impersonation.ended", "ada", "ann")


def test_an_admin_who_is_none_any_more_acts_as_nobody(site: Site) -> None:
    from saas.database import session_for
    from saas.models import Person

    browser = site.browser("ada")
    browser.send("/act-as", person="ann")
    for is_admin, acting in ((False, False), (True, True)):
        with session_for("northwind") as session, session.begin():
            session.get_one(Person, "ada").is_admin = is_admin
        assert ("acting as" in browser.page()) is acting


# -- jobs ----------------------------------------------------------------------------------------------


def test_a_job_and_its_row_are_of_who_asked_for_it(site: Site) -> None:
    browser = site.browser("ada")
    browser.send("/act-as", person="ann")
    browser.start("payments.collect")
    (payload,) = site.queue.payloads
    args = {"organization_id": "northwind", "actor_id": "ann", "impersonating_from": "ada"}
    assert payload.args.items() >= args.items()
    assert "Ada as Ann" in browser.page()


def test_a_job_that_there_is_not_is_not_started(site: Site) -> None:
    assert site.browser("ann").send("/jobs", worker="accounts.close").status_code == 404


def test_a_form_that_is_sent_twice_makes_one_job(site: Site) -> None:
    browser = site.browser("ann")
    form = {**browser.hidden(), "worker": "invoices.send"}
    for _ in range(2):
        assert browser.client.post("/jobs", data=form).headers["location"] == "/"
        assert "Enqueued: Send an invoice, " in browser.page()
    assert len(site.queue.payloads) == 1
    browser.client.post("/jobs", data={**form, "worker": "payments.collect"})
    browser.start("invoices.send")
    assert len(site.queue.payloads) == 3


def test_the_key_of_another_organizations_form_makes_a_job_of_ones_own(site: Site) -> None:
    for person in ("bob", "ann", "bob"):
        site.browser(person).send("/jobs", key="a key", worker="invoices.send")
    assert sorted(f"{payload.organization_id}" for payload in site.queue.payloads) == ["acme", "northwind"]


def test_the_four_kinds_of_job_end_as_the_page_says(site: Site) -> None:
    from saas.audit import trail
    from saas.jobs import KINDS

    browser = site.browser("cleo")
    for worker in KINDS:
        browser.start(worker)
    ids = {payload.worker: payload.id for payload in site.queue.payloads}
    assert site.queue.drain(scheduled=True) == {"complete": 3, "snooze": 1, "retry": 3, "dead": 1}
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", browser.page()))
    assert "done 1 0 Cleo Acme sold more than ever" in page
    assert "done 1 1 Cleo the money is there" in page
    assert "done 3 0 Cleo the customer has it" in page
    assert "dead 2 0 Cleo the endpoint answers 410 Gone" in page
    assert "None" not in page

    def events(worker: str) -> list[tuple[str, str, int | None]]:
        found = trail.query(organization="acme", job=ids[worker]).events
        return [(event.action, event.outcome, event.attempt) for event in reversed(found)]

    assert events("reports.build") == [("report.built", "success", 1)]
    assert events("payments.collect") == [("payment.collected", "success", 1)]
    assert events("invoices.send") == [("invoice.sent", "failure", 1), ("invoice.sent", "success", 3)]
    assert events("webhooks.call") == [("webhook.called", "failure", 1)]


def test_a_dead_job_is_mended_and_sent_again(site: Site) -> None:
    from saas.audit import trail
    from saas.database import session_for
    from saas.models import JobRow

    job_id = site.dead_webhook("bob")
    browser = site.browser("bob")
    assert f"/dead/{job_id}/resend" in browser.page()
    assert browser.send("/endpoint", up="true").headers["location"] == "/"
    assert browser.send(f"/dead/{job_id}/resend").headers["location"] == "/"
    assert "Sent again." in browser.page()
    with session_for("acme") as session:
        assert session.get_one(JobRow, job_id).state == "waiting"
    assert site.queue.drain() == {"complete": 1}
    assert f"/dead/{job_id}/resend" not in browser.page()
    assert "the endpoint answers 200 OK" in browser.page()
    assert browser.send(f"/dead/{job_id}/resend").status_code == 404
    (resent,) = trail.query(organization="acme", action="job.resent").events
    assert (resent.actor_id, resent.target_id) == ("bob", job_id)
    browser.send("/endpoint", up="false")


def test_the_work_of_a_run_that_fails_is_rolled_back(site: Site) -> None:
    from saas.database import session_for
    from saas.implementations import note
    from saas.jobs import InvoiceArgs, send_invoice, workers
    from saas.models import JobRow
    from saas.scopes import JobScope

    def fails(scope: JobScope, args: InvoiceArgs) -> Result[None]:
        note("half of it")
        raise ConnectionError("the mail server does not answer")

    with testing(workers, replace={send_invoice: fails}) as sigra:
        subject = site.browser("ann").start("invoices.send")
        assert sigra.drain()["retry"] > 0
    with session_for("northwind") as session:
        row = session.scalars(select(JobRow).where(JobRow.subject == subject)).one()
    assert (row.state, row.note) == ("dead", "ConnectionError: the mail server does not answer")


def test_a_job_of_an_organization_that_is_gone_is_not_run(site: Site) -> None:
    from saas.jobs import ReportArgs, build_report, workers

    with testing(workers) as sigra:
        args = ReportArgs(organization_id="gone", actor_id="ann", month="2026-11")
        assert sigra.perform_job(build_report, args) == Cancel("the organization was deleted")
        sigra.refute_audit_logged(action="report.built")


def test_a_queue_that_does_not_answer_is_said_and_nothing_is_lost(site: Site) -> None:
    from saas.jobs import workers

    site.dead_webhook("ann")
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        away = Workers[AuditScope](adapter="rq", settings={"url": url})
        browser = site.browser("ann")
        with away, workers.using(away.adapter):
            assert "The queue does not answer." in browser.page()
            assert browser.send("/dead/some/resend").status_code == 503
            assert browser.send("/jobs", worker="reports.build").headers["location"] == "/"
            page = browser.page()
    assert "The job is saved, and may not have been sent." in page
    assert '<span class="state saved">' in page


# -- other organizations -------------------------------------------------------------------------------


def test_another_organization_sees_nothing(site: Site) -> None:
    job_id = site.dead_webhook("ann")
    page = site.browser("cleo").page()
    assert "Ann" not in page
    assert job_id[:8] not in page  # in the audit trail it is short
    assert f"<code>{job_id[:8]}</code>" in site.browser("ann").page()


def test_another_organization_sends_nothing_again(site: Site) -> None:
    job_id = site.dead_webhook("ann")
    assert site.browser("bob").send(f"/dead/{job_id}/resend").status_code == 404
    assert [job.id for job in site.queue.dead] == [job_id]
    assert site.queue.payloads == []


def test_another_organization_counts_nothing(site: Site) -> None:
    first = site.browser("bob").start("payments.collect")
    site.browser("ann").start("payments.collect")
    assert int(site.browser("bob").start("payments.collect")[4:]) == int(first[4:]) + 1


def test_another_organization_has_an_endpoint_of_its_own(site: Site) -> None:
    site.browser("ann").send("/endpoint", up="true")
    assert "The endpoint of Northwind is up" in site.browser("ada").page()
    assert "The endpoint of Acme is down" in site.browser("bob").page()
    site.browser("ann").send("/endpoint", up="false")


def test_a_session_reaches_rows_of_its_organization_alone(site: Site) -> None:
    from saas.database import session_for
    from saas.models import Organization, Person

    with session_for("acme") as session:
        assert session.get(Person, "ann") is None
        assert session.get(Organization, "northwind") is None
        assert [*session.scalars(select(Person.id).order_by(Person.id))] == ["bob", "cleo"]
        assert session.scalars(select(func.count(Person.id))).one() == 2
        session.execute(update(Person).where(Person.id == "ann").values(is_admin=True))
        session.execute(delete(Person).where(Person.id == "ann"))
        session.commit()
    with session_for("northwind") as session:
        assert session.get_one(Person, "ann").is_admin is False


def test_a_session_writes_rows_of_its_organization_alone(site: Site) -> None:
    from saas.database import session_for
    from saas.models import Person

    with session_for("acme") as session:
        session.add(Person(id="eve", organization_id="northwind", name="Eve", role="Sales"))
        with pytest.raises(PermissionError, match="another organization"):
            session.flush()


def test_a_session_of_no_organization_sees_nobody(site: Site) -> None:
    from saas.database import session_for
    from saas.models import Person

    with session_for(None) as session:
        assert session.scalars(select(Person)).all() == []


# -- a worker's scope ----------------------------------------------------------------------------------


def test_a_job_is_no_admin(site: Site) -> None:
    """A type error too: see the two ignores."""
    from saas.jobs import InvoiceArgs, send_invoice, workers
    from saas.scopes import JobScope
    from saas.security import authorize_admin

    def tries(scope: JobScope, args: InvoiceArgs) -> Result[None]:
        authorize_admin(scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return Ok()

    with testing(workers, replace={send_invoice: tries}) as sigra:
        args = InvoiceArgs(organization_id="northwind", actor_id="ada", invoice_id="INV-1")
        with pytest.raises(AuditOnlyScopeError, match="real_actor"):
            sigra.perform_job(send_invoice, args)
