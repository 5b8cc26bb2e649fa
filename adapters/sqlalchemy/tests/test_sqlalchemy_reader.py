"""Reading a trail back, on every database and with every driver: filters, pages, streams; and purging it."""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from adapters.sqlalchemy.tests.ids import any_id, hard_text, two_ids
from adapters.sqlalchemy.tests.support import (
    DRIVERS,
    NOW,
    PATIENCE,
    Calls,
    Database,
    audit_event,
    calls_on,
    database_for,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, MetaData, create_engine, text
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sigra_workers import (
    EVERY_ORGANIZATION,
    AuditEvent,
    AuditFilters,
    AuditPage,
    AuditReader,
    AuditSink,
    Id,
    InvalidOptionError,
    InvalidSettingsError,
    TransactionalSink,
)
from sigra_workers.trail import MAX_PAGE
from sigra_workers_sqlalchemy import AuditTrail, audit_events
from sigra_workers_sqlalchemy.plugin import sigra_audit_reader
from sigra_workers_sqlalchemy.reader import BATCH

SECRET = "s3cr3t"
FAR_EAST, FAR_WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
QUICK = settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])


def new_organization() -> str:
    """For tests that share a table."""
    return f"org-{uuid.uuid4()}"


def numbers(page: AuditPage) -> list[int | None]:
    """Which events are on a page, by the number that the test gave them."""
    return [event.attempt for event in page.events]


def numbered(organization: Id | None, *moments: int) -> list[AuditEvent]:
    """An event so many seconds behind the first, numbered from 0."""
    return [audit_event(at, organization_id=organization, attempt=n) for n, at in enumerate(moments)]


# -- filters -------------------------------------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "organization": ["org-1", "org-2", 1, "1", None, "nobody", 10**400, EVERY_ORGANIZATION],
    "real_actor": ["ann", "bob", 7, "7", None, "nobody", -(10**400)],
    "effective_user": ["ann", 7, None, "nobody", 10**400],
    "action": [
        *("account.closed", "account.opened", "account", "account.", "account.closed.", "accounts."),
        *("mail.", "mail.a_b.", "mail.a_b.sent", "nothing.", "m", "m."),
    ],
    "outcome": ["success", "failure"],
    "target_type": ["account", "account ", None, "nothing", "\ud800"],
    "target_id": ["a1", "1", 1, None, "\0", "nobody", 10**400],
    "job": ["job-1", "job-2", None, "job-3", "\0", "job-1 "],
    "since": [
        NOW + timedelta(seconds=3),
        (NOW + timedelta(seconds=3)).astimezone(FAR_EAST),
        datetime(1, 1, 1, tzinfo=FAR_EAST),
        datetime.max.replace(tzinfo=FAR_WEST),
    ],
    "until": [
        NOW + timedelta(seconds=3),
        (NOW + timedelta(seconds=3)).astimezone(FAR_WEST),
        datetime(1, 1, 1, tzinfo=FAR_EAST),
        datetime.max.replace(tzinfo=FAR_WEST),
    ],
}
"""For each filter some values, those that no event has among them."""


def sample() -> list[AuditEvent]:
    """Events that have every value of every field beside every value of the others, about."""
    cycles: dict[str, list[Any]] = {
        "occurred_at": [NOW + timedelta(seconds=n) for n in (0, 3, 3, 1, 5, 3, 2)],
        "organization_id": ["org-1", "org-2", 1, "1", None],
        "actor_id": ["ann", "bob", 7, "7", None, "ann"],
        "effective_user_id": ["ann", 7, None, "ann"],
        "action": [
            *("account.closed", "account.opened", "account.closed.again", "accounts.closed"),
            *("mail.a_b.sent", "mail.axb.sent", "m.x", "account.closed"),
        ],
        "outcome": ["success", "failure", "success"],
        "target_type": ["account", "account ", None],
        "target_id": ["a1", "1", 1, None, "\0", "A1", "a1 "],
        "job_id": ["job-1", "job-2", None, None, "JOB-1"],
    }
    fields = {name: itertools.cycle(values) for name, values in cycles.items()}
    return [
        audit_event(**{name: next(values) for name, values in fields.items()}, attempt=n) for n in range(100)
    ]


SAMPLE = sample()


def fits(event: AuditEvent, filters: dict[str, Any]) -> bool:
    """What the filters mean, told by other means than a database's."""
    fields = {
        "organization": event.organization_id,
        "real_actor": event.actor_id,
        "effective_user": event.effective_user_id,
        "job": event.job_id,
    }
    for name, wanted in filters.items():
        found = fields[name] if name in fields else getattr(event, name, None)
        match name:
            case "organization" if wanted is EVERY_ORGANIZATION:
                fit = True
            case "since":
                fit = event.occurred_at >= wanted
            case "until":
                fit = event.occurred_at < wanted
            case "action" if wanted.endswith("."):
                fit = event.action.startswith(wanted)
            case _:
                fit = type(found) is type(wanted) and found == wanted
        if not fit:
            return False
    return True


def expected(filters: dict[str, Any]) -> list[AuditEvent]:
    """The events that fit, latest first; of one time, the one that was written last."""
    found = [(event.occurred_at, n, event) for n, event in enumerate(SAMPLE) if fits(event, filters)]
    return [event for *_, event in sorted(found, key=lambda item: item[:2], reverse=True)]


@pytest.fixture(scope="module", params=DRIVERS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """A trail that holds the sample and nothing else."""
    with (
        database_for(request.param, tmp_path_factory.mktemp("filled")) as database,
        calls_on(database) as calls,
    ):
        calls.write_in(SAMPLE)
        yield calls


@pytest.mark.parametrize("name", VALUES)
def test_a_filter_alone_finds_what_fits_exactly(filled: Calls, name: str) -> None:
    for value in VALUES[name]:
        filters: Any = {"organization": EVERY_ORGANIZATION, name: value}
        assert filled.query(limit=1_000, **filters).events == expected(filters), value
        assert filled.count(**filters) == len(expected(filters)), value


def test_the_values_of_the_sample_are_found_and_the_others_are_not() -> None:
    found = {
        (name, str(value)): len(expected({name: value}))
        for name, values in VALUES.items()
        for value in values
    }
    assert {key for key, count in found.items() if count in (0, len(SAMPLE))} == {
        *((name, "nobody") for name in ("organization", "real_actor", "effective_user", "target_id")),
        *((name, str(10**400)) for name in ("organization", "effective_user", "target_id")),
        ("organization", str(EVERY_ORGANIZATION)),
        ("real_actor", str(-(10**400))),
        *(("action", action) for action in ("account", "nothing.", "m")),
        *(("target_type", value) for value in ("nothing", "\ud800")),
        *(("job", job) for job in ("job-3", "\0", "job-1 ")),
        *((name, str(value)) for name in ("since", "until") for value in VALUES[name][2:]),
    }


some_filters = st.fixed_dictionaries(
    {"organization": st.sampled_from(VALUES["organization"])},
    optional={name: st.sampled_from(VALUES[name]) for name in VALUES if name != "organization"},
)


@QUICK
@given(filters=some_filters, limit=st.integers(4, 40))
def test_filters_together_find_what_fits_all_page_by_page_and_in_one_stream(
    filled: Calls, filters: Any, limit: int
) -> None:
    found = expected(filters)
    older, newer = walk(filled, filters, limit)
    assert older == found
    assert newer == found[: max(0, len(found) - 1) // limit * limit]  # all but those of the last page
    assert filled.count(**filters) == len(found)
    forever: Any = {"until": datetime.max.replace(tzinfo=UTC), **filters}
    assert filled.stream(**forever) == found[::-1]


def walk(calls: Calls, filters: Any, limit: int) -> tuple[list[AuditEvent], list[AuditEvent]]:
    """All events by following `older`, and from the last page back by following `newer`, without that one."""
    older: list[AuditEvent] = []
    newer: list[AuditEvent] = []
    page = calls.query(limit=limit, **filters)
    assert page.newer is None
    older += page.events
    while page.older is not None:
        page = calls.query(limit=limit, cursor=page.older, **filters)
        assert page.events
        assert page.newer is not None
        older += page.events
    while page.newer is not None:
        page = calls.query(limit=limit, cursor=page.newer, **filters)
        assert page.older is not None
        newer = [*page.events, *newer]
    return older, newer


def test_a_filter_of_an_id_is_exact_beside_any_other(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(
        audit_event(organization_id=organization, actor_id=actor, attempt=n)
        for n, actor in enumerate(["Ann", "ann", "ann ", "ánn"])
    )
    for n, actor in enumerate(["Ann", "ann", "ann ", "ánn"]):
        assert numbers(shared_calls.query(organization=organization, real_actor=actor)) == [n]


# -- what is refused -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed() -> Iterator[tuple[AuditTrail, AuditTrail]]:
    """A sync and an async trail in databases without a table: what gets there is an error of another type."""
    sync, others = create_engine("sqlite://"), create_async_engine("sqlite+aiosqlite://")
    yield AuditTrail(sync), AuditTrail(others)
    sync.dispose()
    asyncio.run(others.dispose())


def refusals(closed: tuple[AuditTrail, AuditTrail], **filters: Any) -> set[str]:
    """How each call that takes filters refuses these, before it asks the database."""
    sync, others = closed

    async def main() -> set[str]:
        found: set[str] = set()
        calls: list[Callable[..., Any]] = [sync.query, sync.count, sync.stream]
        calls += [others.aquery, others.acount, others.astream]
        for call in calls:
            with pytest.raises(InvalidOptionError) as caught:
                await call(**filters)
            found.add(str(caught.value))
        return found

    return asyncio.run(main())


def test_the_organization_is_never_left_out(closed: tuple[AuditTrail, AuditTrail]) -> None:
    expected = "it is absent, expected an organization's id, None, or EVERY_ORGANIZATION"
    assert refusals(closed) == refusals(closed, action="account.") == {f"option 'organization': {expected}"}


@pytest.mark.parametrize("name", ["organisation", "actor", "org", "organization_id", "metadata", "self", ""])
def test_an_unknown_filter_is_refused_by_name(closed: tuple[AuditTrail, AuditTrail], name: str) -> None:
    (problem,) = refusals(closed, organization="org-1", **{name: 1}) if name != "self" else ["option 'self'"]
    assert problem.startswith(f"option {name!r}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("organization", "real_actor", "effective_user", "target_id")
            for value in (True, 1.0, uuid.UUID(int=1), b"x", ["org-1"], object())
        ),
        *((name, value) for name in ("target_type", "job") for value in (1, b"x", ["account"])),
        *(
            ("action", value)
            for value in ("", ".", "Account.closed", "account..x", "%", "a b", None, 1, "a\n")
        ),
        *(("outcome", value) for value in ("maybe", "", None, True)),
        *(
            (name, value)
            for name in ("since", "until")
            for value in (None, 1, "2026-01-01", NOW.replace(tzinfo=None))
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value in VALUES else type(value).__name__,
)
def test_a_filter_that_can_not_be_is_refused_by_name(
    closed: tuple[AuditTrail, AuditTrail], name: str, value: Any
) -> None:
    (problem,) = refusals(closed, **{"organization": "org-1", name: value})
    is_naive = isinstance(value, datetime)
    expected = "a time needs a time zone" if is_naive else f"a filter can't be of type {type(value).__name__}"
    assert problem.startswith(f"option {name!r}: {expected}")


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1, True, 1.0, "10", None])
def test_a_limit_that_can_not_be_is_refused(closed: tuple[AuditTrail, AuditTrail], limit: Any) -> None:
    sync, others = closed
    with pytest.raises(InvalidOptionError, match=f"option 'limit': expected an int from 1 to {MAX_PAGE}"):
        sync.query(organization="org-1", limit=limit)
    with pytest.raises(InvalidOptionError, match="option 'limit'"):
        asyncio.run(others.aquery(organization="org-1", limit=limit))
    with pytest.raises(InvalidOptionError, match="option 'limit'"):
        sync.purge(organization="org-1", before=NOW, batch=limit)


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "o", "n", "o1", "o1.", "o.1", "n1.2.3", "O1.1", "p1.1", "1.1", "o1.1 ", " o1.1", "o1.1\n"),
        *("o1.-1", "o--1.1", "o+1.1", "o1e3.1", "o1_0.1", "o\u0661.\u0661", "o1,1", "o1.1'; --", "o1.1\0"),
        *(f"o1.{2**63}", f"o1.{10**19}", f"o{10**18 - 1}.1", f"o{1 - 10**18}.1", f"o{10**30}.1"),
        *(5, 1.5, b"o1.1", True, ["o1.1"], SECRET),
    ],
)
def test_a_cursor_that_no_page_gave_is_refused_and_not_repeated(
    closed: tuple[AuditTrail, AuditTrail], cursor: Any
) -> None:
    sync, others = closed
    with pytest.raises(InvalidOptionError) as caught:
        sync.query(organization="org-1", cursor=cursor)
    assert str(caught.value) == "option 'cursor': it is none that a page of this trail gave"
    with pytest.raises(InvalidOptionError, match="option 'cursor'"):
        asyncio.run(others.aquery(organization="org-1", cursor=cursor))


@given(cursor=st.text("on0123456789.-", max_size=24))
def test_any_text_is_a_cursor_or_refused(empty: AuditTrail, cursor: str) -> None:
    with suppress(InvalidOptionError):
        empty.query(organization="org-1", cursor=cursor)


@pytest.fixture(scope="module")
def empty() -> Iterator[AuditTrail]:
    """An empty trail in memory."""
    with in_memory_trail() as trail:
        yield trail


@contextmanager
def in_memory_trail() -> Generator[AuditTrail]:
    """A trail with its table, in memory."""
    engine = create_engine("sqlite://")
    trail = AuditTrail(engine)
    trail.table.metadata.create_all(engine)
    yield trail
    engine.dispose()


def test_sync_calls_are_refused_on_an_async_engine_and_told_what_to_do(
    closed: tuple[AuditTrail, AuditTrail],
) -> None:
    _, trail = closed
    every: Any = {"organization": EVERY_ORGANIZATION}
    calls: list[Callable[[], object]] = [
        lambda: trail.query(**every),
        lambda: trail.count(**every),
        lambda: [*trail.stream(**every)],
        lambda: trail.purge(before=NOW, **every),
    ]
    for call in calls:
        with pytest.raises(InvalidOptionError, match="it is an AsyncEngine: await the async twin"):
            call()


# -- pages ---------------------------------------------------------------------------------------------


def test_an_empty_trail_has_an_empty_page(shared_calls: Calls) -> None:
    assert shared_calls.query(organization=new_organization()) == AuditPage([], None, None)


def test_pages_go_back_and_forth_over_events_of_equal_times(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(numbered(organization, *[0] * 5, *[1] * 5, *[0] * 3))
    order = [9, 8, 7, 6, 5, 12, 11, 10, 4, 3, 2, 1, 0]
    first = shared_calls.query(organization=organization, limit=4)
    second = shared_calls.query(organization=organization, limit=4, cursor=first.older)
    third = shared_calls.query(organization=organization, limit=4, cursor=second.older)
    last = shared_calls.query(organization=organization, limit=4, cursor=third.older)
    pages = [first, second, third, last]
    assert [numbers(page) for page in pages] == [order[:4], order[4:8], order[8:12], order[12:]]
    assert last.older is None
    assert shared_calls.query(organization=organization, limit=4, cursor=last.newer) == third
    assert shared_calls.query(organization=organization, limit=4, cursor=third.newer) == second
    back = shared_calls.query(organization=organization, limit=4, cursor=second.newer)
    assert back == first


def test_a_page_that_ends_the_trail_exactly_has_no_older_one(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(numbered(organization, 0, 1, 2, 3))
    page = shared_calls.query(organization=organization, limit=4)
    assert (numbers(page), page.older, page.newer) == ([3, 2, 1, 0], None, None)


def test_events_that_come_meanwhile_neither_move_nor_repeat_the_older_ones(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(numbered(organization, 0, 10, 20, 30, 40, 50))
    first = shared_calls.query(organization=organization, limit=2)
    late = [audit_event(at, organization_id=organization, attempt=at + 100) for at in (60, 40, 41, 5)]
    shared_calls.write(*late)
    second = shared_calls.query(organization=organization, limit=2, cursor=first.older)
    third = shared_calls.query(organization=organization, limit=9, cursor=second.older)
    assert [numbers(page) for page in (first, second, third)] == [[5, 4], [3, 2], [1, 105, 0]]
    back = shared_calls.query(organization=organization, limit=9, cursor=second.newer)
    assert (numbers(back), back.newer) == ([160, 5, 141, 140, 4], None)


def test_a_cursor_of_newer_ones_may_be_asked_again_and_again(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(numbered(organization, 0, 1, 2))
    first = shared_calls.query(organization=organization, limit=1)
    cursor = shared_calls.query(organization=organization, limit=1, cursor=first.older).newer
    assert shared_calls.query(organization=organization, limit=1, cursor=cursor) == first
    shared_calls.write(audit_event(3, organization_id=organization, attempt=3))
    page = shared_calls.query(organization=organization, limit=1, cursor=cursor)
    assert numbers(page) == [2]
    page = shared_calls.query(organization=organization, limit=1, cursor=page.newer)
    assert (numbers(page), page.newer) == ([3], None)
    shared_calls.purge(organization=organization, before=NOW + timedelta(days=1))
    assert shared_calls.query(organization=organization, cursor=cursor) == AuditPage([], None, cursor)


def test_a_page_that_is_newer_than_events_that_were_purged_has_no_older_one(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(numbered(organization, 0, 1, 2, 3))
    first = shared_calls.query(organization=organization, limit=2)
    second = shared_calls.query(organization=organization, limit=2, cursor=first.older)
    assert shared_calls.purge(organization=organization, before=NOW + timedelta(seconds=2)) == 2
    page = shared_calls.query(organization=organization, limit=2, cursor=second.newer)
    assert page == AuditPage(first.events, None, None)
    assert shared_calls.query(organization=organization, cursor=first.older) == AuditPage([], None, None)


def test_a_cursor_of_another_trail_widens_nothing(shared_calls: Calls) -> None:
    mine, other = new_organization(), new_organization()
    shared_calls.write_in(numbered(other, *range(6)))
    shared_calls.write_in(numbered(mine, 0, 5))
    page = shared_calls.query(organization=other, limit=3)
    again = shared_calls.query(organization=mine, cursor=page.older)
    assert {event.organization_id for event in again.events} == {mine}


class Strangers(NamedTuple):
    """Events of two organizations, and what is asked about the first."""

    organization: Id
    other: Id
    events: list[AuditEvent]
    asked: list[AuditFilters]
    limit: int
    forged: str


@st.composite
def strangers(draw: st.DrawFn) -> Strangers:
    """Organizations that are easily taken for each other; their events differ in nothing else but time."""
    one, other = draw(two_ids())
    if type(one) is type(other) and one == other:
        other = f"{other}-2"
    actor, target, kind = draw(any_id), draw(any_id), draw(hard_text)
    job, outcome = draw(st.sampled_from(["job-1", None])), draw(st.sampled_from(["success", "failure"]))
    same: Any = {"actor_id": actor, "target_id": target, "target_type": kind}
    same |= {"job_id": job, "outcome": outcome}
    moments = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=8))
    events = [audit_event(at, organization_id=one if ours else other, **same) for ours, at in moments]
    some: list[Any] = [
        {},
        {"action": draw(st.sampled_from(["account.closed", "account.", "mail."]))},
        {"real_actor": actor},
        {"real_actor": other, "effective_user": other},
        {"since": NOW, "until": NOW + timedelta(seconds=2)},
        {"target_type": kind, "target_id": target},
        {"target_id": other},
        {"job": job, "outcome": outcome},
        {"job": draw(hard_text), "outcome": "failure"},
    ]
    forged = f"{draw(st.sampled_from('on'))}{draw(st.integers(0, 2 * 10**15))}.{draw(st.integers(0, 10**4))}"
    asked = cast("list[AuditFilters]", [{"organization": one, **filters} for filters in some])
    return Strangers(one, other, events, asked, draw(st.integers(1, 4)), forged)


def check_apart(trail: Calls | AuditTrail, told: Strangers) -> None:
    """Whatever is asked about the one is answered with its events alone; they are in the trail."""
    strange = trail.query(organization=told.other, limit=told.limit)
    cursors = itertools.cycle([strange.older, told.forged])
    for filters in told.asked:
        whole = [*trail.stream(**filters)]
        pages = [trail.query(limit=told.limit, cursor=cursor, **filters) for cursor in (None, next(cursors))]
        found = [*whole, *(event for page in pages for event in page.events)]
        organizations = {(type(event.organization_id), event.organization_id) for event in found}
        assert organizations <= {(type(told.organization), told.organization)}
        assert trail.count(**filters) == len(whole)
        ids = {event.event_id for event in whole}
        for event in told.events:
            assert (event.event_id in ids) is fits(event, cast("dict[str, Any]", filters))


@QUICK
@given(told=strangers())
def test_the_events_of_two_organizations_never_mix_whatever_is_asked(
    shared_calls: Calls, told: Strangers
) -> None:
    shared_calls.write_in(told.events)
    check_apart(shared_calls, told)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(told=strangers())
def test_the_events_of_two_organizations_never_mix_however_often_it_is_asked(
    in_memory: AuditTrail, told: Strangers
) -> None:
    with cast("Engine", in_memory.engine).begin() as connection:
        for event in told.events:
            in_memory.write_in(event, connection)
    check_apart(in_memory, told)


@pytest.fixture(scope="module")
def in_memory() -> Iterator[AuditTrail]:
    """A trail in memory, which takes the least time."""
    with in_memory_trail() as trail:
        yield trail


# -- streams -------------------------------------------------------------------------------------------


def test_a_stream_of_many_is_oldest_first_and_whole(shared_calls: Calls) -> None:
    organization, count = new_organization(), 2 * BATCH + 7
    shared_calls.database.fill(
        audit_event(n % 5 + n // 1_000, organization_id=organization, attempt=n) for n in range(count)
    )
    found = shared_calls.stream(organization=organization)
    assert [event.attempt for event in found] == [
        event.attempt for event in sorted(found, key=lambda event: (event.occurred_at, event.attempt))
    ]
    assert {event.attempt for event in found} == {*range(count)}
    assert shared_calls.count(organization=organization) == len(found) == count


def test_a_stream_ends_with_now_unless_it_is_told_otherwise(shared_calls: Calls) -> None:
    organization = new_organization()
    now = datetime.now(UTC)
    for n, at in enumerate([now - timedelta(seconds=5), now + timedelta(hours=1)]):
        shared_calls.write(audit_event(occurred_at=at, organization_id=organization, attempt=n))
    assert [event.attempt for event in shared_calls.stream(organization=organization)] == [0]
    later = shared_calls.stream(organization=organization, until=now + timedelta(days=1))
    assert [event.attempt for event in later] == [0, 1]


def test_a_stream_that_is_left_early_leaves_no_connection_open(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.write_in(numbered(organization, 0, 1, 2))

    async def afirst() -> AuditEvent:
        return await anext(aiter(shared_calls.trail.astream(organization=organization)))

    if shared_calls.database.is_async:
        event = shared_calls.run(afirst())
    else:
        event = next(iter(shared_calls.trail.stream(organization=organization)))
    assert event.attempt == 0
    engine = shared_calls.trail.engine
    pool: Any = (engine.sync_engine if isinstance(engine, AsyncEngine) else engine).pool
    assert pool.checkedout() == 0


# -- purging -------------------------------------------------------------------------------------------


def test_a_purge_deletes_what_happened_before_and_tells_how_many(shared_calls: Calls) -> None:
    organization, other = new_organization(), new_organization()
    shared_calls.write_in([*numbered(organization, 0, 1, 2, 3), *numbered(other, 0, 1)])
    before = (NOW + timedelta(seconds=2)).astimezone(FAR_EAST)
    assert shared_calls.purge(organization=organization, before=before) == 2
    assert [event.attempt for event in shared_calls.stream(organization=organization)] == [2, 3]
    assert shared_calls.count(organization=other) == 2
    assert shared_calls.purge(organization=organization, before=before) == 0


def test_a_purge_of_no_organization_leaves_those_of_one(calls: Calls) -> None:
    calls.write_in([*numbered(None, 0, 1), *numbered("None", 0), *numbered("org-1", 0)])
    before = NOW + timedelta(seconds=9)
    assert calls.purge(organization=None, before=before) == 2
    assert calls.count(organization=EVERY_ORGANIZATION) == 2
    assert calls.purge(organization=EVERY_ORGANIZATION, before=before, batch=1) == 2
    assert calls.database.rows() == []


def test_a_purge_goes_in_batches_oldest_first_each_committed(shared_calls: Calls) -> None:
    organization = new_organization()
    shared_calls.database.fill(
        audit_event(n, organization_id=organization, attempt=n) for n in reversed(range(25))
    )
    purging = Interrupted(shared_calls, after=2)
    with pytest.raises(Interruption):
        shared_calls.purge(organization=organization, before=NOW + timedelta(days=1), batch=10)
    purging.over()
    left = shared_calls.stream(organization=organization, until=NOW + timedelta(days=1))
    assert [event.attempt for event in left] == [*range(20, 25)]
    assert shared_calls.purge(organization=organization, before=NOW + timedelta(days=1), batch=10) == 5


class Interruption(Exception):
    """Such as a Ctrl-C."""


class Interrupted:
    """Ends a purge before its next batch."""

    def __init__(self, calls: Calls, after: int) -> None:
        engine = calls.trail.engine
        self._left: int | None = after
        target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        listen(target, "before_cursor_execute", self._before)

    def _before(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE") and self._left is not None:
            if self._left == 0:
                raise Interruption
            self._left -= 1

    def over(self) -> None:
        self._left = None


def test_a_purge_ends_where_the_database_keeps_every_event(tmp_path: Path) -> None:
    with database_for("postgresql+psycopg", tmp_path) as database:
        with database.engine.begin() as connection:
            rule = f"CREATE RULE keep AS ON DELETE TO {database.name} DO INSTEAD NOTHING"
            connection.execute(text(rule))
        trail = AuditTrail(database.engine, database.table, timeout=PATIENCE)
        trail.write(audit_event())
        assert trail.purge(organization="org-1", before=NOW + timedelta(days=1)) == 0
        assert database.targets == ["a0"]


def test_two_purges_at_once_count_each_event_once(database: Database) -> None:
    database.fill(audit_event(n) for n in range(600))
    trail = AuditTrail(database.engine, database.table, timeout=PATIENCE)

    def purge(_: int) -> int:
        return trail.purge(organization="org-1", before=NOW + timedelta(days=1), batch=50)

    with ThreadPoolExecutor(2) as pool:
        counts = [*pool.map(purge, range(2))]
    assert database.rows() == []
    assert sum(counts) == 600


def test_a_time_without_a_zone_is_refused_by_a_purge(closed: tuple[AuditTrail, AuditTrail]) -> None:
    sync, others = closed
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(InvalidOptionError, match="option 'until'"):
        sync.purge(organization="org-1", before=naive)
    with pytest.raises(InvalidOptionError, match="option 'organization'"):
        asyncio.run(others.apurge(organization=cast("Any", True), before=NOW))


# -- a sync engine, awaited ------------------------------------------------------------------------------


def test_the_async_twins_work_on_a_sync_engine(database: Database) -> None:
    trail = AuditTrail(database.engine, database.table, timeout=PATIENCE)
    database.fill(numbered("org-1", 0, 1, 2))

    async def main() -> None:
        page = await trail.aquery(organization="org-1", limit=2)
        assert numbers(page) == [2, 1]
        assert numbers(await trail.aquery(organization="org-1", cursor=page.older)) == [0]
        found = [event.attempt async for event in trail.astream(organization="org-1")]
        assert found == [0, 1, 2]
        assert await trail.apurge(organization="org-1", before=NOW + timedelta(seconds=1)) == 1
        assert await trail.acount(organization="org-1") == 2

    asyncio.run(main())


# -- as what the core asks for ---------------------------------------------------------------------------


def test_a_trail_is_a_sink_a_transactional_one_and_a_reader(closed: tuple[AuditTrail, AuditTrail]) -> None:
    trail, _ = closed
    sink: AuditSink = trail
    transactional: TransactionalSink = trail
    reader: AuditReader = trail
    assert (sink, transactional, reader) == (trail, trail, trail)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_command_line_reads_at_a_url_with_a_sync_driver_of_its_database(
    driver: str, tmp_path: Path
) -> None:
    with database_for(driver, tmp_path) as database:
        database.fill(numbered("org-1", 0))
        reader = sigra_audit_reader(database.url, database.name)
        assert reader is not None
        assert numbers(reader.query(organization="org-1")) == [0]
        reader.close()


def test_the_command_line_reads_a_table_in_a_schema(tmp_path: Path) -> None:
    name = f"schema_{uuid.uuid4().hex[:10]}"
    with database_for("postgresql+psycopg", tmp_path) as database:
        table = audit_events(MetaData(), "trail", name)
        with database.engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
            table.create(connection)
        try:
            AuditTrail(database.engine, table, timeout=PATIENCE).write(audit_event())
            reader = sigra_audit_reader(database.url, f"{name}.trail")
            assert reader is not None
            assert reader.count(organization="org-1") == 1
            reader.close()
        finally:
            with database.engine.begin() as connection:
                connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


def test_the_command_line_is_told_of_a_url_that_does_not_work_without_its_text() -> None:
    with pytest.raises(InvalidSettingsError, match="can't be read") as caught:
        sigra_audit_reader(f"nodatabase://{SECRET}", "audit_events")
    assert SECRET not in str(caught.value)


def test_the_command_line_makes_no_database_where_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "audit.sqlite"
    with pytest.raises(InvalidSettingsError, match=f"there is no SQLite database '{file}'"):
        sigra_audit_reader(f"sqlite:///{file}", "audit_events")
    assert not file.exists()
