"""What adapters have in common: settings that are refused, results that are kept, dead jobs that are told."""

import json
import logging
from typing import Any

import pytest
from tests.support import KEYS

from sigra_workers import Dead, InvalidPayloadError, InvalidSettingsError, Payload
from sigra_workers.adapters import check_settings, report, storable, unreadable, wrong_type
from sigra_workers.logs import JobFields

LOG = logging.getLogger("sigra_workers.queue")


def check(**settings: Any) -> None:
    check_settings("queue", settings, ("url", "client", "size"), ("url", "client"), "{'url': 'queue://'}")


@pytest.mark.parametrize("settings", [{"url": "s3cret"}, {"client": "s3cret", "size": 1}])
def test_known_settings_with_one_of_the_two_are_taken(settings: dict[str, Any]) -> None:
    check(**settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"url": "s3cret", "sice": 1, "a": 2},
            "there is no setting ['a', 'sice'], known are ['client', 'size', 'url']",
        ),
        ({}, "it takes either 'url' or 'client', such as {'url': 'queue://'}"),
        ({"url": "s3cret", "client": "s3cret"}, "it takes either 'url' or 'client'"),
    ],
)
def test_other_settings_are_refused_without_their_values(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        check(**settings)
    assert caught.value.subject == "adapter 'queue'"
    assert problem in caught.value.problem
    assert "s3cret" not in str(caught.value)


def test_a_setting_of_a_wrong_type_is_named_without_its_value() -> None:
    problem = str(wrong_type("queue", "url", b"s3cret", "str"))
    assert "setting 'url' is of type bytes, expected str" in problem
    assert "s3cret" not in problem


def test_a_value_that_can_be_stored_is_kept() -> None:
    stored: list[object] = []
    assert storable({"n": 1}, stored.append, "1", LOG) == {"n": 1}
    assert stored == [{"n": 1}]


def test_a_value_that_cannot_be_stored_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert storable(object(), json.dumps, "1", LOG) is None
    assert "the result of job 1 is of type object and can't be stored (TypeError): dropped" in caplog.text


def test_a_payload_that_cannot_be_read_is_dead_with_its_error() -> None:
    error = InvalidPayloadError("it is not JSON")
    dead = unreadable(error)
    assert (dead.payload, dead.traceback, dead.error) == (None, None, error)
    assert dead.reason.startswith("InvalidPayloadError: the job's payload is broken: it is not JSON")


def test_a_dead_job_is_reported_once_without_its_args(caplog: pytest.LogCaptureFixture) -> None:
    args = {**KEYS, "token": "s3cret"}
    payload = Payload(
        id="1", worker="accounts.close", queue="q", args_or_json=args, max_attempts=1, enqueued_at=0
    )
    report(Dead(payload, "no", None, RuntimeError("s3cret")), "1", LOG)
    report(unreadable(InvalidPayloadError("it is not JSON")), "2", LOG)
    one, two = caplog.records
    assert one.levelname == "ERROR"
    text = one.getMessage()
    assert text == "job 1 of worker 'accounts.close' (organization 'org-1') is dead: RuntimeError"
    assert two.getMessage().startswith("job 2 of worker '?' (organization ?) is dead: InvalidPayloadError: ")
    fields = [[vars(record)[name] for name in JobFields.__annotations__] for record in (one, two)]
    assert fields == [["1", "accounts.close", "org-1", 1], ["2", None, None, None]]
    assert [vars(record)["is_dead"] for record in (one, two)] == [True, True]
