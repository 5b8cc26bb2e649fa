"""What is asked of the database, over one connection: one event in, pages of them out, old ones gone."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    RowMapping,
    Table,
    delete,
    false,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from sigra_workers import EVERY_ORGANIZATION, AuditFilters, AuditPage, InvalidOptionError
from sigra_workers_sqlalchemy.table import MAX, MIN, event_of, id_text, in_utc, plain_text

DIALECTS: Final = ("postgresql", "mariadb", "mysql", "sqlite")
_CURSOR: Final = re.compile(r"([on])(-?\d{1,18})\.(\d{1,19})", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = {
    "organization": "organization_id",
    "real_actor": "actor_id",
    "effective_user": "effective_user_id",
    "job": "job_id",
}
_IDS: Final = ("organization", "real_actor", "effective_user", "target_id")


def insert_once(table: Table, dialect: str) -> Executable:
    """The insert of one event, which does nothing where its `event_id` is there already.

    It raises for everything else: no error is ignored, and none is used to find out. But MariaDB takes any
    unique index for that of `event_id`, so the doctor looks for further ones.
    """
    if dialect in ("mysql", "mariadb"):
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update(event_id=table.c.event_id).inline()
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing(index_elements=[table.c.event_id]).inline()


class Position(NamedTuple):
    """Where an event stands in time; `at` in microseconds."""

    at: int
    id: int

    @classmethod
    def of(cls, row: RowMapping) -> "Position":
        """That of a row."""
        return cls(_micros(row["occurred_at"]), row["id"])

    def cursor(self, way: str) -> str:
        """The page of older ("o") or newer ("n") events beside it."""
        return f"{way}{self.at}.{self.id}"


class Start(NamedTuple):
    """Where a page begins: at the latest event, or beside another page."""

    position: Position | None
    newer: bool


def page(connection: Connection, table: Table, filters: AuditFilters, limit: int, start: Start) -> AuditPage:
    """See `AuditReader.query`."""
    newer, position = start.newer, start.position
    found = rows(connection, table, filters, limit + 1, position, ascending=newer)
    more = len(found) > limit
    shown = found[:limit][::-1] if newer else found[:limit]
    if not shown:
        return AuditPage([], None, position.cursor("n") if newer and position else None)
    events = [event_of(row) for row in shown]
    first, last = Position.of(shown[0]), Position.of(shown[-1])
    has_older, has_newer = more, position is not None
    if newer:  # what was on the page before may be gone
        has_older, has_newer = bool(rows(connection, table, filters, 1, last, ascending=False)), more
    return AuditPage(
        events, last.cursor("o") if has_older else None, first.cursor("n") if has_newer else None
    )


def rows(
    connection: Connection,
    table: Table,
    filters: AuditFilters,
    limit: int,
    position: Position | None,
    *,
    ascending: bool,
) -> Sequence[RowMapping]:
    """Rows beyond a position, in the order of time or against it."""
    at, number = table.c.occurred_at, table.c.id
    where = _where(table, filters)
    if position is not None:
        time = _EPOCH + timedelta(microseconds=position.at)
        # Both halves, so that the index is entered at the position and nothing before it is read.
        if ascending:
            where += [at >= time, or_(at > time, number > position.id)]
        else:
            where += [at <= time, or_(at < time, number < position.id)]
    first = _nulls(table, filters) if connection.dialect.name == "postgresql" else []
    columns = [*first, at, number]
    order = [column.asc() if ascending else column.desc() for column in columns]
    chosen = select(table).where(*where).order_by(*order).limit(limit)
    return connection.execute(chosen).mappings().all()


def count(connection: Connection, table: Table, filters: AuditFilters) -> int:
    """How many events fit."""
    found: int = connection.execute(
        select(func.count()).select_from(table).where(*_where(table, filters))
    ).scalar_one()
    return found


def delete_some(connection: Connection, table: Table, filters: AuditFilters, batch: int) -> int:
    """Delete the oldest events that fit, so many at most; how many they were."""
    ids = select(table.c.id).where(*_where(table, filters)).order_by(table.c.occurred_at, table.c.id)
    found = connection.execute(ids.limit(batch)).scalars().all()
    # Not as many where another one deletes them too, or a trigger says no.
    return connection.execute(delete(table).where(table.c.id.in_(found))).rowcount if found else 0


def _nulls(table: Table, filters: AuditFilters) -> list[ColumnElement[Any]]:
    """What comes first in the order of the index to use: PostgreSQL does not see that it is one NULL."""
    actor = filters.get("real_actor", EVERY_ORGANIZATION)
    if filters["organization"] is None and not isinstance(actor, (str, int)):
        return [table.c.organization_id]
    return [table.c.actor_id] if filters["organization"] is EVERY_ORGANIZATION and actor is None else []


def _where(table: Table, filters: AuditFilters) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    for name, value in filters.items():
        column = table.c.occurred_at if name in ("since", "until") else table.c[_COLUMNS.get(name, name)]
        match name, value:
            case "organization", _ if value is EVERY_ORGANIZATION:
                pass
            case "since", datetime():
                where.append(column >= in_utc(value))
            case "until", datetime():
                where.append(column < in_utc(value))
            case _, None:
                where.append(column.is_(None))
            case "action", str() if value.endswith("."):
                where.append(column.startswith(value, autoescape=True))
            case _:
                text = id_text(value) if name in _IDS else plain_text(value)
                where.append(column == text if isinstance(text, str) else false())  # no row holds such an int
    return where


def parse(cursor: object) -> Start:
    """Where a cursor leads; raises `InvalidOptionError` for what is none."""
    if cursor is None:
        return Start(None, newer=False)
    found = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    position = Position(int(found[2]), int(found[3])) if found else None
    if found is None or position is None or not (_FIRST <= position.at <= _LAST and position.id < 2**63):
        raise InvalidOptionError("cursor", "it is none that a page of this trail gave")
    return Start(position, newer=found[1] == "n")


def _micros(moment: datetime) -> int:
    """Microseconds since 1970; without a time zone it is UTC."""
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)


_FIRST: Final = _micros(MIN)
_LAST: Final = _micros(MAX)
