"""The pages, and what their forms do. Whatever is shown or changed is of the scope's organization."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from sqlalchemy import func, select, update
from starlette.exceptions import HTTPException as AnyHTTPException

from saas import jobs
from saas.audit import audit, trail
from saas.database import session_for
from saas.models import JobRow, Organization, Person
from saas.people import everybody, request_scope
from saas.scopes import RequestScope
from saas.security import Scope, act_as, authorize_admin, check_form, form_token, sign_in
from sigra_workers import DeadJob, EnqueueError, NotDeadError

SHOWN: Final = 10
"""How many jobs, dead jobs and events a page shows: the latest."""
NO_ANSWER: Final = "The queue does not answer."

router: Final = APIRouter()
forms: Final = APIRouter(dependencies=[Depends(check_form)])
_templates: Final = Jinja2Templates(Path(__file__).with_name("templates"))
_log: Final = logging.getLogger("saas")


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S}"


_templates.env.filters["clock"] = _clock


@router.get("/")
def dashboard(request: Request, scope: Scope) -> Response:
    """Everything at a glance; its script asks for it again, and puts in what is new."""
    organization_id = scope.active_organization.id
    with session_for(organization_id) as session:
        people = session.scalars(select(Person).order_by(Person.name)).all()
        rows = session.scalars(select(JobRow).order_by(JobRow.created_at.desc()).limit(SHOWN)).all()
        counted = select(JobRow.state, func.count()).group_by(JobRow.state).order_by(JobRow.state)
        states = session.execute(counted).all()
    return _page(
        request,
        "dashboard.html",
        scope=scope,
        people=people,
        names={person.id: person.name for person in people},
        kinds=jobs.KINDS,
        key=uuid4().hex,
        rows=rows,
        summary=", ".join(f"{count} {state}" for state, count in states),
        dead=_dead(scope),
        subjects={row.id: row.subject for row in rows},
        events=trail.query(organization=organization_id, limit=SHOWN).events,
    )


@router.get("/sign-in")
def choose(request: Request) -> Response:
    """No password: choose who you are."""
    return _page(request, "sign_in.html", organizations=everybody())


@forms.post("/sign-in")
def enter(request: Request, person: Annotated[str, Form()]) -> Response:
    """Sign in as one of the people."""
    scope = request_scope(person, None)
    if scope is None:
        raise HTTPException(404)
    sign_in(request, person)
    audit.log_safe("person.signed_in", scope)
    return _back(request)


@forms.post("/sign-out")
def leave(request: Request) -> Response:
    """Sign out."""
    request.session.clear()
    return RedirectResponse("/sign-in", 303)


@forms.post("/act-as")
def impersonate(request: Request, scope: Scope, person: Annotated[str, Form()]) -> Response:
    """Act as somebody else of the same organization, as an admin."""
    authorize_admin(scope)
    admin = RequestScope(scope.real_actor, scope.active_organization)
    with session_for(scope.active_organization.id) as session, session.begin():
        if session.get(Person, person) is None:  # also where there is one elsewhere
            raise HTTPException(404)
        audit.log("impersonation.begun", admin, transaction=session, target_type="person", target_id=person)
    act_as(request, person)
    return _back(request)


@forms.post("/act-as-yourself")
def stop_impersonating(request: Request, scope: Scope) -> Response:
    """Be oneself again."""
    act_as(request, None)
    audit.log_safe("impersonation.ended", scope)
    return _back(request)


@forms.post("/jobs")
def start_job(
    request: Request, scope: Scope, worker: Annotated[str, Form()], key: Annotated[str, Form()]
) -> Response:
    """Enqueue a job of one kind, once for each form."""
    if worker not in jobs.KINDS:
        raise HTTPException(404)
    try:
        about = jobs.start(scope, worker, key)
    except EnqueueError as error:
        # The row is committed. Not all is known: say what is, and don't invite to do it all again.
        _log.error("a job was not sent: %s", error)
        return _back(request, f"{NO_ANSWER} The job is saved, and may not have been sent.")
    return _back(request, f"Enqueued: {about}.")


@forms.post("/dead/{job_id}/resend")
def resend(request: Request, scope: Scope, job_id: str) -> Response:
    """Send a dead job again: same id, args and actor, attempts from 1."""
    found = _dead(scope, ids=[job_id])
    if found is None:
        raise HTTPException(503, NO_ANSWER)
    if not found:  # also where there is one elsewhere
        raise HTTPException(404)
    # Before it is sent: what a worker process has to say of it is newer.
    _change_state(scope, job_id, "dead", "waiting")
    try:
        jobs.workers.resend(found, by=scope.real_actor.id)
    except NotDeadError:
        return _back(request, "Somebody else has just sent it again.")
    except EnqueueError:
        _change_state(scope, job_id, "waiting", "dead")
        raise HTTPException(503, NO_ANSWER) from None
    audit.log_safe("job.resent", scope, target_type="job", target_id=job_id)
    return _back(request, "Sent again.")


@forms.post("/endpoint")
def change_endpoint(request: Request, scope: Scope, up: Annotated[bool, Form()]) -> Response:
    """Repair or break the organization's endpoint: a stand-in for the world outside."""
    with session_for(scope.active_organization.id) as session, session.begin():
        session.get_one(Organization, scope.active_organization.id).endpoint_up = up
        action = "endpoint.repaired" if up else "endpoint.broken"
        audit.log(action, scope, transaction=session, target_type="endpoint")
    return _back(request, "The endpoint answers again." if up else "The endpoint is down.")


async def show_error(request: Request, error: Exception) -> Response:
    """A page for an error, and the redirect of somebody who has not signed in."""
    if not isinstance(error, AnyHTTPException):  # FastAPI's own answer would show what was sent
        error = HTTPException(400, "This form lacks something.")
    if error.status_code == 303:
        return Response(status_code=303, headers=error.headers)
    return _page(request, "error.html", error.status_code, detail=error.detail)


def _dead(scope: RequestScope, ids: list[str] | None = None) -> list[DeadJob] | None:
    """Dead jobs of the scope's organization; None where the queue does not answer."""
    try:
        if ids is not None:
            return jobs.workers.dead(organization=scope.active_organization.id, ids=ids)
        return jobs.workers.dead(organization=scope.active_organization.id, limit=SHOWN)
    except Exception as error:  # it is the queue's own client's
        _log.error("no dead jobs can be listed: %s", type(error).__name__)
        return None


def _change_state(scope: RequestScope, job_id: str, before: str, after: str) -> None:
    with session_for(scope.active_organization.id) as session, session.begin():
        session.execute(update(JobRow).where(JobRow.id == job_id, JobRow.state == before).values(state=after))


def _page(request: Request, name: str, status: int = 200, **context: Any) -> Response:
    context |= {"status": status, "token": form_token(request), "news": request.session.pop("news", None)}
    # A page of somebody who has signed out is not shown again by "back".
    return _templates.TemplateResponse(request, name, context, status, {"Cache-Control": "no-store"})


def _back(request: Request, news: str | None = None) -> Response:
    """After a form comes a page, so that a reload sends nothing again."""
    if news is not None:
        request.session["news"] = news
    return RedirectResponse("/", 303)


router.include_router(forms)
