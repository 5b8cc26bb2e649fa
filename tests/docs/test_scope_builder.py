"""docs/how-to/scope-builder.md, on SQLite and on the real PostgreSQL."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.docs.application import Application
from tests.docs.blocks import code
from tests.docs.postgres import database

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

CODE: Final = code("docs/code/scope-builder")
PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
# The other builder, for workers of either kind; a database that is away; none of it blocks the loop.
ASYNC: Final = """
import asyncio
import os
from app.jobs import engine
from app.models import Base, Organization, User
from app.scopes import AsyncTenantScopes, TenantScope, TenantScopes
from sigra_workers import Cancel, Ok, Snooze, TenantArgs, Workers
from sigra_workers.testing import testing
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add(User(id="ann", name="Ann"))
    session.add(Organization(id="northwind", name="Northwind"))
    session.add(Organization(id="acme", name="Acme", is_suspended=True))
url = os.environ["DATABASE_URL"].replace("sqlite:", "sqlite+aiosqlite:")
expected = {
    "northwind": Ok("Northwind, Ann"),
    "acme": Snooze(3600),
    "initech": Cancel("the organization is gone"),
    None: Ok("None, Ann"),
}

def sync(scope: TenantScope, args: TenantArgs):
    return Ok(f"{scope.organization_name}, {scope.user_name}")

async def asynchronous(scope: TenantScope, args: TenantArgs):
    return sync(scope, args)

async def on_a_loop(builder):
    workers = Workers(scope_builder=builder)
    workers.register(sync, name="sync")
    workers.register(asynchronous, name="async")
    with testing(workers) as sigra:
        for handle in workers.handles:
            for organization, result in expected.items():
                args = TenantArgs(organization_id=organization, actor_id="ann")
                assert await sigra.aperform_job(handle, args) == result, (handle, organization)

def in_a_thread(builder):
    workers = Workers(scope_builder=builder)
    workers.register(sync, name="sync")
    workers.register(asynchronous, name="async")
    with testing(workers) as sigra:
        for handle in workers.handles:
            for organization, result in expected.items():
                args = TenantArgs(organization_id=organization, actor_id="ann")
                assert sigra.perform_job(handle, args) == result, (handle, organization)

def away():
    workers = Workers(scope_builder=TenantScopes(create_engine("sqlite:////nowhere/app.db")))
    handle = workers.register(sync, name="sync", max_attempts=2)
    with testing(workers) as sigra:
        handle.enqueue(TenantArgs(organization_id="northwind", actor_id="ann"))
        assert sigra.drain(scheduled=True) == {"retry": 1, "dead": 1}

in_a_thread(TenantScopes(engine))
in_a_thread(AsyncTenantScopes(create_async_engine(url)))
asyncio.run(on_a_loop(TenantScopes(engine)))
asyncio.run(on_a_loop(AsyncTenantScopes(create_async_engine(url))))
away()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    found = Application(tmp_path / "app", {"DATABASE_URL": f"sqlite:///{tmp_path}/app.db"})
    found.deploy(CODE)
    if request.param == "sqlite":
        yield found
        return
    with database() as postgres:
        postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{postgres.name}"')
        found.environment = {"DATABASE_URL": postgres.url()}
        yield found


def test_the_pages_tests_pass(application: Application) -> None:
    assert re.search(r"^4 passed in", application.run(*PYTEST, "test_scopes.py"), re.MULTILINE)


def test_either_builder_serves_workers_of_either_kind(application: Application) -> None:
    application.run(sys.executable, "-c", ASYNC)
