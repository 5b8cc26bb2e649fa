"""Rules: worker processes that end, and one run of a job at a time."""

from collections.abc import Generator
from typing import Any

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.host import KINDS
from sigra_workers.conformance.rule import rule
from sigra_workers.conformance.story import Story
from sigra_workers.protocols import Outgoing


class Processes:
    """Worker processes that end, and one run of a job at a time."""

    @rule
    def test_r19_a_job_is_itself_in_a_fresh_process(self, bench: Bench) -> Generator[None]:
        """In a fresh process, behind a snooze and a retry, a job is what it was: ids, args, time sent."""
        keys: dict[str, Any] = {"organization_id": 0, "actor_id": "änn", "impersonating_from": "root"}
        keys["data"] = {"deep": [{"er": 2**60}], "text": "日本語 \u0000"}

        def task() -> list[str]:
            queue = bench.setup.queues["restarts"]
            steps = ("snooze:1", "error", "ok")
            jobs = [
                bench.send(kind, *steps, max_attempts=2, backoff=1, queue=queue, keys=keys).id
                for kind in KINDS
            ]
            for job in jobs:
                bench.decided(job)
            bench.stop()
            bench.start()
            for job in jobs:
                bench.ended(job, bench.harness.recovery + bench.harness.patience)
            return jobs

        done = bench.on_restarts(task)
        yield
        for job in done.result():
            story = bench.story(job)
            bench.same(story.decisions, ["snooze", "retry", "complete"], "decisions", job)
            for fact in ("queue", "worker", "args", "scope", "session", "enqueued_at", "max_attempts"):
                values = story.all("run", fact)
                bench.same(values, [values[0]] * 3, f"{fact} of the three runs", job)
            args = story.runs[0]["args"]
            bench.same({key: args[key] for key in keys}, keys, "args", job)
            if not bench.harness.inside:
                bench.true(len({*story.all("run", "pid")}) > 1, "all runs were in one process", job)

    @rule
    def test_r20_a_job_that_kills_its_process_ends(self, bench: Bench) -> Generator[None]:
        """A job that kills its process each time is dead, as crashed, after its attempts; others go on."""
        queue = bench.setup.queues["poison"]
        if not bench.harness.inside:
            bench.tree("poison")
        poison = bench.send("def", "die", max_attempts=2, queue=queue).id
        yield
        seconds = 3 * bench.harness.recovery + bench.harness.patience
        story = bench.ended(poison, seconds)
        bench.same(story.all("run", "attempt"), [1, 2], "attempts of the runs", poison)
        (reason,) = story.all("dead", "reason")
        bench.true(reason.startswith("crashed"), f"the reason {reason!r} does not say crashed", poison)
        after = bench.send("async", "ok", queue=queue).id
        bench.same(bench.ended(after, seconds).decisions, ["complete"], "runs of a job behind it", after)

    @rule
    def test_r21_a_stopped_process_loses_no_job(self, bench: Bench) -> Generator[None]:
        """SIGTERM in the middle of a job loses no job: it ends, or it runs again and that counts."""

        def task() -> tuple[list[str], list[str]]:
            queue = bench.setup.queues["restarts"]
            running = [bench.send(kind, "sleep:1 ok", "ok", max_attempts=3, queue=queue).id for kind in KINDS]
            waiting = [bench.send(kind, "ok", max_attempts=3, queue=queue).id for kind in KINDS * 2]
            bench.began(running[0])
            bench.stop()
            bench.start()
            for job in (*running, *waiting):  # the next rule kills this process
                bench.ended(job, bench.harness.recovery + bench.harness.patience)
            return running, waiting

        done = bench.on_restarts(task)
        yield
        running, waiting = done.result()
        for job in (*running, *waiting):
            story = bench.story(job)
            bench.same(_of_decided_runs(story), ["complete"], "decisions", job)
            attempts = story.all("run", "attempt")  # one that was stopped may not have come so far as to run
            bench.same(attempts, sorted({*attempts}), "attempts of the runs, each once", job)

    @rule
    def test_r22_a_killed_process_loses_no_job(self, bench: Bench) -> Generator[None]:
        """kill -9 in the middle of a job loses no job: it runs again, as itself, and that counts."""

        def task() -> tuple[str, list[str]]:
            if bench.harness.inside:  # the runner is stopped from outside, as by Ctrl-C
                return bench.send("def", "die", "ok", max_attempts=3).id, [bench.send("async", "ok").id]
            killed = bench.send(
                "def", "sleep:60 ok", "ok", max_attempts=3, queue=bench.setup.queues["restarts"]
            )
            waiting = [
                bench.send(kind, "sleep:0.1 ok", max_attempts=3, queue=killed.queue).id for kind in KINDS * 2
            ]
            bench.began(killed.id)
            bench.tree("restarts").kill()
            bench.tree("restarts").start()
            return killed.id, waiting

        done = bench.on_restarts(task)
        yield
        killed, waiting = done.result()
        story = bench.ended(killed, bench.harness.recovery + bench.harness.patience)
        bench.same(story.all("run", "attempt"), [1, 2], "attempts of the runs", killed)
        bench.same(_of_decided_runs(story), ["complete"], "decisions", killed)
        bench.same(story.runs[1]["args"], story.runs[0]["args"], "args of the second run", killed)
        for job in waiting:
            story = bench.ended(job, bench.harness.recovery + bench.harness.patience)
            # One that had just ended when its process was killed, and was not settled yet, runs once more.
            bench.same([*{*_of_decided_runs(story)}], ["complete"], "decisions on a job that waited", job)
            pids = story.all("finished", "pid")
            told = "processes that a job that waited ended in, and how often it did"
            bench.same(len({*pids}), 1 if bench.harness.inside else len(pids), told, job)

    @rule
    def test_r23_no_job_overlaps_itself(self, bench: Bench) -> Generator[None]:
        """A job that the queue has twice, as after an outage, never runs twice at the same time."""

        def task(kind: Any) -> str:
            job = bench.new(kind, "sleep:0.7 ok", max_attempts=3)
            outgoing = Outgoing(job, job.payload(bench.workers.adapter.clock()))
            bench.workers.adapter.send([outgoing])
            bench.began(job.id)
            bench.workers.adapter.send([outgoing])
            bench.workers.adapter.send([outgoing])
            return job.id

        done = [bench.beside(task, kind) for kind in KINDS]
        yield
        for job in [future.result() for future in done]:
            bench.ended(job)
            story = bench.quiet(job, 2.0)
            inside = [1 if record["what"] == "run" else -1 for record in story.of("run", "left")]
            most = max(sum(inside[: n + 1]) for n in range(len(inside)))
            bench.same(most, 1, "runs of the job at the same time, at most", job)


def _of_decided_runs(story: Story) -> list[Any]:
    """The decisions, without the runs that were stopped from outside."""
    return [decision for decision in story.decisions if decision is not None]
