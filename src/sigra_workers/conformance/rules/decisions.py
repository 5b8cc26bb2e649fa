"""Rules: the decision table."""

import time
from collections.abc import Generator
from functools import partial
from typing import Final

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.host import KINDS
from sigra_workers.conformance.rule import rule
from sigra_workers.errors import DuplicateJobError

DAY: Final = 86_400


class Decisions:
    """The decision table."""

    @rule
    def test_r08_a_value_is_kept(self, bench: Bench) -> Generator[None]:
        """The value of Ok is kept where "results" is declared; one that can't be stored costs no more."""
        jobs = [(bench.send(kind, "ok").id, bench.send(kind, "ok:odd").id) for kind in KINDS]
        yield
        for plain, odd in jobs:
            for job in (plain, odd):
                bench.same(bench.ended(job).decisions, ["complete"], "runs of a job with a value", job)
            if bench.can("results"):
                result = bench.harness.result
                if result is None:
                    bench.broken("it declares 'results': Harness(result=...) is missing, which reads one")
                    return
                found = bench.until(partial(result, bench.workers, plain), "the value of Ok", [plain])
                bench.same(found, {"answer": 42}, "value of Ok", plain)

    @rule
    def test_r09_a_failure_is_retried(self, bench: Bench) -> Generator[None]:
        """A returned Error, an exception and SystemExit are retried while attempts are left, each counted."""
        jobs = [bench.send(kind, "error", "raise", "exit", "ok", max_attempts=4).id for kind in KINDS]
        jobs.append(bench.send("def", "ok", max_attempts=2, keys={"build": "raise"}).id)
        yield
        *scripted, unbuilt = jobs
        for job in scripted:
            story = bench.ended(job)
            bench.same(story.all("run", "attempt"), [1, 2, 3, 4], "attempts of the runs", job)
            bench.same(story.decisions, ["retry", "retry", "retry", "complete"], "decisions", job)
        story = bench.ended(unbuilt)
        bench.same(story.decisions, ["retry", "dead"], "decisions where the scope builder raises", unbuilt)
        bench.same(len(story.runs), 0, "runs without a scope", unbuilt)

    @rule
    def test_r10_the_last_failure_is_the_end(self, bench: Bench) -> Generator[None]:
        """A failure on the last attempt is the end: dead, with its reason, never run again."""
        how = {"error": "no luck", "raise": "nothing there", "exit": "SystemExit"}
        jobs = [
            (bench.send(kind, step, max_attempts=attempts).id, attempts, text)
            for kind in KINDS
            for attempts in (1, 2)
            for step, text in how.items()
        ]
        yield
        for job, attempts, text in jobs:
            story = bench.ended(job)
            bench.same(story.all("run", "attempt"), [*range(1, attempts + 1)], "attempts of the runs", job)
            bench.same(story.decisions, [*["retry"] * (attempts - 1), "dead"], "decisions", job)
            (reason,) = story.all("dead", "reason")
            bench.true(text in reason, f"the reason {reason!r} does not say {text!r}", job)

    @rule
    def test_r11_a_snooze_costs_no_attempt(self, bench: Bench) -> Generator[None]:
        """A snooze, of perform or of the scope builder, costs no attempt and is counted by itself."""
        jobs = [bench.send(kind, "snooze:1", "error", "snooze:1", "ok", max_attempts=2).id for kind in KINDS]
        waiting = [bench.send(kind, "ok", keys={"build": "snooze"}).id for kind in KINDS]
        yield
        for job in jobs:
            story = bench.ended(job)
            bench.same(story.all("run", "attempt"), [1, 1, 2, 2], "attempts of the runs", job)
            bench.same(story.all("run", "snoozes"), [0, 1, 1, 2], "snoozes of the runs", job)
            bench.same(story.decisions, ["snooze", "retry", "snooze", "complete"], "decisions", job)
        for job in waiting:
            story = bench.ended(job)
            bench.same(story.decisions, ["snooze", "complete"], "decisions", job)
            (run,) = story.runs
            bench.same([run["attempt"], run["snoozes"]], [1, 1], "attempt and snoozes of the run", job)

    @rule
    def test_r12_a_long_snooze_is_kept(self, bench: Bench) -> Generator[None]:
        """A job that waits longer than the queue's own limits neither runs nor dies nor is forgotten."""
        unique = bench.can("unique_ids")
        ids: list[dict[str, str]] = [
            {"job_id": f"{bench.prefix}-long{n}"} if unique else {} for n in range(2)
        ]
        snoozing = bench.send("def", f"snooze:{300 * DAY}", **ids[0]).id
        scheduled = bench.send("async", "ok", schedule_in=300 * DAY, **ids[1]).id
        yield
        bench.decided(snoozing)
        time.sleep(1.0)
        bench.same(bench.story(snoozing).decisions, ["snooze"], "decisions on a job that snoozes", snoozing)
        for job, runs in ((snoozing, 1), (scheduled, 0)):
            bench.same(len(bench.story(job).runs), runs, "runs of a job that waits for 300 days", job)
            bench.same(len(bench.story(job).of("dead")), 0, "deaths of such a job", job)
            if unique:
                with bench.raising(DuplicateJobError, "enqueue with the id of a job that waits for 300 days"):
                    bench.send("def", "ok", job_id=job)

    @rule
    def test_r13_a_cancel_is_the_end(self, bench: Bench) -> Generator[None]:
        """Cancel, by perform, by the scope builder or by cancel_on, ends a job at once."""
        jobs = [
            (bench.send(kind, step, max_attempts=3).id, 1)
            for kind in KINDS
            for step in ("cancel", "permanent")
        ]
        jobs += [(bench.send(kind, "ok", max_attempts=3, keys={"build": "cancel"}).id, 0) for kind in KINDS]
        yield
        for job, runs in jobs:
            story = bench.ended(job)
            bench.same(story.decisions, ["cancel"], "decisions", job)
            bench.same(len(story.runs), runs, "runs of a cancelled job", job)
            (reason,) = story.all("dead", "reason")
            bench.true(reason.startswith("cancelled"), f"the reason {reason!r} does not say cancelled", job)

    @rule
    def test_r14_no_result_is_the_end(self, bench: Bench) -> Generator[None]:
        """What returns no result is dead at once: its work is done, and another run would repeat it."""
        jobs = [bench.send(kind, "none", max_attempts=3).id for kind in KINDS]
        yield
        for job in jobs:
            story = bench.ended(job)
            bench.same(story.decisions, ["dead"], "decisions", job)
            bench.same(len(story.runs), 1, "runs", job)
            bench.same(story.all("dead", "error"), ["InvalidResultError"], "why it is dead", job)

    @rule
    def test_r15_a_time_out_counts_as_raised(self, bench: Bench) -> Generator[None]:
        """A job past its time-out has failed, whatever it returns later, and no retry overlaps its body."""
        jobs = {kind: bench.send(kind, "sleep:3 ok", "ok", max_attempts=2, timeout=0.5).id for kind in KINDS}
        yield
        for kind, job in jobs.items():
            story = bench.ended(job)
            bench.same(story.all("run", "attempt"), [1, 2], "attempts of the runs", job)
            bench.same(story.decisions, ["retry", "complete"], "decisions", job)
            bench.same(story.all("finished", "error")[0], "JobTimeoutError", "why it was retried", job)
            took = story.of("left")[0]["at"] - story.runs[0]["at"]
            stops = kind == "async" or bench.can("stops_sync")
            bench.true(
                took < 2.5 if stops else took > 2.9,
                f"the {kind} body took {took:.1f} s of its 3 s, with a time-out of 0.5 s",
                job,
            )
            bench.true(
                story.runs[1]["at"] >= story.of("left")[0]["at"], "the retry overlaps the body before it", job
            )
