"""Nothing that Dramatiq or we print holds args: at DEBUG, with secrets in them, however a job ends."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from adapters.dramatiq.tests.support import Harness
from tests.queues.harness import Process, eventually, script
from tests.queues.host import StepArgs
from tests.queues.logs import CHANGES, ENDINGS, SECRET, all_logged

from sigra_workers_dramatiq import wire

pytestmark = pytest.mark.integration
Ran = tuple[Mapping[str, str], Process, str]


def by_hand(queue: Harness, change: Any) -> str:
    """A message of ours, whose payload somebody changed."""
    payload = queue.host.sync.new(script("ok", token=SECRET)).payload(0)
    changed = change(json.loads(payload.dump()))
    message = wire.message(payload)
    queue.adapter.broker.enqueue(message.copy(options={wire.OPTION: changed}))
    return payload.id


@pytest.fixture(scope="module")
def ran(shared_queue: Harness) -> Ran:
    """Jobs of every ending, each with a secret in its args, and what sender and worker process logged."""
    queue = shared_queue
    args = {name: script(*steps, token=SECRET, deep=[{"key": SECRET}]) for name, steps in ENDINGS.items()}
    options: Any = {"timeout": 0.5, "max_attempts": 3}
    ids: dict[str, str] = {}
    with all_logged() as logged:
        for kind, handle in queue.host.handles.items():
            ids |= {f"{name}, {kind}": handle.enqueue(found, **options).id for name, found in args.items()}
        ids["scheduled"] = queue.host.sync.enqueue(args["ok"], schedule_in=1).id
        if queue.way != "storeless":
            ids["given id"] = queue.host.sync.enqueue(args["ok"], job_id=f"{queue.prefix}-given").id
        declared = queue.host.workers.declare(f"{queue.prefix}.unknown", StepArgs, queue=queue.queue)
        unknown = declared.enqueue(args["ok"]).id
    broken = {name: by_hand(queue, change) for name, change in CHANGES.items()}
    process = queue.worker("-v", boot="dramatiq_host.dramatiq_app_debug")
    queue.wait(*ids.values())
    for job_id in broken.values():
        process.logged(f"job {job_id} of worker")
    process.logged(f"job {unknown} waits for it")
    eventually(lambda: len(queue.dead_letters()) >= len(broken), "the dead letters")
    return {**ids, **broken, "unknown": unknown}, process, logged.getvalue()


def test_the_worker_process_logs_no_args(ran: Ran) -> None:
    ids, process, _ = ran
    assert SECRET not in process.log
    for job_id in ids.values():  # and it did log about each of them
        assert job_id in process.log
    assert "DEBUG" in process.log


def test_the_sender_logs_no_args(ran: Ran) -> None:
    assert SECRET not in ran[2]


def test_the_payload_is_in_one_option_of_the_message_alone(shared_queue: Harness, ran: Ran) -> None:
    ref = shared_queue.host.sync.enqueue(script("ok", token=SECRET), queue=shared_queue.other_queue)
    messages = [*shared_queue.messages(shared_queue.other_queue)]
    if not messages:  # taken already
        messages = [wire.message(shared_queue.host.sync.new(script("ok", token=SECRET)).payload(0))]
    for message in messages:
        assert (message.args, message.kwargs) == ((), {})
        assert SECRET in message.options.pop(wire.OPTION)
        assert SECRET not in f"{message!r} {message}"
    assert ref.id


def test_the_reasons_that_are_kept_hold_no_args(shared_queue: Harness, ran: Ran) -> None:
    if shared_queue.way == "storeless":
        assert shared_queue.adapter.store is None
        return
    found = shared_queue.host.workers.dead(ids=ran[0].values())
    assert len(found) > 15
    for job in found:
        assert SECRET not in f"{job.reason} {job.traceback} {job!r}"
