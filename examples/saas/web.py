"""The web application: ``uvicorn --factory saas.web:create_app``."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware

from saas import config, pages
from saas.audit import trail
from saas.database import engine
from saas.jobs import workers
from saas.people import prepare
from sigra_workers.memory import MemoryAdapter

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def create_app() -> FastAPI:
    """Make the application. Nothing is opened before it is started."""
    app = FastAPI(title="Ledger", lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    # Behind TLS, where it belongs, add https_only=True.
    app.add_middleware(SessionMiddleware, secret_key=config.SECRET, session_cookie="ledger", same_site="lax")
    app.middleware("http")(_add_headers)
    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, pages.show_error)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")
    app.include_router(pages.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    await run_in_threadpool(prepare)
    with workers:  # closes its connections at the end
        if config.ADAPTER == "memory":
            # The embedded queue has no process of its own: its jobs run in a thread of this one.
            import saas.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]

            MemoryAdapter.of(workers).start()
        yield
    trail.close()
    engine.dispose()


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response
