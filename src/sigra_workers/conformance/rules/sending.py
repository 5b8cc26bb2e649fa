"""Rules: sending."""

import time
from collections.abc import Generator
from typing import Any, Final

from sigra_workers.conformance.bench import Bench, in_loop
from sigra_workers.conformance.host import KINDS, Setup, make_workers
from sigra_workers.conformance.rule import rule
from sigra_workers.conformance.watch import counted_receives, lost_answers
from sigra_workers.errors import DuplicateJobError, EnqueueError, InvalidOptionError
from sigra_workers.jobs import JobRef

DAY: Final = 86_400


class Sending:
    """Sending."""

    @rule
    def test_r01_a_job_that_is_accepted_runs_once(self, bench: Bench) -> Generator[None]:
        """A job that is accepted runs once, as itself, however it was sent and whatever its worker is."""
        refs = [bench.send(kind, "ok") for kind in KINDS]

        async def inside() -> None:
            for kind in KINDS:
                refs.append(await bench.workers.aenqueue(bench.new(kind, "ok")))
                refs.append(bench.send(kind, "ok"))  # blocks for one round trip, as documented

        in_loop(inside())
        in_loop(inside())  # another loop: nothing of the first one may be left in the adapter
        parents = [bench.send(kind, "send ok") for kind in KINDS]
        yield
        for parent in parents:
            bench.same(bench.ended(parent.id).decisions, ["complete"], "runs of a job that sends", parent.id)
            (another,) = bench.story(parent.id).all("sent", "another")
            refs.append(JobRef(another, parent.worker, parent.queue))
        for ref in refs:
            story = bench.ended(ref.id)
            bench.same(story.decisions, ["complete"], "runs of an accepted job", ref.id)
            (run,) = story.runs
            bench.same(
                [run[name] for name in ("worker", "queue", "attempt", "snoozes")],
                [ref.worker, ref.queue, 1, 0],
                "worker, queue, attempt and snoozes of the run",
                ref.id,
            )

    @rule
    def test_r02_args_arrive_as_they_were_sent(self, bench: Bench) -> Generator[None]:
        """Args arrive as they were sent: every JSON value, falsy ids, any alphabet, 256 KiB of them."""
        values: list[Any] = [
            [None, True, 0, -1, 2**53 + 1, 1.5, 1e300, "", [], {}],
            {"a": {"b": [{"c": "d"}]}, "\u0000": "\n\t\"'\\", "grüße": "日本語 🦄 \ud800"},
            "x" * (255 * 1024),
        ]
        keys: list[dict[str, Any]] = [{"data": data} for data in values]
        keys += [{"organization_id": org, "actor_id": who} for org, who in ((0, ""), (None, None), ("1", 1))]
        sent = [
            (bench.send(kind, "ok", keys=each).id, bench.args("ok", kind=kind, **each))
            for kind in KINDS
            for each in keys
        ]
        yield
        for job, args in sent:
            (run,) = bench.ended(job).runs
            bench.same(run["args"], args, "args of the run")
            bench.same(run["scope"], [args["organization_id"], args["actor_id"]], "ids in the scope", job)

    @rule
    def test_r03_a_batch_is_answered_in_order(self, bench: Bench) -> Generator[None]:
        """A batch is answered job by job, in order, and each accepted job runs once."""
        batches = [[bench.new("def", "ok") for _ in range(count)] for count in (25, 1, 0)]
        answers = [bench.workers.enqueue_many(batch) for batch in batches]
        late = [bench.new("def", "ok", schedule_in=0.2 * (n % 2)) for n in range(6)]
        batches.append(late)
        answers.append(in_loop(bench.workers.aenqueue_many(late)))
        yield
        for batch, refs in zip(batches, answers, strict=True):
            bench.same([ref.id for ref in refs], [job.id for job in batch], "ids of the answer")
            for job in batch:
                bench.same(bench.ended(job.id).decisions, ["complete"], "runs of a job in a batch", job.id)

    @rule
    def test_r04_a_server_out_of_reach_is_reported(self, bench: Bench) -> Generator[None]:
        """With the server out of reach each job is reported as rejected or unknown, in bounded time."""
        yield
        harness = bench.harness
        settings = harness.unreachable_settings
        if settings is None:
            bench.true(
                harness.inside,
                "Harness(unreachable_settings=...) is missing: they lead to a server that is not there",
            )
            return
        setup = Setup(harness.adapter, settings, str(bench.folder), bench.prefix, harness.inside)
        with make_workers(setup, harness.plugins) as workers:
            handle = workers.handles[0]
            jobs = [handle.new(bench.args("ok")) for _ in range(3)]
            ids = {job.id for job in jobs}
            for how, send in (
                ("enqueue_many", lambda: workers.enqueue_many(jobs)),
                ("aenqueue_many", lambda: in_loop(workers.aenqueue_many(jobs))),
            ):
                start = time.monotonic()
                with bench.raising(EnqueueError, how) as caught:
                    send()
                error = caught[0]
                bench.same([*error.accepted], [], f"{how}: accepted jobs")
                bench.same(
                    sorted([*error.rejected, *error.unknown]), sorted(ids), f"{how}: rejected and unknown"
                )
                bench.true(error.__cause__ is not None, f"{how}: the cause is not chained")
                bench.true(time.monotonic() - start < harness.patience, f"{how}: it took too long")

    @rule
    def test_r05_a_given_id_is_sent_once(self, bench: Bench) -> Generator[None]:
        """A second job of an id that the host gave is refused or skipped, the batch answered exactly."""
        job_id = f"{bench.prefix}-given"
        if not bench.can("unique_ids"):
            yield
            with bench.raising(InvalidOptionError, "new(job_id=...) without the capability 'unique_ids'"):
                bench.new("def", "ok", job_id=job_id)
            return
        first = bench.new("def", "ok", job_id=job_id, schedule_in=DAY)
        bench.workers.enqueue(first)
        longest = f"{bench.prefix}_-{'Z' * 128}"[:128]
        bench.send("async", "ok", job_id=longest)
        died = bench.send("def", "error", job_id=f"{job_id}-died").id
        again = [bench.new("def", "ok", job_id=job_id) for _ in range(2)]
        around = [bench.new("def", "ok") for _ in range(3)]
        batch = [around[0], again[0], around[1]]
        with bench.raising(DuplicateJobError, "enqueue_many with an id that is queued") as caught:
            bench.workers.enqueue_many(batch)
        refs = bench.workers.enqueue_many([again[1], around[2]], on_duplicate="skip")
        twins = [bench.new("def", "ok", job_id=f"{job_id}-twin") for _ in range(2)]
        twin_refs = bench.workers.enqueue_many(twins, on_duplicate="skip")
        later = [_race(bench, f"{job_id}-later{number}", schedule_in=DAY) for number in range(3)]
        at_once = {f"{job_id}-at-once{number}": 0 for number in range(3)}
        for raced in at_once:
            at_once[raced] = _race(bench, raced)
        yield
        error: DuplicateJobError = caught[0]
        bench.same([*error.duplicates], [job_id], "duplicates")
        bench.same([*error.accepted], [around[0].id, around[1].id], "accepted jobs")
        bench.same([*error.unknown], [], "unknown jobs")
        bench.same([ref.duplicate for ref in refs], [True, False], "duplicates that are skipped")
        bench.same([ref.duplicate for ref in twin_refs], [False, True], "two of one id in a batch")
        for job in (*(job.id for job in around), twins[0].id, longest):
            bench.same(bench.ended(job).decisions, ["complete"], "runs of a job beside a duplicate", job)
        bench.same(later, [1, 1, 1], "how many of four threads could send one id that is due in a day")
        for raced, sent in at_once.items():  # one more may be sent as soon as the first has ended
            bench.true(sent, f"one of four threads can send id {raced}")
            bench.decided(raced, sent)
            bench.same(len(bench.quiet(raced).runs), sent, "runs, each time that it was sent")
        bench.same(len(bench.story(job_id).runs), 0, "runs of a job that is due in a day", job_id)
        bench.ended(died)
        with bench.raising(DuplicateJobError, "enqueue with the id of a dead job"):
            bench.send("def", "ok", job_id=died)

    @rule
    def test_r06_an_unknown_native_option_is_refused(self, bench: Bench) -> Generator[None]:
        """An option for the queue library that it doesn't have is refused when the job is made."""
        yield
        with bench.raising(InvalidOptionError, "new(native={'no_such_option': 1})"):
            bench.new("def", "ok", native={"no_such_option": 1})

    @rule
    def test_r07_any_thread_may_send(self, bench: Bench) -> Generator[None]:
        """Any thread may send, many at once, and after close() too."""

        def send() -> list[str]:
            return [bench.send("def", "ok").id for _ in range(4)]

        bench.reopen()
        sent = [bench.beside(send) for _ in range(6)]
        jobs = [job for future in sent for job in future.result()]
        yield
        for job in jobs:
            bench.same(bench.ended(job).decisions, ["complete"], "runs of a job sent by one of many", job)

    @rule
    def test_r43_a_lost_answer_is_no_rejection(self, bench: Bench) -> Generator[None]:
        """A job that the server took, and whose answer was lost, is accepted or unknown, and runs."""
        yield
        with counted_receives() as answers:
            bench.send("def", "ok")  # connects
        jobs: list[str] = []
        for count in (1, 2):
            batch = [bench.new("def", "ok") for _ in range(count)]
            ids = [job.id for job in batch]
            error: EnqueueError | None = None
            with lost_answers(ids[-1].encode()) as lost:  # of none after it: all are sent by then
                try:
                    bench.workers.enqueue_many(batch)
                except EnqueueError as raised:
                    error = raised
            bench.true(lost[0] or not answers[0], "no answer was lost: what is sent shows no job ids")
            if error is not None:
                bench.same([*error.rejected], [], "jobs that were rejected, though the server took them")
                bench.true(ids[-1] in error.unknown, "the job whose answer was lost is not unknown")
                told = sorted([*error.accepted, *error.unknown])
                bench.same(told, sorted(ids), "jobs that are accepted or unknown")
            jobs += ids
        jobs.append(bench.send("def", "ok").id)
        for each in jobs:
            bench.same(bench.ended(each).decisions, ["complete"], "runs", each)


def _race(bench: Bench, job_id: str, **options: Any) -> int:
    """How many of four threads could send a job of that id."""
    jobs = [bench.new("def", "ok", job_id=job_id, **options) for _ in range(4)]
    futures = [bench.beside(bench.workers.enqueue_many, [job], on_duplicate="skip") for job in jobs]
    return sum(not future.result()[0].duplicate for future in futures)
