"""Engines from a URL, with time-outs that the driver and the database keep themselves."""

import math
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sigra_workers import InvalidSettingsError

_SYNC: Final = {
    "asyncpg": "psycopg",
    "psycopg_async": "psycopg",
    "aiomysql": "pymysql",
    "asyncmy": "pymysql",
    "aiosqlite": "pysqlite",
}
"""For each async driver the sync one of the same database."""


def engine_at(url: str, timeout: float | None, *, sync: bool = False) -> Engine | AsyncEngine:
    """An engine that opens nothing yet; `sync` takes the sync driver of the database, whatever is named."""
    try:
        found = make_url(url)
        if sync:
            found = _with_sync_driver(found)
        dialect = found.get_dialect()
        create: Callable[..., Engine | AsyncEngine] = (
            create_async_engine if dialect.is_async else create_engine
        )
        options: dict[str, Any] = {"hide_parameters": True}
        if timeout is not None:
            options["connect_args"] = _time_outs(found, timeout)
            if found.get_backend_name() != "sqlite":
                options["pool_timeout"] = timeout
        return create(found, **options)
    except ModuleNotFoundError as error:
        raise InvalidSettingsError("AuditTrail", f"the URL's driver is not installed: {error.name}") from None
    except (SQLAlchemyError, ValueError) as error:
        raise InvalidSettingsError(
            "AuditTrail", f"the database URL can't be read: {type(error).__name__}"
        ) from None


def _with_sync_driver(url: URL) -> URL:
    driver = url.get_driver_name()
    return url.set(drivername=f"{url.get_backend_name()}+{_SYNC.get(driver, driver)}")


def _time_outs(url: URL, seconds: float) -> dict[str, Any]:
    """What the driver is told at each connect; nothing where we don't know it."""
    whole, milliseconds = math.ceil(seconds), math.ceil(seconds * 1_000)
    match url.get_driver_name():
        case "psycopg" | "psycopg_async" | "psycopg2":
            found = url.query.get("options", ())  # or they would be gone
            given = [found] if isinstance(found, str) else found
            options = " ".join([*given, f"-c statement_timeout={milliseconds}"])
            # libpq takes 1 s for 2 s
            return {"connect_timeout": max(2, whole), "options": options, "tcp_user_timeout": milliseconds}
        case "asyncpg":
            server = {"statement_timeout": str(milliseconds)}
            return {"timeout": seconds, "command_timeout": seconds, "server_settings": server}
        case "pymysql" | "mysqldb":
            wait = {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole}
            return {**wait, "init_command": f"SET SESSION innodb_lock_wait_timeout = {whole}"}
        case "aiomysql" | "asyncmy":
            init = f"SET SESSION innodb_lock_wait_timeout = {whole}"
            return {"connect_timeout": whole, "init_command": init}
        case "pysqlite" | "aiosqlite":
            return {"timeout": seconds}
        case _:
            return {}
