"""What the table says of a job, from what its runs wrote."""

from dataclasses import dataclass
from typing import Final

from tests.losses.catastrophes import COMPLETED, Row
from tests.losses.host import BACKOFF
from tests.losses.stage import Run, Story

NONE: Final = "none"
NOTHING: Final = "-"
TOLD: Final = {"accepted": "accepted", "rejected": "sender told", "unknown": "sender told"}
"""What the sender of a job was told, an `EnqueueError` that says which of both, or nothing."""


@dataclass(frozen=True)
class Facts:
    """One line of the table but for its seconds; the texts are the page's."""

    again: str
    counted: str
    kept: str
    duplicates: str
    ended: str


def facts(row: Row, story: Story) -> Facts:
    """The facts of one job."""
    runs = story.runs
    again = [
        run for run, after in _followed(runs) if run.decision and after and not _follows(story, run, after)
    ]
    return Facts(
        again="yes" if len(runs) > 1 else "no",
        counted=_counted(story),
        kept=TOLD.get(story.told) or (_kept(story) if row.decides else NOTHING),
        duplicates=f"{len(again)} run that had ended" if again else NONE,
        ended=ended(story),
    )


def ended(story: Story) -> str:
    """How the job ended, or that it did not."""
    if story.dead is not None:
        return f"dead: {story.dead.partition(':')[0]}"
    return COMPLETED if story.runs and story.runs[-1].decision == "ok" else "lost"


def seconds(story: Story) -> float | None:
    """From the catastrophe to the run that follows; None where none does."""
    return max(0.0, story.runs[1].began - story.since) if len(story.runs) > 1 else None


def overlaps(story: Story) -> list[tuple[Run, Run]]:
    """Runs that began while another one was at work."""
    return [(run, after) for run, after in _followed(story.runs) if after and after.began < run.alive]


def repeated(story: Story) -> list[tuple[int, int]]:
    """Turns, attempt and snoozes, that were run more than once."""
    turns = [(run.attempt, run.snoozes) for run in story.runs]
    return sorted({turn for turn in turns if turns.count(turn) > 1})


def _followed(runs: list[Run]) -> list[tuple[Run, Run | None]]:
    return [*zip(runs, [*runs[1:], None], strict=True)]


def _follows(story: Story, run: Run, after: Run | None) -> bool:
    """Whether what came after a run is what it decided."""
    turn = None if after is None else (after.attempt, after.snoozes)
    match run.decision:
        case "ok":
            return after is None
        case "snooze":
            return turn == (run.attempt, run.snoozes + 1)
        case _ if run.attempt == story.max_attempts:
            return after is None and story.dead == "refused"
        case _:
            due = (run.ended or 0) + BACKOFF
            return after is not None and turn == (run.attempt + 1, run.snoozes) and after.began >= due


def _kept(story: Story) -> str:
    first, after = _followed(story.runs)[0]
    if first.decision is None:
        return "none was made"
    if _follows(story, first, after):
        return "yes"
    return "no" if after is None else "no, made again"


def _counted(story: Story) -> str:
    """Whether each run that left no decision, or whose decision was lost, counted as an attempt."""
    counted: set[bool] = set()
    for run, after in _followed(story.runs):
        if run.decision and _follows(story, run, after):
            continue
        if after is None:
            counted.add(story.dead is not None)
        else:  # once more where it was begun in between by a process that was killed before it ran anything
            counted.add(after.attempt > run.attempt and after.snoozes == run.snoozes)
    return NOTHING if not counted else "no" if False in counted else "yes"
