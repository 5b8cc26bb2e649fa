"""Processes and servers killed while jobs run, each on the real `rq worker` and a real Redis."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.rq.tests.support import URL, Harness, children, harness
from redis import Redis
from rq.job import JobStatus
from rq.queue import Queue
from rq.worker import SimpleWorker
from tests.losses.servers import free_port
from tests.queues.harness import Process, RedisServer, eventually, script

from sigra_workers import Snooze
from sigra_workers_rq import process as rq_process
from sigra_workers_rq import wire

pytestmark = pytest.mark.integration
KEYS: Final = {"organization_id": "o1", "actor_id": "ann", "impersonating_from": "admin"}
TUNED: Final = ("--worker-ttl", "20", "--maintenance-interval", "5", "--job-monitoring-interval", "5")
"""The options that the README gives."""
RECOVERY: Final = 65 + 5 + 10
"""Seconds: RQ gives up a run 60 + 5 after its last heartbeat, looks each 5, and has 10 to spare here."""
KINDS: Final = ("sync", "async")


def run_of(rq: Harness, job_id: str, number: int) -> dict[str, Any]:
    """A run of the job, from 1, as soon as it has begun."""
    return eventually(lambda: rq.runs(job_id)[number - 1 : number], f"run {number} of job {job_id}")[0]


def keys_of(run: dict[str, Any]) -> tuple[Any, Any]:
    return run["organization"], run["actor"]


# -- the work horse ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_whose_work_horse_is_killed_runs_again_at_once(rq: Harness, kind: str) -> None:
    sent: Any = script("hold:never ok", "hold:gate error:no", "ok", **KEYS, token="t")
    ref = rq.host.handles[kind].enqueue(sent)
    worker = rq.worker()
    first = run_of(rq, ref.id, 1)
    os.kill(first["pid"], signal.SIGKILL)
    killed = time.time()
    second = run_of(rq, ref.id, 2)

    assert second["at"] - killed < 5
    assert second["pid"] != first["pid"]
    assert (second["attempt"], second["snoozes"]) == (2, 0)
    job = rq.job(ref.id)
    assert (job.retries_left, rq.payload(ref.id).attempt) == (2, 1)  # the crash is RQ's to count
    assert wire.crashes(job, wire.payload(job)) == 1
    assert rq.payload(ref.id).args == sent

    (rq.folder / "gate").touch()
    assert rq.wait(ref.id) == "finished"
    assert [run["attempt"] for run in rq.runs(ref.id)] == [1, 2, 3]  # the error counted on from the crash
    assert {keys_of(run) for run in rq.runs(ref.id)} == {("o1", "ann")}
    assert {event["actor_id"] for event in rq.audit(ref.id)} == {"admin"}
    assert (rq.job(ref.id).retries_left, rq.payload(ref.id).attempt) == (1, 3)
    assert worker.alive


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_job_that_kills_its_process_each_time_dies_as_crashed(
    rq: Harness, kind: str, max_attempts: int
) -> None:
    ref = rq.host.handles[kind].enqueue(script("kill", **KEYS), max_attempts=max_attempts)
    worker = rq.worker()
    assert rq.wait(ref.id) == "failed"

    assert [run["attempt"] for run in rq.runs(ref.id)] == [*range(1, max_attempts + 1)]
    assert f"job {ref.id!r} of worker 'steps.{kind}' (organization 'o1') is dead: crashed" in rq.error(ref.id)
    assert rq.payload(ref.id).meta["dead"].startswith("crashed")
    assert (rq.job(ref.id).retries_left, rq.payload(ref.id).attempt) == (0, max_attempts)
    assert [result.type.name for result in rq.results(ref.id)] == ["FAILED"]
    assert rq.places(ref.id) == {"failed"}
    assert worker.alive


def test_a_crash_after_a_snooze_keeps_both_counts(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("snooze:1", "kill", "ok", **KEYS))
    rq.worker()
    assert rq.wait(ref.id) == "finished"
    assert [(run["attempt"], run["snoozes"]) for run in rq.runs(ref.id)] == [(1, 0), (1, 1), (2, 1)]


def test_a_requeued_job_whose_work_horse_is_killed_runs_again(rq: Harness) -> None:
    ref = rq.host.sync.enqueue(script("hold:gate cancel:no", "ok", **KEYS))
    (rq.folder / "gate").touch()
    rq.worker()
    assert rq.wait(ref.id) == "failed"
    (rq.folder / "gate").unlink()

    rq.job(ref.id).requeue()
    os.kill(run_of(rq, ref.id, 2)["pid"], signal.SIGKILL)
    assert rq.wait(ref.id, "finished") == "finished"
    assert [run["attempt"] for run in rq.runs(ref.id)] == [1, 1, 2]
    assert (rq.payload(ref.id).resends, rq.job(ref.id).retries_left) == (1, 2)


# -- shutdown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_asked_to_stop_ends_its_job_first(rq: Harness, kind: str) -> None:
    ref = rq.host.handles[kind].enqueue(script("hold:gate ok:done", **KEYS))
    waiting = rq.host.handles[kind].enqueue(script("ok", **KEYS))
    worker = rq.worker()
    run_of(rq, ref.id, 1)
    worker.popen.send_signal(signal.SIGTERM)
    worker.logged("warm shut down requested")
    (rq.folder / "gate").touch()

    assert worker.popen.wait(30) == 0
    assert rq.status(ref.id) == "finished"
    assert rq.job(ref.id).return_value() == "done"
    assert len(rq.runs(ref.id)) == 1
    assert rq.places(waiting.id) == {"queued"}


# -- one transaction -----------------------------------------------------------------------------------


def commands_of(url: str, work: Callable[[], object]) -> list[str]:
    """Every command that reaches that Redis while `work` runs, in order; those of scripts left out."""
    with Redis.from_url(url) as connection, connection.monitor() as monitor:
        work()
        connection.echo("over")
        seen: list[str] = []
        commands: Any = monitor.listen()
        for command in commands:
            if command["command"] == "ECHO over":
                return seen
            if command["client_type"] != "lua":
                seen.append(command["command"])
    raise AssertionError


def transactions(commands: list[str]) -> tuple[list[list[str]], list[str]]:
    """The commands of each MULTI, and those outside of any."""
    inside: list[list[str]] = []
    outside: list[str] = []
    into = outside
    for command in commands:
        if command == "MULTI":
            inside.append([])
            into = inside[-1]
        elif command == "EXEC":
            into = outside
        else:
            into.append(command)
    return inside, outside


def snooze_in_view(rq: Harness, monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], list[str]]:
    """What RQ writes for one run that snoozes."""
    monkeypatch.setattr(rq_process, "_bound", [rq.host.workers])
    rq.host.sync.implement(lambda scope, args: Snooze(60))
    ref = rq.host.sync.enqueue(script(**KEYS), job_id="seen")
    worker = SimpleWorker([rq.rq_queue()], connection=rq.connection, serializer="json")
    found = Queue.dequeue_any([rq.rq_queue()], None, connection=rq.connection, serializer="json")
    assert found is not None
    seen = commands_of(rq.url, lambda: worker.execute_job(*found))
    assert rq.status(ref.id) == "scheduled"
    return transactions(seen)


def test_a_decision_its_counts_and_the_end_of_the_claim_are_one_transaction(
    private_rq: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = snooze_in_view(private_rq, monkeypatch)
    schedule = f"ZADD rq:scheduled:{private_rq.queue} "
    (decided,) = [
        commands for commands in inside if any(command.startswith(schedule) for command in commands)
    ]

    def wrote(*parts: str) -> bool:
        return any(all(part in command for part in parts) for command in decided)

    assert wrote("HSET rq:job:seen status scheduled")
    assert wrote("HSET rq:job:seen ", " retries_left 3", r'\\"snoozes\\":1')
    assert wrote("EVAL", "sigra-workers:rq:run:seen ")
    assert wrote(f"ZREM rq:wip:{private_rq.queue} seen:")
    assert not [command for command in outside if "rq:job:seen status" in command]


def test_rq_alone_would_write_the_status_before_its_transaction(
    private_rq: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoEnd:
        commands = ()

        def __init__(self, job: object) -> None: ...

    monkeypatch.setattr(rq_process, "_End", NoEnd)
    _, outside = snooze_in_view(private_rq, monkeypatch)
    assert "HSET rq:job:seen status scheduled" in outside


# -- what RQ brings back by itself, after about a minute, side by side ---------------------------------


@dataclass
class Recovery:
    """One job through one catastrophe. `seconds` is from the kill to the run that RQ brought back."""

    rq: Harness
    job_id: str
    sent: Any
    seconds: float = 0.0
    log: str = ""
    seen: dict[str, Any] = field(default_factory=dict[str, Any])


def begin(rq: Harness, kind: str, *steps: str) -> tuple[Recovery, Process, dict[str, Any]]:
    """A job that runs, on a worker with the README's options."""
    sent = script(*steps, **KEYS, token="t")
    ref = rq.host.handles[kind].enqueue(sent)
    worker = rq.worker(*TUNED)
    return Recovery(rq, ref.id, sent), worker, run_of(rq, ref.id, 1)


def recovered(found: Recovery, killed: float, number: int = 2) -> None:
    """Wait until RQ has brought the job back."""
    eventually(lambda: len(found.rq.runs(found.job_id)) >= number, "the job to be brought back", RECOVERY)
    found.seconds = found.rq.runs(found.job_id)[number - 1]["at"] - killed


def kill_tree(worker: Process) -> None:
    """kill -9 of a worker and all it has started, as the end of its container."""
    below = children(worker.pid)
    worker.kill()
    for pid in below:
        os.kill(pid, signal.SIGKILL)


def worker_and_horse_killed(rq: Harness, kind: str) -> Recovery:
    """kill -9 of both; a supervisor starts a worker anew."""
    found, worker, _ = begin(rq, kind, "hold:never ok", "hold:gate ok:done")
    kill_tree(worker)
    killed = time.time()
    rq.worker(*TUNED)
    recovered(found, killed)
    found.seen = {
        "retries_left": rq.job(found.job_id).retries_left,
        "attempt": rq.payload(found.job_id).attempt,
    }
    (rq.folder / "gate").touch()
    rq.wait(found.job_id)
    return found


def worker_alone_killed(rq: Harness, kind: str) -> Recovery:
    """kill -9 of the worker, the work horse lives on; RQ gives the job to the next worker all the same."""
    found, worker, first = begin(rq, kind, "hold:gate ok:first", "ok:second")
    worker.kill()
    killed = time.time()
    second = rq.worker(*TUNED)
    second.logged(f"job {found.job_id} is still running", RECOVERY)
    found.seconds = time.time() - killed
    found.seen = {"horse lives": Path(f"/proc/{first['pid']}").exists(), "runs": len(rq.runs(found.job_id))}
    (rq.folder / "gate").touch()
    eventually(lambda: "finished" in rq.places(found.job_id), "the first run to complete")
    second.logged(f"job {found.job_id} completed already")
    rq.wait(found.job_id, "finished")
    return found


def taken_alone(rq: Harness, kind: str) -> Recovery:
    """kill -9 of a worker that has taken the job from the queue, and nothing more yet."""
    sent = script("ok:never", "ok:done", **KEYS, token="t")
    found = Recovery(rq, rq.host.handles[kind].enqueue(sent).id, sent)
    queue = rq.rq_queue()
    assert Queue.lmove(rq.connection, queue.key, None) == (queue.key, found.job_id.encode())
    killed = time.time()
    rq.worker(*TUNED)
    recovered(found, killed, 1)
    rq.wait(found.job_id)
    return found


def redis_killed(rq: Harness, server: RedisServer, *steps: str) -> Recovery:
    """kill -9 of Redis during a run that ends without it: RQ's processes end too, and are started anew."""
    found, worker, first = begin(rq, "sync", *steps)
    server.process.kill()
    killed = time.time()
    (rq.folder / "gate").touch()
    worker.popen.wait(60)
    eventually(lambda: not Path(f"/proc/{first['pid']}").exists(), "the work horse to end", 60)
    server.start()
    found.seen = {"status": rq.status(found.job_id), "exit": worker.popen.returncode, "log": worker.log}
    rq.worker(*TUNED)
    recovered(found, killed)
    rq.wait(found.job_id)
    return found


def redis_restarted(rq: Harness, server: RedisServer) -> Recovery:
    """kill -9 of Redis, at once started anew, during a run that goes on."""
    found, worker, _ = begin(rq, "sync", "hold:gate ok:done", "ok:again")
    server.process.kill()
    server.start()
    (rq.folder / "gate").touch()
    rq.wait(found.job_id)
    found.seen = {"alive": worker.alive}
    return found


SCENARIOS: Final[dict[str, Callable[..., Recovery]]] = {
    "worker and horse, sync": lambda rq, _: worker_and_horse_killed(rq, "sync"),
    "worker and horse, async": lambda rq, _: worker_and_horse_killed(rq, "async"),
    "worker alone": lambda rq, _: worker_alone_killed(rq, "sync"),
    "taken": lambda rq, _: taken_alone(rq, "sync"),
    "redis, completing": lambda rq, server: redis_killed(rq, server, "hold:gate ok:lost", "ok:done"),
    "redis, failing": lambda rq, server: redis_killed(
        rq, server, "hold:gate error:lost", "error:no", "ok:done"
    ),
    "redis, snoozing": lambda rq, server: redis_killed(
        rq, server, "hold:gate snooze:1", "snooze:1", "ok:done"
    ),
    "redis, running": redis_restarted,
}


@pytest.fixture(scope="module")
def recoveries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Recovery]]:
    """Every scenario, side by side."""
    with ExitStack() as stack, ThreadPoolExecutor(len(SCENARIOS)) as threads:
        running: dict[str, Future[Recovery]] = {}
        for name, scenario in SCENARIOS.items():
            folder, server = tmp_path_factory.mktemp("recovery"), None
            if name.startswith("redis"):
                server = RedisServer(free_port(), folder, ("--appendonly", "yes"))
                stack.push(partial(stop, server))
            rq = stack.enter_context(harness(folder, server.url if server else URL))
            running[name] = threads.submit(scenario, rq, server)
        found = {name: future.result() for name, future in running.items()}
        for name, recovery in found.items():
            print(f"{name}: {recovery.seconds:.1f} s")
        yield found


def stop(server: RedisServer, *_: object) -> None:
    server.process.kill()


def slow(function: Any) -> Any:
    """Recovery takes RQ a minute."""
    return pytest.mark.slow(pytest.mark.timeout(240)(function))


@slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_job_whose_worker_and_work_horse_are_killed_runs_again(
    recoveries: dict[str, Recovery], kind: str, record_property: Any
) -> None:
    found = recoveries[f"worker and horse, {kind}"]
    record_property("seconds", found.seconds)
    first, second = found.rq.runs(found.job_id)
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert found.seen == {"retries_left": 2, "attempt": 1}
    assert keys_of(first) == keys_of(second) == ("o1", "ann")
    assert found.rq.payload(found.job_id).args == found.sent
    assert found.rq.job(found.job_id).return_value() == "done"


@slow
def test_a_job_that_was_taken_and_not_begun_runs(recoveries: dict[str, Recovery]) -> None:
    found = recoveries["taken"]
    assert [run["attempt"] for run in found.rq.runs(found.job_id)] == [
        2
    ]  # RQ can't know: it counts as a crash
    assert found.rq.job(found.job_id).return_value() == "done"
    assert found.rq.places(found.job_id) == {"finished"}


@slow
def test_a_run_that_outlives_its_worker_is_the_only_one(recoveries: dict[str, Recovery]) -> None:
    found = recoveries["worker alone"]
    assert found.seen == {"horse lives": True, "runs": 1}
    assert len(found.rq.runs(found.job_id)) == 1
    assert found.rq.job(found.job_id).return_value() == "first"
    assert found.rq.places(found.job_id) == {"finished"}


@slow
@pytest.mark.parametrize("doing", ["completing", "failing", "snoozing"])
def test_what_a_job_decides_while_redis_is_away_is_decided_again(
    recoveries: dict[str, Recovery], doing: str
) -> None:
    found = recoveries[f"redis, {doing}"]
    runs = [(run["attempt"], run["snoozes"]) for run in found.rq.runs(found.job_id)]
    assert found.seen["status"] == JobStatus.STARTED.value
    expected = {
        "completing": [(1, 0), (2, 0)],
        "failing": [(1, 0), (2, 0), (3, 0)],
        "snoozing": [(1, 0), (2, 0), (2, 1)],
    }
    assert runs == expected[doing]
    assert found.rq.payload(found.job_id).args == found.sent
    assert found.rq.job(found.job_id).return_value() == "done"
    assert len({event["event_id"] for event in found.rq.audit(found.job_id)}) == len(runs)


@slow
def test_a_job_runs_on_while_redis_starts_anew(recoveries: dict[str, Recovery]) -> None:
    found = recoveries["redis, running"]
    assert len(found.rq.runs(found.job_id)) == 1
    assert found.rq.job(found.job_id).return_value() == "done"
    assert found.seen == {"alive": True}
