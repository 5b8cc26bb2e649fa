"""What the entry point of this distribution names: the audit trail for the command line."""

from pathlib import Path

from sqlalchemy import MetaData

from sigra_workers import AuditReader, InvalidSettingsError, hookimpl
from sigra_workers_sqlalchemy.connect import engine_at
from sigra_workers_sqlalchemy.reader import Reader
from sigra_workers_sqlalchemy.table import audit_events


@hookimpl
def sigra_audit_reader(url: str, table: str) -> AuditReader | None:
    """Read the trail in a table, ``schema.table`` too; raises `InvalidSettingsError`, without the URL."""
    schema, _, name = table.rpartition(".")
    engine = engine_at(url, None, sync=True)
    file = engine.url.database or ""
    is_named = engine.dialect.name == "sqlite" and not file.startswith(("file:", ":memory:"))
    if is_named and not Path(file).exists():  # SQLite would make an empty one
        raise InvalidSettingsError("AuditTrail", f"there is no SQLite database {file!r}")
    return Reader.owning(engine, audit_events(MetaData(), name, schema or None))
