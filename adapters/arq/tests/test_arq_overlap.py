"""A job that is started twice: never two runs at once, none after its end, and nothing of it lost."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest
from adapters.arq.tests.support import Harness
from arq.worker import create_worker
from tests.queues.harness import eventually, script

from sigra_workers import Again, Dead, Error, Ok, Result, Snooze
from sigra_workers.store import Claim
from sigra_workers_arq import boot, wire

# arq's own: it closes its pool in a way that redis-py calls old.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:Call to deprecated close")]
ELSEWHERE: Final = "another-host/pid:[1] 1 00000000"
Perform = Callable[[Any, Any], Result[object]]


@dataclass
class Here:
    """arq's worker in this process, run until its queue is empty or what is in it is not due."""

    arq: Harness

    def enqueue(self, perform: Perform, **options: Any) -> str:
        """Send a job that does that."""
        self.arq.host.sync.implement(perform)
        return self.arq.host.sync.enqueue(script(), **options).id

    def run(self, jobs: int = 1, **options: Any) -> None:
        """Start so many jobs, and wait for their ends."""

        async def main() -> None:
            settings = boot(self.arq.host.workers, queue=self.arq.queue, poll_delay=0.01, **options)
            worker = create_worker(settings, burst=True, max_burst_jobs=jobs, handle_signals=False)
            await worker.async_run()
            await worker.close()

        asyncio.run(main())

    def copy(self, job_id: str) -> Callable[[], None]:
        """Take a copy of the job as it lies there now; calling it puts that back, as an outage may."""
        packed = cast("bytes", self.arq.connection.get(wire.job_key(job_id)))

        def put_back() -> None:
            self.arq.connection.set(wire.job_key(job_id), packed)
            self.arq.connection.zadd(self.arq.queue, {job_id: int(time.time() * 1_000)})

        return put_back

    def claim(self, job_id: str, owner: str, seconds: float = 60) -> None:
        """Claim the job in another's name."""
        payload = self.arq.payload(job_id)
        claim = self.arq.adapter.store.begin(payload)
        assert isinstance(claim, Claim)
        self.arq.adapter.store.ended(claim)
        record = {"owner": owner, "until": time.time() + seconds}
        self.arq.connection.hset(f"sigra-workers:arq:run:{job_id}", mapping=record)


@pytest.fixture
def here(arq: Harness) -> Here:
    return Here(arq)


def note(runs: list[int], result: Result[object]) -> Result[object]:
    """One more run, and how it ends."""
    runs.append(1)
    return result


# -- on the real worker --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_running_job_whose_key_is_lost_is_not_started_again(arq: Harness, kind: str) -> None:
    ref = arq.host.handles[kind].enqueue(script("hold:go error:no", "ok"))
    first = arq.worker()
    eventually(lambda: arq.runs(ref.id), "the job to run")
    arq.connection.delete(f"arq:in-progress:{ref.id}")
    time.sleep(0.5)  # in which this process looks ten times
    assert first.log.count(f"→ {ref.id}:") == 1
    second = arq.worker()
    second.logged(f"job {ref.id} is still running in another process: it waits")
    arq.connection.delete(f"arq:in-progress:{ref.id}")
    (arq.folder / "go").touch()
    arq.wait(ref.id, "finished", seconds=60)
    assert arq.turns(ref.id) == [(1, 0), (2, 0)]
    assert "KeyError" not in first.log + second.log


# -- step by step --------------------------------------------------------------------------------------


def test_a_completed_job_that_comes_once_more_is_dropped(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok("done")))
    put_back = here.copy(job_id)
    here.run()
    put_back()
    here.run()
    assert runs == [1]
    assert here.arq.score(job_id) is None
    assert not here.arq.connection.exists(wire.job_key(job_id), wire.retry_key(job_id))
    result = here.arq.result(job_id)
    assert result is not None
    assert result.result == "done"


@pytest.mark.parametrize("result", [Error("no"), Snooze(900)], ids=["retry", "snooze"])
def test_a_copy_of_an_earlier_turn_is_dropped_and_the_later_turn_stays(
    here: Here, result: Result[object]
) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, result), backoff=900)
    put_back = here.copy(job_id)
    here.run()
    later, due = here.copy(job_id), here.arq.score(job_id)
    put_back()
    here.run()
    assert runs == [1]
    later()
    assert due is not None
    here.arq.connection.zadd(here.arq.queue, {job_id: int(due * 1_000)})
    payload = here.arq.payload(job_id)
    assert (payload.attempt, payload.snoozes) == ((2, 0) if isinstance(result, Error) else (1, 1))


def test_dropping_a_copy_leaves_what_was_written_since(here: Here) -> None:
    """The old copy was read, then the job's next turn was written under the same key."""
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok()))
    store, redis = here.arq.adapter.store, here.arq.connection
    old = here.arq.payload(job_id)
    claim = store.begin(old)
    assert isinstance(claim, Claim)
    following = old.again(time.time() + 900, attempt=2)
    commands = here.arq.adapter.codec.commands(following, time.time())
    end = store.end(claim, Again(following, following.due_at or 0, "retry"), time.time(), commands)

    async def main() -> None:
        settings = boot(here.arq.host.workers, queue=here.arq.queue, poll_delay=0.01)
        read = settings["job_deserializer"]

        def read_then_write(packed: bytes) -> Any:
            for command in end:
                redis.eval(*command)
            return read(packed)

        settings["job_deserializer"] = read_then_write
        worker = create_worker(settings, burst=True, max_burst_jobs=1, handle_signals=False)
        await worker.async_run()
        await worker.close()

    asyncio.run(main())
    store.ended(claim)
    assert runs == []
    assert redis.exists(wire.job_key(job_id))
    assert here.arq.payload(job_id).attempt == 2
    assert here.arq.score(job_id) == pytest.approx(following.due_at, abs=0.01)


def test_a_hook_of_the_host_that_reads_other_jobs_leaves_each_run_its_own(here: Here) -> None:
    runs: list[list[str]] = []

    def perform(scope: Any, args: Any) -> Result[object]:
        runs.append(args["steps"])
        return Ok()

    here.arq.host.sync.implement(perform)
    refs = [here.arq.host.sync.enqueue(script(f"ok:{n}")) for n in range(3)]
    seen: list[int] = []
    all_have_seen = asyncio.Barrier(len(refs))  # a job that ends meanwhile is missing where arq looks for it

    async def on_job_start(ctx: dict[Any, Any]) -> None:
        seen.append(len(await ctx["redis"].queued_jobs()))
        await all_have_seen.wait()

    here.run(3, on_job_start=on_job_start)
    assert seen == [3, 3, 3]
    assert sorted(runs) == [["ok:0"], ["ok:1"], ["ok:2"]]
    assert [here.arq.status(ref.id) for ref in refs] == ["finished"] * 3


def test_a_job_that_runs_elsewhere_waits_and_its_own_times_stand(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok()))
    here.claim(job_id, ELSEWHERE, seconds=20)
    here.run()
    assert runs == []
    waits = here.arq.score(job_id)
    assert waits is not None
    assert waits - time.time() == pytest.approx(20, abs=2)
    assert here.arq.payload(job_id).attempt == 1


def test_the_claim_of_a_process_that_died_here_holds_nothing_up(here: Here) -> None:
    runs: list[int] = []
    job_id = here.enqueue(lambda scope, args: note(runs, Ok()))
    token = here.arq.adapter.store.token()
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    here.claim(job_id, token.replace(f" {os.getpid()} ", f" {child} "))
    here.run()
    assert runs == [1]


def test_a_run_that_lost_its_claim_changes_nothing_any_more(here: Here) -> None:
    """Its process stood still for long; meanwhile another took the job over, and sent it again."""
    arq = here.arq
    store, redis = arq.adapter.store, arq.connection

    def perform(scope: Any, args: Any) -> Result[object]:
        job_id = run_id[0]
        key = f"sigra-workers:arq:run:{job_id}"
        redis.hset(key, mapping={"until": 0, "doubted": cast("bytes", redis.hget(key, "owner"))})
        payload = arq.payload(job_id)
        taken = store.begin(payload)
        assert isinstance(taken, Claim)
        following = payload.again(time.time() + 900, attempt=3)
        commands = arq.adapter.codec.commands(following, time.time())
        for command in store.end(
            taken, Again(following, following.due_at or 0, "retry"), time.time(), commands
        ):
            redis.eval(*command)
        store.ended(taken)
        return Error("from the run that stood still")

    run_id: list[str] = []
    run_id.append(here.enqueue(perform, backoff=0))
    here.run()
    assert arq.payload(run_id[0]).attempt == 3
    due = arq.score(run_id[0])
    assert due is not None
    assert due > time.time() + 800


def test_a_dead_job_sent_again_before_its_run_ends_in_arq_is_not_lost(here: Here) -> None:
    """The decision is written, and arq deletes its keys of the job only then."""
    arq, runs = here.arq, list[int]()
    job_id = here.enqueue(lambda scope, args: note(runs, Ok("again")))
    payload = arq.payload(job_id)
    claim = arq.adapter.store.begin(payload)
    assert isinstance(claim, Claim)
    with arq.connection.pipeline() as pipeline:
        for command in arq.adapter.store.end(claim, Dead(payload, "no", None, None), time.time()):
            pipeline.eval(*command)
        pipeline.execute()
    arq.adapter.store.ended(claim)
    arq.host.workers.resend(job_id, by="olga")
    here.run(2)  # what is left of the first run, and the resend
    assert runs == [1]
    assert arq.status(job_id) == "gone"
    result = arq.result(f"{job_id}:1")
    assert result is not None
    assert result.result == "again"
