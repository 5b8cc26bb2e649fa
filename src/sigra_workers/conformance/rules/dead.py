"""Rules: dead jobs, sending them again, purging them."""

import threading
import time
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

from sigra_workers.conformance.bench import Bench, in_loop
from sigra_workers.conformance.host import KINDS
from sigra_workers.conformance.rule import rule
from sigra_workers.dead import DeadJob
from sigra_workers.errors import NotDeadError, NotSupportedError
from sigra_workers.jobs import Payload


class DeadJobs:
    """Dead jobs, sending them again, purging them."""

    @rule
    def test_r35_dead_jobs_are_listed(self, bench: Bench) -> Generator[None]:
        """A dead job is listed with what it was, its attempts, why it died and when."""
        start = time.time()
        sent = [
            (
                bench.send(kind, step, max_attempts=2, keys={"data": "ö"}),
                bench.args(step, kind=kind, data="ö"),
            )
            for kind in KINDS
            for step in ("error", "raise")
        ]
        newer = bench.new("def", "error", max_attempts=2)
        bench.inject(newer, unknown={"kid": "key-1"})
        yield
        if not bench.can("dead_jobs"):
            for what, call in (
                ("dead()", lambda: bench.workers.dead()),
                ("resend()", lambda: bench.workers.resend("a-job", by="ops")),
                ("purge()", lambda: bench.workers.purge("a-job")),
            ):
                with bench.raising(NotSupportedError, f"{what} without the capability 'dead_jobs'"):
                    call()
            return
        for ref, args in sent:
            dead = _dead(bench, ref.id)
            found = [
                dead.worker,
                dead.queue,
                dead.organization_id,
                dead.attempts,
                dead.max_attempts,
                dead.snoozes,
            ]
            bench.same(found, [ref.worker, ref.queue, "org-1", 2, 2, 0], "the dead job", ref.id)
            bench.same(dead.args, args, "args of the dead job", ref.id)
            (step,) = args["steps"]
            text = {"error": "no luck", "raise": "nothing there"}[step]
            bench.true(text in dead.reason, f"the reason {dead.reason!r} does not say {text!r}", ref.id)
            if step == "raise":
                trace = dead.traceback or ""
                bench.true("script.py" in trace, f"the traceback {trace!r} does not show the code", ref.id)
            bench.true(start <= dead.died_at.timestamp() <= time.time(), f"died_at is {dead.died_at}", ref.id)
        kept = Payload.parse(_dead(bench, newer.id).payload).unknown
        bench.same(kept, {"kid": "key-1"}, "fields of the payload that this version does not know", newer.id)

    @rule
    def test_r36_dead_jobs_are_found(self, bench: Bench) -> Generator[None]:
        """Dead jobs are found by id, organization, worker and time, latest first, and no others."""
        if not bench.can("dead_jobs"):
            yield
            return
        own = f"{bench.prefix}-filters"
        organizations: list[Any] = [own, None, 1, "1"]
        early = [bench.send("def", "error", keys={"organization_id": org}).id for org in organizations]
        yield
        for job in early:
            _dead(bench, job)
        cut = datetime.now(UTC)
        time.sleep(0.05)
        late = bench.send("async", "error", keys={"organization_id": own}).id
        _dead(bench, late)
        everything = [*early, late]

        def check(expected: list[str], **filters: Any) -> None:
            for how, found in (
                ("dead", bench.workers.dead(**filters)),
                ("adead", in_loop(bench.workers.adead(**filters))),
            ):
                bench.same(sorted(job.id for job in found), sorted(expected), f"{how}({filters})")

        check([early[0], late], organization=own)
        for job, org in zip(early[1:], organizations[1:], strict=True):
            check([job], organization=org, ids=everything)
        check([late], worker="kit.async", ids=everything)
        check([late], organization=own, since=cut)
        check([late], organization=own, limit=1)
        check([], organization=f"{own}-other")
        check([], ids=["no-such-job"])
        times = [job.died_at for job in bench.workers.dead(ids=everything)]
        bench.same(times, sorted(times, reverse=True), "the order, latest first")

    @rule
    def test_r37_a_dead_job_is_sent_again_as_itself(self, bench: Bench) -> Generator[None]:
        """A dead job is sent again as itself, actor included, attempts from 1, with who did it on record."""
        steps = ("snooze:1", "error", "ok")
        jobs = [bench.send(kind, *steps, keys={"data": "ä"}).id for kind in KINDS]
        again = bench.send("def", "error", max_attempts=2).id
        yield
        if not bench.can("dead_jobs"):
            return
        workers = bench.workers
        for job in (*jobs, again):
            _dead(bench, job)
        refs = [*workers.resend(jobs[0], by="ops"), *in_loop(workers.aresend([jobs[1]], by="ops"))]
        bench.same([ref.id for ref in refs], jobs, "ids that are answered")
        for job in jobs:
            bench.began(job, 3)
            story = bench.ended(job)
            bench.same(story.all("run", "attempt"), [1, 1, 1], "attempts of the runs", job)
            bench.same(story.all("run", "snoozes"), [0, 1, 1], "snoozes of the runs", job)
            bench.same(story.decisions, ["snooze", "dead", "complete"], "decisions", job)
            for fact in ("args", "scope", "session", "enqueued_at", "queue"):
                values = story.all("run", fact)
                bench.same(values, [values[0]] * 3, f"{fact} of the three runs", job)
            bench.same([*workers.dead(ids=[job])], [], "a job that is not dead any more", job)
        before = time.time()
        for count in (1, 2):
            dead = _dead(bench, again)
            workers.resend(dead, by=f"ops-{count}")
            bench.began(again, 2 * (count + 1))
            bench.decided(again, 2 * (count + 1))
        dead = _dead(bench, again)
        resent: list[Any] = Payload.parse(dead.payload).meta.get("resent", [])
        bench.same([one["by"] for one in resent], ["ops-1", "ops-2"], "who sent it again", again)
        bench.true(all(before <= one["at"] <= time.time() for one in resent), "when it was sent again", again)
        bench.same([dead.resends, dead.attempts], [2, 2], "resends, and attempts since then", again)

    @rule
    def test_r38_a_dead_job_is_sent_again_once(self, bench: Bench) -> Generator[None]:
        """However many operators send a dead job again at once, one does, and the others are told."""
        jobs = [bench.send("def", "error", "ok").id for _ in range(6)]
        yield
        if not bench.can("dead_jobs"):
            return
        for job in jobs:
            _dead(bench, job)
        barrier = threading.Barrier(4)

        def operate(number: int) -> tuple[list[str], list[str]]:
            barrier.wait()
            try:
                return [ref.id for ref in bench.workers.resend(jobs, by=f"ops-{number}")], []
            except NotDeadError as error:
                return [*error.accepted], [*error.missing]

        futures = [bench.beside(operate, number) for number in range(4)]
        answers = [future.result() for future in futures]
        for job in jobs:
            bench.same(sum(job in sent for sent, _ in answers), 1, "operators who sent the job", job)
            bench.same(sum(job in missing for _, missing in answers), 3, "operators who were refused", job)
            bench.began(job, 2)
            bench.same(bench.ended(job).decisions, ["dead", "complete"], "decisions", job)
        with bench.raising(NotDeadError, "resend of a job that is complete"):
            bench.workers.resend(jobs[0], by="ops")

    @rule
    def test_r39_dead_jobs_are_purged(self, bench: Bench) -> Generator[None]:
        """Purged jobs are forgotten, and no others."""
        own = f"{bench.prefix}-purge"
        gone = [bench.send("def", "error", keys={"organization_id": own}).id for _ in range(2)]
        kept = bench.send("def", "error").id
        yield
        if not bench.can("dead_jobs"):
            return
        for job in (*gone, kept):
            _dead(bench, job)
        workers = bench.workers
        bench.same(workers.purge(workers.dead(organization=own)), 2, "jobs that were purged")
        bench.same(in_loop(workers.apurge([*gone, "no-such-job"])), 0, "jobs that were purged again")
        bench.same([job.id for job in workers.dead(ids=[*gone, kept])], [kept], "dead jobs that are left")
        with bench.raising(NotDeadError, "resend of a job that was purged"):
            workers.resend(gone, by="ops")


def _dead(bench: Bench, job: str) -> DeadJob:
    """The job among the dead ones, where it is filed right behind the hook."""
    bench.ended(job)
    (found,) = bench.until(lambda: bench.workers.dead(ids=[job]), "the job among the dead ones", [job])
    return found
