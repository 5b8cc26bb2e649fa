"""Rules: the contract at run time."""

import time
from collections.abc import Generator

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.host import FORMER, GRACE, KINDS
from sigra_workers.conformance.rule import rule
from sigra_workers.errors import MissingTenantKeyError


class Contract:
    """The contract at run time."""

    @rule
    def test_r16_no_host_code_without_tenant_keys(self, bench: Bench) -> Generator[None]:
        """Without its tenant keys, or the worker's own, a job is dead before any host code runs."""
        jobs: list[tuple[str, str]] = []
        for kind in KINDS:
            for missing in ("organization_id", "actor_id", "steps"):
                job = bench.new(kind, "ok", max_attempts=3)
                args = {key: value for key, value in bench.args("ok", kind=kind).items() if key != missing}
                bench.inject(job, args_or_json=args)
                jobs.append((job.id, missing))
        job = bench.new("def", "ok", worker="kit.organization")
        bench.inject(job, args_or_json={**bench.args("ok"), "organization_id": None})
        jobs.append((job.id, "organization_id"))
        yield
        handle = bench.workers.handles[0]
        with bench.raising(MissingTenantKeyError, "new without tenant keys") as caught:
            handle.new({"steps": ["ok"]})
        for key in ("organization_id", "actor_id"):
            bench.true(key in str(caught[0]), f"the error does not name {key!r}")
        for job_id, missing in jobs:
            story = bench.ended(job_id)
            bench.same(
                [record["what"] for record in story.records],
                ["dead"],
                f"what ran without {missing!r}",
                job_id,
            )
            (reason,) = story.all("dead", "reason")
            bench.true(missing in reason, f"the reason {reason!r} does not name {missing!r}", job_id)

    @rule
    def test_r17_an_unknown_worker_is_waited_for(self, bench: Bench) -> Generator[None]:
        """A job of an unknown worker waits for the grace time, uncounted; former names reach their worker."""
        start = time.time()
        unknown, former = (bench.new("def", "ok") for _ in range(2))
        bench.inject(unknown, worker="kit.unknown")
        bench.inject(former, worker=FORMER)
        yield
        bench.same(
            bench.ended(former.id).decisions, ["complete"], "runs of a job with a former name", former.id
        )
        story = bench.ended(unknown.id)
        bench.same([record["what"] for record in story.records], ["dead"], "what happened to it", unknown.id)
        (dead,) = story.records
        bench.same(dead["error"], "UnknownWorkerError", "why it is dead", unknown.id)
        bench.same(dead["attempt"], 1, "attempts made", unknown.id)
        bench.true(
            dead["at"] - start >= GRACE, f"it waited {dead['at'] - start:.1f} s of {GRACE:g} s", unknown.id
        )

    @rule
    def test_r18_a_broken_payload_harms_nobody(self, bench: Bench) -> Generator[None]:
        """A payload that can't be read is never run and is filed as dead; the worker process lives on."""
        broken = [bench.new(kind, "ok", max_attempts=3) for kind in (*KINDS, "def")]
        bench.inject(broken[0], unknown={"v": 2})
        bench.inject(broken[1], snoozes=-1)
        bench.inject(broken[2], backoff="soon")
        after = [bench.send(kind, "ok").id for kind in KINDS]
        yield
        for job_id in after:
            bench.same(
                bench.ended(job_id).decisions, ["complete"], "runs of a job behind a broken one", job_id
            )
        if bench.can("dead_jobs"):
            ids = [job.id for job in broken]
            bench.until(
                lambda: len(bench.workers.dead(ids=ids)) == len(ids),
                "the broken jobs among the dead ones",
                ids,
            )
            for dead in bench.workers.dead(ids=ids):
                bench.same(dead.worker, None, "worker of a dead job that can't be read")
            bench.workers.purge(ids)
        for job in broken:
            bench.same(bench.quiet(job.id).records, [], "what a broken job did", job.id)
