"""What the processes of a queue remember together about its jobs, in Redis: for adapters.

One record a job holds its *turn* (enqueued_at, resends, snoozes, attempt), who runs it, and how often that
was begun. From it follow: no two runs at a time (a claim, renewed while the run lives), a copy of an earlier
turn is dropped (a fence), and each process that died under the turn counts as an attempt. So an adapter may
always send first and clean up later: what a crash leaves twice runs once.

Beside the records lie dead jobs, parked jobs (due later), the ids that hosts chose, and who is alive.
Everything is a *command*, the arguments of ``eval``: the same for a client or a transaction of it, sync or
async. This module imports no Redis client; it is given one.
"""

import json
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from sigra_workers.checks import Process
from sigra_workers.dead import DeadFilters, DeadJob, Resend, fits
from sigra_workers.jobs import Payload
from sigra_workers.protocols import Again, Dead, Outcome

LEASE: Final = 30.0
"""Seconds that a claim holds without being renewed."""
DOUBT: Final = 10.0
"""Seconds more in which its owner may renew it, from when another asks for it: Redis may have been away."""
SETTLED_SECONDS: Final = 3_600
"""How long the record of a job that ended drops late copies of it."""
RECORD_SECONDS: Final = 7 * 86_400
"""How long the record of a job that did not end is kept after it was last touched."""
DEAD_SECONDS: Final = 90 * 86_400
"""How long a dead job is kept."""
DEAD_JOBS: Final = 100_000
"""How many dead jobs are kept, the latest."""
ANNOUNCED: Final = 10.0
"""Seconds after which a worker process announces itself anew."""
ALIVE: Final = 60
"""Seconds that a worker process counts as alive after it was last heard of."""
_PAGE: Final = 200
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

Command: TypeAlias = tuple[Any, ...]
"""Arguments of ``eval``: script, number of keys, keys, arguments."""
_log: Final = logging.getLogger("sigra_workers.store")


class Client(Protocol):
    """What is used of a Redis client: redis-py's, with or without ``decode_responses``."""

    def eval(self, script: str, numkeys: int, /, *keys_and_args: Any) -> Any:
        """Run a Lua script."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """This process runs the turn. `crashes` is how many processes died under it before."""

    job_id: str
    token: str
    crashes: int
    turn: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Another process that may be alive runs the job; look again after so many `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stale:
    """The job went on without this copy of it: drop it."""


def turn(payload: Payload) -> str:
    """Where a job stands in its life: texts that sort as the turns follow each other.

    Digits at the same places in all of them: Lua compares by the locale of the Redis server.
    """
    resends, snoozes = min(payload.resends, 999_999), min(payload.snoozes, 999_999_998)
    attempt = min(payload.attempt, 99_999)
    return f"{payload.enqueued_at:020.6f}/{resends:06d}/{snoozes:09d}/{attempt:05d}"


def _settled(turn: str) -> str:
    """Behind all turns of the same enqueueing or resend."""
    sent, resends, *_ = turn.split("/")
    return f"{sent}/{resends}/999999999/99999"


class Store:
    """The records under one key prefix. `client` is a sync one; async code gives its own to `abegin`.

    Safe from many threads, and after a fork. Errors are the client's own.
    """

    def __init__(self, client: Client, prefix: str = "sigra-workers") -> None:
        self.client = client
        self._prefix = prefix
        self._begin_anew()
        _stores.add(self)

    def _begin_anew(self) -> None:
        """Hold no claim; a forked child does so, as threads don't follow it, and locks may be taken."""
        self._held: dict[str, str] = {}
        self._renewing = False
        self._lock = threading.Lock()

    # -- one run at a time -------------------------------------------------------------------------------

    def begin(
        self, payload: Payload, token: str | None = None, client: Client | None = None
    ) -> Claim | Busy | Stale:
        """Claim the job for a run of this turn, renewed every 10 s until `ended`.

        A caller that calls again where this raised gives a `token`, the same each time: the claim may be
        there already. One that asks Redis for more in the same round trip gives a `client` that does.
        """
        client = client or self.client
        steps = self._beginning(payload, token)
        command = next(steps)
        while True:
            try:
                reply = client.eval(*command)
            except Exception:  # the answer may be lost: once more, by the same token
                reply = client.eval(*command)
            try:
                command = steps.send(reply)
            except StopIteration as end:
                found: Claim | Busy | Stale = end.value
                return found

    async def abegin(self, client: Any, payload: Payload, token: str | None = None) -> Claim | Busy | Stale:
        """`begin` through an async client."""
        steps = self._beginning(payload, token)
        command = next(steps)
        while True:
            try:
                reply = await client.eval(*command)
            except Exception:
                reply = await client.eval(*command)
            try:
                command = steps.send(reply)
            except StopIteration as end:
                found: Claim | Busy | Stale = end.value
                return found

    def end(
        self, claim: Claim, outcome: Outcome, now: float, commands: Iterable[Sequence[Any]] = ()
    ) -> list[Command]:
        """What the transaction that carries the outcome out does here; call `ended` behind it.

        Files a dead job; moves the record on to the turn that follows, or settles it. The first of them runs
        Redis `commands` and answers 1, or 0 where the job went on without this run: they are left out then.
        Repeated, as where the answer was lost, it answers the same and does nothing.
        """
        name = type(outcome).__name__.lower()
        mark, seconds = (
            (turn(outcome.payload), RECORD_SECONDS)
            if isinstance(outcome, Again)
            else (_settled(claim.turn), SETTLED_SECONDS)
        )
        trims: list[Command] = []
        if isinstance(outcome, Dead) and outcome.payload is not None:
            dead, at = self._dead_keys
            record = _record(outcome.payload.dump(), outcome, now)
            commands = [*commands, ("HSET", dead, claim.job_id, record), ("ZADD", at, now, claim.job_id)]
            trims.append((_TRIM, 2, dead, at, now, DEAD_SECONDS, DEAD_JOBS))
        keys = (self._key("run", claim.job_id), self._key("id", claim.job_id))
        return [(_END, 2, *keys, mark, claim.turn, claim.token, seconds, name, *_flat(commands)), *trims]

    def released(self, claim: Claim) -> Command:
        """The run was stopped from outside: another may begin at once, and counts this one as a crash."""
        return (_RELEASE, 1, self._key("run", claim.job_id), claim.token)

    def forgotten(self, claim: Claim) -> Command:
        """The run is over, and the record with it: for a queue that itself knows the turns of its jobs."""
        return (_FORGET, 1, self._key("run", claim.job_id), claim.token)

    def ended(self, claim: Claim) -> None:
        """Stop renewing a claim."""
        self._held.pop(claim.token, None)

    @staticmethod
    def token() -> str:
        """Who runs a job: this process, in this one run."""
        return f"{_host()} {os.getpid()} {os.urandom(8).hex()}"

    def _beginning(
        self, payload: Payload, token: str | None
    ) -> Generator[Command, Any, Claim | Busy | Stale]:
        token = token or self.token()
        key, at, over = self._key("run", payload.id), turn(payload), ""
        while True:
            reply = yield (_BEGIN, 1, key, at, token, LEASE, RECORD_SECONDS, over, DOUBT)
            what, *rest = [_text(item) for item in reply]
            if what == "run":
                self._hold(token, key)
                return Claim(payload.id, token, int(rest[0]), at)
            if what == "stale":
                return Stale()
            owner, left = rest
            if owner == over or not _is_dead(owner):
                return Busy(max(0.1, float(left)))
            over = owner

    def _hold(self, token: str, key: str) -> None:
        with self._lock:
            if not self._renewing:
                threading.Thread(target=self._renew, name="sigra-workers-claims", daemon=True).start()
                self._renewing = True
            self._held[token] = key

    def _renew(self) -> None:
        away = False
        while True:
            time.sleep(LEASE / 30 if away else LEASE / 3)
            held = dict(self._held)
            if not held:
                continue
            try:
                self.client.eval(_RENEW, len(held), *held.values(), LEASE, RECORD_SECONDS, *held)
                away = False
            except Exception as error:  # out of reach: the jobs go on, they are this process's
                if not away:
                    _log.warning("%d claims were not renewed: %s", len(held), type(error).__name__)
                away = True

    # -- ids that the host chose -----------------------------------------------------------------------

    def once(
        self, payload: Payload, commands: Iterable[Sequence[Any]], absent: Sequence[str] = ()
    ) -> Command:
        """Send a job with an id of the host's: run Redis `commands` if no job of that id is there.

        `absent` are further keys that must not exist. It answers 1, or 0 where the id is taken.
        """
        keys = (self._key("id", payload.id), self._key("dead"), self._key("run", payload.id), *absent)
        return (_ONCE, len(keys), *keys, payload.id, turn(payload), *_flat(commands))

    # -- dead jobs ---------------------------------------------------------------------------------------

    def bury(self, job_id: str, text: str, dead: Dead, now: float) -> Command:
        """Keep a dead job; the oldest beyond 90 days or 100,000 jobs go."""
        record, keys = _record(text, dead, now), (*self._dead_keys, self._key("id", job_id))
        return (_BURY, 3, *keys, now, DEAD_SECONDS, DEAD_JOBS, job_id, record)

    def dead_jobs(self, filters: DeadFilters) -> Generator[DeadJob]:
        """See `DeadJobs.dead_jobs`."""
        if "ids" in filters:
            ids: Iterable[Any] = filters["ids"]
        else:
            # A second early: a float and a datetime round differently.
            since = filters["since"].timestamp() - 1 if "since" in filters else "-inf"
            ids = self.client.eval(_DEAD_IDS, 1, self._dead_keys[1], since)
        found: Iterator[DeadJob] = (job for job in self._dead(ids) if fits(job, filters))
        if "ids" in filters:
            found = iter(sorted(found, key=lambda job: job.died_at, reverse=True))
        yield from islice(found, filters.get("limit"))

    def _dead(self, ids: Iterable[Any]) -> Generator[DeadJob]:
        """The dead jobs of those ids that are still there."""
        rest = iter(dict.fromkeys(_text(job_id) for job_id in ids))
        while page := [*islice(rest, _PAGE)]:
            records = self.client.eval(_DEAD, 1, self._dead_keys[0], *page)
            for job_id, record in zip(page, records, strict=True):
                if record:
                    yield DeadJob.of(job_id, *json.loads(record))

    def resend(self, job: Resend, commands: Iterable[Sequence[Any]]) -> Command:
        """Take a job out of the dead ones and run Redis `commands` that queue it.

        It answers 1, or 0 where the job is not dead any more as it was found.
        """
        keys = (*self._dead_keys, self._key("id", job.dead.id))
        return (_RESEND, 3, *keys, job.dead.id, job.dead.payload, *_flat(commands))

    def purge(self, ids: Sequence[str]) -> int:
        """See `DeadJobs.purge`."""
        pages = (ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE))
        return sum(int(self.client.eval(_PURGE, 2, *self._dead_keys, *page)) for page in pages)

    # -- parked jobs -------------------------------------------------------------------------------------

    def park(self, payload: Payload, due_at: float) -> list[tuple[Any, ...]]:
        """Redis commands that keep a job until it is due (epoch seconds): for a transaction, or `once`.

        Each time under a ticket of its own: the same turn may be parked anew before it is unparked.
        """
        member = f"{payload.id}:{turn(payload)}:{os.urandom(6).hex()}"
        at, texts = self._parked_keys
        return [("HSET", texts, member, payload.dump()), ("ZADD", at, repr(due_at), member)]

    def due(self, now: float, count: int = _PAGE) -> list[tuple[str, str]]:
        """Parked jobs that are due, as (ticket, payload): theirs to send who asked, for the next 30 s."""
        found = self.client.eval(_DUE, 2, *self._parked_keys, now, now + LEASE, count)
        texts = [_text(item) for item in found]
        return [*zip(texts[::2], texts[1::2], strict=True)]

    def unpark(self, tickets: Sequence[str], commands: Iterable[Sequence[Any]] = ()) -> Command:
        """Forget parked jobs that were sent, or that Redis `commands` send: if it refuses one, they stay."""
        return (_UNPARK, 2, *self._parked_keys, len(tickets), *tickets, *_flat(commands))

    # -- worker processes --------------------------------------------------------------------------------

    def announce(self, token: str, queues: Iterable[str], facts: Mapping[str, Any]) -> Command:
        """A worker process is alive, serves these queues and runs with these settings: every 10 s.

        Dead jobs that have been kept for long enough go meanwhile.
        """
        process = {
            "clock": time.time(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": sorted(queues),
            "facts": facts,
        }
        keys, kept = (*self._dead_keys, *self._process_keys), (time.time(), DEAD_SECONDS, DEAD_JOBS)
        return (_ANNOUNCE, 4, *keys, *kept, token, json.dumps(process), ALIVE)

    def leave(self, token: str) -> Command:
        """A worker process takes no more jobs."""
        return (_LEAVE, 2, *self._process_keys, token)

    def processes(self) -> list[Process]:
        """The worker processes that announced themselves in the last minute."""
        found = [_text(item) for item in self.client.eval(_PROCESSES, 2, *self._process_keys, ALIVE)]
        processes: list[Process] = []
        for at, text in zip(found[::2], found[1::2], strict=True):
            told: dict[str, Any] = json.loads(text)
            told["queues"] = tuple(told["queues"])
            processes.append(Process(at=float(at), **told))
        return processes

    # -- keys --------------------------------------------------------------------------------------------

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    @property
    def _dead_keys(self) -> tuple[str, str]:
        return self._key("dead"), self._key("dead", "at")

    @property
    def _parked_keys(self) -> tuple[str, str]:
        return self._key("parked", "at"), self._key("parked")

    @property
    def _process_keys(self) -> tuple[str, str]:
        return self._key("processes", "at"), self._key("processes")


_stores: Final[weakref.WeakSet[Store]] = weakref.WeakSet()


def _after_fork() -> None:
    _host.cache_clear()
    for store in _stores:
        store._begin_anew()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_after_fork)


def _flat(commands: Iterable[Sequence[Any]]) -> Generator[Any]:
    """Commands as one list: each one's length, then its parts."""
    for command in commands:
        yield len(command)
        yield from command


def _record(text: str, dead: Dead, now: float) -> str:
    """A dead job as it is kept."""
    return json.dumps([text, dead.reason, dead.traceback, now])


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


@cache
def _host() -> str:
    """This host and its process ids: hosts or containers of one host name do not see each other's."""
    try:
        with open(_BOOT_ID) as boot:
            space = f"{boot.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        space = "-"
    return f"{socket.gethostname()}/{space}"


def _is_dead(owner: str) -> bool:
    """Whether the process that holds a claim is known to be gone."""
    host, pid, _ = owner.rsplit(" ", 2)
    if host != _host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: str) -> bool:
    """Whether a process died and its parent, such as a container's first process, never asked after it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


# -- Lua -------------------------------------------------------------------------------------------------

_CLOCK: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
"""

# KEYS: record. ARGV: turn, token, lease, seconds the record is kept, an owner known to be dead, doubt.
# The same once more, as a client repeats it whose answer was lost, has the same answer.
_BEGIN: Final = f"""{_CLOCK}
local found = redis.call('HMGET', KEYS[1], 'turn', 'owner', 'until', 'starts', 'doubted')
if found[2] == ARGV[2] then return {{'run', tonumber(found[4]) - 1}} end
if found[1] and found[1] > ARGV[1] then return {{'stale'}} end
if found[2] and found[2] ~= '' and found[2] ~= ARGV[5] then
    local left = tonumber(found[3]) - now
    if left <= 0 and found[5] ~= found[2] then
        left = tonumber(ARGV[6])
        redis.call('HSET', KEYS[1], 'doubted', found[2], 'until', string.format('%.3f', now + left))
    end
    if left > 0 then return {{'busy', found[2], tostring(left)}} end
end
local starts = found[1] == ARGV[1] and tonumber(found[4]) or 0
redis.call('HSET', KEYS[1], 'turn', ARGV[1], 'owner', ARGV[2], 'starts', starts + 1,
    'until', string.format('%.3f', now + ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {{'run', starts}}
"""

# Runs the commands in ARGV, from `i` on. What is noted of a job comes behind them: where Redis refuses one,
# what the script did before that stays done. A SREM that finds nothing ends them: what follows is another's.
_RUN: Final = """
while i <= #ARGV do
    local n, command = tonumber(ARGV[i]), {}
    for j = 1, n do command[j] = ARGV[i + j] end
    if redis.call(unpack(command)) == 0 and command[1] == 'SREM' then break end
    i = i + n + 1
end
"""

# KEYS: record, id.
# ARGV: the turn to come, the one that was run; token, seconds the record is kept, 'complete', 'again' or
# 'dead', commands.
# A run that lost its claim leaves the decision to those that came behind it, unless the job is done.
_END: Final = f"""
local found = redis.call('HMGET', KEYS[1], 'turn', 'owner', 'ended')
if found[3] == ARGV[3] then return 1 end
local others = found[2] and found[2] ~= ARGV[3]
if found[1] and ARGV[5] ~= 'complete' and (found[1] ~= ARGV[2] or others and found[2] ~= '') then return 0 end
if found[1] and (found[1] > ARGV[1] or found[1] == ARGV[1] and others) then return 0 end
local i = 6
{_RUN}
redis.call('HSET', KEYS[1], 'turn', ARGV[1], 'owner', '', 'starts', 0, 'ended', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if ARGV[5] ~= 'again' then redis.call('DEL', KEYS[2]) end
return 1
"""

# KEYS: record. ARGV: token.
_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'owner', '')
"""

# KEYS: record. ARGV: token.
_FORGET: Final = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# KEYS: records. ARGV: lease, seconds the record is kept, the tokens.
_RENEW: Final = f"""{_CLOCK}
for i, key in ipairs(KEYS) do
    if redis.call('HGET', key, 'owner') == ARGV[i + 2] then
        redis.call('HSET', key, 'until', string.format('%.3f', now + ARGV[1]), 'doubted', '')
        redis.call('EXPIRE', key, ARGV[2])
    end
end
"""

# KEYS: id, dead, record, further ones that must not exist. ARGV: job id, turn, commands.
# The record of an earlier job of that id drops late copies of it. By a clock that is behind, the new one
# would look stale too: then it goes.
_ONCE: Final = f"""
for i, key in ipairs(KEYS) do
    if i ~= 2 and i ~= 3 and redis.call('EXISTS', key) == 1 then return 0 end
end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
local earlier = redis.call('HGET', KEYS[3], 'turn')
local i = 3
{_RUN}
redis.call('SET', KEYS[1], 1)
if earlier and earlier >= ARGV[2] then redis.call('DEL', KEYS[3]) end
return 1
"""

# KEYS: dead, dead by time. ARGV: now, seconds kept, jobs kept.
_TRIM: Final = """
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1] - ARGV[2], 'LIMIT', 0, 100)
local over = redis.call('ZCARD', KEYS[2]) - ARGV[3]
if #old == 0 and over > 0 then old = redis.call('ZRANGE', KEYS[2], 0, math.min(over, 100) - 1) end
for _, id in ipairs(old) do
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
end
"""

# KEYS: dead, dead by time, id, which the dead job takes. ARGV: now, seconds kept, jobs kept, job id, record.
_BURY: Final = f"""
redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
redis.call('DEL', KEYS[3])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[4])
{_TRIM}"""

# KEYS: dead by time. ARGV: since.
_DEAD_IDS: Final = "return redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', ARGV[1])"

# KEYS: dead. ARGV: job ids.
_DEAD: Final = "return redis.call('HMGET', KEYS[1], unpack(ARGV))"

# KEYS: dead, dead by time, id. ARGV: job id, payload as it was found, commands.
_RESEND: Final = f"""
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record or cjson.decode(record)[1] ~= ARGV[2] then return 0 end
local i = 3
{_RUN}
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], 1)
return 1
"""

# KEYS: dead, dead by time. ARGV: job ids.
_PURGE: Final = """
local count = 0
for _, id in ipairs(ARGV) do
    count = count + redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
end
return count
"""

# KEYS: parked by time, parked. ARGV: now, until when they are the caller's, how many.
_DUE: Final = """
local found = {}
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
    local payload = redis.call('HGET', KEYS[2], ticket)
    if payload then
        redis.call('ZADD', KEYS[1], ARGV[2], ticket)
        found[#found + 1] = ticket
        found[#found + 1] = payload
    else
        redis.call('ZREM', KEYS[1], ticket)
    end
end
return found
"""

# KEYS: parked by time, parked. ARGV: number of tickets, tickets, commands.
_UNPARK: Final = f"""
local i = tonumber(ARGV[1]) + 2
{_RUN}
for j = 2, tonumber(ARGV[1]) + 1 do
    redis.call('ZREM', KEYS[1], ARGV[j])
    redis.call('HDEL', KEYS[2], ARGV[j])
end
"""

# KEYS: dead, dead by time, processes by time, processes.
# ARGV: now, seconds that the dead are kept, jobs kept, token, the process, seconds that it counts as alive.
_ANNOUNCE: Final = f"""{_TRIM}{_CLOCK}
redis.call('ZADD', KEYS[3], string.format('%.3f', now), ARGV[4])
redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[6])) do
    redis.call('ZREM', KEYS[3], token)
    redis.call('HDEL', KEYS[4], token)
end
redis.call('EXPIRE', KEYS[3], ARGV[6])
redis.call('EXPIRE', KEYS[4], ARGV[6])
"""

# KEYS: processes by time, processes. ARGV: token.
_LEAVE: Final = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
"""

# KEYS: processes by time, processes. ARGV: seconds that they count as alive.
_PROCESSES: Final = f"""{_CLOCK}
local found, there = {{}}, redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf', 'WITHSCORES')
for i = 1, #there, 2 do
    found[#found + 1] = there[i + 1]
    found[#found + 1] = redis.call('HGET', KEYS[2], there[i])
end
return found
"""
