"""The registry. Importing it opens nothing, as an engine connects when it is first used."""

import os

from sqlalchemy import create_engine

from app.scopes import TenantScope, TenantScopes
from sigra_workers import TenantArgs, Workers

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///app.db"))
workers = Workers[TenantScope](
    scope_builder=TenantScopes(engine),
    adapter=os.environ.get("APP_QUEUE", "memory"),
    settings={"url": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")},
)
send_report = workers.declare("reports.send", TenantArgs)
