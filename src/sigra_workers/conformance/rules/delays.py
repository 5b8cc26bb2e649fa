"""Rules: delays are never early. A busy queue would hide it: their jobs are sent when the others are done."""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta

from sigra_workers.conformance.bench import Bench
from sigra_workers.conformance.host import KINDS
from sigra_workers.conformance.rule import rule


class Delays:
    """Delays are never early."""

    @rule
    def test_r30_a_schedule_is_never_early(self, bench: Bench) -> Generator[None]:
        """A job never starts before its schedule, fractions of a second included; one that is past is now."""

        def task() -> list[tuple[str, float]]:
            sent: list[tuple[str, float]] = []
            for kind in KINDS:
                for delay in (0.3, 0.9, 1.6):
                    due_at = bench.workers.adapter.clock() + delay
                    sent.append((bench.send(kind, "ok", schedule_in=delay).id, due_at))
                    at = datetime.fromtimestamp(due_at, UTC)
                    sent.append((bench.send(kind, "ok", schedule_at=at).id, at.timestamp()))
                past = datetime.now(UTC) - timedelta(days=400)
                sent.append((bench.send(kind, "ok", schedule_at=past).id, past.timestamp()))
            return sent

        done = bench.when_calm(task)
        yield
        for job, due_at in done.result():
            _check_due(bench, job, [due_at])

    @rule
    def test_r31_a_retry_is_never_early(self, bench: Bench) -> Generator[None]:
        """A retry never starts before its backoff is over, the job's own or the worker's."""
        steps = ("error", "raise", "ok")

        def task() -> list[tuple[str, list[float]]]:
            jobs = [bench.send(kind, *steps, max_attempts=3, backoff=[0.6, 1.3]) for kind in KINDS]
            own = bench.send("def", *steps, worker="kit.backoff", max_attempts=3)
            return [*((job.id, [0.6, 1.3]) for job in jobs), (own.id, [0.4, 0.8])]

        done = bench.when_calm(task)
        yield
        for job, pauses in done.result():
            _check_pauses(bench, job, pauses)

    @rule
    def test_r32_a_snooze_is_never_early(self, bench: Bench) -> Generator[None]:
        """A snoozed job never starts before its seconds are over."""
        done = bench.when_calm(lambda: [bench.send(kind, "snooze:1", "snooze:2", "ok") for kind in KINDS])
        yield
        for job in done.result():
            _check_pauses(bench, job.id, [1.0, 2.0])


def _check_pauses(bench: Bench, job: str, pauses: list[float]) -> None:
    """Each run but the first started so many seconds behind the end of the one before it."""
    ends = bench.ended(job).all("finished", "at")
    due = [end + pause for end, pause in zip(ends, pauses, strict=False)]
    _check_due(bench, job, [0.0, *due])


def _check_due(bench: Bench, job: str, due: list[float]) -> None:
    """No run started before it was due."""
    starts = bench.ended(job).all("started", "at")
    bench.same(len(starts), len(due), "runs", job)
    early = [round(at - start, 3) for start, at in zip(starts, due, strict=True) if start < at]
    bench.same(early, [], "seconds by which runs were early", job)
