"""Who is asking, and whether the form that is sent is one of ours."""

import secrets
from typing import Annotated, Any, Final

from fastapi import Depends, Form, HTTPException, Request

from saas.people import request_scope
from saas.scopes import RequestScope

_KEY: Final = "form"


def form_token(request: Request) -> str:
    """What each form carries along: other sites don't know it, and so can't send our forms for a user."""
    token: str = request.session.setdefault(_KEY, secrets.token_urlsafe())
    return token


def check_form(request: Request, token: Annotated[str, Form()] = "") -> None:
    """Refuse a form without the token of this very session."""
    expected: Any = request.session.get(_KEY, "")
    if not expected or not secrets.compare_digest(token.encode(), expected.encode()):
        raise HTTPException(
            403, "This form is too old, or was not ours. Go back, reload the page and try again."
        )


def sign_in(request: Request, person_id: str) -> None:
    """Begin a session anew: nothing of the one before is kept, its token neither."""
    request.session.clear()
    request.session["person"] = person_id


def act_as(request: Request, person_id: str | None) -> None:
    """Go on as somebody else, or as oneself."""
    request.session["acting_as"] = person_id


def current_scope(request: Request) -> RequestScope:
    """The scope of this request; without one, the way leads to the sign-in page."""
    session = request.session
    scope = request_scope(session.get("person"), session.get("acting_as"))
    if scope is None:
        raise HTTPException(303, headers={"Location": "/sign-in"})
    return scope


def authorize_admin(scope: RequestScope) -> None:
    """Refuse who is no admin. The scope of a job is a type error here."""
    if not scope.real_actor.is_admin:
        raise HTTPException(403, "Only an admin may act as somebody else.")


Scope = Annotated[RequestScope, Depends(current_scope)]
