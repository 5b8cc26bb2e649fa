"""What an event becomes in the table, and comes back as, on every database and with every driver."""

import enum
import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from adapters.sqlalchemy.tests.ids import ODD, any_id, hard_text, two_ids
from adapters.sqlalchemy.tests.support import (
    DRIVERS,
    NOW,
    PATIENCE,
    SYNC,
    Calls,
    Database,
    audit_event,
    calls_on,
    database_for,
    open_engine,
    url_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, create_engine, inspect, text

from sigra_workers import EVERY_ORGANIZATION, AuditError, AuditEvent, Id
from sigra_workers_sqlalchemy import AuditTrail, audit_events
from sigra_workers_sqlalchemy.table import IDS, MAX_LEVELS, _id_of, event_of, id_text, plain_text, row_of

SECRET = "s3cr3t"
KATHMANDU = timezone(timedelta(hours=5, minutes=45))
TABLE = audit_events(MetaData())
QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


class Kind(str, enum.Enum):  # noqa: UP042 - StrEnum writes its value everywhere
    """What hosts name their actions and types with; its `str` is not what it holds."""

    CLOSED = "account.closed"
    ACCOUNT = "account"


def exact(event: AuditEvent) -> str:
    """An event by all it holds: 1 is not True, nor 1.0."""
    return repr(event)


def kept(calls: Calls, event: AuditEvent) -> AuditEvent:
    """The event as it is read back, which it is once."""
    calls.write(event)
    page = calls.query(organization=event.organization_id, target_id=event.target_id)
    (found,) = [found for found in page.events if found.event_id == event.event_id]
    return found


# -- fields --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        audit_event(
            actor_id="admin",
            effective_user_id=7,
            organization_id=12,
            metadata={"plan": "pro"},
            job_id="job-1",
            worker="accounts.close",
            queue="default",
            attempt=3,
        ),
        audit_event(outcome="failure", actor_type="system", actor_id="cron"),
        audit_event(
            actor_id=None,
            actor_type="system",
            effective_user_id=None,
            organization_id=None,
            target_type=None,
            target_id=None,
            metadata={},
        ),
        audit_event(
            event_id="e" * 36,
            action="a." + "b" * 253,
            target_type="é" * 255,
            job_id="j" * 128,
            worker="w" * 128,
            queue="q" * 128,
            attempt=2**31 - 1,
            schema_version=2**15 - 1,
        ),
    ],
    ids=["of a job", "of a named system", "of nobody", "as long as it may be"],
)
def test_an_event_comes_back_with_every_field(shared_calls: Calls, event: AuditEvent) -> None:
    assert exact(kept(shared_calls, event)) == exact(event)


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW.replace(microsecond=0),
        NOW.replace(microsecond=1),
        NOW.replace(microsecond=999_999),
        datetime(2026, 3, 1, 0, 30, tzinfo=KATHMANDU),
        datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=timezone(-timedelta(hours=12))),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        datetime(1000, 1, 1, tzinfo=UTC),
        datetime(9998, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
    ids=str,
)
def test_a_time_comes_back_in_utc_to_the_microsecond(shared_calls: Calls, moment: datetime) -> None:
    found = kept(shared_calls, audit_event(occurred_at=moment, target_id=str(uuid.uuid4())))
    assert exact(found) == exact(
        audit_event(event_id=found.event_id, target_id=found.target_id, occurred_at=moment.astimezone(UTC))
    )


def test_the_time_zone_of_a_connection_changes_no_time(tmp_path: Path) -> None:
    url = url_of("postgresql+psycopg", tmp_path)
    with database_for("postgresql+psycopg", tmp_path) as database:
        for zone in ("Asia/Kathmandu", "America/New_York"):
            engine = open_engine(url)
            with engine.begin() as connection:
                connection.execute(text(f"SET TIME ZONE '{zone}'"))
                AuditTrail(engine, database.table).write_in(audit_event(), connection)
                rows = connection.execute(database.table.select()).mappings().all()
                assert {event_of(row).occurred_at.isoformat() for row in rows} == {NOW.isoformat()}
            engine.dispose()


def test_the_time_zone_of_mariadb_changes_no_time(tmp_path: Path) -> None:
    with database_for("mariadb+pymysql", tmp_path) as database, database.engine.begin() as connection:
        connection.execute(text("SET time_zone = '+05:45'"))
        AuditTrail(database.engine, database.table, timeout=PATIENCE).write_in(audit_event(), connection)
        connection.execute(text("SET time_zone = '-08:00'"))
        (row,) = connection.execute(database.table.select()).mappings()
        assert event_of(row).occurred_at == NOW


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=KATHMANDU),
        datetime(1000, 1, 1, tzinfo=KATHMANDU),
        datetime.max.replace(tzinfo=UTC),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2))),
    ],
    ids=str,
)
def test_a_time_that_some_database_or_driver_can_not_hold_is_refused_on_all(
    shared_calls: Calls, moment: datetime
) -> None:
    with pytest.raises(AuditError, match="a year from 1000 to 9998") as caught:
        shared_calls.write(audit_event(occurred_at=moment))
    assert caught.value.fields == ("occurred_at",)


def test_a_text_of_a_class_of_its_own_is_written_as_what_it_holds(shared_calls: Calls) -> None:
    target = str(uuid.uuid4())
    event = audit_event(action=Kind.CLOSED, target_type=Kind.ACCOUNT, actor_id=Kind.ACCOUNT, target_id=target)
    found = kept(shared_calls, event)
    assert (found.action, found.target_type, found.actor_id) == ("account.closed", "account", "account")


# -- ids -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=DRIVERS)
def odd_calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """A trail with an event for each odd id, in every field that holds one."""
    with database_for(request.param, tmp_path_factory.mktemp("odd")) as database, calls_on(database) as calls:
        calls.write_in(audit_event(n, attempt=n, **dict.fromkeys(IDS, odd)) for n, odd in enumerate(ODD))
        yield calls


def test_an_odd_id_comes_back_as_it_was(odd_calls: Calls) -> None:
    events = odd_calls.database.events
    for name in IDS:
        assert [getattr(event, name) for event in events] == [*ODD]
        assert [type(getattr(event, name)) for event in events] == [type(odd) for odd in ODD]


def test_an_odd_id_finds_its_own_event_and_no_other(odd_calls: Calls) -> None:
    names = itertools.cycle(["organization", "real_actor", "effective_user", "target_id"])
    for n, odd in enumerate(ODD):
        filters: Any = {"organization": EVERY_ORGANIZATION, next(names): odd}
        page = odd_calls.query(**filters)
        assert [event.attempt for event in page.events] == [n], odd


def test_a_text_of_a_target_type_is_as_exact_as_an_id(shared_calls: Calls) -> None:
    calls, organization = shared_calls, str(uuid.uuid4())
    texts = [odd for odd in ODD if isinstance(odd, str)]
    calls.write_in(
        audit_event(n, organization_id=organization, target_type=odd, attempt=n)
        for n, odd in enumerate(texts)
    )
    for n, odd in enumerate(texts):
        (event,) = calls.query(organization=organization, target_type=odd).events
        assert (event.attempt, event.target_type) == (n, odd)


@settings(max_examples=200)
@given(two_ids())
def test_two_different_ids_never_share_a_text(pair: tuple[Id, Id]) -> None:
    one, other = pair
    same = type(one) is type(other) and one == other
    assert (id_text(one) == id_text(other)) is same


@settings(max_examples=200)
@given(any_id)
def test_the_text_of_an_id_is_one_that_every_database_keeps_and_leads_back_to_it(one: Id) -> None:
    found = id_text(one)
    assert isinstance(found, str)
    assert not {*found} & {"\0", *map(chr, range(0xD800, 0xE000))}
    assert found == found.rstrip()
    again = _id_of(found)
    assert (type(again), again) == (type(one), one)


@given(hard_text)
def test_a_text_that_is_no_id_has_a_text_that_is_never_that_of_an_int(one: str) -> None:
    assert plain_text(one) != plain_text(f"{one} ")
    assert not isinstance(plain_text(one), int)


@QUICK
@given(one=any_id, kind=hard_text)
def test_any_id_and_text_comes_back_as_it_was(shared_calls: Calls, one: Id, kind: str) -> None:
    event = audit_event(organization_id=str(uuid.uuid4()), actor_id=one, target_id=one, target_type=kind)
    assert exact(kept(shared_calls, event)) == exact(event)


# -- metadata ------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def nested(levels: int) -> dict[str, Any]:
    """Metadata so deep."""
    found: Any = [[]]
    for n in range(levels - 3):
        found = [found] if n % 2 else {"deep": found}
    return {"deep": found}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"": ""},
        {"a": {"b": {"c": [1, [2, [3, {"": 1}]], "x"]}}},
        {"none": None, "true": True, "false": False, "one": 1, "text": "1"},
        {"z": 1, "a": 2, "Z": 3},
        {"float": 0.1, "minus": -0.0, "large": 1.7976931348623157e308, "tiny": 5e-324, "whole": 1.0},
        {"int": 2**63, "more": 2**200, "less": -(2**200)},
        {"nul": "\0", "quotes": "'\"`\\", "lines": "\r\n\u2028", "\0": 1},
        {"é": "naïve", "emoji": "\U0001f600", "combined": "a\u0301"},
        {"text": "x" * 8_000},
        nested(MAX_LEVELS),
    ],
    ids=lambda metadata: " ".join(cast("dict[str, Any]", metadata)) or "empty",
)
def test_metadata_comes_back_as_it_was(shared_calls: Calls, metadata: Any) -> None:
    event = audit_event(organization_id=str(uuid.uuid4()), metadata=metadata)
    assert exact(kept(shared_calls, event)) == exact(event)


@QUICK
@given(metadata=st.dictionaries(st.text(), values, max_size=4))
def test_any_json_comes_back_as_it_was(shared_calls: Calls, metadata: dict[str, Any]) -> None:
    event = audit_event(organization_id=str(uuid.uuid4()), metadata=metadata)
    assert exact(kept(shared_calls, event)) == exact(event)


@pytest.mark.parametrize(
    "metadata",
    [
        nested(MAX_LEVELS + 1),
        nested(900),
        {"text": f"{SECRET}\ud800"},
        {f"{SECRET}\udfff": 1},
        {"deep": [{"er": ["\ude00\ud83d"]}]},
    ],
    ids=["deep", "deeper", "surrogate", "in a key", "deep surrogates"],
)
def test_metadata_that_some_database_can_not_hold_is_refused_on_all(
    shared_calls: Calls, metadata: Any
) -> None:
    before = len(shared_calls.database.rows())
    with pytest.raises(AuditError, match="31 levels, and no lone surrogates") as caught:
        shared_calls.write(audit_event(metadata=metadata))
    assert caught.value.fields == ("metadata",)
    assert SECRET not in f"{caught.value!r} {caught.value}"
    assert len(shared_calls.database.rows()) == before


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event_id", "e" * 37),
        ("action", "a" * 256),
        ("outcome", "s" * 17),
        ("actor_type", "u" * 17),
        ("target_type", SECRET * 43),
        ("target_type", f"{SECRET * 42} {'x' * 3}\0"),
        ("target_type", 5),
        ("job_id", "j" * 129),
        ("worker", "w" * 129),
        ("queue", "q" * 129),
        *((name, SECRET * 43) for name in IDS),
        *((name, True) for name in IDS),
        *((name, 1.5) for name in IDS),
        ("actor_id", 10**255),
        ("actor_id", -(10**254)),
        ("actor_id", 10**5_000),
        ("actor_id", " " * 254),
        ("actor_id", b"ann"),
        ("actor_id", uuid.UUID(int=5)),
        ("actor_id", ["ann"]),
    ],
    ids=lambda value: value if isinstance(value, str) and value in AuditEvent.__dataclass_fields__ else "",
)
def test_what_the_table_can_not_hold_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(AuditError) as caught:
        row_of(TABLE, audit_event(**{name: value}))
    assert caught.value.fields == (name,)
    assert "expected a text" in str(caught.value)
    assert SECRET not in f"{caught.value!r} {caught.value}"
    assert caught.value.__cause__ is None


def test_what_is_refused_is_refused_on_every_database_and_not_cut(shared_calls: Calls) -> None:
    before = len(shared_calls.database.rows())
    for fields in ({"actor_id": "a" * 256}, {"action": "a" * 256}, {"target_id": True}, {"actor_id": 1.5}):
        with pytest.raises(AuditError) as caught:
            shared_calls.write(audit_event(**cast("dict[str, Any]", fields)))
        assert caught.value.fields == (*fields,)
        with pytest.raises(AuditError):
            shared_calls.write_in([audit_event(**cast("dict[str, Any]", fields))])
    assert len(shared_calls.database.rows()) == before


def test_every_field_that_is_refused_is_named() -> None:
    trail = AuditTrail(create_engine("sqlite://"))
    with pytest.raises(AuditError) as caught:
        trail.write(audit_event(actor_id=True, queue="q" * 129, target_type="t" * 256))
    assert caught.value.fields == ("actor_id", "target_type", "queue")
    assert "of at most 255, 255, 128 characters" in str(caught.value)


@pytest.mark.parametrize("driver", SYNC)
def test_what_is_refused_leaves_a_transaction_of_the_host_as_it_was(driver: str, tmp_path: Path) -> None:
    with database_for(driver, tmp_path) as database:
        trail = AuditTrail(database.engine, database.table, timeout=PATIENCE)
        with database.engine.begin() as connection:
            with pytest.raises(AuditError):
                trail.write_in(audit_event(actor_id="x" * 256), connection)
            trail.write_in(audit_event(1), connection)
        assert database.targets == ["a1"]


# -- the table itself ----------------------------------------------------------------------------------


def test_the_table_is_in_the_database_as_it_is_described(database: Database) -> None:
    found = inspect(database.engine)
    columns = {column["name"]: column for column in found.get_columns(database.name)}
    assert [*columns] == ["id", *AuditEvent.__dataclass_fields__]
    may_be_null = {name for name, column in columns.items() if column["nullable"]}
    job = {"job_id", "worker", "queue", "attempt"}
    assert may_be_null == {*IDS, "target_type", *job}
    indexes = {tuple(index["column_names"]) for index in found.get_indexes(database.name)}
    assert indexes >= {
        ("organization_id", "occurred_at", "id"),
        ("actor_id", "occurred_at", "id"),
        ("occurred_at", "id"),
        ("job_id",),
    }
    unique = found.get_unique_constraints(database.name)
    assert [constraint["column_names"] for constraint in unique] == [["event_id"]]
