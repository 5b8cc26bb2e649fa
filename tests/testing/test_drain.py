"""`drain` and `adrain`: which jobs run, how the clock moves, and what is counted and raised."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from tests.support import KEYS, NOW, after
from tests.testing.support import Kit, Make

from sigra_workers import (
    Cancel,
    Error,
    InvalidPayloadError,
    InvalidResultError,
    JobFailedError,
    JobTimeoutError,
    Ok,
    Snooze,
    TenantArgs,
    UnknownWorkerError,
    WorkerNotImplementedError,
    current_job,
)
from sigra_workers.memory import MemoryAdapter


class HostError(Exception):
    """An error of the host's own."""


def by_name(scope: Any, args: Any) -> Any:
    """Ends as the job's actor says."""
    match args["actor_id"]:
        case "error":
            return Error("no")
        case "raise":
            raise HostError("no")
        case "snooze":
            return Snooze(60)
        case "cancel":
            return Cancel("hold")
        case "gone":
            raise LookupError("no such account")
        case "none":
            return None
        case _:
            return Ok("done")


NAMES = ("ok", "error", "raise", "snooze", "cancel", "gone", "none")


def enqueue(kit: Kit, *names: str, **options: Any) -> list[str]:
    return [kit.enqueue({**KEYS, "actor_id": name}, **options) for name in names]


def test_each_decision_is_counted(make: Make) -> None:
    kit = make(by_name, cancel_on=[LookupError])
    enqueue(kit, *NAMES)
    assert kit.drain() == {"complete": 1, "retry": 2, "snooze": 1, "cancel": 2, "dead": 1}
    assert kit.drain() == {}


def test_runs_are_kept_with_what_they_failed_of(make: Make) -> None:
    kit = make(by_name, cancel_on=[LookupError])
    enqueue(kit, *NAMES)
    kit.drain()
    found = {str(run.payload and run.payload.args["actor_id"]): run for run in kit.sigra.runs}
    assert [*found] == [*NAMES]
    assert isinstance(found["error"].failure, JobFailedError)
    assert isinstance(found["raise"].failure, HostError)
    assert isinstance(found["none"].failure, InvalidResultError)
    assert isinstance(found["gone"].error and found["gone"].error.__cause__, LookupError)
    assert [found[name].failure for name in ("ok", "snooze", "cancel", "gone")] == [None] * 4


def test_results_and_dead_jobs_are_kept(make: Make) -> None:
    kit = make(by_name)
    done, gone = enqueue(kit, "ok", "cancel")
    kit.drain()
    assert kit.sigra.queue.results == {done: "done"}
    assert [(job.id, job.reason) for job in kit.workers.dead()] == [(gone, "cancelled: hold")]


def test_a_payload_that_can_not_be_read_is_dead(make: Make) -> None:
    kit = make(by_name)
    kit.sigra.queue.put("{}")
    assert kit.drain() == {"dead": 1}
    (run,) = kit.sigra.runs
    assert run.payload is None


# -- scheduled jobs --------------------------------------------------------------------------------------


def test_jobs_that_are_not_due_wait(make: Make) -> None:
    kit = make(by_name)
    kit.enqueue(schedule_in=60)
    assert kit.drain() == {}
    kit.sigra.clock.advance(60)
    assert kit.drain() == {"complete": 1}


def test_with_scheduled_the_clock_moves_on_to_each(make: Make) -> None:
    ran: list[float] = []
    kit = make(after(lambda args: ran.append(kit.clock() - NOW), Ok()))
    kit.enqueue(schedule_in=3_600)
    kit.enqueue(schedule_at=datetime.fromtimestamp(NOW + 60, UTC))
    kit.enqueue()
    assert kit.drain(scheduled=True) == {"complete": 3}
    assert ran == [0, 60, 3_600]


def test_the_clock_never_moves_back(make: Make) -> None:
    kit = make(by_name)
    kit.enqueue(schedule_in=60)
    kit.sigra.clock.advance(100)
    kit.drain(scheduled=True)
    assert kit.clock() == NOW + 100


def test_a_due_time_that_no_sum_of_floats_reaches_is_reached(make: Make) -> None:
    kit = make(by_name)
    for n in range(1, 50):
        kit.enqueue(schedule_in=n / 7)
    assert kit.drain(scheduled=True) == {"complete": 49}


def test_retries_and_snoozes_move_the_clock_on(make: Make) -> None:
    results: list[Any] = [Error("busy"), Snooze(60), HostError("busy"), Ok()]
    runs: list[tuple[float, int, int]] = []

    def body(scope: Any, args: Any) -> Any:
        job = current_job()
        assert job is not None
        runs.append((kit.clock() - NOW, job.attempt, job.snoozes))
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    kit = make(body, backoff=[5, 7])
    kit.enqueue()
    assert kit.drain() == {"retry": 1}
    assert kit.sigra.assert_enqueued(due_in=5).attempt == 2
    assert kit.drain(scheduled=True) == {"snooze": 1, "retry": 1, "complete": 1}
    assert runs == [(0, 1, 0), (5, 2, 0), (65, 2, 1), (72, 3, 1)]


def test_a_job_dies_of_its_last_attempt(make: Make) -> None:
    kit = make(by_name, max_attempts=3)
    enqueue(kit, "raise")
    assert kit.drain(scheduled=True) == {"retry": 2, "dead": 1}
    assert kit.clock() > NOW + 30


def test_a_job_that_snoozes_many_times_is_drained(make: Make) -> None:
    def body(scope: Any, args: Any) -> Any:
        job = current_job()
        return Ok() if job and job.snoozes == 365 else Snooze(86_400)

    kit = make(body)
    kit.enqueue()
    assert kit.drain(scheduled=True) == {"snooze": 365, "complete": 1}


def test_a_job_that_snoozes_for_ever_is_told_and_waits(made: Make) -> None:
    kit = made(lambda scope, args: Snooze(60))
    kit.enqueue()
    with pytest.raises(AssertionError, match="snoozed 1000 times"):
        kit.drain(scheduled=True)
    assert len(kit.waiting) == 1


# -- jobs of jobs ----------------------------------------------------------------------------------------


def countdown(kit: Kit, left: int) -> Any:
    """A body that enqueues one more job so many times."""

    def body(scope: Any, args: Any) -> Ok[None]:
        if args["actor_id"] < left:
            kit.handle.enqueue({**KEYS, "actor_id": args["actor_id"] + 1})
        return Ok()

    return body


def test_jobs_that_jobs_enqueue_run_as_well(make: Make) -> None:
    kit: Kit = make(lambda scope, args: countdown(kit, 3)(scope, args))
    kit.enqueue({**KEYS, "actor_id": 0})
    assert kit.drain() == {"complete": 4}


def test_without_recursion_jobs_that_jobs_enqueue_wait(make: Make) -> None:
    kit: Kit = make(lambda scope, args: countdown(kit, 3)(scope, args))
    for _ in range(2):
        kit.enqueue({**KEYS, "actor_id": 0})
    for left in (1, 2, 3):
        assert kit.drain(recursion=False) == {"complete": 2}
        assert [payload.args["actor_id"] for payload in kit.waiting] == [left, left]
    assert kit.drain(recursion=False, scheduled=True) == {"complete": 2}
    assert kit.drain() == {}


def test_without_recursion_retries_are_still_the_same_jobs(make: Make) -> None:
    kit = make(by_name, backoff=5, max_attempts=3)
    enqueue(kit, "raise", "ok", schedule_in=10)
    kit.sigra.queue.put("{}")
    assert kit.drain(recursion=False, scheduled=True) == {"retry": 2, "complete": 1, "dead": 2}


def test_without_recursion_a_job_that_was_sent_first_but_is_due_last_comes_last(make: Make) -> None:
    ran: list[Any] = []
    kit = make(after(lambda args: ran.append(args["actor_id"]), Ok()))
    for seconds in (3, 1, 2):
        enqueue(kit, str(seconds), schedule_in=seconds)
    kit.drain(recursion=False, scheduled=True)
    assert ran == ["1", "2", "3"]


# -- raising ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("raise", HostError), ("error", JobFailedError), ("none", InvalidResultError)]
)
def test_what_fails_a_run_is_raised_when_asked(make: Make, name: str, kind: type[Exception]) -> None:
    kit = make(by_name)
    enqueue(kit, "ok", name, "ok")
    with pytest.raises(kind):
        kit.drain(raising=True)
    assert len(kit.sigra.runs) == 2
    assert kit.drain() == {"complete": 1}


def test_a_time_out_is_raised_when_asked(make: Make) -> None:
    kit = make(lambda scope, args: [threading.Event().wait(0.02) for _ in range(5)] and Ok(), timeout=0.01)
    kit.enqueue()
    with pytest.raises(JobTimeoutError):
        kit.drain(raising=True)


@pytest.mark.parametrize("name", ["cancel", "gone", "snooze"])
def test_what_is_decided_is_not_raised(make: Make, name: str) -> None:
    kit = make(by_name, cancel_on=[LookupError])
    enqueue(kit, name)
    assert kit.drain(raising=True).total() == 1


def test_a_payload_that_can_not_be_read_is_raised_when_asked(make: Make) -> None:
    kit = make(by_name)
    kit.sigra.queue.put("{}")
    with pytest.raises(InvalidPayloadError):
        kit.drain(raising=True)


def test_a_worker_that_is_only_declared_is_raised_when_asked(make: Make) -> None:
    kit = make(by_name)
    kit.enqueue(handle=kit.workers.declare("reports.build", TenantArgs))
    with pytest.raises(WorkerNotImplementedError, match=r"'reports\.build' is not implemented"):
        kit.drain(raising=True)


def test_a_job_whose_worker_is_only_declared_waits(make: Make) -> None:
    kit = make(by_name)
    kit.enqueue(handle=kit.workers.declare("reports.build", TenantArgs))
    assert kit.drain() == {"unknown_worker": 1}
    assert [payload.worker for payload in kit.waiting] == ["reports.build"]
    endings = kit.drain(scheduled=True)
    assert endings["dead"] == 1
    assert isinstance(kit.sigra.runs[-1].failure, UnknownWorkerError)


# -- threads and interruptions ---------------------------------------------------------------------------


def test_jobs_of_other_threads_are_drained(make: Make) -> None:
    kit = make(by_name)
    threads = [threading.Thread(target=lambda: enqueue_many(kit)) for _ in range(8)]
    for thread in threads:
        thread.start()
    endings = kit.drain()
    for thread in threads:
        thread.join()
    endings += kit.drain()
    assert endings == {"complete": 8 * 25}


def enqueue_many(kit: Kit) -> None:
    kit.workers.enqueue_many(kit.handle.new(KEYS) for _ in range(25))


def test_a_job_that_is_interrupted_waits_again(make: Make) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        raise KeyboardInterrupt

    kit = make(body)
    kit.enqueue()
    with pytest.raises(KeyboardInterrupt):
        kit.drain()
    assert len(kit.waiting) == 1


def test_the_embedded_queue_drains_as_ever(make: Make) -> None:
    kit = make(by_name)
    enqueue(kit, "ok", "cancel")
    assert MemoryAdapter.of(kit.workers).drain() == {"complete": 1, "dead": 1}
    assert [run.ending for run in kit.sigra.runs] == ["complete", "cancel"]


def test_clearing_the_queue_forgets_its_runs(make: Make) -> None:
    kit = make(by_name)
    enqueue(kit, "ok", "snooze")
    kit.drain()
    kit.sigra.queue.clear()
    assert (kit.sigra.runs, kit.waiting) == ([], [])


def test_two_drains_at_once_run_each_job_once(made: Make) -> None:
    ran: list[Any] = []

    async def perform(scope: Any, args: Any) -> Ok[None]:
        ran.append(args["actor_id"])
        await asyncio.sleep(0)
        return Ok()

    kit = made(lambda scope, args: Ok())
    with kit.workers.using(kit.sigra.queue):
        kit.handle.implementation = None
        kit.handle.implement(perform)
        enqueue(kit, *map(str, range(20)))

        async def main() -> Any:
            return await asyncio.gather(*(kit.sigra.adrain() for _ in range(4)))

        found = asyncio.run(main())
    assert sum(endings.total() for endings in found) == 20
    assert sorted(ran) == sorted(map(str, range(20)))
