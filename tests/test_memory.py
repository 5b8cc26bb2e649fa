"""The embedded adapter: a real queue in the process."""

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from tests.support import KEYS, MODES, NOW, Host, Mode, after

from sigra_workers import (
    Cancel,
    DuplicateJobError,
    Error,
    InvalidOptionError,
    InvalidSettingsError,
    Ok,
    OrganizationArgs,
    Payload,
    Receipt,
    Snooze,
    TenantArgs,
    Workers,
    current_job,
    hookimpl,
)
from sigra_workers.memory import HeldClock, MemoryAdapter, sigra_adapter


class Queue(Host):
    """A host and its embedded queue, with a clock that is held."""

    def __init__(self, mode: Mode = MODES[0], **options: Any) -> None:
        super().__init__(mode, **options)
        self.adapter = MemoryAdapter.of(self.workers)

    def drain(self, *, scheduled: bool = False) -> Counter[Any]:
        if self.mode.way == "dispatch":
            return self.adapter.drain(scheduled=scheduled)
        return asyncio.run(self.adapter.adrain(scheduled=scheduled))

    def enqueue(self, args: Any = KEYS, **options: Any) -> str:
        return self.handle.enqueue(args, **options).id


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


def ok(*_: Any) -> Ok[None]:
    return Ok()


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


# -- draining ------------------------------------------------------------------------------------------


def test_drain_runs_what_is_due_in_order_and_counts_the_endings(mode: Mode) -> None:
    ran: list[Any] = []
    host = Queue(mode)
    host.worker(after(lambda args: ran.append(args["actor_id"]), Ok()))
    for name in "abc":
        host.enqueue({**KEYS, "actor_id": name})
    assert host.drain() == {"complete": 3}
    assert ran == ["a", "b", "c"]
    assert host.drain() == {}


def test_drain_leaves_what_is_due_later(mode: Mode) -> None:
    host = Queue(mode)
    host.worker(ok)
    host.enqueue(schedule_in=60)
    assert host.drain() == {}
    host.clock.advance(59.9)
    assert host.drain() == {}
    host.clock.advance(0.1)
    assert host.drain() == {"complete": 1}


def test_drain_with_scheduled_moves_the_held_clock_on(mode: Mode) -> None:
    ran: list[float] = []
    host = Queue(mode)
    host.worker(after(lambda args: ran.append(host.clock()), Ok()))
    host.enqueue(schedule_in=3_600)
    host.enqueue(schedule_at=datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=60))
    host.enqueue()
    assert host.drain(scheduled=True) == {"complete": 3}
    assert ran == pytest.approx([NOW, NOW + 60, NOW + 3_600])
    assert ran[1] >= NOW + 60


def test_drain_with_scheduled_waits_by_a_running_clock() -> None:
    workers = Workers()
    ran: list[float] = []
    handle = workers.declare("accounts.close", TenantArgs)
    handle.implement(after(lambda args: ran.append(time.time()), Ok()))
    started = time.time()
    handle.enqueue(KEYS, schedule_in=0.1)
    assert MemoryAdapter.of(workers).drain(scheduled=True) == {"complete": 1}
    assert ran[0] >= started + 0.1


def test_adrain_with_scheduled_needs_a_held_clock() -> None:
    with pytest.raises(InvalidSettingsError, match="needs a HeldClock"):
        asyncio.run(MemoryAdapter.of(Workers()).adrain(scheduled=True))


def test_retries_and_snoozes_run_when_they_are_due(mode: Mode) -> None:
    results: list[Any] = [Error("busy"), Snooze(60), Error("busy"), Ok("done")]
    runs: list[tuple[float, int, int]] = []

    def body(scope: Any, args: Any) -> Any:
        job = current_job()
        assert job is not None
        runs.append((round(host.clock() - NOW, 2), job.attempt, job.snoozes))
        return results.pop(0)

    host = Queue(mode)
    host.worker(body, backoff=[5, 7])
    job_id = host.enqueue()
    assert host.drain(scheduled=True) == {"retry": 2, "snooze": 1, "complete": 1}
    assert runs == [(0, 1, 0), (5, 2, 0), (65, 2, 1), (72, 3, 1)]
    assert host.adapter.results == {job_id: "done"}


def test_drain_gives_up_on_a_job_that_snoozes_for_ever(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigra_workers.memory.MAX_RUNS", 50)
    host = Queue(mode)
    host.worker(lambda scope, args: Snooze(1))
    host.enqueue()
    with pytest.raises(RuntimeError, match="after 50 runs: does a job snooze for ever"):
        host.drain(scheduled=True)
    assert len(host.adapter.payloads) == 1


def test_a_job_may_enqueue_another(mode: Mode) -> None:
    host = Queue(mode)

    def body(scope: Any, args: Any) -> Ok[None]:
        if args["actor_id"] is not None:
            host.enqueue({**KEYS, "actor_id": None})
        return Ok()

    host.worker(body)
    host.enqueue()
    assert host.drain() == {"complete": 2}


def test_aenqueue_queues_as_enqueue_does() -> None:
    host = Queue()
    host.worker(ok)
    ref = asyncio.run(host.handle.aenqueue(KEYS))
    assert [payload.id for payload in host.adapter.payloads] == [ref.id]


def test_payloads_shows_what_waits_soonest_first() -> None:
    host = Queue()
    host.worker(ok)
    later, now, soon = host.enqueue(schedule_in=9), host.enqueue(), host.enqueue(schedule_in=1)
    assert [payload.id for payload in host.adapter.payloads] == [now, soon, later]
    assert host.adapter.payloads[0].args == {**KEYS}


# -- dead jobs and results -------------------------------------------------------------------------------


def test_a_dead_job_is_kept_with_reason_traceback_and_payload(mode: Mode) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        raise ValueError("busy")

    host = Queue(mode)
    host.worker(body, max_attempts=2, backoff=0)
    job_id = host.enqueue()
    assert host.drain() == {"retry": 1, "dead": 1}
    (found,) = host.adapter.dead
    assert (found.id, found.reason) == (job_id, "ValueError: busy")
    assert found.died_at == datetime.fromtimestamp(NOW, UTC)
    assert found.traceback is not None
    assert "in body" in found.traceback
    payload = Payload.parse(found.payload)
    assert (payload.id, payload.attempt, payload.args) == (job_id, 2, {**KEYS})


def test_a_dead_job_is_logged_once_as_an_error_without_args(caplog: pytest.LogCaptureFixture) -> None:
    host = Queue()
    host.worker(lambda scope, args: Cancel(f"no {args['actor_id']}"))
    job_id = host.enqueue({**KEYS, "actor_id": "s3cr3t"})
    host.drain()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        f"job {job_id} of worker 'accounts.close' (organization 'org-1') is dead: JobCancelledError"
    )


def test_results_and_dead_jobs_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigra_workers.memory.KEPT", 3)
    host = Queue()
    host.worker(lambda scope, args: Ok() if args["actor_id"] else Cancel("nobody"))
    done = [host.enqueue() for _ in range(5)]
    gone = [host.enqueue({**KEYS, "actor_id": None}) for _ in range(5)]
    host.drain()
    assert [*host.adapter.results] == done[-3:]
    assert [found.id for found in host.adapter.dead] == gone[-3:]


# -- job ids ---------------------------------------------------------------------------------------------


def test_a_given_id_is_refused_while_such_a_job_is_queued() -> None:
    host = Queue()
    host.worker(ok)
    host.enqueue(job_id="once", schedule_in=60)
    with pytest.raises(DuplicateJobError, match="'once' exists already"):
        host.enqueue(job_id="once")
    assert len(host.adapter.payloads) == 1


def test_a_given_id_is_refused_while_such_a_job_runs() -> None:
    host = Queue()

    def body(scope: Any, args: Any) -> Ok[None]:
        with pytest.raises(DuplicateJobError):
            host.enqueue(job_id="once")
        return Ok()

    host.worker(body)
    host.enqueue(job_id="once")
    assert host.drain() == {"complete": 1}


def test_a_given_id_is_refused_while_such_a_job_is_dead() -> None:
    host = Queue()
    host.worker(lambda scope, args: Cancel("hold"))
    host.enqueue(job_id="once")
    host.drain()
    with pytest.raises(DuplicateJobError):
        host.enqueue(job_id="once")


def test_a_given_id_is_free_again_once_its_job_is_done() -> None:
    host = Queue()
    host.worker(ok)
    for _ in range(2):
        host.enqueue(job_id="once")
        assert host.drain() == {"complete": 1}


def test_duplicates_can_be_skipped_in_bulk() -> None:
    host = Queue()
    host.worker(ok)
    jobs = [host.handle.new(KEYS, job_id=name) for name in ("a", "b", "a")]
    refs = host.workers.enqueue_many(jobs, on_duplicate="skip")
    assert [ref.duplicate for ref in refs] == [False, False, True]
    assert host.drain() == {"complete": 2}


def test_a_job_put_by_hand_counts_for_duplicates_too() -> None:
    host = Queue()
    host.worker(ok)
    host.adapter.put(host.payload(job_id="once").dump())
    with pytest.raises(DuplicateJobError):
        host.enqueue(job_id="once")


# -- payloads made by hand -------------------------------------------------------------------------------


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda whole: whole["args"].pop(key)


def changed(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda whole: whole.update(fields)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no organization_id": (without("organization_id"), "MissingArgError"),
    "no actor_id": (without("actor_id"), "MissingArgError"),
    "no keys": (changed(args={}), "MissingArgError"),
    "null organization": (changed(args={**KEYS, "organization_id": None}), "InvalidArgsError"),
    "bool for an id": (changed(args={**KEYS, "actor_id": True}), "InvalidArgsError"),
    "list for an id": (changed(args={**KEYS, "impersonating_from": []}), "InvalidArgsError"),
    "args that are a list": (changed(args=[]), "InvalidPayloadError"),
    "no args": (lambda whole: whole.pop("args"), "InvalidPayloadError"),
    "text for attempt": (changed(attempt="1"), "InvalidPayloadError"),
    "attempt zero": (changed(attempt=0), "InvalidPayloadError"),
    "infinite timeout": (changed(timeout=1e300), "InvalidPayloadError"),
    "text for backoff": (changed(backoff=["soon"]), "InvalidPayloadError"),
    "a hostile id": (changed(id="../../etc/passwd"), "InvalidPayloadError"),
    "newer version": (changed(v=2), "PayloadVersionError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_payload_is_dead_unrun_and_harms_no_other_job(mode: Mode, name: str) -> None:
    ran: list[Any] = []
    host = Queue(mode)
    host.worker(after(lambda args: ran.append(args["actor_id"]), Ok()), OrganizationArgs)
    breaking, error = BROKEN[name]
    whole = json.loads(host.payload().dump())
    breaking(whole)
    host.adapter.put(json.dumps(whole))
    host.enqueue({**KEYS, "actor_id": "next"})
    assert host.drain() == {"dead": 1, "complete": 1}
    assert ran == ["next"]
    (found,) = host.adapter.dead
    assert json.loads(found.payload) == whole
    assert found.reason.startswith(error)


def test_a_job_put_beyond_its_attempts_is_dead_unrun(mode: Mode) -> None:
    ran: list[object] = []
    host = Queue(mode)
    host.worker(after(ran.append, Ok()))
    host.adapter.put(replace(host.payload(), attempt=21).dump())
    assert host.drain() == {"dead": 1}
    assert (host.adapter.dead[0].reason.split()[0], ran) == ("crashed:", [])


@pytest.mark.parametrize(
    "text", ["", "garbage", "[]", "null", '{"v":1}', '{"v":1,"args":NaN}', "[" * 100_000]
)
def test_garbage_is_dead_and_harms_no_other_job(mode: Mode, text: str) -> None:
    host = Queue(mode)
    host.worker(ok)
    host.adapter.put(text)
    host.enqueue()
    assert host.drain() == {"dead": 1, "complete": 1}
    assert host.adapter.dead[0].payload == text
    assert host.adapter.dead[0].reason.startswith("InvalidPayloadError: the job's payload is broken")


def test_a_number_beyond_json_is_dead_and_harms_no_other_job(mode: Mode) -> None:
    host = Queue(mode)
    host.worker(lambda scope, args: Error("busy"), backoff=0, max_attempts=2)
    host.adapter.put(host.payload().dump().replace('"args":{', '"args":{"amount":1e999,'))
    assert host.drain() == {"dead": 1}


def test_a_job_of_an_unknown_worker_waits_and_dies(mode: Mode) -> None:
    host = Queue(mode)
    host.worker(ok)
    host.adapter.put(replace(host.payload(), worker="accounts.open").dump())
    endings = host.drain(scheduled=True)
    assert endings["dead"] == 1
    assert endings["unknown_worker"] > 10
    assert host.clock() == pytest.approx(NOW + 3_600, abs=1)
    assert host.adapter.dead[0].reason.startswith("UnknownWorkerError: worker 'accounts.open'")


def test_a_job_put_early_waits_for_its_time(mode: Mode) -> None:
    host = Queue(mode)
    host.worker(ok)
    host.adapter.put(host.payload(schedule_in=60).dump())
    assert host.drain() == {"early": 1}
    assert host.drain(scheduled=True) == {"complete": 1}


# -- interrupted -----------------------------------------------------------------------------------------


def test_an_interrupt_counts_as_a_crash_and_the_job_waits_again(mode: Mode) -> None:
    attempts: list[int] = []

    def body(scope: Any, args: Any) -> Ok[str]:
        job = current_job()
        assert job is not None
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise KeyboardInterrupt
        return Ok("done")

    host = Queue(mode)
    host.worker(body)
    job_id = host.enqueue(job_id="once")
    with pytest.raises(KeyboardInterrupt):
        host.drain()
    with pytest.raises(DuplicateJobError):
        host.enqueue(job_id="once")
    assert host.drain() == {"complete": 1}
    assert (attempts, host.adapter.results) == ([1, 2], {job_id: "done"})


def test_a_job_interrupted_on_its_last_attempt_is_dead(mode: Mode) -> None:
    def body(scope: Any, args: Any) -> NoReturn:
        raise KeyboardInterrupt

    host = Queue(mode)
    host.worker(body, max_attempts=2)
    host.enqueue()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            host.drain()
    assert host.drain() == {"dead": 1}
    assert host.adapter.dead[0].reason.startswith("crashed")


def test_a_cancelled_adrain_loses_no_job() -> None:
    host = Queue(MODES[3])
    begun = asyncio.Event()

    async def body(scope: Any, args: Any) -> Ok[None]:
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(60)
        return Ok()

    host.exact(body)
    host.enqueue()

    async def main() -> Counter[Any]:
        task = asyncio.create_task(host.adapter.adrain())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await host.adapter.adrain()

    assert asyncio.run(main()) == {"complete": 1}


# -- the thread ------------------------------------------------------------------------------------------


@pytest.fixture
def running() -> Any:
    """A function that starts the threads of queues; they are stopped after the test."""
    started: list[Queue] = []

    def start(host: Queue) -> None:
        host.adapter.start()
        started.append(host)

    yield start
    for host in started:
        host.adapter.stop()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_thread_runs_jobs_as_they_come_due(running: Any, kind: Any) -> None:
    host = Queue(Mode("dispatch", kind))
    host.worker(lambda scope, args: Ok(args["actor_id"]))
    running(host)
    now, later = host.enqueue(), host.enqueue(schedule_in=60)
    until(lambda: now in host.adapter.results)
    assert later not in host.adapter.results
    host.clock.advance(60)
    until(lambda: later in host.adapter.results)


def test_the_thread_can_be_started_twice_and_stopped_twice() -> None:
    host = Queue()
    host.worker(ok)
    before = threading.active_count()
    for _ in range(2):
        host.adapter.start()
    assert threading.active_count() == before + 1
    for _ in range(2):
        host.adapter.stop()
    assert threading.active_count() == before


def test_the_thread_can_be_started_again(running: Any) -> None:
    host = Queue()
    host.worker(ok)
    host.adapter.start()
    host.adapter.stop()
    host.enqueue()
    running(host)
    until(lambda: host.adapter.results)


def test_stop_waits_for_the_job_that_runs() -> None:
    begun, ended = threading.Event(), threading.Event()

    def body(scope: Any, args: Any) -> Ok[None]:
        begun.set()
        time.sleep(0.05)
        ended.set()
        return Ok()

    host = Queue()
    host.worker(body)
    host.adapter.start()
    host.enqueue()
    host.enqueue()
    assert begun.wait(5)
    host.adapter.stop()
    assert ended.is_set()
    assert len(host.adapter.payloads) == 1


def test_a_job_may_stop_the_thread_that_runs_it() -> None:
    host = Queue()
    host.worker(after(lambda args: host.adapter.stop(), Ok()))
    host.enqueue()
    host.enqueue()
    before = threading.active_count()
    host.adapter.start()
    until(lambda: host.adapter.results and threading.active_count() == before)
    assert len(host.adapter.payloads) == 1


def test_the_thread_survives_what_ends_a_process(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    def body(scope: Any, args: Any) -> Ok[None]:
        if args["actor_id"] is None:
            raise KeyboardInterrupt("s3cr3t")
        return Ok()

    host = Queue()
    host.worker(body, max_attempts=3)
    poison = host.enqueue({**KEYS, "actor_id": None})
    host.enqueue()
    running(host)
    until(lambda: host.adapter.results and host.adapter.dead)
    assert [found.id for found in host.adapter.dead] == [poison]
    assert caplog.text.count(f"job {poison} was interrupted by KeyboardInterrupt") == 3
    assert "s3cr3t" not in caplog.text


def test_closing_the_workers_stops_the_thread() -> None:
    host = Queue()
    host.worker(ok)
    before = threading.active_count()
    with host.workers:
        host.adapter.start()
    assert threading.active_count() == before


# -- settings --------------------------------------------------------------------------------------------


def test_native_options_are_refused() -> None:
    host = Queue()
    host.worker(ok)
    with pytest.raises(InvalidOptionError, match=r"the embedded adapter has none, got \['ttl'\]"):
        host.handle.new(KEYS, native={"ttl": 3})


def test_settings_of_a_server_are_left_alone() -> None:
    clock = HeldClock(5)
    assert MemoryAdapter.of(Workers(settings={"url": "redis://", "clock": clock})).clock is clock


def test_a_clock_that_is_no_function_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="'clock' is not callable"):
        _ = Workers(settings={"clock": 3}).adapter


def test_the_plugin_answers_to_its_own_name_alone() -> None:
    assert sigra_adapter("rq", {}) is None


def test_a_held_clock_starts_at_the_time_of_day_and_stands_still() -> None:
    clock = HeldClock()
    assert clock() == pytest.approx(time.time(), abs=60)
    assert clock() == clock()


def test_each_workers_object_has_an_adapter_of_its_own() -> None:
    assert MemoryAdapter.of(Workers()) is not MemoryAdapter.of(Workers())


@pytest.mark.parametrize("act", ["drain", "adrain", "start"])
def test_an_adapter_bound_to_no_workers_says_so_and_keeps_its_jobs(act: str) -> None:
    host = Host().worker(ok)
    host.handle.enqueue(KEYS)
    adapter = host.workers.adapter
    assert isinstance(adapter, MemoryAdapter)
    with pytest.raises(InvalidSettingsError, match=r"MemoryAdapter.of\(workers\) binds it"):
        asyncio.run(adapter.adrain()) if act == "adrain" else getattr(adapter, act)()
    assert MemoryAdapter.of(host.workers).drain() == {"complete": 1}
    assert host.told.of("finished")["job"].attempt == 1


class Elsewhere:
    """An adapter of another kind."""

    clock = time.time

    def check(self, job: Any) -> None: ...
    def close(self) -> None: ...
    def send(self, jobs: Any, /) -> list[Receipt]:
        raise NotImplementedError

    async def asend(self, jobs: Any, /) -> list[Receipt]:
        raise NotImplementedError

    @hookimpl
    def sigra_adapter(self, name: str) -> "Elsewhere | None":
        return self if name == "elsewhere" else None


def test_memory_adapter_of_workers_with_another_adapter_is_refused() -> None:
    workers = Workers(adapter="elsewhere", plugins=[Elsewhere()])
    with pytest.raises(
        InvalidSettingsError, match="these workers use adapter 'elsewhere', expected 'memory'"
    ):
        MemoryAdapter.of(workers)


def test_clear_forgets_all_jobs_dead_ones_and_results() -> None:
    host = Queue()
    host.worker(lambda scope, args: Ok() if args["actor_id"] else Cancel("nobody"))
    host.enqueue()
    host.enqueue({**KEYS, "actor_id": None})
    host.drain()
    host.enqueue()
    host.adapter.clear()
    assert (host.adapter.payloads, [*host.adapter.dead], host.adapter.results) == ([], [], {})
    assert host.drain() == {}
