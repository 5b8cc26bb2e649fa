"""Runs of a test's jobs: how each ended, and whether there is an end of them."""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sigra_workers.errors import InvalidPayloadError, JobCancelledError, WorkerNotImplementedError
from sigra_workers.jobs import Payload
from sigra_workers.memory import MAX_RUNS, Ending
from sigra_workers.protocols import Again, Complete, Outcome

MAX_SNOOZES: Final = 1_000
"""How often a job may snooze in one drain, before it is taken for one that does so for ever."""

RunEnding: TypeAlias = Ending | Literal["cancel"]
"""How a run ended: the decision, or "unknown_worker" for a job that waits for its implementation."""


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job. `payload` is as it was queued, None where it can't be read.

    `error` is what `perform` raised, or stands for the `Error` or `Cancel` that it returned.
    """

    payload: Payload | None
    ending: RunEnding
    error: BaseException | None

    @classmethod
    def of(cls, text: str, outcome: Outcome) -> "JobRun":
        """A run of the payload in `text`."""
        payload = read(text)
        match outcome:
            case Complete():
                return cls(payload, "complete", None)
            case Again(waiting, _, "unknown_worker"):
                return cls(payload, "unknown_worker", WorkerNotImplementedError(waiting.worker))
            case Again(_, _, why, error):
                return cls(payload, why, error)
            case dead:
                cancelled = isinstance(dead.error, JobCancelledError)
                return cls(payload, "cancel" if cancelled else "dead", dead.error)

    @property
    def failure(self) -> BaseException | None:
        """Why it failed; a cancelled run did not."""
        return None if self.ending == "cancel" else self.error


class Tally:
    """What became of the runs of one drain, and whether it will ever end."""

    def __init__(self) -> None:
        self.endings: Counter[RunEnding] = Counter()
        self._workers: Counter[str] = Counter()
        self._snoozes: Counter[str] = Counter()

    def note(self, run: JobRun, *, raising: bool) -> None:
        """Count a run, and raise why it failed; raises `AssertionError` where there is no end of them."""
        self.endings[run.ending] += 1
        worker, job_id = ("?", "?") if run.payload is None else (run.payload.worker, run.payload.id)
        self._workers[worker] += 1
        self._snoozes[job_id] += run.ending == "snooze"
        if raising and run.failure is not None:
            raise run.failure
        if self._snoozes[job_id] >= MAX_SNOOZES:
            raise AssertionError(
                f"job {job_id} of worker {worker!r} snoozed {MAX_SNOOZES} times in one drain\n"
                "does it wait for something that the test has to bring about?"
                " drain() without scheduled=True leaves it waiting"
            )
        if self.endings.total() >= MAX_RUNS:
            most, count = self._workers.most_common(1)[0]
            raise AssertionError(
                f"still not drained after {MAX_RUNS} runs, {count} of them of worker {most!r}\n"
                "does it enqueue itself for ever? drain(recursion=False) runs what waits now and no more"
            )


def read(text: str) -> Payload | None:
    """A payload, or None where it can't be read."""
    try:
        return Payload.parse(text)
    except InvalidPayloadError:
        return None
