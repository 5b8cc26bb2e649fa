"""The audit trail: who did what, for whom, told once, and never at the cost of the job."""

import asyncio
import dataclasses
import inspect
import io
import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import KEYS, NOW, Host, again

from sigra_workers import (
    Audit,
    AuditError,
    AuditEvent,
    AuditRef,
    AuditScope,
    Error,
    InvalidSettingsError,
    JsonLinesSink,
    LoggingSink,
    MemorySink,
    Ok,
    Snooze,
    Workers,
    event_dict,
    event_ecs,
    hookimpl,
)
from sigra_workers.audit import FORBIDDEN_KEYS, MAX_METADATA_BYTES
from sigra_workers.jobs import Numbers
from sigra_workers.timeouts import JobInterrupted

SECRET = "s3cr3t-value"
UID = UUID("12345678-1234-5678-1234-567812345678")
LIKE_OURS = "0123456789abcdef0123456789abcdef"
"""A job's id, as we make them."""


class BrokenSink:
    """A sink whose store is down."""

    def write(self, event: AuditEvent, /) -> None:
        raise ConnectionError(SECRET)


@dataclasses.dataclass(eq=False)
class Failures:
    """A listener, and a plugin, that notes what was not written."""

    told: list[tuple[str, tuple[str, ...], BaseException]] = dataclasses.field(
        default_factory=list[tuple[str, tuple[str, ...], BaseException]]
    )

    def __call__(self, action: str, fields: tuple[str, ...], error: BaseException) -> None:
        self.told.append((action, fields, error))

    @hookimpl
    def sigra_audit_failed(self, action: str, fields: tuple[str, ...], exception: BaseException) -> None:
        self(action, fields, exception)


def request_scope(user: Any = "ann", organization: Any = "org-1", admin: Any = None) -> Any:
    ids = {"user": user, "active_organization": organization, "impersonating_from": admin}
    return SimpleNamespace(
        **{part: None if value is None else SimpleNamespace(id=value) for part, value in ids.items()}
    )


def worker_scope(user: Any = "ann", organization: Any = "org-1", admin: Any = None) -> Any:
    user, organization, admin = (
        None if value is None else AuditRef(value) for value in (user, organization, admin)
    )
    return AuditScope(user, organization, admin)


def dict_scope(user: Any = "ann", organization: Any = "org-1", admin: Any = None) -> Any:
    ids = {"user": user, "active_organization": organization, "impersonating_from": admin}
    return {part: None if value is None else {"id": value} for part, value in ids.items()}


def written(scope: object = None, action: str = "account.closed", **fields: Any) -> AuditEvent:
    """The event that a call writes."""
    return Audit(MemorySink()).log(action, scope, **fields)


def refused(audit: Audit | None = None, action: Any = "account.closed", **fields: Any) -> AuditError:
    """Why a call is refused; that the safe form of it keeps quiet and writes nothing either."""
    audit = audit or Audit(MemorySink())
    sink, failures = MemorySink(), Failures()
    audit.on_failure(failures)
    with audit.using(sink):
        with pytest.raises(AuditError) as caught:
            audit.log(action, None, **fields)
        audit.log_safe(action, None, **fields)
    assert sink.events == []
    assert [told[1] for told in failures.told] == [caught.value.fields]
    return caught.value


# -- who is who ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope_of", [request_scope, worker_scope, dict_scope])
@pytest.mark.parametrize(
    ("ids", "actor", "kind", "effective", "organization"),
    [
        (("ann", "org-1", None), "ann", "user", "ann", "org-1"),
        (("ann", "org-1", "admin"), "admin", "user", "ann", "org-1"),
        ((None, "org-1", None), None, "system", None, "org-1"),
        ((None, None, None), None, "system", None, None),
        ((None, "org-1", "admin"), "admin", "user", None, "org-1"),
        ((0, 0, None), 0, "user", 0, 0),
        (("", "", 0), 0, "user", "", ""),
        ((UID, UID, UID), str(UID), "user", str(UID), str(UID)),
    ],
)
def test_the_real_actor_the_effective_user_and_the_organization_come_from_any_scope(
    scope_of: Callable[..., Any], ids: Any, actor: Any, kind: str, effective: Any, organization: Any
) -> None:
    event = written(scope_of(*ids))
    assert (event.actor_id, event.actor_type) == (actor, kind)
    assert (event.effective_user_id, event.organization_id) == (effective, organization)


@pytest.mark.parametrize("scope", [None, object(), {}, SimpleNamespace(user=SimpleNamespace()), {"user": 5}])
def test_a_scope_without_the_parts_writes_an_event_of_nobody(scope: object) -> None:
    event = written(scope)
    assert (event.actor_id, event.effective_user_id, event.organization_id) == (None, None, None)
    assert event.actor_type == "system"


def test_a_scope_may_mix_objects_and_mappings() -> None:
    mixed = {"user": SimpleNamespace(id="ann"), "active_organization": MappingProxyType({"id": "org-1"})}
    event = written(mixed)
    assert (event.actor_id, event.organization_id) == ("ann", "org-1")


def test_the_scope_must_be_given() -> None:
    log: Any = Audit(MemorySink()).log
    log_safe: Any = Audit(MemorySink()).log_safe
    for call in (log, log_safe):
        with pytest.raises(TypeError, match="scope"):
            call("account.closed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor_id", "bob"),
        ("actor_id", None),
        ("actor_type", "system"),
        ("effective_user_id", None),
        ("organization_id", "org-2"),
        ("organization_id", None),
        ("occurred_at", datetime(2020, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_field_the_caller_gives_wins_over_the_scope(field: str, value: Any) -> None:
    event = written(request_scope(admin="admin"), **{field: value})
    assert getattr(event, field) == value


def test_an_actor_given_decides_whether_the_system_acted() -> None:
    assert written(request_scope(), actor_id=None).actor_type == "system"
    assert written(None, actor_id="bob").actor_type == "user"


# -- the other fields ----------------------------------------------------------------------------------


def test_outside_of_a_job_the_job_fields_are_none() -> None:
    event = written(request_scope())
    assert (event.job_id, event.worker, event.queue, event.attempt) == (None, None, None, None)


def test_the_plain_fields_are_taken_over() -> None:
    event = written(None, "account.closed", target_type="account", target_id=7, metadata={"plan": "pro"})
    assert (event.action, event.outcome, event.schema_version) == ("account.closed", "success", 1)
    assert (event.target_type, event.target_id, event.metadata) == ("account", 7, {"plan": "pro"})
    assert written(None, outcome="failure").outcome == "failure"
    assert written(None).metadata == {}


def test_a_target_that_is_a_uuid_becomes_its_text() -> None:
    assert written(None, target_id=UID).target_id == str(UID)


def test_an_event_happened_now_in_utc() -> None:
    before = datetime.now(UTC)
    assert before <= written(None).occurred_at <= datetime.now(UTC)
    assert written(None).occurred_at.tzinfo is UTC


def test_an_event_is_immutable_and_keeps_its_own_copy_of_the_metadata() -> None:
    metadata = {"list": [1]}
    event = written(None, metadata=metadata)
    metadata["list"].append(2)
    assert event.metadata == {"list": [1]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, "action", "x.y")  # noqa: B010


def test_metadata_may_be_any_mapping() -> None:
    metadata = MappingProxyType({"deep": MappingProxyType({"n": 1})})
    assert written(None, metadata=metadata).metadata == {"deep": {"n": 1}}
    assert refused(metadata=MappingProxyType({"deep": {"token": 1}})).fields == ("metadata.token",)


def test_inside_a_job_the_event_carries_it_and_its_clock() -> None:
    host = Host()
    host.worker(lambda scope, args: Ok(host.audit.log("account.closed", scope)))
    payload = host.payload()
    host.deliver(payload)
    (event,) = host.events
    assert (event.job_id, event.worker, event.queue, event.attempt) == (
        payload.id,
        "accounts.close",
        "default",
        1,
    )
    assert event.occurred_at == datetime.fromtimestamp(NOW, UTC)
    assert (event.actor_id, event.effective_user_id, event.organization_id) == ("ann", "ann", "org-1")


@pytest.mark.parametrize(
    ("args", "actor", "kind", "effective"),
    [
        (KEYS, "ann", "user", "ann"),
        ({**KEYS, "impersonating_from": "admin"}, "admin", "user", "ann"),
        ({**KEYS, "actor_id": None}, "cron", "system", None),
    ],
)
def test_the_system_has_a_name_where_nobody_acts_in_a_job(
    args: Any, actor: str, kind: str, effective: str | None
) -> None:
    host = Host(system_actor="cron").worker(lambda scope, args: Ok(host.audit.log("account.closed", scope)))
    host.run(args)
    (event,) = host.events
    assert (event.actor_id, event.actor_type, event.effective_user_id) == (actor, kind, effective)


def test_the_name_of_the_system_never_replaces_an_actor_that_the_caller_gives() -> None:
    def perform(scope: Any, args: Any) -> Any:
        host.audit.log("account.closed", scope, actor_id=None)
        return Ok()

    host = Host(system_actor="cron").worker(perform)
    host.run()
    assert (host.events[0].actor_id, host.events[0].actor_type) == (None, "system")


# -- event ids -----------------------------------------------------------------------------------------


def test_outside_of_a_job_every_event_has_an_id_of_its_own() -> None:
    assert written(None).event_id != written(None).event_id
    assert UUID(written(None).event_id).version == 4


def ids_of_a_run(
    body: Callable[[Audit, Any], object], times: int = 1, job_id: str = "job-1", **changes: Any
) -> list[str]:
    """The ids of the events that `body` logs in a job, the run repeated so many times."""
    host = Host()
    found: list[str] = []
    sink: Any = SimpleNamespace(write=lambda event: found.append(event.event_id))
    audit = Audit(sink)

    def perform(scope: Any, args: Any) -> Any:
        body(audit, scope)
        return Ok()

    host.worker(perform)
    payload = dataclasses.replace(host.payload(job_id=job_id), **changes)
    for _ in range(times):
        host.deliver(payload)
    return found


def test_a_run_that_is_repeated_names_its_events_again() -> None:
    def body(audit: Audit, scope: Any) -> None:
        audit.log("account.closed", scope)
        audit.log("mail.sent", scope)

    first, second, first_again, second_again = ids_of_a_run(body, times=2)
    assert (first, second) == (first_again, second_again)
    assert first != second
    assert UUID(first).version == 5


def log_one(audit: Audit, scope: Any) -> None:
    audit.log("account.closed", scope)


def test_the_ids_of_a_job_never_change_between_versions() -> None:
    assert ids_of_a_run(log_one) == ["477cb54d-4ae0-5486-b276-7857208f2aa0"]
    assert ids_of_a_run(log_one, id=LIKE_OURS) == ["7b3040f9-f980-55da-8138-0df200d8e857"]


@pytest.mark.parametrize("job_id", ["job-1", LIKE_OURS])
def test_an_id_of_the_hosts_that_is_used_again_names_other_events(job_id: str) -> None:
    first = ids_of_a_run(log_one, job_id=job_id)
    assert ids_of_a_run(log_one, job_id=job_id, enqueued_at=NOW + 86_400) != first
    assert ids_of_a_run(log_one, job_id=job_id) == first


def test_an_id_of_ours_names_the_same_events_however_often_its_job_is_sent() -> None:
    assert ids_of_a_run(log_one, id=LIKE_OURS) == ids_of_a_run(log_one, id=LIKE_OURS, enqueued_at=NOW + 1)


def test_a_retry_knows_an_id_of_the_hosts_that_looks_like_one_of_ours() -> None:
    def perform(scope: Any, args: Any) -> Any:
        host.audit.log("account.closed", scope)
        return Error("not yet")

    host = Host().worker(perform)
    second = again(host.deliver(host.payload(job_id=LIKE_OURS))).payload
    host.deliver(second)
    assert len(host.events) == 1


def test_equal_events_of_two_organizations_are_two_whatever_was_logged_before() -> None:
    def log_all(audit: Audit, scope: Any, *organizations: str) -> None:
        for organization in organizations:
            audit.log("report.sent", scope, organization_id=organization)

    both = ids_of_a_run(lambda audit, scope: log_all(audit, scope, "acme", "northwind"))
    assert ids_of_a_run(lambda audit, scope: log_all(audit, scope, "northwind")) == both[1:]
    assert len({*both}) == 2


def test_a_later_attempt_names_the_same_event_again() -> None:
    assert ids_of_a_run(log_one, attempt=1) == ids_of_a_run(log_one, attempt=7)


@pytest.mark.parametrize("change", [{"snoozes": 1}, {"resends": 1}, {"id": "job-2"}])
def test_another_snooze_resend_or_job_makes_another_event(change: dict[str, Any]) -> None:
    assert ids_of_a_run(log_one) != ids_of_a_run(log_one, **change)


@pytest.mark.parametrize(
    "fields", [{"outcome": "failure"}, {"target_type": "account"}, {"target_id": "a1"}, {"target_id": 1}]
)
def test_another_outcome_or_target_is_another_event(fields: dict[str, Any]) -> None:
    assert ids_of_a_run(lambda audit, scope: audit.log("account.closed", scope, **fields)) != ids_of_a_run(
        log_one
    )


def test_what_is_not_part_of_the_name_does_not_change_it() -> None:
    def body(audit: Audit, scope: Any) -> None:
        audit.log("account.closed", scope, metadata={"n": 1}, occurred_at=datetime.now(UTC))

    assert ids_of_a_run(body) == ids_of_a_run(log_one)


def test_equal_events_of_one_run_are_told_apart_by_their_number() -> None:
    def body(audit: Audit, scope: Any) -> None:
        for _ in range(3):
            audit.log("account.closed", scope)

    found = ids_of_a_run(body, times=2)
    assert len({*found}) == 3
    assert found[:3] == found[3:]


@pytest.mark.parametrize("way", ["log", "log_safe", "alog", "alog_safe"])
def test_what_was_not_written_and_is_logged_again_is_the_same_event(way: str) -> None:
    ids: list[str] = []

    class Sink:
        def write(self, event: AuditEvent) -> None:
            ids.append(event.event_id)
            if len(ids) in (2, 3):  # it may still be written
                raise TimeoutError

    def perform(scope: Any, args: Any) -> Any:
        for _ in range(6):
            with suppress(TimeoutError):
                found = getattr(audit, way)("account.closed", scope)
                if inspect.isawaitable(found):
                    asyncio.run(cast("Any", found))
        return Ok()

    audit = Audit(Sink())
    Host().worker(perform).run()
    first, second, again, *others = ids
    assert second == again == others[0]
    assert len({first, *others}) == 4


def test_numbers_that_were_given_back_are_taken_first_the_smallest_before() -> None:
    numbers = Numbers()
    assert [numbers.take() for _ in range(4)] == [1, 2, 3, 4]
    numbers.give_back(3)
    numbers.give_back(2)
    assert [numbers.take() for _ in range(3)] == [2, 3, 5]


def test_a_failure_and_the_success_after_it_are_two_events_and_a_retry_adds_none() -> None:
    host = Host()

    def perform(scope: Any, args: Any) -> Any:
        failed = host.told.names.count("started") == 1
        host.audit.log("account.closed", scope, outcome="failure" if failed else "success")
        return Error("not yet") if failed else Ok()

    host.worker(perform)
    first = host.payload()
    second = again(host.deliver(first)).payload
    host.clock.advance(86_400)
    host.deliver(second)
    host.deliver(second)
    assert [event.outcome for event in host.events] == ["failure", "success"]


def test_each_snoozed_reminder_is_an_event_of_its_own() -> None:
    def perform(scope: Any, args: Any) -> Any:
        host.audit.log("reminder.sent", scope)
        return Snooze(60)

    host = Host().worker(perform)
    payload = host.payload()
    for _ in range(3):
        payload = again(host.deliver(payload)).payload
        host.clock.advance(60)
    assert len(host.events) == 3


def test_an_event_key_names_the_event_wherever_it_is_logged() -> None:
    def body(audit: Audit, scope: Any) -> None:
        audit.log("invoice.sent", scope, event_key="invoice-7")

    outside = written(request_scope(), "invoice.sent", event_key="invoice-7").event_id
    assert ids_of_a_run(body) == ids_of_a_run(body, snoozes=3, id="job-2") == [outside]


def test_an_event_key_is_one_of_its_organization_and_action() -> None:
    ids = {
        written(request_scope(organization=organization), action, event_key=key).event_id
        for organization in ("org-1", "org-2", None)
        for action in ("invoice.sent", "invoice.paid")
        for key in ("1", "2")
    }
    assert len(ids) == 12


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action", ["closed", "", "Account.closed", "account.", ".closed", "account..x", "a.b\n", "a b.c", None, 5]
)
def test_an_action_that_is_no_dotted_name_is_refused_and_not_repeated(action: Any) -> None:
    error = refused(action=action)
    assert (error.action, error.fields) == ("<invalid>", ("action",))


@pytest.mark.parametrize("action", ["account.closed", "a.b.c", "app2.mail_sent.v2"])
def test_a_dotted_action_is_taken(action: str) -> None:
    assert written(None, action).action == action


def test_a_reserved_prefix_is_refused() -> None:
    audit = Audit(MemorySink(), reserved=["sigra.", "billing.internal."])
    assert refused(audit, "sigra.started").fields == ("action",)
    assert refused(audit, "billing.internal.closed").fields == ("action",)
    assert audit.log("billing.closed", None).action == "billing.closed"
    assert audit.log("sigrafs.closed", None).action == "sigrafs.closed"


@pytest.mark.parametrize("field", ["actor_id", "effective_user_id", "organization_id", "target_id"])
@pytest.mark.parametrize("value", [True, 1.5, b"x", object()])
def test_what_is_no_id_is_refused_by_its_field(field: str, value: Any) -> None:
    assert refused(**{field: value}).fields == (field,)


@pytest.mark.parametrize("field", ["actor_id", "effective_user_id", "organization_id", "target_id"])
def test_an_id_that_is_a_uuid_becomes_its_text(field: str) -> None:
    given: Any = {field: UID}
    assert getattr(written(None, **given), field) == str(UID)


def test_an_outcome_that_does_not_exist_is_refused() -> None:
    assert refused(outcome="maybe").fields == ("outcome",)


def test_a_key_that_names_nothing_is_refused() -> None:
    assert refused(event_key="").fields == ("event_key",)


def test_fields_that_do_not_exist_are_refused_by_name_and_never_dropped() -> None:
    assert refused(metadatum={"n": 1}, actor="ann").fields == ("actor", "metadatum")


@pytest.mark.parametrize(
    "key",
    [
        *sorted(FORBIDDEN_KEYS),
        "refresh_token",
        "token_hash",
        "PASSWORD",
        "userPassword",
        "accessToken",
        "HTTPToken",
        "access-token",
        "X-Api-Key",
        "apiKey",
        "APIKey",
        "client secret",
        "user.password",
        "totp_code",
        "Set-Cookie",
        "password2_hash",
        "passwords_old",
        "authtoken_id",
        "secretkey",
        "privateKey",
        "privatekey",
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda key: {key: SECRET},
        lambda key: {"deep": {"er": {key: SECRET}}},
        lambda key: {"list": [1, [{"x": {key: SECRET}}]]},
        lambda key: {"pair": ("a", {key: SECRET})},
    ],
)
def test_a_key_that_may_hold_a_secret_is_refused_at_any_depth(key: str, wrap: Any) -> None:
    error = refused(metadata=wrap(key))
    assert error.fields == (f"metadata.{key}",)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "key", ["tokenizer", "secretary", "monkey", "option", "passwordless", "bottle", "private_keyboard"]
)
def test_a_key_that_only_looks_like_one_is_taken(key: str) -> None:
    assert written(None, metadata={key: 1}).metadata == {key: 1}


def test_the_forbidden_keys_are_a_setting() -> None:
    audit = Audit(MemorySink(), forbidden_keys=FORBIDDEN_KEYS | {"iban"})
    assert refused(audit, metadata={"customerIban": "DE"}).fields == ("metadata.customerIban",)
    free = Audit(MemorySink(), forbidden_keys=frozenset())
    assert free.log("a.b", None, metadata={"token": 1}).metadata == {"token": 1}


@pytest.mark.parametrize("value", [datetime(2030, 1, 1), "2030-01-01T00:00:00Z", 1_893_456_000])  # noqa: DTZ001
def test_a_time_without_a_zone_or_of_another_type_is_refused(value: Any) -> None:
    error = refused(occurred_at=value)
    assert (error.fields, error.problem) == (("occurred_at",), "expected a datetime with a time zone")


def test_no_time_given_is_now() -> None:
    before = datetime.now(UTC)
    nothing: Any = None
    assert before <= written(None, occurred_at=nothing).occurred_at <= datetime.now(UTC)


def sized(size: int) -> dict[str, str]:
    """Metadata of so many bytes as JSON."""
    return {"blob": "x" * (size - len(json.dumps({"blob": ""})))}


def test_metadata_is_taken_up_to_its_limit_in_bytes_and_refused_beyond() -> None:
    assert written(None, metadata=sized(MAX_METADATA_BYTES)).metadata == sized(MAX_METADATA_BYTES)
    assert refused(metadata=sized(MAX_METADATA_BYTES + 1)).fields == ("metadata",)
    accents = {"blob": "é" * (MAX_METADATA_BYTES // 2)}
    assert refused(metadata=accents).fields == ("metadata",)
    half = {"blob": accents["blob"][: MAX_METADATA_BYTES // 4]}
    assert written(None, metadata=half).metadata == half


@pytest.mark.parametrize(
    "metadata",
    [{"at": datetime.now(UTC)}, {"x": float("nan")}, {"x": b""}, {"x": {1}}, {(1,): 1}, [1], "text", 5],
)
def test_metadata_that_is_no_json_object_is_refused(metadata: Any) -> None:
    assert refused(metadata=metadata).fields == ("metadata",)


def test_metadata_that_holds_itself_or_is_too_deep_is_refused() -> None:
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    assert refused(metadata=itself).fields == ("metadata",)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert refused(metadata={"deep": deep}).fields == ("metadata",)


# -- never raises --------------------------------------------------------------------------------------


def test_a_broken_sink_is_raised_by_log_and_not_by_log_safe() -> None:
    audit = Audit(BrokenSink())
    with pytest.raises(ConnectionError):
        audit.log("account.closed", None)
    audit.log_safe("account.closed", None)


def test_what_was_not_written_goes_to_the_listeners_with_the_names_of_fields_alone() -> None:
    audit, one, two = Audit(BrokenSink()), Failures(), Failures()
    audit.on_failure(one)
    audit.on_failure(two)
    audit.log_safe("account.closed", request_scope(), metadata={"plan": "pro"})
    ((action, fields, error),) = one.told
    assert (action, fields) == ("account.closed", ("sink",))
    assert isinstance(error, ConnectionError)
    assert two.told == one.told


def test_a_listener_is_told_once_however_often_it_is_added() -> None:
    audit, failures = Audit(BrokenSink()), Failures()
    audit.on_failure(failures)
    audit.on_failure(failures)
    audit.log_safe("account.closed", None)
    assert len(failures.told) == 1


def test_what_was_not_written_goes_to_the_hook() -> None:
    failures = Failures()
    workers = Workers(audit=Audit(BrokenSink()), plugins=[failures])
    workers.audit.log_safe("account.closed", None)
    assert [(action, fields) for action, fields, _ in failures.told] == [("account.closed", ("sink",))]


def test_what_was_not_written_is_logged_without_any_value(caplog: pytest.LogCaptureFixture) -> None:
    Audit(BrokenSink()).log_safe("account.closed", request_scope(user=SECRET), target_id=SECRET)
    Audit(MemorySink()).log_safe("account.closed", None, metadata={"token": SECRET})
    Audit(MemorySink()).log_safe(SECRET, None)
    assert [record.getMessage() for record in caplog.records] == [
        "audit event account.closed was not written: sink (ConnectionError)",
        "audit event account.closed was not written: metadata.token (such a key may hold a secret)",
        "audit event <invalid> was not written: action (expected a dotted name such as 'account.closed')",
    ]
    assert {(record.name, record.levelno, record.exc_info) for record in caplog.records} == {
        ("sigra_workers.audit", logging.ERROR, None)
    }


def test_a_listener_that_raises_changes_nothing_and_keeps_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(action: str, fields: tuple[str, ...], error: BaseException) -> None:
        raise RuntimeError(SECRET)

    audit, failures = Audit(BrokenSink()), Failures()
    audit.on_failure(broken)
    audit.on_failure(failures)
    audit.log_safe("account.closed", None)
    assert len(failures.told) == 1
    assert "a listener to failed audit events raised RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_scope_that_raises_when_it_is_read_never_reaches_the_caller() -> None:
    class Detached:
        @property
        def user(self) -> object:
            raise RuntimeError("detached from its session")

    failures = Failures()
    audit = Audit(MemorySink())
    audit.on_failure(failures)
    audit.log_safe("account.closed", Detached())
    assert [fields for _, fields, _ in failures.told] == [("scope",)]


@pytest.mark.parametrize("sink", [BrokenSink(), LoggingSink("drops.info")])
def test_a_safe_audit_that_fails_never_changes_the_decision(sink: Any) -> None:
    def perform(scope: Any, args: Any) -> Any:
        with host.audit.using(sink):
            host.audit.log_safe("account.closed", scope)
        return Ok("done")

    host = Host().worker(perform)
    host.run()
    assert host.told.of("finished")["decision"] == "complete"


def test_a_required_audit_that_fails_fails_the_job() -> None:
    def perform(scope: Any, args: Any) -> Any:
        with host.audit.using(BrokenSink()):
            host.audit.log("account.closed", scope)
        return Ok("done")

    host = Host().worker(perform)
    assert again(host.run()).why == "retry"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    anything,
    anything,
    st.dictionaries(
        st.sampled_from(["outcome", "target_type", "target_id", "metadata", "event_key", "actor_id", "x"]),
        anything,
    ),
)
def test_log_safe_never_raises_whatever_it_is_given(action: Any, scope: Any, fields: Any) -> None:
    Audit(MemorySink()).log_safe(action, scope, **fields)


def test_log_safe_lets_a_jobs_time_out_pass_and_tells_that_the_event_may_be_lost() -> None:
    def write(event: AuditEvent) -> None:
        raise JobInterrupted

    sink: Any = SimpleNamespace(write=write)
    audit, failures = Audit(sink), Failures()
    audit.on_failure(failures)
    with pytest.raises(JobInterrupted):
        audit.log_safe("account.closed", None)
    assert [(action, fields) for action, fields, _ in failures.told] == [("account.closed", ("sink",))]


# -- replacing the sink --------------------------------------------------------------------------------


def test_the_sink_is_replaced_for_a_block() -> None:
    before, inside = MemorySink(), MemorySink()
    audit = Audit(before)
    with audit.using(inside):
        assert audit.sink is inside
        audit.log("account.closed", None)
    audit.log("account.opened", None)
    assert [event.action for event in inside.events] == ["account.closed"]
    assert [event.action for event in before.events] == ["account.opened"]


def test_the_sink_is_back_after_a_block_that_raises() -> None:
    before = MemorySink()
    audit = Audit(before)
    with suppress(RuntimeError), audit.using(MemorySink()):
        raise RuntimeError
    assert audit.sink is before


def test_a_replaced_sink_is_seen_by_every_thread() -> None:
    inside = MemorySink()
    audit = Audit(MemorySink())
    with audit.using(inside):
        thread = threading.Thread(target=audit.log, args=("account.closed", None))
        thread.start()
        thread.join()
    assert len(inside.events) == 1


# -- in a transaction ------------------------------------------------------------------------------------


class TransactionSink:
    """A `TransactionalSink` that notes which method was called, in which thread, with which transaction."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, AuditEvent, object]] = []
        self.threads: set[int] = set()

    def write(self, event: AuditEvent, /) -> None:
        self._note("write", event, None)

    def write_in(self, event: AuditEvent, transaction: Any, /) -> None:
        self._note("write_in", event, transaction)

    def _note(self, name: str, event: AuditEvent, transaction: object) -> None:
        self.calls.append((name, event, transaction))
        self.threads.add(threading.get_ident())


class AsyncTransactionSink(TransactionSink):
    """One with the async twin too."""

    async def awrite_in(self, event: AuditEvent, transaction: Any, /) -> None:
        await asyncio.sleep(0)
        self._note("awrite_in", event, transaction)


def test_an_event_in_a_transaction_is_handed_to_the_sink_with_it() -> None:
    sink, session = TransactionSink(), object()
    event = Audit(sink).log("account.closed", request_scope(), transaction=session, target_id="a1")
    assert sink.calls == [("write_in", event, session)]
    assert (event.actor_id, event.target_id) == ("ann", "a1")


def test_without_a_transaction_a_transactional_sink_writes_by_itself() -> None:
    sink = TransactionSink()
    event = Audit(sink).log("account.closed", None)
    assert sink.calls == [("write", event, None)]


def test_async_code_prefers_the_async_twin_for_its_transaction() -> None:
    sink, session = AsyncTransactionSink(), object()
    event = asyncio.run(Audit(sink).alog("account.closed", None, transaction=session))
    assert sink.calls == [("awrite_in", event, session)]


def test_without_the_async_twin_a_transaction_stays_in_the_thread_it_belongs_to() -> None:
    sink, session = TransactionSink(), object()
    event = asyncio.run(Audit(sink).alog("account.closed", None, transaction=session))
    assert sink.calls == [("write_in", event, session)]
    assert sink.threads == {threading.get_ident()}


def test_a_transaction_is_refused_by_name_where_the_sink_cannot_write_in_one() -> None:
    sink = AsyncSink()
    audit = Audit(sink)
    with pytest.raises(AuditError) as caught:
        audit.log("account.closed", None, transaction=object())
    with pytest.raises(AuditError) as caught_too:
        asyncio.run(audit.alog("account.closed", None, transaction=object()))
    assert (
        str(caught.value)
        == str(caught_too.value)
        == (
            "audit event 'account.closed' was not written, transaction:"
            " a AsyncSink can't write in one, expected a TransactionalSink"
        )
    )
    assert caught.value.fields == ("transaction",)
    assert sink.calls == []


def test_a_bad_event_never_reaches_the_transaction() -> None:
    sink = AsyncTransactionSink()
    for log in (Audit(sink).log, lambda *args, **more: asyncio.run(Audit(sink).alog(*args, **more))):
        with pytest.raises(AuditError, match="dotted name"):
            log("closed", None, transaction=object())
    assert sink.calls == []


def test_what_the_sink_raises_in_a_transaction_reaches_the_caller() -> None:
    class Broken(TransactionSink):
        def write_in(self, event: AuditEvent, transaction: Any, /) -> None:
            raise ConnectionError(SECRET)

    with pytest.raises(ConnectionError):
        Audit(Broken()).log("account.closed", None, transaction=object())
    with pytest.raises(ConnectionError):
        asyncio.run(Audit(Broken()).alog("account.closed", None, transaction=object()))


def test_the_safe_methods_take_no_transaction() -> None:
    sink, failures = TransactionSink(), Failures()
    audit: Any = Audit(sink)
    audit.on_failure(failures)
    audit.log_safe("account.closed", None, transaction=object())
    asyncio.run(audit.alog_safe("account.closed", None, transaction=object()))
    assert [fields for _, fields, _ in failures.told] == [("transaction",), ("transaction",)]
    assert sink.calls == []


def test_a_run_that_is_repeated_names_its_events_in_transactions_again() -> None:
    host, sink = Host(), TransactionSink()
    audit = Audit(sink)

    def perform(scope: Any, args: Any) -> Any:
        audit.log("account.closed", scope, transaction=object())
        return Ok()

    host.worker(perform)
    payload = host.payload()
    host.deliver(payload)
    host.deliver(payload)
    (_, first, _), (_, second, _) = sink.calls
    assert first.event_id == second.event_id


def test_the_memory_sink_keeps_an_event_whatever_becomes_of_its_transaction() -> None:
    sink = MemorySink()
    audit = Audit(sink)
    event = audit.log("account.closed", None, transaction=object(), event_key="1")
    asyncio.run(audit.alog("account.closed", None, transaction=object(), event_key="1"))
    assert sink.events == [event]


# -- async twins ---------------------------------------------------------------------------------------


class AsyncSink:
    """A sink with both methods."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, event: AuditEvent, /) -> None:
        self.calls.append("write")

    async def awrite(self, event: AuditEvent, /) -> None:
        await asyncio.sleep(0)
        self.calls.append("awrite")


def test_the_async_methods_prefer_an_async_sink() -> None:
    sink = AsyncSink()
    audit = Audit(sink)
    asyncio.run(audit.alog("account.closed", None))
    asyncio.run(audit.alog_safe("account.closed", None))
    audit.log("account.closed", None)
    assert sink.calls == ["awrite", "awrite", "write"]


def test_the_async_methods_call_a_sync_sink_in_another_thread() -> None:
    threads: list[int] = []
    sink: Any = SimpleNamespace(write=lambda event: threads.append(threading.get_ident()))
    audit = Audit(sink)
    asyncio.run(audit.alog("account.closed", None))
    asyncio.run(audit.alog_safe("account.closed", None))
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def test_alog_returns_the_event_of_log_and_raises_as_log_does() -> None:
    sink = MemorySink()
    event = asyncio.run(Audit(sink).alog("account.closed", request_scope(), target_id="a1"))
    assert sink.events == [event]
    assert (event.actor_id, event.target_id) == ("ann", "a1")
    with pytest.raises(ConnectionError):
        asyncio.run(Audit(BrokenSink()).alog("account.closed", None))
    with pytest.raises(AuditError):
        asyncio.run(Audit(sink).alog("closed", None))


def test_alog_safe_never_raises_and_tells_the_listeners() -> None:
    audit, failures = Audit(BrokenSink()), Failures()
    audit.on_failure(failures)
    asyncio.run(audit.alog_safe("account.closed", None))
    asyncio.run(audit.alog_safe("closed", None))
    assert [fields for _, fields, _ in failures.told] == [("sink",), ("action",)]


def test_alog_safe_lets_a_cancellation_pass_and_tells_that_the_event_may_be_lost() -> None:
    async def awrite(event: AuditEvent) -> None:
        writing.set_result(None)
        await asyncio.sleep(60)

    async def cancelled() -> bool:
        task = asyncio.create_task(audit.alog_safe("account.closed", None))
        await writing
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    sink: Any = SimpleNamespace(awrite=awrite, write=print)
    audit, failures = Audit(sink), Failures()
    audit.on_failure(failures)
    with asyncio.Runner() as runner:
        writing = runner.get_loop().create_future()
        assert runner.run(cancelled())
    assert [(action, fields) for action, fields, _ in failures.told] == [("account.closed", ("sink",))]


def test_what_ends_the_process_passes_through_a_listener() -> None:
    def listener(*_: object) -> None:
        raise KeyboardInterrupt

    audit = Audit(BrokenSink())
    audit.on_failure(listener)
    with pytest.raises(KeyboardInterrupt):
        audit.log_safe("account.closed", None)


def test_a_sink_and_a_listener_that_wait_for_something_cancelled_are_broken_and_stop_nothing() -> None:
    class Flushing:
        def write(self, event: AuditEvent) -> None:
            raise asyncio.CancelledError

        async def awrite(self, event: AuditEvent) -> None:
            flush = asyncio.ensure_future(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(flush.cancel)
            await flush

    audit, failures = Audit(Flushing()), Failures()
    audit.on_failure(lambda *_: Flushing().write(written(None)))
    audit.on_failure(failures)
    asyncio.run(audit.alog_safe("account.closed", None))
    audit.log_safe("account.closed", None)
    assert [(action, fields) for action, fields, _ in failures.told] == [("account.closed", ("sink",))] * 2


# -- sinks ---------------------------------------------------------------------------------------------


def test_the_default_sink_logs_each_event_as_one_record_with_its_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="sigra_workers.audit.trail")
    event = Audit().log("account.closed", request_scope(), metadata={"plan": "pro"})
    (record,) = caplog.records
    assert record.name == "sigra_workers.audit.trail"
    assert record.getMessage() == "account.closed success actor=ann organization=org-1 job=None"
    assert vars(record)["audit"] == event_dict(event)


@pytest.mark.parametrize("given", ["app.audit", logging.getLogger("app.audit")])
def test_the_logging_sink_takes_a_logger_or_its_name(
    given: str | logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.audit")
    Audit(LoggingSink(given)).log("account.closed", None)
    assert [record.name for record in caplog.records] == ["app.audit"]


def test_the_memory_sink_keeps_one_event_an_id_in_order() -> None:
    sink = MemorySink()
    audit = Audit(sink)
    first = audit.log("a.b", None, event_key="1")
    audit.log("a.c", None, event_key="2")
    audit.log("a.b", None, event_key="1", metadata={"late": True})
    assert [event.action for event in sink.events] == ["a.b", "a.c"]
    assert sink.events[0] == first


def test_the_memory_sink_hands_out_copies_of_its_list_and_forgets_when_told() -> None:
    sink = MemorySink()
    Audit(sink).log("a.b", None)
    sink.events.clear()
    assert len(sink.events) == 1
    sink.clear()
    assert sink.events == []


def test_the_memory_sink_loses_nothing_to_many_threads() -> None:
    sink = MemorySink()
    audit = Audit(sink)
    threads = [threading.Thread(target=lambda: [audit.log("a.b", None) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sink.events) == 400


FULL = AuditEvent(
    event_id="6348a879-4005-5399-91b9-b4b8f57712d7",
    occurred_at=datetime(2030, 1, 1, 12, 30, 15, 123456, timezone(timedelta(hours=2))),
    action="account.closed",
    outcome="failure",
    actor_id=7,
    actor_type="user",
    effective_user_id="ann",
    organization_id=12,
    target_type="account",
    target_id=0,
    metadata={"plan": "pro", "seats": [1, None, 2.5], "none": None, "empty": {}},
    job_id="job-1",
    worker="accounts.close",
    queue="lifecycle",
    attempt=2,
)
BARE = dataclasses.replace(
    FULL,
    outcome="success",
    actor_id=None,
    actor_type="system",
    effective_user_id=None,
    organization_id=None,
    target_type=None,
    target_id=None,
    metadata={},
    job_id=None,
    worker=None,
    queue=None,
    attempt=None,
)


def test_an_event_in_ecs_has_the_names_of_the_schema_and_ids_as_text() -> None:
    assert event_ecs(FULL) == {
        "@timestamp": "2030-01-01T10:30:15.123456Z",
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "id": "6348a879-4005-5399-91b9-b4b8f57712d7",
            "action": "account.closed",
            "outcome": "failure",
        },
        "user": {"id": "7", "effective": {"id": "ann"}},
        "organization": {"id": "12"},
        "sigra": {
            "actor": {"type": "user"},
            "target": {"type": "account", "id": "0"},
            "job": {"id": "job-1", "worker": "accounts.close", "queue": "lifecycle", "attempt": 2},
            "metadata": {"plan": "pro", "seats": [1, None, 2.5], "none": None, "empty": {}},
            "schema_version": 1,
        },
    }


def test_ecs_leaves_out_what_is_not_known() -> None:
    assert event_ecs(BARE) == {
        "@timestamp": "2030-01-01T10:30:15.123456Z",
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "id": "6348a879-4005-5399-91b9-b4b8f57712d7",
            "action": "account.closed",
            "outcome": "success",
        },
        "sigra": {"actor": {"type": "system"}, "schema_version": 1},
    }


def test_an_account_that_nobody_acted_as_is_told_in_ecs_as_well() -> None:
    assert event_ecs(dataclasses.replace(BARE, effective_user_id=""))["user"] == {"effective": {"id": ""}}
    assert event_ecs(dataclasses.replace(BARE, actor_id=0))["user"] == {"id": "0"}


def test_the_json_lines_sink_logs_each_event_as_one_line_of_ecs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sigra_workers.audit.trail")
    metadata = {"text": "two\nlines\r\u2028\u2029 é \U0001f600"}
    event = Audit(JsonLinesSink()).log("account.closed", request_scope("\ud800"), metadata=metadata)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == event_ecs(event)
    assert json.loads(line)["sigra"]["metadata"] == metadata
    assert (record.levelno, vars(record)["audit"]) == (logging.INFO, event_dict(event))


def test_a_percent_sign_in_an_event_is_no_format_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="app.audit")
    Audit(JsonLinesSink("app.audit")).log("account.closed", None, target_id="%s 100%")
    (record,) = caplog.records
    assert json.loads(record.getMessage())["sigra"]["target"] == {"id": "%s 100%"}


def test_a_json_lines_sink_whose_logger_drops_info_is_no_audit_trail() -> None:
    failures = Failures()
    audit = Audit(JsonLinesSink("drops.info"))
    audit.on_failure(failures)
    with pytest.raises(AuditError, match=r"logger 'drops.info' drops it: its level is above INFO"):
        audit.log("account.closed", None)
    audit.log_safe("account.closed", None)
    assert [fields for _, fields, _ in failures.told] == [("sink",)]


def test_an_event_as_a_dict_is_json_with_its_time_in_utc() -> None:
    at = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    event = written(request_scope(), target_id=uuid4(), metadata={"n": [1]}, occurred_at=at)
    found = json.loads(json.dumps(event_dict(event)))
    assert [*found] == [field.name for field in dataclasses.fields(AuditEvent)]
    assert found["occurred_at"] == "2030-01-01T10:00:00+00:00"


def test_an_event_has_exactly_the_fields_of_schema_version_1() -> None:
    assert [field.name for field in dataclasses.fields(AuditEvent)] == [
        "event_id",
        "occurred_at",
        "action",
        "outcome",
        "actor_id",
        "actor_type",
        "effective_user_id",
        "organization_id",
        "target_type",
        "target_id",
        "metadata",
        "job_id",
        "worker",
        "queue",
        "attempt",
        "schema_version",
    ]


def test_a_logger_that_drops_info_is_no_audit_trail() -> None:
    with pytest.raises(AuditError, match=r"logger 'drops.info' drops it: its level is above INFO"):
        Audit(LoggingSink("drops.info")).log("account.closed", None)


def test_a_logger_that_nobody_listens_to_is_no_audit_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("nobody.listens")
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(logger, "propagate", False)
    audit = Audit(LoggingSink(logger))
    for handler in (None, logging.NullHandler(), logging.StreamHandler()):
        if handler is not None:
            handler.setLevel(logging.WARNING)
            logger.addHandler(handler)
        with pytest.raises(AuditError, match="drops it: it has no handler for INFO"):
            audit.log("account.closed", None)
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    audit.log("account.closed", None)


@pytest.mark.parametrize("sink", [MemorySink, object()])
def test_what_is_no_sink_is_refused(sink: Any) -> None:
    with pytest.raises(InvalidSettingsError, match="expected an object with write"):
        Audit(sink)
    with (
        pytest.raises(InvalidSettingsError, match="expected an object with write"),
        Audit(MemorySink()).using(sink),
    ):
        pass
