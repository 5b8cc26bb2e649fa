"""Messages made or changed by hand: each is dead with a named reason, and harms nothing else."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from adapters.dramatiq.tests.support import Harness
from dramatiq import Message
from dramatiq.common import xq_name
from tests.queues.harness import Process, eventually, script

from sigra_workers_dramatiq import wire

pytestmark = pytest.mark.integration
Change = Callable[[dict[str, Any]], object]
TEXTS: Final[Mapping[str, tuple[Change, str]]] = {
    "cut off": (lambda p: json.dumps(p)[:-9], "the job's payload is broken: it is not JSON"),
    "empty": (lambda p: "", "it is not JSON"),
    "a list": (lambda p: "[]", "it is a JSON list"),
    "not a string": (lambda p: p, "it is of type dict, expected one JSON string"),
    "null": (lambda p: None, "it is of type NoneType"),
    "newer version": (lambda p: json.dumps({**p, "v": 2}), "PayloadVersionError: it is of wire version 2"),
    "no attempt": (
        lambda p: json.dumps({k: v for k, v in p.items() if k != "attempt"}),
        "field 'attempt' is missing",
    ),
    "a negative count": (lambda p: json.dumps({**p, "snoozes": -1}), "'snoozes' is -1"),
    "not finite": (lambda p: json.dumps({**p, "timeout": float("nan")}), "it is not JSON"),
    "another id": (lambda p: json.dumps({**p, "id": "other-job"}), "its id is another than Dramatiq's own"),
    "another worker": (lambda p: json.dumps({**p, "worker": "steps.async"}), "its worker is another than"),
    "no organization": (
        lambda p: json.dumps({**p, "args": {"actor_id": "ann", "steps": ["ok"]}}),
        "MissingArgError",
    ),
    "no actor": (
        lambda p: json.dumps({**p, "args": {"organization_id": 1, "steps": ["ok"]}}),
        "MissingArgError",
    ),
    "no key of its own": (
        lambda p: json.dumps({**p, "args": {"organization_id": 1, "actor_id": 2}}),
        "MissingArgError",
    ),
}  # fmt: skip
Sent = tuple[Mapping[str, str], Process]


@pytest.fixture(scope="module")
def sent(shared_queue: Harness) -> Sent:
    """Each of them, between jobs that are well."""
    ids: dict[str, str] = {}
    for name, (change, _) in TEXTS.items():
        payload = shared_queue.host.sync.new(script("ok")).payload(0)
        changed = wire.message(payload).copy(options={wire.OPTION: change(json.loads(payload.dump()))})
        shared_queue.adapter.broker.enqueue(changed)
        ids[name] = payload.id
    shared_queue.adapter.broker.enqueue(Message(shared_queue.queue, "steps.sync", ("by", "hand"), {}, {}))
    well = shared_queue.host.sync.enqueue(script("ok"))
    process = shared_queue.worker()
    shared_queue.wait(well.id)
    eventually(lambda: len(shared_queue.dead_letters()) == len(TEXTS) + 1, "the dead letters")
    return {**ids, "well": well.id}, process


@pytest.mark.parametrize("name", TEXTS)
def test_a_broken_payload_is_dead_with_its_reason(shared_queue: Harness, sent: Sent, name: str) -> None:
    ids, process = sent
    (line,) = (line for line in process.log.splitlines() if "[ERROR]" in line and ids[name] in line)
    assert "is dead: " in line
    assert ids[name] in shared_queue.dead_letters()
    assert shared_queue.runs(ids[name]) == []
    if shared_queue.adapter.store is not None:
        (job,) = shared_queue.host.workers.dead(ids=[ids[name]])
        assert TEXTS[name][1] in job.reason
        assert "other-job" not in job.payload  # or it would be sent again in its place
        shared_queue.host.workers.purge(job)


def test_a_message_without_a_payload_is_a_dead_letter(shared_queue: Harness, sent: Sent) -> None:
    (message,) = (found for found in shared_queue.messages(kind=xq_name) if found.args)
    (line,) = (line for line in sent[1].log.splitlines() if "[ERROR]" in line and message.message_id in line)
    assert "it is of type NoneType, expected one JSON string" in line
    if shared_queue.adapter.store is not None:
        assert shared_queue.host.workers.purge(message.message_id) == 1


def test_jobs_beside_them_run_and_the_process_lives(shared_queue: Harness, sent: Sent) -> None:
    ids, process = sent
    assert shared_queue.decisions(ids["well"]) == ["complete"]
    assert process.alive


def test_a_plain_message_of_an_unknown_actor_is_dramatiqs(shared_queue: Harness, sent: Sent) -> None:
    message: Message[Any] = Message(shared_queue.queue, "nobody", (), {}, {})
    shared_queue.adapter.broker.enqueue(message)
    sent[1].logged("Received message for undefined actor 'nobody'. Moving it to the DLQ.")
    eventually(lambda: message.message_id in shared_queue.dead_letters(), "the dead letter")


def test_options_that_travel_with_a_message_change_no_rule_of_ours(shared_queue: Harness, sent: Sent) -> None:
    payload = shared_queue.host.sync.new(script("error:no")).payload(1)
    message = wire.message(payload).copy(options={"max_retries": 5, "retries": 3, "eta": None, "odd": [1]})
    shared_queue.adapter.broker.enqueue(message)
    shared_queue.wait(payload.id)
    assert [run["attempt"] for run in shared_queue.runs(payload.id)] == [1, 2, 3]
