"""Nothing that RQ or we print or show holds args: at DEBUG, with secrets in them, however a job ends."""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

import pytest
from adapters.rq.tests.support import Harness
from tests.queues.harness import Process, script
from tests.queues.host import StepArgs
from tests.queues.logs import CHANGES, ENDINGS, SECRET, all_logged

from sigra_workers_rq import wire

pytestmark = pytest.mark.integration
ALL: Final = {
    **ENDINGS,
    "ok with a value that can't be stored": ["object"],
    "process killed": ["kill"],
    "killed, then ok": ["kill", "ok"],
}
Ran = tuple[Mapping[str, str], Process, str]


def by_hand(rq: Harness, change: Any) -> str:
    """One of our jobs, whose payload somebody changed."""
    ref = rq.host.sync.enqueue(script("ok", token=SECRET, schedule=SECRET))
    payload = json.loads(rq.job(ref.id).meta[wire.META_KEY])
    meta = {wire.META_KEY: change(payload)}
    rq.connection.hset(rq.job(ref.id).key, "meta", json.dumps(meta))
    return ref.id


@pytest.fixture(scope="module")
def ran(shared_rq: Harness) -> Ran:
    """Jobs of every ending, each with a secret in its args, and what sender and worker process logged."""
    rq = shared_rq
    args = {name: script(*steps, token=SECRET, deep=[{"key": SECRET}]) for name, steps in ALL.items()}
    options: Any = {"timeout": 0.5, "max_attempts": 2}
    with all_logged() as logged:
        ids = {name: rq.host.sync.enqueue(found, **options).id for name, found in args.items()}
        ids |= {
            f"{name}, async": rq.host.asynchronous.enqueue(found, **options).id
            for name, found in args.items()
        }
        ids["scheduled"] = rq.host.sync.enqueue(args["ok"], schedule_in=1).id
        ids["given id"] = rq.host.sync.enqueue(args["ok"], job_id=f"{rq.prefix}-given").id
        unknown = rq.host.workers.declare("steps.unknown", StepArgs, queue=rq.queue).enqueue(args["ok"]).id
    ids |= {name: by_hand(rq, change) for name, change in CHANGES.items()}
    process = rq.worker("-v", boot="rq_host.rq_lifecycle_debug")
    rq.wait_all(list(ids.values()))
    rq.wait(unknown, "scheduled")
    return {**ids, "unknown": unknown}, process, logged.getvalue()


def test_the_worker_process_logs_no_args(ran: Ran) -> None:
    ids, process, _ = ran
    assert SECRET not in process.log
    for job_id in ids.values():  # and it did log about each of them
        assert job_id in process.log
    assert "DEBUG" in process.log


def test_the_sender_logs_no_args(ran: Ran) -> None:
    ids, _, text = ran
    assert SECRET not in text
    assert ids["ok"] in text


def test_the_payload_is_in_the_meta_alone(shared_rq: Harness, ran: Ran) -> None:
    for name, job_id in ran[0].items():
        job = shared_rq.job(job_id)
        assert (job.args, job.kwargs) == ([], {}), name
        whole = cast("dict[bytes, bytes]", shared_rq.connection.hgetall(job.key))
        assert [key for key, value in whole.items() if SECRET.encode() in value] == [b"meta"], name
        assert SECRET not in f"{job!r} {job} {job.description} {job.get_call_string()}", name


def test_the_reasons_that_rq_keeps_hold_no_args(shared_rq: Harness, ran: Ran) -> None:
    reasons = {
        name: result.exc_string for name, job_id in ran[0].items() for result in shared_rq.results(job_id)
    }
    assert len([reason for reason in reasons.values() if reason]) > 15
    for name, reason in reasons.items():
        assert SECRET not in (reason or ""), name


@pytest.mark.parametrize("name", ["ok", "error", "snoozed", "cancelled, async"])
def test_the_description_names_worker_job_and_organization(shared_rq: Harness, ran: Ran, name: str) -> None:
    job_id = ran[0][name]
    worker = "steps.async" if "async" in name else "steps.sync"
    assert shared_rq.job(job_id).description == f"{worker} {job_id} organization='org-1'"
