"""What the doctor looks for in the database of an audit trail."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, String, Table, inspect, text

from sigra_workers import AuditEvent
from sigra_workers.checks import Check, Finding
from sigra_workers.errors import told
from sigra_workers_sqlalchemy.bounded import Overdue

README: Final = "adapters/sqlalchemy/README.md"
PAGE: Final = f"{README}#the-table"
_MEND: Final = "alembic revision --autogenerate and alembic upgrade head, or metadata.create_all(engine)"
_OTHERS: Final = "AUTO_INCREMENT on MariaDB, INTEGER PRIMARY KEY on SQLite"
_FIELDS: Final = frozenset(AuditEvent.__dataclass_fields__)


def trail_checks(
    table: Table, ask: Callable[[Callable[[Connection], list[Finding]]], list[Finding]]
) -> list[Check]:
    """The checks of a table; `ask` calls a function with a connection, and may raise."""
    return [
        Check("audit.reachable", lambda: _reachable(ask)),
        Check("audit.table", lambda: ask(lambda connection: [*_table(connection, table)]), "audit.reachable"),
    ]


def _reachable(ask: Callable[[Callable[[Connection], list[Finding]]], list[Finding]]) -> list[Finding]:
    def select(connection: Connection) -> list[Finding]:
        connection.execute(text("SELECT 1"))
        return [Finding("ok", f"the audit trail's database answers ({connection.dialect.name})")]

    try:
        return ask(select)
    except Exception as error:  # the driver's, or SQLAlchemy's
        why = "within the trail's time-out" if isinstance(error, Overdue) else f"({told(error)})"
        what = f"the audit trail's database does not answer {why}: log raises, and log_safe loses its events"
        mend = "start it, or mend the URL that AuditTrail has: psql, mariadb or sqlite3 with it says more"
        return [Finding("problem", what, mend, f"{README}#safe-and-required")]


def _table(connection: Connection, table: Table) -> Iterable[Finding]:
    faults = [*_faults(connection, table)]
    fine = f"table {table.fullname!r} has its columns, its indexes and a unique event_id"
    return faults or [Finding("ok", fine)]


def _faults(connection: Connection, table: Table) -> Iterable[Finding]:
    found = inspect(connection)
    if not found.has_table(table.name, schema=table.schema):
        yield Finding("problem", f"there is no table {table.fullname!r}: no audit event is kept", _MEND, PAGE)
        return
    there = {column["name"]: column for column in found.get_columns(table.name, schema=table.schema)}
    missing = [column.name for column in table.columns if column.name not in there]
    if missing:
        what = f"table {table.fullname!r} has no column {', '.join(missing)}: no audit event is kept"
        yield Finding("problem", what, _MEND, PAGE)
        return
    yield from _columns(connection, table, there)
    every = found.get_indexes(table.name, schema=table.schema)
    indexes = [index for index in every if not _is_partial(index)]
    constraints = found.get_unique_constraints(table.name, schema=table.schema)
    unique = [
        *(_names(item["column_names"]) for item in constraints if "duplicates_index" not in item),
        *(_names(item["column_names"]) for item in indexes if item.get("unique")),
    ]
    if ("event_id",) not in unique:
        again = "a job that runs again writes its events again, or none is kept"
        what = f"table {table.fullname!r} has no unique event_id: {again}"
        yield Finding("problem", what, _MEND, PAGE)
    swallowing = [str(index["name"]) for index in every if _swallows(connection, index)]
    if swallowing:
        told = ", ".join(swallowing)
        lost = "an event that it has such a row of is lost silently"
        what = f"table {table.fullname!r} has a further unique index, {told}: {lost}"
        mend = f"ALTER TABLE {table.fullname} DROP INDEX {told}, or let it not be unique"
        yield Finding("problem", what, mend, f"{README}#limits")
    columns = [_names(item["column_names"]) for item in indexes]
    slow = [index.name for index in table.indexes if _names([c.name for c in index.columns]) not in columns]
    if slow:
        what = f"table {table.fullname!r} lacks {', '.join(sorted(map(str, slow)))}: reading it gets slow"
        yield Finding("warning", what, _MEND, PAGE)
    collation = _collation(connection, table)
    if not collation.endswith("_bin"):
        what = (
            f"table {table.fullname!r} compares ids by {collation}: organizations 'Acme' and 'acme' are one"
        )
        mend = f"ALTER TABLE {table.fullname} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        yield Finding("problem", what, mend, PAGE)


def _columns(connection: Connection, table: Table, there: Mapping[str, Any]) -> Iterable[Finding]:
    """What an insert of an event fails of, or loses."""
    name, is_strict = table.fullname, _is_strict(connection)
    if not _counts(connection, table, there["id"]):
        what = f"table {name!r} has an id that the database does not count up: audit events are not kept"
        yield Finding("problem", what, f"let it be GENERATED BY DEFAULT AS IDENTITY, {_OTHERS}", PAGE)
    needed = [column for column, facts in there.items() if is_strict and _is_needed(table, column, facts)]
    if needed:
        told = ", ".join(needed)
        what = f"table {name!r} wants {told}, which no audit event has: no audit event is kept"
        yield Finding("problem", what, f"ALTER TABLE {name}: give {told} a default, or let it be NULL", PAGE)
    full = [
        c.name for c in table.columns if c.name in _FIELDS and c.nullable and not there[c.name]["nullable"]
    ]
    if full:
        told = ", ".join(full)
        what = f"table {name!r} wants {told} of each audit event: one without it is not kept"
        yield Finding("problem", what, f"ALTER TABLE {name}: let {told} be NULL", PAGE)
    lengths = {c.name: (_length(there[c.name]["type"]), _length(c.type)) for c in table.columns}
    short = [
        f"{column} (of {found} characters, not {ours})"
        for column, (found, ours) in lengths.items()
        if found is not None and ours is not None and found < ours and connection.dialect.name != "sqlite"
    ]
    if short:
        lost = "an audit event with a longer one is not kept"
        mend = f"ALTER TABLE {name}: widen it, as in {PAGE}"
        if not is_strict:
            lost = "a longer one is cut, which makes it another's, for sql_mode is not strict"
            mend = f"{mend}, and SET sql_mode with STRICT_TRANS_TABLES"
        yield Finding("problem", f"table {name!r} has a short {', '.join(short)}: {lost}", mend, PAGE)


def _counts(connection: Connection, table: Table, column: Mapping[str, Any]) -> bool:
    """Whether an event without an id gets one."""
    if connection.dialect.name != "sqlite":
        return bool(column.get("autoincrement") is True or column["default"] or column.get("identity"))
    key = inspect(connection).get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    where = {"schema": table.schema, "name": table.name}
    return key == ["id"] and connection.execute(text(_TYPE_OF_ID), where).scalar_one() == "INTEGER"


def _is_needed(table: Table, name: str, column: Mapping[str, Any]) -> bool:
    """Whether a column that is the host's own refuses a row that has nothing in it."""
    if name == "id" or name in _FIELDS or (name in table.columns and table.columns[name].default is not None):
        return False
    supplied = column["default"] is not None or column.get("autoincrement") is True or "computed" in column
    return not (column["nullable"] or supplied)


def _length(column: Any) -> int | None:
    return column.length if isinstance(column, String) else None


def _is_partial(index: Any) -> bool:
    """Whether it is of some rows (PostgreSQL, SQLite) or of the beginnings of texts (MariaDB)."""
    options = index.get("dialect_options", {})
    return any(value is not None for name, value in options.items() if name.endswith(("_where", "_length")))


def _swallows(connection: Connection, index: Any) -> bool:
    """Whether it is a unique index that the insert of `statements.insert_once` takes for that of event_id."""
    if connection.dialect.name not in ("mysql", "mariadb") or not index.get("unique"):
        return False
    return _is_partial(index) or not {"event_id", "id"} & {*index["column_names"]}  # a new id is in no row


def _is_strict(connection: Connection) -> bool:
    """Whether the database refuses what it would have to change; MariaDB as the session has it."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return True
    return "STRICT_" in str(connection.execute(text("SELECT @@SESSION.sql_mode")).scalar_one())


def _collation(connection: Connection, table: Table) -> str:
    """How ids are compared; PostgreSQL and SQLite do so exactly, unless told otherwise."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return "_bin"
    where = {"schema": table.schema, "name": table.name}
    return str(connection.execute(text(_COLLATION), where).scalar_one())


def _names(columns: Sequence[str | None]) -> tuple[str | None, ...]:
    return tuple(columns)


_COLLATION: Final = """
SELECT collation_name FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name AND column_name = 'organization_id'
"""
_TYPE_OF_ID: Final = "SELECT upper(type) FROM pragma_table_info(:name, :schema) WHERE name = 'id'"
"""Only this very type makes a key of SQLite's count."""
