"""The table of audit events, and events as its rows."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    RowMapping,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

from sigra_workers import AuditError, AuditEvent, Id

IDS: Final = ("actor_id", "effective_user_id", "organization_id", "target_id")
"""Columns that hold ids: see `id_text`."""
MIN: Final = datetime.min.replace(tzinfo=UTC)
MAX: Final = datetime.max.replace(tzinfo=UTC)
FIRST_YEAR: Final = 1000
"""That of MariaDB."""
LAST_YEAR: Final = 9998
"""In the next one asyncpg writes "infinity", and psycopg can't read all time zones."""
MAX_LEVELS: Final = 31
"""How deep metadata may be: MariaDB's JSON ends there."""
_INT: Final = re.compile(r"0|-?[1-9]\d*")
_PLAIN: Final = re.compile(r'(?!")(?:(?![\0\ud800-\udfff]).)*(?<!\s)', re.DOTALL)
"""A text that every database keeps and compares as it is: PostgreSQL has no NUL, MariaDB pads with spaces."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"\\(?:u(d[89a-f]..)|.)")


def audit_events(metadata: MetaData, name: str = "audit_events", schema: str | None = None) -> Table:
    """The table of audit events in `metadata`, the host's own: create it, or let Alembic find it.

    Times are in UTC, to the microsecond. An id is text, as `AuditTrail` writes it: an int as its digits; a
    text as it is, or in JSON quotes where it looks like an int or could be taken for another one.
    """
    moment = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    exact: dict[str, Any] = {  # "Acme" is not "acme"
        f"{dialect}_{option}": value
        for dialect in ("mysql", "mariadb")
        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
    }
    return Table(
        name,
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("event_id", String(36), nullable=False),
        Column("occurred_at", moment, nullable=False),
        Column("action", String(255), nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("actor_id", String(255)),
        Column("actor_type", String(16), nullable=False),
        Column("effective_user_id", String(255)),
        Column("organization_id", String(255)),
        Column("target_type", String(255)),
        Column("target_id", String(255)),
        Column("metadata", JSON, nullable=False),
        Column("job_id", String(128)),
        Column("worker", String(128)),
        Column("queue", String(128)),
        Column("attempt", Integer),
        Column("schema_version", SmallInteger, nullable=False),
        UniqueConstraint("event_id", name=f"uq_{name}_event_id"),
        Index(f"ix_{name}_organization_id_occurred_at", "organization_id", "occurred_at", "id"),
        Index(f"ix_{name}_actor_id_occurred_at", "actor_id", "occurred_at", "id"),
        Index(f"ix_{name}_occurred_at", "occurred_at", "id"),
        Index(f"ix_{name}_job_id", "job_id"),
        schema=schema,
        **exact,
    )


def row_of(table: Table, event: AuditEvent) -> dict[str, Any]:
    """The event as a row; raises `AuditError` for what the table can't hold, naming the fields."""
    row = {name: getattr(event, name) for name in AuditEvent.__dataclass_fields__}
    texts: dict[str, Any] = {"target_type": plain_text(row["target_type"])}
    texts.update({name: id_text(row[name]) for name in IDS})
    at = in_utc(event.occurred_at)
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        problem = f"expected a year from {FIRST_YEAR} to {LAST_YEAR}"
        raise AuditError(event.action, ["occurred_at"], problem)
    row.update(texts, occurred_at=at)
    if not _keeps(row["metadata"], MAX_LEVELS):
        problem = f"expected at most {MAX_LEVELS} levels, and no lone surrogates"
        raise AuditError(event.action, ["metadata"], problem)
    wrong = [name for name, value in row.items() if not _fits(table.c[name].type, value)]
    if wrong:
        longest = ", ".join(str(_length(table.c[name].type)) for name in wrong)
        problem = f"expected a text or, for an id, an int, of at most {longest} characters"
        raise AuditError(event.action, wrong, problem)
    return row


def event_of(row: RowMapping) -> AuditEvent:
    """The event in a row."""
    facts = {name: row[name] for name in AuditEvent.__dataclass_fields__}
    facts.update({name: _id_of(row[name]) for name in IDS})
    at: datetime = row["occurred_at"]
    facts["occurred_at"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    facts["target_type"] = _text_of(row["target_type"])
    return AuditEvent(**facts)


def id_text(value: object) -> object:
    """An id as the table holds it, no two of them alike on any database; what is no id as it is."""
    if isinstance(value, str) and _INT.fullmatch(value):
        return json.dumps(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:d}" if value.bit_length() < 1_024 else value
    return plain_text(value)


def plain_text(value: object) -> object:
    """A text as it is, or in JSON quotes where a database would change it or take it for another."""
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        return value
    # A character beyond U+FFFF stays one, or it could not be told from its two surrogates.
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def in_utc(moment: datetime) -> datetime:
    """The same time in UTC; the first or last that there is, where Python has none that far."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return MIN if moment.year == 1 else MAX


def _fits(column: Any, value: object) -> bool:
    if not isinstance(column, String) or value is None:
        return True
    return isinstance(value, str) and len(value) <= _length(column)


def _keeps(value: object, levels: int) -> bool:
    """Whether every database keeps this JSON: MariaDB's has neither deeper levels nor lone surrogates."""
    if isinstance(value, str):
        return _SURROGATE.search(value) is None
    parts: list[object] = []
    if isinstance(value, Mapping):
        parts = [part for item in cast("Mapping[object, object]", value).items() for part in item]
    elif isinstance(value, (list, tuple)):
        parts = [*cast("Sequence[object]", value)]
    else:
        return True
    return levels > 0 and all(_keeps(part, levels - 1) for part in parts)


def _length(column: Any) -> int:
    return int(column.length)


def _id_of(text: str | None) -> Id | None:
    return int(text) if text is not None and _INT.fullmatch(text) else _text_of(text)


def _text_of(text: str | None) -> str | None:
    if text is None or not text.startswith('"'):
        return text
    # Two escaped surrogates are one character to JSON, two that stand there are not.
    apart = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[0], text)
    return str(json.loads(apart))
