"""Rules: lifecycle hooks."""

from collections.abc import Generator

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.host import KINDS
from sigra_workers.conformance.rule import rule


class Hooks:
    """Lifecycle hooks."""

    @rule
    def test_r33_hooks_are_told_once(self, bench: Bench) -> Generator[None]:
        """Hooks are told once each, in order, before a decision is carried out, with the job's own tenant."""
        cases: list[tuple[tuple[str, ...], list[str]]] = [
            (("ok",), ["complete"]),
            (("error", "ok"), ["retry", "complete"]),
            (("snooze:1", "raise", "raise"), ["snooze", "retry", "dead"]),
            (("cancel",), ["cancel"]),
        ]
        sent = [
            (
                bench.send(kind, *steps, max_attempts=2, keys={"organization_id": f"of-{n}"}).id,
                decisions,
                f"of-{n}",
            )
            for kind in KINDS
            for n, (steps, decisions) in enumerate(cases)
        ]
        yield
        for job, decisions, org in sent:
            story = bench.ended(job)
            dead = ["dead"] if decisions[-1] in ("dead", "cancel") else []
            told = [record["what"] for record in story.of("started", "run", "finished", "dead")]
            bench.same(
                told, ["started", "run", "finished"] * len(decisions) + dead, "hooks that were told", job
            )
            bench.same(len(story.of("enqueued")), 1, "calls of the hook enqueued", job)
            bench.same(story.decisions, decisions, "decisions", job)
            hooks = story.of("enqueued", "started", "finished", "dead")
            bench.same({record["organization"] for record in hooks}, {org}, "organizations told", job)
            for attempts in (story.all("started", "attempt"), story.all("finished", "attempt")):
                bench.same(attempts, story.all("run", "attempt"), "attempts told", job)

    @rule
    def test_r34_a_hook_that_raises_changes_nothing(self, bench: Bench) -> Generator[None]:
        """Hooks that raise change nothing: not the sending, not the run, not the decision."""
        steps = ("error", "snooze:1", "ok")
        job = bench.send("def", *steps, worker="kit.hooked", max_attempts=2).id
        dead = bench.send("def", "cancel", worker="kit.hooked", max_attempts=2).id
        yield
        story = bench.ended(job)
        bench.same(story.decisions, ["retry", "snooze", "complete"], "decisions", job)
        bench.same(story.all("run", "attempt"), [1, 2, 2], "attempts of the runs", job)
        story = bench.ended(dead)
        bench.same([len(story.runs), len(story.of("dead"))], [1, 1], "runs and deaths", dead)
