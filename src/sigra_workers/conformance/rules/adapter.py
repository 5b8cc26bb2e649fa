"""Rules: the adapter itself."""

import time
from collections.abc import Generator

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.rule import rule
from sigra_workers.conformance.watch import counted_receives
from sigra_workers.protocols import CAPABILITIES


class Itself:
    """The adapter itself."""

    @rule
    def test_r40_args_stay_out_of_the_logs(self, bench: Bench) -> Generator[None]:
        """No log of the sender or of a worker process shows a job's args, however it ends."""
        marks = [f"{bench.prefix}-unseen-{word}" for word in ("text", "key")]
        keys = {"data": {"mark": marks[0], marks[1]: 1}}
        jobs = bench.endings(keys=keys)
        broken = bench.new("def", "ok", keys=keys)
        bench.inject(broken, unknown={"v": 2})
        unknown = bench.new("def", "ok", keys=keys)
        bench.inject(unknown, worker="kit.unknown")
        yield
        for job in (*jobs, unknown.id):
            bench.ended(job)
        for where, text in bench.logs().items():
            for mark in marks:
                lines = [line for line in text.splitlines() if mark in line]
                bench.true(not lines, f"args are in the log of {where}: {lines[:1]}")

    @rule
    def test_r41_a_batch_is_one_round_trip(self, bench: Bench) -> Generator[None]:
        """An adapter that declares "bulk" sends a batch in one round trip, or a few."""
        yield
        if not bench.can("bulk"):
            return
        bench.send("def", "ok")  # connects
        jobs = [bench.new("def", "ok") for _ in range(40)]
        with counted_receives() as receives:
            bench.workers.enqueue_many(jobs)
        bench.true(receives[0] < 20, f"{receives[0]} answers of a server were read for a batch of 40 jobs")

    @rule
    def test_r42_capabilities_are_what_they_say(self, bench: Bench) -> Generator[None]:
        """Capabilities are known ones; jobs outlive worker processes; the clock tells epoch seconds."""
        yield
        adapter = bench.workers.adapter
        bench.same(type(adapter.capabilities).__name__, "frozenset", "the type of capabilities")
        unknown = sorted({*adapter.capabilities} - {*CAPABILITIES})
        bench.same(unknown, [], "capabilities that there are not")
        bench.true(
            bench.can("durable") is not bench.harness.inside,
            "an adapter with worker processes is 'durable', one inside the sender's process is not",
        )
        if bench.can("dead_jobs"):
            absent = [
                name
                for name in ("dead_jobs", "resend", "purge")
                if not callable(getattr(adapter, name, None))
            ]
            bench.same(absent, [], "methods that an adapter with 'dead_jobs' lacks")
        found = adapter.clock()
        bench.true(abs(found - time.time()) < 60, f"the clock tells {found}, expected epoch seconds")
