"""Jobs and their wire form, version 1, frozen by the files in golden/."""

import copy
import dataclasses
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import KEYS, NOW, Host

from sigra_workers import (
    InvalidOptionError,
    InvalidPayloadError,
    Job,
    JobInfo,
    JobRef,
    Ok,
    Payload,
    PayloadVersionError,
    TenantArgs,
    current_job,
)
from sigra_workers.jobs import MAX_DELAY

GOLDEN = Path(__file__).parent / "golden"
MINIMAL = Payload(
    id="job-1",
    worker="accounts.close",
    queue="default",
    args_or_json={"organization_id": None, "actor_id": None},
    max_attempts=20,
    enqueued_at=1_800_000_000.0,
)
FULL = Payload(
    id="0123456789abcdef0123456789abcdef",
    worker="accounts.close",
    queue="lifecycle",
    args_or_json={
        "organization_id": 7,
        "actor_id": "ann",
        "impersonating_from": "admin",
        "account_id": "é\u2028\U0001f600",
        "rows": [{"n": 1.5, "ok": True, "none": None}],
    },
    attempt=3,
    max_attempts=5,
    snoozes=2,
    resends=1,
    backoff=(1, 2.5, 60),
    timeout=30,
    enqueued_at=1_800_000_000.25,
    due_at=1_800_000_060.25,
    meta={"unknown_since": 1_800_000_001.0},
)
UNKNOWN = dataclasses.replace(
    MINIMAL,
    backoff=0,
    unknown={"kid": "2030-01", "sig": "c2ln", "priority": 5, "trace": {"traceparent": "00-1"}},
)


class CloseArgs(TenantArgs):
    account_id: NotRequired[str]
    rows: NotRequired[list[Any]]


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text().rstrip("\n")


def fields(**changes: Any) -> dict[str, Any]:
    """The fields of a good payload, some of them changed."""
    return {**json.loads(golden("v1-minimal")), **changes}


def new(args: Any = KEYS, **options: Any) -> Job[Any]:
    return Host().worker(lambda scope, args: Ok(), CloseArgs).handle.new(args, **options)


def refused(**options: Any) -> InvalidOptionError:
    """Why `new` refuses these options."""
    with pytest.raises(InvalidOptionError) as caught:
        new(**options)
    return caught.value


# -- the wire form -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload"), [("v1-minimal", MINIMAL), ("v1-full", FULL), ("v1-unknown-fields", UNKNOWN)]
)
def test_the_wire_form_is_the_golden_one(name: str, payload: Payload) -> None:
    assert payload.dump() == golden(name)
    assert Payload.parse(golden(name)) == payload


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_golden_payload_is_a_fixed_point(path: Path) -> None:
    assert Payload.parse(golden(path.stem)).dump() == golden(path.stem)


def test_a_payload_is_one_line_of_ascii() -> None:
    assert FULL.dump().isascii()
    assert FULL.dump().isprintable()


def test_a_payload_says_its_version_first() -> None:
    assert [*json.loads(MINIMAL.dump())] == [
        "v",
        "id",
        "worker",
        "queue",
        "attempt",
        "max_attempts",
        "snoozes",
        "resends",
        "backoff",
        "timeout",
        "enqueued_at",
        "due_at",
        "meta",
        "args",
    ]


def test_a_payload_is_equal_to_what_says_the_same() -> None:
    text = dataclasses.replace(FULL, args_or_json=json.dumps(FULL.args))
    assert (text == FULL, text.args, Payload.parse(text.dump())) == (True, FULL.args, FULL)
    others = [
        dataclasses.replace(FULL, args_or_json=json.dumps({**FULL.args, "account_id": "e"})),
        dataclasses.replace(FULL, attempt=4),
        dataclasses.replace(FULL, unknown={"kid": "1"}),
        FULL.dump(),
    ]
    assert [other for other in others if other == FULL] == []


def test_the_args_of_a_job_on_its_way_out_are_a_fresh_copy() -> None:
    payload = dataclasses.replace(FULL, args_or_json=json.dumps(FULL.args))
    payload.args["rows"].append("changed")
    assert payload == FULL


def test_fields_that_are_not_known_are_kept_and_passed_on() -> None:
    payload = Payload.parse(json.dumps(fields(kid="k1", sig="s1", later={"deep": [1]})))
    assert payload.unknown == {"kid": "k1", "sig": "s1", "later": {"deep": [1]}}
    passed_on = json.loads(payload.again(1_800_000_100, attempt=2).dump())
    assert (passed_on["kid"], passed_on["sig"], passed_on["later"]) == ("k1", "s1", {"deep": [1]})


def test_what_a_new_job_sends_is_read_back_equal() -> None:
    job = new({**KEYS, "rows": [1]}, backoff=[1, 2], timeout=5, schedule_in=60, job_id="job-1")
    payload = job.payload(NOW)
    assert Payload.parse(payload.dump()) == payload


def test_a_repr_of_a_job_or_payload_shows_no_args() -> None:
    job = new({**KEYS, "account_id": "s3cr3t"}, job_id="job-1")
    assert "s3cr3t" not in repr(job)
    assert "s3cr3t" not in repr(job.payload(NOW))
    assert "job-1" in repr(job)


@pytest.mark.parametrize("version", [2, 3, 10**30])
def test_a_newer_version_is_an_error_of_its_own_with_both_versions(version: int) -> None:
    with pytest.raises(PayloadVersionError) as caught:
        Payload.parse(json.dumps({"v": version, "whatever": 1}))
    assert (caught.value.found, caught.value.expected) == (version, 1)


@pytest.mark.parametrize("version", [None, 0, -1, True, 1.0, 2.0, "1", [1]])
def test_a_version_that_is_none_is_a_broken_payload(version: Any) -> None:
    with pytest.raises(InvalidPayloadError, match="field 'v'") as caught:
        Payload.parse(json.dumps(fields(v=version)))
    assert not isinstance(caught.value, PayloadVersionError)


@pytest.mark.parametrize("name", [name for name in fields() if name != "v"])
def test_a_field_that_is_missing_or_of_another_type_is_named(name: str) -> None:
    short = fields()
    del short[name]
    with pytest.raises(InvalidPayloadError, match=f"field '{name}' is missing"):
        Payload.parse(json.dumps(short))
    for value in (True, {"a": 1} if name not in ("args", "meta") else "text"):
        with pytest.raises(InvalidPayloadError, match=f"field '{name}' is of type"):
            Payload.parse(json.dumps(fields(**{name: value})))


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a b"},
        {"id": "x" * 129},
        {"id": "../1"},
        {"attempt": 0},
        {"attempt": -(10**400)},
        {"max_attempts": 0},
        {"snoozes": -1},
        {"resends": -1},
        {"backoff": -1},
        {"backoff": 10**400},
        {"backoff": []},
        {"backoff": ["1"]},
        {"backoff": [1, True]},
        {"backoff": [1, 10**400]},
        {"timeout": -1},
        {"timeout": 10**400},
        {"due_at": -1},
        {"due_at": 1e300},
        {"enqueued_at": 10**15},
        {"enqueued_at": -0.5},
    ],
)
def test_a_field_out_of_range_is_a_broken_payload(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayloadError, match=rf"{next(iter(change))}|job_id"):
        Payload.parse(json.dumps(fields(**change)))


@pytest.mark.parametrize(
    "text", ["", "{", "null", "1", '"text"', "[]", "[1, 2]", "{}", "\x00", "\ufeff{}", "[" * 100_000]
)
def test_text_that_is_no_json_object_is_a_broken_payload(text: str) -> None:
    with pytest.raises(InvalidPayloadError):
        Payload.parse(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("place", ['"due_at":null', '"actor_id":null', '"meta":{'])
def test_a_number_that_could_not_be_sent_on_is_a_broken_payload(number: str, place: str) -> None:
    key = place.partition(":")[0] + ":"
    changed = f'{key}{{"x":{number}' if place.endswith("{") else f"{key}{number}"
    with pytest.raises(InvalidPayloadError):
        Payload.parse(golden("v1-minimal").replace(place, changed))


def test_a_number_of_too_many_digits_is_a_broken_payload() -> None:
    with pytest.raises(InvalidPayloadError):
        Payload.parse(golden("v1-minimal").replace('"attempt":1', f'"attempt":{"1" * 5_000}'))


@pytest.mark.parametrize("payload", [None, b"{}", 5, {}, [], object()])
def test_a_payload_that_is_no_text_is_broken(payload: object) -> None:
    with pytest.raises(InvalidPayloadError, match="expected one JSON string"):
        Payload.parse(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def parsed_or_refused(text: object) -> None:
    """What is read must be written again the same; what is not must be an `InvalidPayloadError`."""
    try:
        payload = Payload.parse(text)
    except InvalidPayloadError as error:
        str(error)
    else:
        assert Payload.parse(payload.dump()) == payload
        payload.info()
        payload.ref()


@given(st.text() | st.binary() | json_values)
def test_garbage_is_never_another_error(text: object) -> None:
    parsed_or_refused(text)


@given(json_values)
def test_any_json_at_all_is_never_another_error(value: object) -> None:
    parsed_or_refused(json.dumps(value))


@given(st.dictionaries(st.sampled_from([*fields(), "kid", "x"]), json_values, max_size=4))
def test_any_json_in_any_field_is_never_another_error(changes: dict[str, Any]) -> None:
    parsed_or_refused(json.dumps(fields(**changes)))


@given(
    st.dictionaries(
        st.sampled_from([*fields()]), st.integers() | st.floats() | st.text("0123e.-"), max_size=4
    )
)
def test_any_number_in_any_field_is_never_another_error(changes: dict[str, Any]) -> None:
    parsed_or_refused(json.dumps(fields(**changes)))


def test_a_payload_tells_the_run_and_the_sender_what_it_is() -> None:
    at = datetime(2027, 1, 15, 8, 0, 0, 250_000, tzinfo=UTC)
    assert FULL.info() == JobInfo(FULL.id, "accounts.close", "lifecycle", 3, 5, 2, at)
    assert FULL.ref() == JobRef(FULL.id, "accounts.close", "lifecycle", at + timedelta(seconds=60))
    assert MINIMAL.ref(duplicate=True) == JobRef("job-1", "accounts.close", "default", None, duplicate=True)


# -- a job that was not sent yet -----------------------------------------------------------------------


def test_a_job_is_immutable() -> None:
    job = new(backoff=[1, 2])
    for field in dataclasses.fields(job):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(job, field.name, None)
    assert job.backoff == (1, 2)


def test_the_callers_args_are_neither_kept_nor_changed() -> None:
    args: Any = {**KEYS, "rows": [{"n": 1}]}
    before = copy.deepcopy(args)
    job = new(args)
    assert args == before
    args["rows"][0]["n"] = 2
    args["account_id"] = "late"
    assert job.args == before
    assert job.payload(NOW).args == before


def test_the_callers_options_are_not_kept() -> None:
    backoff, steps = [1, 2], Host()
    handle = steps.worker(lambda scope, args: Ok(), backoff=backoff).handle
    job = handle.new(KEYS, backoff=backoff)
    backoff.append(3)
    assert (job.backoff, handle.new(KEYS).backoff) == ((1, 2), (1, 2))


def test_every_look_at_the_args_is_a_fresh_copy() -> None:
    job = new({**KEYS, "rows": [1]})
    job.args["rows"].append(2)
    job.payload(NOW).args["rows"].append(2)
    assert job.args["rows"] == [1]


def test_a_job_survives_pickling_and_can_be_subscripted() -> None:
    job = new(schedule_in=5)
    assert pickle.loads(pickle.dumps(job)) == job
    assert Job[CloseArgs](**{f.name: getattr(job, f.name) for f in dataclasses.fields(job)}) == job


def test_each_job_has_an_id_of_its_own_before_it_is_sent() -> None:
    one, two = new(), new()
    assert one.id != two.id
    assert not one.given_id
    assert not one.payload(NOW).given_id
    assert one.payload(NOW).id == one.id


@pytest.mark.parametrize("job_id", ["a", "A-b_9", "x" * 128, "0" * 32])  # the last looks like ours
def test_a_job_id_of_the_host_is_kept(job_id: str) -> None:
    job = new(job_id=job_id)
    assert (job.id, job.given_id) == (job_id, True)
    assert job.payload(NOW).given_id


@pytest.mark.parametrize("job_id", ["", "a b", "a.b", "a:b", "a/b", "é", "a\n", "x" * 129, 5, b"a"])
def test_a_job_id_that_not_every_queue_can_carry_is_refused(job_id: Any) -> None:
    assert refused(job_id=job_id).option == "job_id"


# -- options -------------------------------------------------------------------------------------------


def test_schedule_in_counts_from_the_enqueue_and_not_from_new() -> None:
    job = new(schedule_in=60)
    assert job.payload(NOW).due_at == NOW + 60
    assert job.payload(NOW + 1_000).due_at == NOW + 1_060


def test_schedule_in_takes_a_timedelta_and_zero() -> None:
    assert new(schedule_in=timedelta(minutes=1)).payload(NOW).due_at == NOW + 60
    assert new(schedule_in=0).payload(NOW).due_at == NOW


def test_schedule_at_is_a_moment_in_any_time_zone() -> None:
    at = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert new(schedule_at=at).payload(NOW).due_at == datetime(2030, 1, 1, 10, tzinfo=UTC).timestamp()


def test_a_job_without_a_schedule_is_due_at_once() -> None:
    assert new().payload(NOW).due_at is None


def test_schedule_in_and_schedule_at_together_are_refused() -> None:
    assert refused(schedule_in=1, schedule_at=datetime.now(UTC)).option == "schedule_at"


@pytest.mark.parametrize(
    "at",
    [
        datetime(2030, 1, 1),  # noqa: DTZ001
        "2030-01-01",
        1_800_000_000,
        None,
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_a_schedule_at_that_cannot_travel_is_refused(at: Any) -> None:
    assert refused(schedule_at=at).option == "schedule_at"


numbers = [-1, -0.001, float("nan"), float("inf"), MAX_DELAY + 1, 10**400, "5", None, True, b"5"]


@pytest.mark.parametrize("value", [*numbers, timedelta(seconds=-1), timedelta(days=400)])
def test_a_schedule_in_that_is_no_delay_is_refused(value: Any) -> None:
    assert refused(schedule_in=value).option == "schedule_in"


@pytest.mark.parametrize("value", [0, *(number for number in numbers if number is not None)])
def test_a_timeout_that_is_no_time_is_refused(value: Any) -> None:
    assert refused(timeout=value).option == "timeout"


@pytest.mark.parametrize(
    "value", [*(number for number in numbers if number is not None), [], [1, -1], [1, "2"], {1}, len]
)
def test_a_backoff_that_cannot_travel_is_refused(value: Any) -> None:
    assert refused(backoff=value).option == "backoff"


@pytest.mark.parametrize("value", [0, -1, 10_001, 1.0, "3", None, True])
def test_a_number_of_attempts_that_is_none_is_refused(value: Any) -> None:
    assert refused(max_attempts=value).option == "max_attempts"


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"timeout": 5}, "timeout", 5),
        ({"timeout": 0.5}, "timeout", 0.5),
        ({"backoff": 0}, "backoff", 0),
        ({"backoff": 1.5}, "backoff", 1.5),
        ({"backoff": MAX_DELAY}, "backoff", MAX_DELAY),
        ({"backoff": (1, 2)}, "backoff", (1, 2)),
        ({"max_attempts": 1}, "max_attempts", 1),
        ({"max_attempts": 10_000}, "max_attempts", 10_000),
    ],
)
def test_a_good_option_travels(options: Any, name: str, value: object) -> None:
    assert getattr(Payload.parse(new(**options).payload(NOW).dump()), name) == value


def test_an_option_that_does_not_exist_is_refused_with_those_that_do() -> None:
    error = refused(retries=3)
    assert error.option == "retries"
    assert "max_attempts" in str(error)


def test_options_of_a_job_win_over_those_of_its_worker() -> None:
    host = Host(queues=["fast"])
    host.worker(lambda scope, args: Ok(), max_attempts=3, backoff=[1, 2], timeout=9)
    plain = host.handle.new(KEYS)
    assert (plain.queue, plain.max_attempts, plain.backoff, plain.timeout) == ("default", 3, (1, 2), 9)
    own = host.handle.new(KEYS, queue="fast", max_attempts=1, backoff=5, timeout=2)
    assert (own.queue, own.max_attempts, own.backoff, own.timeout) == ("fast", 1, 5, 2)


def test_a_backoff_function_stays_with_the_worker_and_does_not_travel() -> None:
    host = Host().worker(lambda scope, args: Ok(), backoff=lambda attempt: attempt)
    assert host.handle.new(KEYS).backoff is None
    assert host.handle.new(KEYS, backoff=3).backoff == 3


# -- who made it -----------------------------------------------------------------------------------------


def test_a_job_knows_the_workers_that_made_it() -> None:
    host = Host().worker(lambda scope, args: Ok())
    assert host.handle.new(KEYS).sender is host.workers


@pytest.mark.parametrize("copied", [lambda job: pickle.loads(pickle.dumps(job)), copy.copy, copy.deepcopy])
def test_who_made_a_job_does_not_travel_with_it_and_the_rest_does(copied: Any) -> None:
    job = new(job_id="job-1", native={})
    found = copied(job)
    assert found.sender is None
    assert found == job
    assert found.args == KEYS


def test_jobs_are_compared_and_shown_without_who_made_them() -> None:
    one, two = new(job_id="job-1"), new(job_id="job-1")
    assert one.sender is not two.sender
    assert one == two
    assert "sender" not in repr(one)


# -- the current job -----------------------------------------------------------------------------------


def test_the_current_job_is_there_inside_and_nowhere_else() -> None:
    assert current_job() is None
    seen: list[JobInfo | None] = []

    def perform(scope: Any, args: Any) -> Any:
        seen.append(current_job())
        return Ok()

    host = Host().worker(perform)
    payload = host.payload()
    host.deliver(payload)
    assert seen == [payload.info()]
    assert current_job() is None
