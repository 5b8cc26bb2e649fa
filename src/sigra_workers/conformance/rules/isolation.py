"""Rules: isolation, context and arounds."""

from collections.abc import Generator
from typing import Any

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.host import KINDS
from sigra_workers.conformance.rule import rule
from sigra_workers.conformance.story import Story


class Isolation:
    """Isolation, context and arounds."""

    @rule
    def test_r24_each_job_has_its_own_tenant(self, bench: Bench) -> Generator[None]:
        """Jobs of several tenants, one after the other, see their own args, scope and audit trail alone."""
        tenants: list[tuple[Any, Any]] = [
            ("org-a", "dora"),
            (None, None),
            ("org-b", "dora"),
            ("org-a", "emil"),
        ]
        sent = [
            (bench.send(kind, "ok", keys={"organization_id": org, "actor_id": who}).id, org, who)
            for _ in range(2)
            for kind in KINDS
            for org, who in tenants
        ]
        yield
        for job, org, who in sent:
            _check_own(bench, bench.ended(job), org, who)

    @rule
    def test_r25_tenants_at_the_same_time_are_apart(self, bench: Bench) -> Generator[None]:
        """So do jobs that run at the same time, in threads or on an event loop."""
        tenants = [("org-a", "fay"), ("org-b", "gus")]
        sent = [
            (
                bench.send(
                    kind, f"meet:{kind} sleep:0.3 ok", keys={"organization_id": org, "actor_id": who}
                ).id,
                org,
                who,
            )
            for kind in KINDS
            for org, who in tenants
        ]
        yield
        for job, org, who in sent:
            story = bench.ended(job)
            _check_own(bench, story, org, who)
            if not bench.harness.inside:
                bench.true(
                    story.all("met", "met") == [True],
                    "two jobs did not run at the same time: give the worker process two threads,"
                    " or the main queue two of them, Harness(processes=2)",
                    job,
                )

    @rule
    def test_r26_nothing_stays_in_the_context(self, bench: Bench) -> Generator[None]:
        """What a job sets in its context is gone after every kind of ending."""
        jobs = bench.endings()
        yield
        for job in jobs:
            bench.ended(job)
        jobs += [bench.send(kind, "ok").id for kind in KINDS * 2]
        for job in jobs:
            story = bench.ended(job)
            bench.same(
                {*story.all("run", "leftover")}, {None}, "what an earlier job left in the context", job
            )
            bench.same({*story.all("left", "leftover")}, {job}, "what the job itself set", job)

    @rule
    def test_r27_blocking_code_is_off_the_loop(self, bench: Bench) -> Generator[None]:
        """A def perform never blocks an event loop; the async ones of a process share one."""
        jobs = {kind: [bench.send(kind, "sleep:0.05 ok").id for _ in range(4)] for kind in KINDS}
        yield
        for job in jobs["def"]:
            bench.same(bench.ended(job).all("run", "loop"), [None], "the loop that a def perform ran on", job)
        loops: dict[int, set[int]] = {}
        for job in jobs["async"]:
            for run in bench.ended(job).runs:
                loops.setdefault(run["pid"], set()).add(run["loop"])
        bench.true(
            all(len(found) == 1 for found in loops.values()), f"loops of async jobs, by process: {loops}"
        )

    @rule
    def test_r28_arounds_are_around_perform(self, bench: Bench) -> Generator[None]:
        """Arounds are entered in order, left in reverse after any ending, in perform's thread and context."""
        jobs = bench.endings()
        yield
        expected = ["enter outer", "enter inner", "run", "left", "exit inner", "exit outer"]
        for job in jobs:
            story = bench.ended(job)
            records = story.of("enter", "run", "left", "exit")
            found = [f"{record['what']} {record.get('name', '')}".strip() for record in records]
            bench.same(found, expected * len(story.runs), "arounds and perform", job)
            for fact in ("thread", "loop", "task"):
                bench.same(
                    [record[fact] for record in records[:6]],
                    [records[0][fact]] * 6,
                    f"{fact} of arounds and perform",
                    job,
                )
            bench.same({*story.all("run", "session")}, {"org-1"}, "what perform found of an around", job)

    @rule
    def test_r29_an_around_decides_like_perform(self, bench: Bench) -> Generator[None]:
        """An around that raises fails the run; one that swallows what perform raised changes nothing."""
        cases = [("enter", "ok", 0), ("exit", "ok", 2), ("swallow", "raise", 2)]
        jobs = [
            (bench.send(kind, step, max_attempts=2, keys={"around": how}).id, how, runs)
            for kind in KINDS
            for how, step, runs in cases
        ]
        yield
        for job, how, runs in jobs:
            story = bench.ended(job)
            bench.same(story.decisions, ["retry", "dead"], f"decisions, the around: {how}", job)
            bench.same(len(story.runs), runs, f"runs, the around: {how}", job)


def _check_own(bench: Bench, story: Story, org: Any, who: Any) -> None:
    """Everything that a run saw was its own job's."""
    (run,), (left,) = story.runs, story.of("left")
    job = story.job
    bench.same([run["args"]["organization_id"], run["args"]["actor_id"]], [org, who], "ids in the args", job)
    for record in (run, left):
        bench.same(record["scope"], [org, who], "ids in the scope", job)
        bench.same(record["session"], org, "what an around had set", job)
    events = story.all("audit", "event")
    bench.same([event["action"] for event in events], ["job.began", "job.ended"], "audit events", job)
    for event in events:
        found = [
            event[name] for name in ("organization_id", "actor_id", "effective_user_id", "job_id", "worker")
        ]
        bench.same(found, [org, who, who, job, run["worker"]], "ids in the audit trail", job)
