"""What processes remember together in Redis: on a real one, from threads, processes and an event loop."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from sigra_workers import Again, Complete, Dead, DeadFilters, Outcome, Payload, Resend
from sigra_workers import store as module
from sigra_workers.store import Busy, Claim, Stale, Store, turn

pytestmark = pytest.mark.integration
URL = os.environ.get("SIGRA_TEST_STORE_URL", "redis://127.0.0.1:6379/13")
NOW = 1_800_000_000.25
DONE = Complete()


def connect(**options: Any) -> Any:
    """A client of a Redis that answers; untyped, as its answers are unions."""
    client: Any = Redis.from_url(URL, **options)
    try:
        client.ping()
    except RedisError as error:
        pytest.fail(f"no Redis at {URL} ({error}): run `make servers`, or set SIGRA_TEST_STORE_URL")
    return client


@dataclass
class Shared:
    """A store under a prefix of its own, and a look at its keys."""

    client: Any
    prefix: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.client, self.prefix)

    def run(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Commands, in one transaction."""
        with self.client.pipeline() as pipeline:
            for command in commands:
                pipeline.eval(*command)
            return list(pipeline.execute())

    def end(self, claim: Any, outcome: Outcome = DONE, *commands: tuple[Any, ...]) -> bool:
        """End a run; whether that counted."""
        answer = self.run(*self.store.end(claim, outcome, NOW, commands))[0]
        self.store.ended(claim)
        return bool(answer)

    def begin(self, job: Payload) -> Claim:
        found = self.store.begin(job)
        assert isinstance(found, Claim), found
        return found

    def key(self, *parts: str) -> str:
        return ":".join((self.prefix, *parts))

    def record(self, job: Payload) -> dict[str, str]:
        found = self.client.hgetall(self.key("run", job.id))
        return {module._text(name): module._text(value) for name, value in found.items()}

    def owned_by(self, job: Payload, owner: str, seconds: float = 60) -> None:
        """Another process takes the claim; where it lapsed, it was waited for in vain."""
        fields = {"owner": owner, "until": time.time() + seconds, "doubted": owner if seconds < 0 else ""}
        self.client.hset(self.key("run", job.id), mapping=fields)

    def get(self, name: str) -> str | None:
        found = self.client.get(self.key(name))
        return None if found is None else module._text(found)


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    with connect(decode_responses=request.param) as client:
        found = Shared(client)
        yield found
        for key in client.scan_iter(f"{found.prefix}*", count=1000):
            client.delete(key)


def job(**changes: Any) -> Payload:
    whole: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "worker": "accounts.close",
        "queue": "lifecycle",
        "args_or_json": {"organization_id": "org-1", "actor_id": "ann"},
        "max_attempts": 3,
        "enqueued_at": NOW,
    }
    return Payload(**{**whole, **changes})


def retried(payload: Payload) -> Again:
    return Again(payload.again(NOW, attempt=payload.attempt + 1), NOW, "retry")


def died(payload: Payload, reason: str = "no") -> Dead:
    return Dead(payload, reason, "Traceback: no", None)


def gone_pid() -> int:
    """The id of a process that is dead."""
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        popen.wait()
    return popen.pid


# -- one run at a time ---------------------------------------------------------------------------------


def test_one_process_alone_runs_a_job(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    assert (claim.job_id, claim.crashes) == (payload.id, 0)
    busy = shared.store.begin(payload)
    assert isinstance(busy, Busy)
    assert 28 < busy.seconds < 30.1


@pytest.mark.parametrize("outcome", ["complete", "dead"])
def test_a_job_that_ended_runs_no_copy_of_it(shared: Shared, outcome: str) -> None:
    payload = job()
    assert shared.end(shared.begin(payload), DONE if outcome == "complete" else died(payload))
    for copy in (payload, payload.again(None, attempt=3, snoozes=10**9), payload.again(None, attempt=10**9)):
        assert shared.store.begin(copy) == Stale()
    assert 3_500 < shared.client.ttl(shared.key("run", payload.id)) <= 3_600


def test_a_job_that_went_on_runs_no_copy_of_an_earlier_turn(shared: Shared) -> None:
    payload = job()
    again = retried(payload)
    assert shared.end(shared.begin(payload), again)
    assert shared.store.begin(payload) == Stale()
    assert shared.begin(again.payload).crashes == 0
    assert 6 * 86_400 < shared.client.ttl(shared.key("run", payload.id)) <= 7 * 86_400


def test_a_turn_may_follow_itself_as_for_a_job_that_waits(shared: Shared) -> None:
    payload = job()
    assert shared.end(shared.begin(payload), Again(payload.again(NOW + 5), NOW + 5, "early"))
    assert shared.begin(payload).crashes == 0


def test_a_job_that_is_sent_again_runs(shared: Shared) -> None:
    payload = job()
    shared.end(shared.begin(payload), died(payload))
    assert isinstance(shared.store.begin(payload.again(None, resends=1)), Claim)


def test_the_commands_of_an_ending_are_left_out_where_the_job_went_on_without_it(shared: Shared) -> None:
    payload = job()
    claim, count = shared.begin(payload), ("INCR", shared.key("count"))
    shared.owned_by(payload, "")
    shared.begin(retried(payload).payload)
    assert not shared.end(claim, retried(payload), count)
    assert not shared.end(claim, died(payload), count)
    assert shared.get("count") is None
    assert [*shared.store.dead_jobs({})] == []


def test_what_is_not_in_a_set_any_more_leaves_out_the_commands_behind_it(shared: Shared) -> None:
    there, taken, count = shared.key("there"), shared.key("taken"), shared.key("count")
    for members, counted in (("one", None), ("two", "2")):
        shared.client.sadd(there, "two")
        payload = job()
        commands = [("INCR", taken), ("SREM", there, members), ("INCRBY", count, 2)]
        assert shared.end(shared.begin(payload), DONE, *commands)
        assert shared.record(payload)["owner"] == ""
        assert shared.get("count") == counted
    assert shared.get("taken") == "2"


def test_an_ending_whose_answer_was_lost_is_repeated_with_the_same_answer_and_no_effect(
    shared: Shared,
) -> None:
    payload, count = job(), ("INCR", shared.key("count"))
    claim, again = shared.begin(payload), retried(payload)
    assert shared.end(claim, again, count)
    shared.begin(again.payload)
    before = shared.record(payload)
    assert shared.end(claim, again, count)
    assert shared.record(payload) == before
    assert shared.get("count") == "1"


@pytest.mark.parametrize("outcome", ["again", "dead"])
def test_a_run_that_lost_its_claim_leaves_the_decision_to_the_run_that_has_it(
    shared: Shared, outcome: str
) -> None:
    payload = job()
    claim = shared.begin(payload)
    shared.owned_by(payload, "elsewhere 1 x")
    assert not shared.end(claim, retried(payload) if outcome == "again" else died(payload))
    assert shared.record(payload)["owner"] == "elsewhere 1 x"
    assert [*shared.store.dead_jobs({})] == []


def test_a_run_that_lost_its_claim_and_is_done_settles_the_job_all_the_same(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    shared.owned_by(payload, "elsewhere 1 x", seconds=-1)
    other = shared.begin(payload)
    assert shared.end(claim)
    assert not shared.end(other, retried(payload))
    assert shared.store.begin(payload) == Stale()


def test_a_late_end_of_a_dead_job_leaves_the_one_that_was_sent_again(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    again = payload.again(None, resends=1)
    shared.owned_by(payload, "")
    shared.begin(again)
    assert not shared.end(claim)
    assert isinstance(shared.store.begin(again), Busy)


def test_an_ending_is_noted_where_the_record_is_gone(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    shared.client.delete(shared.key("run", payload.id))
    assert shared.end(claim)
    assert shared.store.begin(payload) == Stale()


# -- crashes -------------------------------------------------------------------------------------------


def test_the_claim_of_a_dead_process_is_taken_over_at_once_and_counted(shared: Shared) -> None:
    payload = job()
    for crashes in range(3):
        assert shared.begin(payload).crashes == crashes
        shared.owned_by(payload, f"{module._host()} {gone_pid()} x")


def test_a_process_that_is_killed_frees_its_claim(shared: Shared) -> None:
    payload = job()
    script = (
        "import sys, time; from redis import Redis; from sigra_workers import Payload;"
        "from sigra_workers.store import Store;"
        f"store = Store(Redis.from_url({URL!r}), {shared.prefix!r});"
        f"print(store.begin(Payload.parse({payload.dump()!r})), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().startswith("Claim(")
        assert isinstance(shared.store.begin(payload), Busy)
        other.send_signal(signal.SIGKILL)
    assert shared.begin(payload).crashes == 1


def test_the_claim_of_another_host_holds_until_it_lapses(shared: Shared) -> None:
    payload = job()
    shared.begin(payload)
    shared.owned_by(payload, f"elsewhere/pid:[1] {gone_pid()} x")
    assert isinstance(shared.store.begin(payload), Busy)
    shared.owned_by(payload, "elsewhere/pid:[1] 1 x", seconds=-0.001)
    assert shared.begin(payload).crashes == 1


def test_a_run_that_is_over_leaves_no_record_but_that_of_the_run_that_has_its_claim(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    shared.owned_by(payload, "elsewhere 1 x")
    shared.run(shared.store.forgotten(claim))
    assert shared.record(payload)["owner"] == "elsewhere 1 x"
    shared.owned_by(payload, claim.token)
    shared.run(shared.store.forgotten(claim))
    assert shared.record(payload) == {}


def test_a_run_that_was_stopped_lets_the_next_begin_at_once_and_counts(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    assert shared.run(shared.store.released(claim)) == [0]  # HSET: no new field
    assert shared.begin(payload).crashes == 1
    shared.run(shared.store.released(claim))  # of a claim that it lost
    assert isinstance(shared.store.begin(payload), Busy)


def test_the_next_turn_counts_crashes_from_none(shared: Shared) -> None:
    payload = job()
    shared.run(shared.store.released(shared.begin(payload)))
    again = retried(payload)
    shared.end(shared.begin(payload), again)
    assert shared.begin(again.payload).crashes == 0


def test_a_process_of_another_user_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not module._is_dead(f"{module._host()} {os.getpid()} x")


def test_a_process_that_died_and_was_not_asked_after_counts_as_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        end = time.monotonic() + 30
        while not module._is_dead(f"{module._host()} {popen.pid} x"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert popen.returncode is None
    assert not module._is_zombie(str(popen.pid))  # it is there no more
    assert not module._is_zombie(str(os.getpid()))


def test_a_host_of_the_same_name_is_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "boot_id").write_text("another\n")
    owner = f"{module._host()} {gone_pid()} x"
    monkeypatch.setattr(module, "_BOOT_ID", str(tmp_path / "boot_id"))
    monkeypatch.setattr(module, "_host", module._host.__wrapped__)  # not as it was found out before
    assert not module._is_dead(owner)
    assert module._is_dead(f"{module._host()} {gone_pid()} x")


def test_a_system_without_process_namespaces_still_names_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", missing)
    monkeypatch.setattr(module, "_host", module._host.__wrapped__)
    assert module._host() == f"{socket.gethostname()}/-"
    assert module._is_dead(f"{module._host()} {gone_pid()} x")


# -- an answer that is lost ----------------------------------------------------------------------------


class Losing:
    """A client that loses the answer to its next request."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.losses = 1

    def eval(self, *command: Any) -> Any:
        answer = self.client.eval(*command)
        self._lose()
        return answer

    def _lose(self) -> None:
        self.losses -= 1
        if self.losses >= 0:
            raise RedisConnectionError("lost")


class AsyncLosing(Losing):
    async def eval(self, *command: Any) -> Any:
        answer = await self.client.eval(*command)
        self._lose()
        return answer


def test_a_claim_whose_answer_was_lost_is_this_ones_all_the_same(shared: Shared) -> None:
    payload = job()
    found = Store(Losing(shared.client), shared.prefix).begin(payload)
    assert isinstance(found, Claim)
    assert found.crashes == 0
    assert shared.record(payload)["starts"] == "1"


def test_a_caller_that_asks_again_by_its_token_has_the_same_claim(shared: Shared) -> None:
    payload, token = job(), Store.token()
    assert shared.store.begin(payload, token) == shared.store.begin(payload, token)
    assert shared.record(payload)["starts"] == "1"


def test_a_claim_is_made_through_the_client_of_who_asks_for_more_on_the_way(shared: Shared) -> None:
    asked: list[int] = []

    class Asking:
        def eval(self, *command: Any) -> Any:
            asked.append(1)
            return shared.client.eval(*command)

    first = job()
    elsewhere = Store(Redis(port=1), shared.prefix)
    assert isinstance(elsewhere.begin(first, client=Asking()), Claim)
    assert asked == [1]
    assert isinstance(shared.store.begin(first), Busy)


def test_a_redis_that_stays_away_is_told(shared: Shared) -> None:
    client = Losing(shared.client)
    client.losses = 2
    with pytest.raises(RedisConnectionError):
        Store(client, shared.prefix).begin(job())


def test_async_clients_claim_too(shared: Shared) -> None:
    payload = job()

    async def look() -> list[object]:
        async with AsyncRedis.from_url(URL) as client:
            first = await shared.store.abegin(AsyncLosing(client), payload)
            assert isinstance(first, Claim)
            second = await shared.store.abegin(client, payload)
            async with client.pipeline() as pipeline:
                for command in shared.store.end(first, DONE, NOW):
                    pipeline.eval(*command)
                await pipeline.execute()
            return [second, await shared.store.abegin(client, payload)]

    busy, stale = asyncio.run(look())
    assert isinstance(busy, Busy)
    assert stale == Stale()


# -- renewals ------------------------------------------------------------------------------------------


def test_claims_are_renewed_until_they_end(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE", 0.3)
    monkeypatch.setattr(module, "DOUBT", 0.1)
    payload, other = job(), job()
    claim, _ = shared.begin(payload), shared.begin(other)
    shared.owned_by(other, "elsewhere 1 x")
    taken = shared.record(other)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        assert isinstance(shared.store.begin(payload), Busy)
        time.sleep(0.05)
    assert shared.record(other) == taken  # what another has is not renewed
    shared.store.ended(claim)
    end = time.monotonic() + 10
    while isinstance(shared.store.begin(payload), Busy):  # the other is held yet, and is not its own
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_claim_that_was_not_renewed_while_redis_was_away_is_its_owners_still(shared: Shared) -> None:
    payload = job()
    claim = shared.begin(payload)
    for _ in range(2):
        shared.owned_by(payload, claim.token)
        shared.client.hset(shared.key("run", payload.id), "until", time.time() - 1)
        for _ in range(2):
            busy = shared.store.begin(payload)
            assert isinstance(busy, Busy)
            assert 9 < busy.seconds < 10.1
        shared.client.eval(module._RENEW, 1, shared.key("run", payload.id), 30, 60, claim.token)
        busy = shared.store.begin(payload)
        assert isinstance(busy, Busy)
        assert busy.seconds > 29


def test_an_owner_that_does_not_come_back_is_succeeded(shared: Shared) -> None:
    payload = job()
    shared.begin(payload)
    shared.client.hset(shared.key("run", payload.id), "until", 0)
    assert isinstance(shared.store.begin(payload), Busy)
    shared.client.hset(shared.key("run", payload.id), "until", 0)
    assert shared.begin(payload).crashes == 1


def test_renewals_go_on_after_redis_was_away(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LEASE", 0.3)
    client = Losing(shared.client)
    client.losses = 0
    store = Store(client, shared.prefix)
    claim = store.begin(job())
    assert isinstance(claim, Claim)
    client.losses = 2  # told once
    end = time.monotonic() + 5
    while client.losses > -3 and time.monotonic() < end:
        time.sleep(0.05)
    assert [record.getMessage() for record in caplog.records] == [
        "1 claims were not renewed: ConnectionError"
    ]
    store.ended(claim)
    time.sleep(0.3)  # nothing to renew


FORKED = """
import os, sys
from redis import Redis
from sigra_workers import Payload
from sigra_workers.store import Claim, Store
store = Store(Redis.from_url(sys.argv[1]), sys.argv[2])
first, second = map(Payload.parse, sys.argv[3:])
assert isinstance(store.begin(first), Claim)
store._lock.acquire()  # as by a thread that forks in between
pid = os.fork()
if pid == 0:
    found = store.begin(second)
    os._exit(0 if isinstance(found, Claim) and list(store._held) == [found.token] else 1)
store._lock.release()
assert os.waitpid(pid, 0)[1] == 0
assert len(store._held) == 1
"""


def test_claims_are_renewed_after_a_thread_could_not_be_started(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            shared.store.begin(job())
    assert not shared.store._renewing
    shared.begin(job())
    assert shared.store._renewing


def test_a_forked_process_holds_none_of_its_parents_claims(shared: Shared) -> None:
    texts = (job().dump(), job().dump())
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, URL, shared.prefix, *texts], check=False, timeout=30
    )
    assert ran.returncode == 0
    shared.begin(job())
    module._after_fork()
    assert shared.store._held == {}
    assert module._host.cache_info().currsize == 0  # a child may be in another namespace


# -- turns ---------------------------------------------------------------------------------------------

turns = st.builds(
    job,
    id=st.just("x"),
    enqueued_at=st.floats(0, 2e11),
    resends=st.integers(0, 10**7),
    snoozes=st.integers(0, 10**10),
    attempt=st.integers(1, 10**6),
)


@given(turns)
def test_turns_are_told_in_the_same_places_whatever_they_are(payload: Payload) -> None:
    """So that they sort alike in every locale of a Redis server."""
    shape = r"\d{13}\.\d{6}/\d{6}/\d{9}/\d{5}"
    assert re.fullmatch(shape, turn(payload))
    assert re.fullmatch(shape, module._settled(turn(payload)))
    assert turn(payload) <= module._settled(turn(payload))


@given(turns, st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_turns_sort_as_they_follow_each_other(
    payload: Payload, attempts: int, snoozes: int, resends: int
) -> None:
    payload = replace(payload, attempt=payload.attempt % 9_999 + 1, snoozes=payload.snoozes % 10**6)
    payload = replace(payload, resends=payload.resends % 10**5)
    retry = payload.again(None, attempt=payload.attempt + attempts)
    snooze = retry.again(None, snoozes=payload.snoozes + snoozes)
    resend = snooze.again(None, attempt=1, resends=payload.resends + resends)
    found = [turn(payload), turn(retry), turn(snooze), module._settled(turn(payload)), turn(resend)]
    assert found == sorted({*found})


# -- ids that the host chose -----------------------------------------------------------------------------


def test_an_id_is_taken_until_its_job_ended(shared: Shared) -> None:
    payload, push = job(), ("RPUSH", shared.key("queue"), "x")

    def once(*absent: str) -> list[Any]:
        return shared.run(shared.store.once(payload, [push, push], absent))

    assert once() == [1]
    assert once() == [0]
    again = retried(payload)
    shared.end(shared.begin(payload), again)
    assert once() == [0]
    shared.end(shared.begin(again.payload), DONE, ("SET", shared.key("result"), 1))
    assert once(shared.key("result")) == [0]
    assert once(shared.key("nothing")) == [1]
    assert shared.client.llen(shared.key("queue")) == 4


def test_the_id_of_a_dead_job_is_taken_until_it_is_purged(shared: Shared) -> None:
    payload = job()
    shared.run(shared.store.once(payload, []))
    shared.end(shared.begin(payload), died(payload))
    assert shared.run(shared.store.once(payload, [])) == [0]
    (found,) = shared.store.dead_jobs({})
    again = found.again("ann", NOW)
    shared.run(shared.store.resend(Resend(found, again), []))
    assert shared.run(shared.store.once(payload, [])) == [0]
    shared.end(shared.begin(again), died(again))
    shared.store.purge([payload.id])
    assert shared.run(shared.store.once(payload, [])) == [1]


def test_the_id_of_a_dead_job_that_could_not_be_read_is_taken_until_it_is_purged(shared: Shared) -> None:
    payload = job()
    shared.run(shared.store.once(payload, []))
    shared.run(shared.store.bury(payload.id, "{", died(payload), NOW))
    assert shared.run(shared.store.once(payload, [])) == [0]
    shared.store.purge([payload.id])
    assert shared.run(shared.store.once(payload, [])) == [1]


def test_a_late_copy_of_an_earlier_job_of_an_id_is_dropped(shared: Shared) -> None:
    payload = job()
    shared.end(shared.begin(payload))
    later = replace(payload, enqueued_at=NOW + 600)
    assert shared.run(shared.store.once(later, [])) == [1]
    assert shared.store.begin(payload) == Stale()
    assert shared.begin(later).crashes == 0


def test_an_id_used_again_by_a_clock_that_is_behind_starts_anew(shared: Shared) -> None:
    payload = job()
    shared.end(shared.begin(payload))
    earlier = replace(payload, enqueued_at=NOW - 600)
    assert shared.run(shared.store.once(earlier, [])) == [1]
    assert shared.begin(earlier).crashes == 0


def test_of_many_that_send_an_id_at_once_one_does(shared: Shared) -> None:
    payload, push = job(), ("RPUSH", shared.key("queue"), "x")
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda _: shared.run(shared.store.once(payload, [push]))[0], range(32))]
    assert sum(answers) == 1
    assert shared.client.llen(shared.key("queue")) == 1


def test_an_id_is_free_where_redis_refused_its_commands(shared: Shared) -> None:
    shared.client.set(shared.key("text"), "x")
    payload = job()
    with pytest.raises(ResponseError):
        shared.run(shared.store.once(payload, [("RPUSH", shared.key("text"), "x")]))
    assert shared.run(shared.store.once(payload, [])) == [1]


# -- dead jobs -------------------------------------------------------------------------------------------


def bury(shared: Shared, *, at: float = NOW, **changes: Any) -> str:
    payload = job(**changes)
    shared.run(shared.store.bury(payload.id, payload.dump(), died(payload), at))
    return payload.id


def test_a_dead_job_is_found_as_it_died(shared: Shared) -> None:
    payload = job(attempt=2, args_or_json={"organization_id": 7, "actor_id": None, "note": "é\u2028"})
    shared.end(shared.begin(payload), died(payload, "reason: é😀"))
    (found,) = shared.store.dead_jobs({})
    assert (found.id, found.worker, found.queue) == (payload.id, "accounts.close", "lifecycle")
    assert (found.organization_id, found.attempts, found.reason) == (7, 2, "reason: é😀")
    assert found.traceback == "Traceback: no"
    assert found.died_at == datetime.fromtimestamp(NOW, UTC)
    assert found.args == payload.args


def test_filters_find_dead_jobs_latest_first(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    ids = [bury(shared, at=NOW + n, worker=f"w{n % 2}", id=f"job-{n}") for n in range(7)]

    def found(**filters: Any) -> list[str]:
        return [dead.id for dead in shared.store.dead_jobs(cast("DeadFilters", filters))]

    assert found() == ids[::-1]
    assert found(worker="w1") == ["job-5", "job-3", "job-1"]
    assert found(worker="w1", limit=2) == ["job-5", "job-3"]
    assert found(limit=0) == []
    since = datetime.fromtimestamp(NOW + 5, UTC)
    assert found(since=since) == ["job-6", "job-5"]
    assert found(since=since + timedelta(microseconds=1)) == ["job-6"]
    assert found(ids=["job-1", "nobody", "job-4", "job-6", "job-1"]) == ["job-6", "job-4", "job-1"]
    assert found(ids=["job-1", "job-4"], limit=1) == ["job-4"]
    assert found(ids=[]) == []
    assert found(organization="org-2") == []


@given(st.floats(1e9, 4e9))
@settings(max_examples=30)
def test_a_dead_job_is_found_since_it_died(at: float) -> None:
    with connect() as client:
        shared = Shared(client)
        job_id = bury(shared, at=at)
        (found,) = shared.store.dead_jobs({"ids": [job_id]})
        try:
            assert [dead.id for dead in shared.store.dead_jobs({"since": found.died_at})] == [job_id]
        finally:
            client.delete(shared.key("dead"), shared.key("dead", "at"))


def test_one_that_is_purged_while_others_are_read_is_left_out(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 1)
    first, second = bury(shared, at=NOW), bury(shared, at=NOW + 1)
    reading = shared.store.dead_jobs({})
    assert next(reading).id == second
    shared.store.purge([first])
    assert [*reading] == []


def test_purging_tells_how_many_there_were(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    ids = [bury(shared) for _ in range(5)]
    assert shared.store.purge([*ids[1:], "nobody"]) == 4
    assert shared.store.purge([]) == 0
    assert [dead.id for dead in shared.store.dead_jobs({})] == ids[:1]
    assert shared.client.zcard(shared.key("dead", "at")) == 1


def test_dead_jobs_are_kept_for_90_days_where_none_dies_any_more_too(shared: Shared) -> None:
    now = time.time()
    bury(shared, at=now - 100 * 86_400)
    kept = bury(shared, at=now - 89 * 86_400)
    bury(shared, at=now - 91 * 86_400)
    shared.run(shared.store.announce("a", ["mails"], {}))
    assert [dead.id for dead in shared.store.dead_jobs({})] == [kept]


@pytest.mark.parametrize("how", ["buried", "ended"])
def test_dead_jobs_are_kept_for_90_days(shared: Shared, how: str) -> None:
    day = 86_400
    bury(shared, at=NOW - 91 * day)
    kept = bury(shared, at=NOW - 89 * day)
    payload = job()
    if how == "buried":
        payload = job(id=bury(shared))
    else:
        shared.end(shared.begin(payload), died(payload))
    assert [dead.id for dead in shared.store.dead_jobs({})] == [payload.id, kept]
    assert shared.client.hlen(shared.key("dead")) == 2


def test_of_too_many_dead_jobs_the_latest_are_kept(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_JOBS", 3)
    ids = [bury(shared, at=NOW + n) for n in range(5)]
    assert [dead.id for dead in shared.store.dead_jobs({})] == ids[:1:-1]


def test_of_many_that_send_a_dead_job_again_one_does(shared: Shared) -> None:
    bury(shared)
    (found,) = shared.store.dead_jobs({})
    again, push = Resend(found, found.again("ann", NOW)), ("RPUSH", shared.key("queue"), "x")
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda _: shared.run(shared.store.resend(again, [push]))[0], range(32))]
    assert sum(answers) == 1
    assert shared.client.llen(shared.key("queue")) == 1
    assert [*shared.store.dead_jobs({})] == []


def test_one_that_died_again_is_not_sent_as_it_was_found(shared: Shared) -> None:
    job_id = bury(shared)
    (found,) = shared.store.dead_jobs({})
    again = found.again("ann", NOW)
    shared.run(shared.store.resend(Resend(found, again), []))
    shared.end(shared.begin(again), died(again))
    assert shared.run(shared.store.resend(Resend(found, again), [])) == [0]
    assert [dead.id for dead in shared.store.dead_jobs({})] == [job_id]


def test_a_job_stays_dead_where_redis_refused_to_queue_it(shared: Shared) -> None:
    shared.client.set(shared.key("text"), "x")
    job_id = bury(shared)
    (found,) = shared.store.dead_jobs({})
    resend = shared.store.resend(Resend(found, found.again("ann", NOW)), [("RPUSH", shared.key("text"), "x")])
    with pytest.raises(ResponseError):
        shared.run(resend)
    assert [dead.id for dead in shared.store.dead_jobs({})] == [job_id]


# -- parked jobs -----------------------------------------------------------------------------------------


def park(shared: Shared, due_at: float, **changes: Any) -> Payload:
    payload = job(**changes)
    with shared.client.pipeline() as pipeline:
        for command in shared.store.park(payload, due_at):
            pipeline.execute_command(*command)
        pipeline.execute()
    return payload


def test_parked_jobs_come_when_they_are_due_soonest_first(shared: Shared) -> None:
    later, first, second = (park(shared, NOW + wait) for wait in (0.001, -5, 0))
    found = shared.store.due(NOW)
    assert [Payload.parse(text) for _, text in found] == [first, second]
    shared.run(shared.store.unpark([ticket for ticket, _ in found]))
    assert [Payload.parse(text).id for _, text in shared.store.due(NOW + 1)] == [later.id]


def test_a_parked_job_is_reserved_for_who_asked_and_comes_again_if_it_was_not_sent(shared: Shared) -> None:
    park(shared, NOW)
    found = shared.store.due(NOW)
    assert len(found) == 1
    assert shared.store.due(NOW + 29) == []
    assert shared.store.due(NOW + 31) == found
    shared.run(shared.store.unpark([found[0][0]]))
    assert shared.client.keys(f"{shared.prefix}*") == []


def test_no_parked_job_is_given_twice(shared: Shared) -> None:
    ids = {park(shared, NOW).id for _ in range(50)}
    with ThreadPoolExecutor(8) as threads:
        pages = [*threads.map(lambda _: shared.store.due(NOW, 5), range(20))]
    found = [Payload.parse(text).id for page in pages for _, text in page]
    assert len(found) == 50
    assert {*found} == ids


def test_each_turn_of_a_job_is_parked_on_its_own(shared: Shared) -> None:
    payload = park(shared, NOW)
    park(shared, NOW, id=payload.id, snoozes=1)
    assert len(shared.store.due(NOW)) == 2


def test_a_parked_job_that_redis_refuses_to_send_stays_parked(shared: Shared) -> None:
    shared.client.eval(*shared.store.once(job(), shared.store.park(job(), NOW)))
    ((ticket, _),) = shared.store.due(NOW)
    shared.client.set(shared.key("queue"), "the host's")
    with pytest.raises(ResponseError):
        shared.run(shared.store.unpark([ticket], [("RPUSH", shared.key("queue"), "job")]))
    assert [found for found, _ in shared.store.due(NOW + 60)] == [ticket]
    shared.client.delete(shared.key("queue"))
    shared.run(shared.store.unpark([ticket], [("RPUSH", shared.key("queue"), "job")]))
    assert shared.client.llen(shared.key("queue")) == 1
    assert shared.store.due(NOW + 120) == []


def test_a_turn_parked_anew_before_it_was_unparked_stays_parked(shared: Shared) -> None:
    payload = park(shared, NOW)
    tickets = [ticket for ticket, _ in shared.store.due(NOW)]
    park(shared, NOW + 1, id=payload.id, enqueued_at=payload.enqueued_at)
    shared.run(shared.store.unpark(tickets))
    assert [Payload.parse(text).id for _, text in shared.store.due(NOW + 1)] == [payload.id]


def test_a_ticket_without_a_job_is_dropped(shared: Shared) -> None:
    park(shared, NOW)
    shared.client.delete(shared.key("parked"))
    assert shared.store.due(NOW) == []
    assert not shared.client.exists(shared.key("parked", "at"))


# -- whatever happens ------------------------------------------------------------------------------------


@dataclass
class Running:
    """A run that goes on, and the delivery that it belongs to."""

    claim: Claim
    payload: Payload
    lost: bool = False


class Job(RuleBasedStateMachine):
    """One job on a queue that delivers at least once, and that processes run which may die at any point.

    A job that completed never runs again; one that died runs no more until it is sent again; it always ends.
    """

    runs = Bundle("runs")

    @initialize(sends_first=st.booleans())
    def send(self, sends_first: bool) -> None:
        self.sends_first = sends_first
        self.client = connect(decode_responses=True)
        self.shared = Shared(self.client)
        self.queue: list[Payload] = [job(enqueued_at=time.time())]
        self.live: list[Running] = []
        self.completed = 0

    # -- the queue -------------------------------------------------------------------------------------

    @rule(target=runs, which=st.integers(0, 99))
    def deliver(self, which: int) -> Running | None:
        if not self.queue:
            return None
        payload = self.queue.pop(which % len(self.queue))
        dead = self.dead()
        found = self.shared.store.begin(payload)
        if isinstance(found, Busy):
            assert [run for run in self.live if not run.lost] or self.left_behind()
            self.queue.append(payload)
        if not isinstance(found, Claim):
            return None
        assert not self.completed, "a job that completed runs again"
        assert not dead, "a dead job runs"
        assert not [run for run in self.live if not run.lost], "two runs at once"
        self.live.append(Running(found, payload))
        return self.live[-1]

    @rule(which=st.integers(0, 99))
    def copy(self, which: int) -> None:
        """As an outage leaves one."""
        if self.queue:
            self.queue.append(self.queue[which % len(self.queue)])

    @rule()
    def lapse(self) -> None:
        """No claim was renewed in time."""
        for run in self.live:
            run.lost = True
        for key in self.client.scan_iter(self.shared.key("run", "*")):
            self.client.hset(key, mapping={"until": 0, "doubted": self.client.hget(key, "owner")})

    def left_behind(self) -> bool:
        """Whether a process that died left its claim."""
        return any(
            self.client.hget(key, "owner") for key in self.client.scan_iter(self.shared.key("run", "*"))
        )

    def dead(self) -> bool:
        return bool([*self.shared.store.dead_jobs({})])

    # -- how a run ends --------------------------------------------------------------------------------

    @rule(
        run=consumes(runs),
        what=st.sampled_from(["complete", "retry", "snooze", "dead"]),
        dies=st.sampled_from(["not", "not", "at once", "before its end is written", "before it is acked"]),
    )
    def end(self, run: Running | None, what: str, dies: str) -> None:
        if run is None:
            return
        self.live.remove(run)
        self.shared.store.ended(run.claim)
        if dies == "at once":
            self.queue.append(run.payload)
            return
        payload, following = run.payload, list[Payload]()
        outcome: Outcome = DONE
        if what == "dead":
            outcome = died(payload)
        elif what != "complete":
            counts = {"retry": {"attempt": payload.attempt + 1}, "snooze": {"snoozes": payload.snoozes + 1}}
            following = [payload.again(None, **counts[what])]
            outcome = Again(following[0], 0, "retry")
        if self.sends_first:
            self.queue += following
        if dies == "before its end is written":
            self.queue.append(payload)
            return
        count = ("INCR", self.shared.key("completed"))
        ended = self.shared.end(run.claim, outcome, *([count] if what == "complete" else []))
        if ended and not self.sends_first:
            self.queue += following
        if not (ended or self.sends_first) or dies == "before it is acked":
            self.queue.append(payload)
        self.completed = int(self.client.get(self.shared.key("completed")) or 0)
        assert self.completed <= 1

    @rule(run=consumes(runs))
    def stop(self, run: Running | None) -> None:
        """As by a signal."""
        if run is not None:
            self.live.remove(run)
            self.shared.run(self.shared.store.released(run.claim))
            self.shared.store.ended(run.claim)
            self.queue.append(run.payload)

    @rule()
    def resend(self) -> None:
        for dead in self.shared.store.dead_jobs({}):
            again = dead.again("ann", time.time())
            assert self.shared.run(self.shared.store.resend(Resend(dead, again), [])) == [1]
            self.queue.append(again)

    def teardown(self) -> None:
        """In the end it is run to its end: it was not lost."""
        if not hasattr(self, "shared"):
            return
        try:
            for run in self.live:
                self.queue.append(run.payload)
            self.live.clear()
            for _ in range(200):
                if not self.queue:
                    break
                self.lapse()
                payload = self.queue.pop()
                found = self.shared.store.begin(payload)
                if isinstance(found, Claim):
                    assert not self.completed
                    self.shared.end(found, DONE)
                    self.completed += 1
            assert self.completed == 1 or self.dead(), "the job is lost"
        finally:
            for key in self.client.scan_iter(f"{self.shared.prefix}*"):
                self.client.delete(key)
            self.client.close()


TestJob = Job.TestCase
TestJob.settings = settings(max_examples=60, stateful_step_count=30)


# -- worker processes ------------------------------------------------------------------------------------


def test_a_process_that_announced_itself_is_alive_until_it_leaves(shared: Shared) -> None:
    token = shared.store.token()
    shared.run(shared.store.announce(token, {"reports", "mails"}, {"threads": 8}))
    (found,) = shared.store.processes()
    assert (found.pid, found.host, found.queues) == (os.getpid(), socket.gethostname(), ("mails", "reports"))
    assert found.facts == {"threads": 8}
    assert found.at == pytest.approx(time.time(), abs=5)
    assert found.clock == pytest.approx(time.time(), abs=5)
    assert str(found) == f"process {os.getpid()} on {socket.gethostname()}"
    shared.run(shared.store.leave(token))
    assert shared.store.processes() == []


def test_a_process_that_announces_itself_again_is_one_and_tells_its_latest(shared: Shared) -> None:
    for threads in (8, 9):
        shared.run(shared.store.announce("a", ["mails"], {"threads": threads}))
    shared.run(shared.store.announce("b", ["mails"], {"threads": 1}))
    assert sorted(found.facts["threads"] for found in shared.store.processes()) == [1, 9]


def test_a_process_that_is_not_heard_of_for_a_minute_is_forgotten(shared: Shared) -> None:
    at, there = shared.key("processes", "at"), shared.key("processes")
    for token in ("gone", "alive"):
        shared.run(shared.store.announce(token, [token], {}))
    shared.client.zadd(at, {"gone": time.time() - module.ALIVE - 1})
    assert [found.queues for found in shared.store.processes()] == [("alive",)]
    assert shared.client.hlen(there) == 2  # to look changes nothing
    shared.run(shared.store.announce("alive", ["alive"], {}))
    assert (shared.client.hlen(there), shared.client.zcard(at)) == (1, 1)


def test_nothing_is_left_of_processes_a_minute_after_the_last(shared: Shared) -> None:
    shared.run(shared.store.announce("a", ["mails"], {}))
    for key in (shared.key("processes", "at"), shared.key("processes")):
        assert 0 < shared.client.ttl(key) <= module.ALIVE
