"""`run_inline` and `manual`: jobs that run as they are sent, from wherever they are sent."""

import asyncio
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest
from tests.support import KEYS, after, of_kind
from tests.testing.support import WAYS, Kit, Make, Way

from sigra_workers import (
    Cancel,
    DuplicateJobError,
    Error,
    JobFailedError,
    JobInfo,
    Ok,
    Snooze,
    TenantArgs,
    WorkerNotImplementedError,
    current_job,
)

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class HostError(Exception):
    """An error of the host's own."""


def endings(kit: Kit) -> list[str]:
    return [run.ending for run in kit.sigra.runs]


def test_a_job_runs_as_it_is_sent(make: Make) -> None:
    kit = make(lambda scope, args: Ok("done"))
    with kit.sigra.run_inline():
        job_id = kit.enqueue()
        assert kit.sigra.queue.results == {job_id: "done"}
        assert kit.waiting == []


def test_behind_the_block_jobs_wait_again(make: Make) -> None:
    kit = make(lambda scope, args: Ok())
    with pytest.raises(HostError), kit.sigra.run_inline():
        raise HostError
    kit.enqueue()
    assert len(kit.waiting) == 1


def test_jobs_that_waited_before_still_wait(make: Make) -> None:
    kit = make(lambda scope, args: Ok())
    first = kit.enqueue()
    with kit.sigra.run_inline():
        kit.enqueue()
        assert [payload.id for payload in kit.waiting] == [first]


def test_a_bulk_runs_in_order(make: Make) -> None:
    ran: list[Any] = []
    kit = make(after(lambda args: ran.append(args["actor_id"]), Ok()))
    jobs = [kit.handle.new({**KEYS, "actor_id": str(n)}) for n in range(700)]
    with kit.sigra.run_inline():
        kit.call(kit.workers.enqueue_many, kit.workers.aenqueue_many, jobs)
    assert ran == [str(n) for n in range(700)]


def test_blocks_nest(make: Make) -> None:
    kit = make(lambda scope, args: Error("no"))
    with kit.sigra.run_inline():
        with kit.sigra.manual():
            kit.enqueue()
            with kit.sigra.run_inline(raising=False):
                kit.enqueue()
            kit.enqueue()
        with pytest.raises(JobFailedError):
            kit.enqueue()
    assert (len(kit.waiting), endings(kit)) == (4, ["retry", "retry"])


def test_scheduled_jobs_retries_and_snoozes_wait(make: Make) -> None:
    def body(scope: Any, args: Any) -> Any:
        return Snooze(60) if args["actor_id"] == "ann" else Error("no")

    kit = make(body, backoff=0)
    with kit.sigra.run_inline(raising=False):
        kit.enqueue(schedule_in=60)
        kit.enqueue()
        kit.enqueue({**KEYS, "actor_id": "bob"})
    assert endings(kit) == ["snooze", "retry"]
    assert len(kit.waiting) == 3


def test_a_job_that_is_there_already_is_refused_and_not_run(make: Make) -> None:
    kit = make(lambda scope, args: Ok())
    kit.enqueue(job_id="j1", schedule_in=60)
    with kit.sigra.run_inline(), pytest.raises(DuplicateJobError):
        kit.enqueue(job_id="j1")
    assert (endings(kit), len(kit.waiting)) == ([], 1)


# -- what fails ------------------------------------------------------------------------------------------


def test_what_fails_a_job_is_raised_to_its_sender(make: Make) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        raise HostError("no")

    kit = make(body)
    with kit.sigra.run_inline(), pytest.raises(HostError, match="no"):
        kit.enqueue()
    assert kit.sigra.assert_enqueued(kit.handle).attempt == 2


def test_without_raising_it_is_kept(make: Make) -> None:
    kit = make(lambda scope, args: None)
    with kit.sigra.run_inline(raising=False):
        kit.enqueue()
    assert endings(kit) == ["dead"]


@pytest.mark.parametrize("result", [Cancel("hold"), Snooze(60)], ids=repr)
def test_what_is_decided_is_not_raised(make: Make, result: Any) -> None:
    kit = make(lambda scope, args: result)
    with kit.sigra.run_inline():
        kit.enqueue()
    assert len(kit.sigra.runs) == 1


def test_a_worker_that_is_only_declared_is_told(make: Make) -> None:
    kit = make(lambda scope, args: Ok())
    handle = kit.workers.declare("reports.build", TenantArgs)
    with kit.sigra.run_inline(), pytest.raises(WorkerNotImplementedError):
        kit.enqueue(handle=handle)
    assert [payload.worker for payload in kit.waiting] == ["reports.build"]


def test_jobs_behind_one_that_fails_wait(make: Make) -> None:
    kit = make(lambda scope, args: None if args["actor_id"] == "b" else Ok())
    jobs = [kit.handle.new({**KEYS, "actor_id": name}) for name in "abc"]
    with kit.sigra.run_inline(), pytest.raises(TypeError):
        kit.workers.enqueue_many(jobs)
    assert (endings(kit), len(kit.waiting)) == (["complete", "dead"], 1)


# -- jobs of jobs ----------------------------------------------------------------------------------------


SENDERS = [*WAYS, *(way for way in WAYS if way.kind == "async def")]
"""The latter send with the async twin."""


@pytest.fixture(params=enumerate(SENDERS), ids=lambda param: f"{'-'.join(param[1])}-{param[0]}")
def chain(request: pytest.FixtureRequest) -> Iterator[tuple[Kit, list[str]]]:
    """A host whose job sends two more in the middle; notes what happens."""
    number, way = request.param
    steps: list[str] = []

    def around(job: JobInfo, scope: Any, args: Any) -> Generator[None]:
        token = TENANT.set(str(args["organization_id"]))
        steps.append(f"enter {args['actor_id']}")
        yield
        steps.append(f"leave {args['actor_id']}")
        TENANT.reset(token)

    async def aperform(scope: Any, args: Any) -> Ok[None]:
        if args["actor_id"] == "parent":
            for name in ("one", "two"):
                await kit.handle.aenqueue({**KEYS, "actor_id": name})
        steps.append(f"did {args['actor_id']}")
        return Ok()

    def perform(scope: Any, args: Any) -> Ok[None]:
        if args["actor_id"] == "parent":
            for name in ("one", "two"):
                kit.handle.enqueue({**KEYS, "actor_id": name})
        steps.append(f"did {args['actor_id']}")
        return Ok()

    with ExitStack() as stack:
        kit = Kit(stack, way)
        kit.exact(of_kind(way.kind, perform) if number < len(WAYS) else aperform)
        kit.workers.around(around)
        yield kit, steps


ONE_AFTER_THE_OTHER = [
    f"{step} {name}" for name in ("parent", "one", "two") for step in ("enter", "did", "leave")
]


def test_jobs_that_a_job_sends_run_behind_it(chain: tuple[Kit, list[str]]) -> None:
    kit, steps = chain
    with kit.sigra.run_inline():
        kit.enqueue({**KEYS, "actor_id": "parent"})
    assert steps == ONE_AFTER_THE_OTHER
    assert kit.waiting == []


def test_jobs_that_a_performed_job_sends_run_behind_it(chain: tuple[Kit, list[str]]) -> None:
    kit, steps = chain
    with kit.sigra.run_inline():
        assert kit.perform({**KEYS, "actor_id": "parent"}) == Ok()
    assert steps == ONE_AFTER_THE_OTHER


def test_jobs_that_a_performed_payload_sends_run_behind_it(chain: tuple[Kit, list[str]]) -> None:
    kit, steps = chain
    with kit.sigra.run_inline():
        kit.perform_payload(kit.sigra.payload(kit.handle, {**KEYS, "actor_id": "parent"}))
    assert steps == ONE_AFTER_THE_OTHER


def test_jobs_that_a_drained_job_sends_run_behind_it(chain: tuple[Kit, list[str]]) -> None:
    kit, steps = chain
    kit.enqueue({**KEYS, "actor_id": "parent"})
    with kit.sigra.run_inline():
        assert kit.drain() == {"complete": 3}
    assert steps == ONE_AFTER_THE_OTHER


def test_jobs_that_a_performed_job_sends_wait_where_nothing_runs_inline(chain: Any) -> None:
    kit, steps = chain
    kit.perform({**KEYS, "actor_id": "parent"})
    assert steps == ONE_AFTER_THE_OTHER[:3]
    assert [payload.args["actor_id"] for payload in kit.waiting] == ["two", "one"]


def test_jobs_that_send_themselves_for_ever_are_told(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigra_workers.testing.runs.MAX_RUNS", 50)
    kit: Kit = made(lambda scope, args: Ok(kit.handle.enqueue(KEYS).id))
    with kit.sigra.run_inline(), pytest.raises(AssertionError, match="does it enqueue itself for ever"):
        kit.enqueue()
    assert len(kit.sigra.runs) == 50


def test_a_job_that_turns_inline_off_leaves_its_jobs_waiting(made: Make) -> None:
    def body(scope: Any, args: Any) -> Ok[None]:
        kit.handle.enqueue(KEYS)
        kit.sigra.queue.inline = None
        return Ok()

    kit = made(body)
    with kit.sigra.run_inline():
        kit.enqueue()
    assert (endings(kit), len(kit.waiting)) == (["complete"], 1)


def test_a_job_of_other_workers_waits_while_one_runs(made: Make) -> None:
    other = made(lambda scope, args: Ok())
    kit = made(lambda scope, args: Ok(other.handle.enqueue(KEYS).id))
    with kit.sigra.run_inline(), other.sigra.run_inline():
        kit.enqueue()
        assert len(other.waiting) == 1
        other.enqueue()
        assert len(other.sigra.runs) == 1


# -- contexts, loops, threads ----------------------------------------------------------------------------


def test_a_job_sees_nothing_of_the_senders_context(make: Make) -> None:
    seen: list[Any] = []
    kit = make(after(lambda args: seen.append((TENANT.get(), current_job() is not None)), Ok()))

    def send() -> None:
        token = TENANT.set("the request's")
        kit.enqueue()
        assert TENANT.get() == "the request's"
        TENANT.reset(token)

    with kit.sigra.run_inline():
        send()
    token = TENANT.set("the test's")
    with kit.sigra.run_inline():
        send()
    TENANT.reset(token)
    assert seen == [("nobody", True), ("the test's", True)]


def test_a_def_worker_finds_no_running_loop_wherever_it_is_sent(make: Make) -> None:
    async def inner() -> str:
        return "done"

    kit = make(lambda scope, args: Ok())
    handle = kit.workers.declare("loops", TenantArgs)
    handle.implement(lambda scope, args: Ok(asyncio.run(inner())))
    with kit.sigra.run_inline():
        job_id = kit.enqueue(handle=handle)
    assert kit.sigra.queue.results[job_id] == "done"


def test_an_async_sender_has_its_job_on_its_own_loop() -> None:
    loops: list[Any] = []

    async def perform(scope: Any, args: Any) -> Ok[None]:
        loops.append(asyncio.get_running_loop())
        return Ok()

    async def main(kit: Kit) -> bool:
        with kit.sigra.run_inline():
            await kit.handle.aenqueue(KEYS)
        return loops == [asyncio.get_running_loop()]

    with ExitStack() as stack:
        kit = Kit(stack, Way("awaited", "async def"))
        kit.exact(perform)
        assert asyncio.run(main(kit))


def test_an_async_sender_that_is_cancelled_leaves_its_job_waiting() -> None:
    async def perform(scope: Any, args: Any) -> Ok[None]:
        await asyncio.sleep(60)
        return Ok()

    async def main(kit: Kit) -> None:
        with kit.sigra.run_inline(), pytest.raises(TimeoutError):
            await asyncio.wait_for(kit.handle.aenqueue(KEYS), 0.05)

    with ExitStack() as stack:
        kit = Kit(stack, Way("awaited", "async def"))
        kit.exact(perform)
        asyncio.run(main(kit))
        assert len(kit.waiting) == 1


def test_senders_in_many_threads_have_their_own_jobs_done(make: Make) -> None:
    missing: list[str] = []
    kit = make(lambda scope, args: Ok(args["actor_id"]))

    def send() -> None:
        for _ in range(20):
            job_id = kit.handle.enqueue(KEYS).id
            if job_id not in kit.sigra.queue.results:
                missing.append(job_id)

    with kit.sigra.run_inline():
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert missing == []
    assert len(kit.sigra.runs) == 160


def test_hooks_are_told_of_all_of_it(make: Make) -> None:
    kit = make(lambda scope, args: Ok())
    with kit.sigra.run_inline():
        kit.enqueue()
    assert sorted(kit.told.names) == ["enqueued", "finished", "started"]
