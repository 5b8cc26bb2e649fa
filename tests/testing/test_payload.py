"""`perform_payload`: payloads made by hand, whatever is wrong with them."""

import json
from types import MappingProxyType
from typing import Any, NoReturn

import pytest
from tests.support import KEYS, NOW, Told, again, completed, dead
from tests.testing.support import Make

from sigra_workers import (
    Error,
    InvalidArgsError,
    InvalidOptionError,
    InvalidPayloadError,
    InvalidResultError,
    JobCrashedError,
    MissingArgError,
    Ok,
    PayloadVersionError,
    Snooze,
)


def never(scope: Any, args: Any) -> NoReturn:
    pytest.fail("perform was called")


def ok(scope: Any, args: Any) -> Ok[Any]:
    return Ok(args["actor_id"])


def test_a_payload_that_is_whole_is_performed(make: Make) -> None:
    kit = make(ok)
    assert completed(kit.perform_payload(kit.sigra.payload(kit.handle, KEYS))) == "ann"


def test_a_payload_is_as_it_would_travel(made: Make) -> None:
    kit = made(ok)
    assert kit.sigra.payload(kit.handle, KEYS, job_id="j1", attempt=2, timeout=5) == {
        "v": 1,
        "id": "j1",
        "worker": "accounts.close",
        "queue": "default",
        "args": KEYS,
        "attempt": 2,
        "max_attempts": 20,
        "snoozes": 0,
        "resends": 0,
        "backoff": None,
        "timeout": 5,
        "enqueued_at": NOW,
        "due_at": None,
        "meta": {},
    }


def test_a_payload_of_a_worker_that_is_only_declared_can_be_made(made: Make) -> None:
    kit = made(ok)
    handle = kit.workers.declare("reports.build", kit.handle.args_type)
    assert kit.sigra.payload(handle, KEYS)["worker"] == "reports.build"


def test_a_payload_of_what_is_no_handle_is_refused(made: Make) -> None:
    kit = made(ok)
    name: Any = "accounts.close"
    with pytest.raises(InvalidOptionError, match="'handle'"):
        kit.sigra.payload(name, KEYS)


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ('{"v": 1', "it is not JSON"),
        ("[]", "it is a JSON list"),
        (b"{}", "it is of type bytes"),
        (None, "it is of type NoneType"),
        ({}, "field 'v' is of type NoneType"),
        ({"v": 1}, "field 'id' is missing"),
    ],
    ids=repr,
)
def test_what_is_no_payload_is_dead(make: Make, payload: object, named: str) -> None:
    found = dead(make(never).perform_payload(payload))
    assert isinstance(found.error, InvalidPayloadError)
    assert named in found.reason
    assert found.payload is None


@pytest.mark.parametrize("field", ["id", "worker", "queue", "args", "attempt", "enqueued_at", "meta"])
def test_a_payload_without_a_field_is_dead(make: Make, field: str) -> None:
    kit = make(never)
    payload = kit.sigra.payload(kit.handle, KEYS)
    del payload[field]
    assert f"field {field!r} is missing" in dead(kit.perform_payload(payload)).reason


def test_a_payload_of_a_higher_version_is_dead(make: Make) -> None:
    kit = make(never)
    found = dead(kit.perform_payload({**kit.sigra.payload(kit.handle, KEYS), "v": 2}))
    assert isinstance(found.error, PayloadVersionError)


def test_a_payload_of_an_unknown_worker_waits(make: Make) -> None:
    kit = make(never)
    found = again(kit.perform_payload({**kit.sigra.payload(kit.handle, KEYS), "worker": "reports.build"}))
    assert (found.why, found.due_at) == ("unknown_worker", NOW + 5)


@pytest.mark.parametrize("key", ["organization_id", "actor_id"])
def test_a_payload_without_a_tenant_key_is_dead(make: Make, key: str) -> None:
    kit = make(never)
    payload = kit.sigra.payload(kit.handle, KEYS)
    del payload["args"][key]
    found = dead(kit.perform_payload(payload))
    assert isinstance(found.error, MissingArgError)
    assert kit.told.names == ["dead"]


def test_a_payload_whose_actor_is_no_id_is_dead(make: Make) -> None:
    kit = make(never)
    payload = kit.sigra.payload(kit.handle, KEYS)
    payload["args"]["actor_id"] = ["ann"]
    assert isinstance(dead(kit.perform_payload(payload)).error, InvalidArgsError)


def test_a_payload_under_another_name_than_its_own_is_dead(make: Make) -> None:
    kit = make(never)
    payload = kit.sigra.payload(kit.handle, KEYS)
    assert "another than the queue's own record" in dead(kit.perform_payload(payload, worker="b")).reason


def test_a_payload_that_a_process_died_under_has_fewer_attempts(make: Make) -> None:
    kit = make(lambda scope, args: Error("no"), max_attempts=3, backoff=7)
    payload = kit.sigra.payload(kit.handle, KEYS)
    found = again(kit.perform_payload(payload, crashes=1))
    assert (found.why, found.payload.attempt, found.due_at) == ("retry", 3, NOW + 7)
    assert isinstance(dead(kit.perform_payload(payload, crashes=3)).error, JobCrashedError)


def test_a_payload_that_is_not_due_waits(make: Make) -> None:
    kit = make(never)
    found = again(kit.perform_payload({**kit.sigra.payload(kit.handle, KEYS), "due_at": NOW + 60}))
    assert (found.why, found.due_at) == ("early", NOW + 60)


def test_fields_that_nobody_knows_are_passed_on(make: Make) -> None:
    kit = make(lambda scope, args: Snooze(60))
    found = again(kit.perform_payload({**kit.sigra.payload(kit.handle, KEYS), "trace": "x"}))
    assert found.payload.unknown == {"trace": "x"}


def test_what_is_no_result_is_dead(make: Make) -> None:
    kit = make(lambda scope, args: None)
    found = dead(kit.perform_payload(kit.sigra.payload(kit.handle, KEYS)))
    assert isinstance(found.error, InvalidResultError)


def test_text_and_other_mappings_are_payloads_too(make: Make) -> None:
    kit = make(ok)
    payload = kit.sigra.payload(kit.handle, KEYS)
    for given in (json.dumps(payload), MappingProxyType(payload)):
        assert completed(kit.perform_payload(given)) == "ann"


def test_a_payload_does_not_touch_the_queue(make: Make) -> None:
    plugin = Told()
    kit = make(lambda scope, args: Snooze(60), plugins=(plugin,))
    kit.perform_payload(kit.sigra.payload(kit.handle, KEYS))
    assert plugin.names == ["started", "finished"]
    assert kit.waiting == []
