"""Nothing that arq or we print or show holds args: at DEBUG, with secrets in them, however a job ends."""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

import pytest
from adapters.arq.tests.support import Harness
from tests.queues.harness import Process, script
from tests.queues.host import StepArgs
from tests.queues.logs import CHANGES, ENDINGS, SECRET, all_logged

from sigra_workers_arq import wire

pytestmark = pytest.mark.integration
ALL: Final = {**ENDINGS, "ok with a value that can't be stored": ["lambda"]}
Ran = tuple[Mapping[str, str], Process, str]


def by_hand(arq: Harness, change: Any) -> str:
    """One of our jobs, whose payload somebody changed."""
    ref = arq.host.sync.enqueue(script("ok", token=SECRET, schedule=SECRET))
    key = wire.job_key(ref.id)
    whole = arq.adapter.codec.loads(cast("bytes", arq.connection.get(key)))
    whole[wire.PAYLOAD_KEY] = change(json.loads(whole[wire.PAYLOAD_KEY]))
    arq.connection.set(key, arq.adapter.codec.dumps(whole))
    return ref.id


@pytest.fixture(scope="module")
def ran(shared_arq: Harness) -> Ran:
    """Jobs of every ending, each with a secret in its args, and what sender and worker process logged."""
    arq = shared_arq
    args = {name: script(*steps, token=SECRET, deep=[{"key": SECRET}]) for name, steps in ALL.items()}
    options: Any = {"timeout": 0.5, "max_attempts": 2}
    with all_logged() as logged:
        ids = {name: arq.host.sync.enqueue(found, **options).id for name, found in args.items()}
        ids |= {
            f"{name}, async": arq.host.asynchronous.enqueue(found, **options).id
            for name, found in args.items()
        }
        ids["scheduled"] = arq.host.sync.enqueue(args["ok"], schedule_in=1).id
        ids["given id"] = arq.host.sync.enqueue(args["ok"], job_id=f"{arq.prefix}-given").id
        unknown = arq.host.workers.declare("steps.unknown", StepArgs, queue=arq.queue).enqueue(args["ok"]).id
    ids |= {name: by_hand(arq, change) for name, change in CHANGES.items()}
    process = arq.worker("--verbose", boot="arq_host.arq_lifecycle_debug")
    arq.wait_all(list(ids.values()))
    arq.wait(unknown, "waiting")
    killer = arq.host.sync.enqueue(script("kill", token=SECRET)).id
    process.popen.wait(30)
    return {**ids, "unknown": unknown, "process killed": killer}, process, logged.getvalue()


def test_the_worker_process_logs_no_args_and_no_values(ran: Ran) -> None:
    ids, process, _ = ran
    assert SECRET not in process.log
    for job_id in ids.values():  # and it did log about each of them
        assert job_id in process.log
    assert "DEBUG" in process.log
    assert "'done'" not in process.log  # what Ok holds


def test_the_sender_logs_no_args(ran: Ran) -> None:
    assert SECRET not in ran[2]


def test_what_arq_keeps_of_an_end_holds_no_args(shared_arq: Harness, ran: Ran) -> None:
    for name, job_id in ran[0].items():
        if name not in ("unknown", "process killed"):
            result = shared_arq.result(job_id)
            assert result is not None, name
            assert (result.args, result.kwargs) == ((), {}), name
            assert SECRET not in f"{result!r}", name


def test_the_reasons_of_dead_jobs_hold_no_args(shared_arq: Harness, ran: Ran) -> None:
    dead = shared_arq.host.workers.dead(ids=[*ran[0].values()])
    assert len(dead) > 15
    for job in dead:
        assert SECRET not in f"{job!r} {job.reason} {job.traceback}", job.id
