"""Dead jobs of arq, which keeps none itself: operators at once, and the command line."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from adapters.arq.tests.support import Harness
from tests.queues.harness import eventually, script

from arq_host.jobs import make_host
from sigra_workers import NotDeadError

pytestmark = pytest.mark.integration
COMMAND = str(Path(sys.executable).with_name("sigra-workers"))


def die(arq: Harness) -> str:
    """The id of a job that died, as it will again."""
    ref = arq.host.sync.enqueue(script("cancel:no"))
    worker = arq.worker()
    arq.wait(ref.id, "failed")
    worker.popen.terminate()
    worker.popen.wait(30)
    return ref.id


def test_many_operators_send_a_job_again_once(arq: Harness) -> None:
    job_id = die(arq)
    (job,) = arq.host.workers.dead(ids=[job_id])

    def resend(number: int) -> bool:
        host = make_host({"url": arq.url}, arq.queue)
        try:
            host.workers.resend(job, by=f"operator {number}")
        except NotDeadError:
            return False
        finally:
            host.workers.close()
        return True

    with ThreadPoolExecutor(8) as operators:
        assert sum(operators.map(resend, range(8))) == 1
    arq.worker()
    arq.wait(f"{job_id}:1", "failed")
    assert arq.turns(job_id) == [(1, 0), (1, 0)]


def test_the_command_line_lists_sends_again_and_purges(arq: Harness) -> None:
    job_id = die(arq)

    def dead(action: str, *words: str) -> str:
        process = arq.run([COMMAND, "dead", action, "arq_host.jobs:workers", *words])
        assert process.popen.wait(30) == 0, process.log
        return process.log

    assert job_id in [job["id"] for job in json.loads(dead("list", "--json", "--limit", "100"))]
    assert "cancelled: no" in dead("show", job_id)
    assert "1 dead job sent again" in dead("resend", job_id, "--by", "ann")
    arq.worker()
    eventually(lambda: arq.host.workers.dead(ids=[job_id]), "its second death")
    assert "1 dead job purged" in dead("purge", job_id)
    assert arq.host.workers.dead(ids=[job_id]) == []
