"""A job killed after its audit runs again, and its event is one row: on every queue, to PostgreSQL."""

import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.audit_crashes.host import ACTION, KINDS, Kind
from tests.audit_crashes.stage import KILLED, OTHERS, Story, stage
from tests.losses.back_ends import BACK_ENDS

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]
TAIL: Final = 6_000
"""Characters of each log that a failure shows."""


@dataclass
class Result:
    """What became of the jobs on one queue, or what went wrong."""

    stories: list[Story]
    lost: list[dict[str, Any]]
    error: str | None


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Result]]:
    """All queues that the chosen tests ask for, side by side."""
    params = [getattr(getattr(item, "callspec", None), "params", {}) for item in request.session.items]
    wanted = [name for name in BACK_ENDS if name in {given.get("back_end") for given in params}]
    folders = {name: tmp_path_factory.mktemp(name) for name in wanted}

    def play(name: str) -> Result:
        stories: list[Story] = []
        try:
            with stage(BACK_ENDS[name], folders[name]) as on:
                stories = on.stories
                on.play()
                return Result(stories, on.lost, None)
        except Exception:
            return Result(stories, [], traceback.format_exc() + _logs(folders[name]))

    with ThreadPoolExecutor(len(wanted)) as threads:
        yield dict(zip(wanted, threads.map(play, wanted), strict=True))


def _logs(folder: Path) -> str:
    files = sorted(folder.glob("*.log"))
    return "".join(f"\n---- {file.name}\n{file.read_text(errors='replace')[-TAIL:]}" for file in files)


@pytest.fixture
def result(results: Mapping[str, Result], back_end: str) -> Result:
    """The queue that went through."""
    found = results[back_end]
    if found.error:
        pytest.fail(found.error, pytrace=False)
    return found


@pytest.fixture
def stories(result: Result, kind: Kind) -> Mapping[str, Story]:
    """Its jobs of one kind, by what they were to do."""
    return {story.name: story for story in result.stories if story.kind == kind}


each_queue = pytest.mark.parametrize("back_end", BACK_ENDS)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[" ".join(kind) for kind in KINDS])


@each_queue
@each_kind
@pytest.mark.parametrize("name", KILLED)
def test_a_job_killed_after_its_audit_runs_again(stories: Mapping[str, Story], name: str) -> None:
    first, *_, last = stories[name].runs
    assert (first["attempt"], first["end"], first["rows"]) == (1, "kill", 1)
    assert (last["attempt"], last["end"]) == (2, "ok")
    assert len(stories[name].runs) == 2


@each_queue
@each_kind
def test_the_event_of_a_killed_run_is_one_row_after_it_ran_again(stories: Mapping[str, Story]) -> None:
    (event,) = stories["killed"].events
    assert event.attempt == 1  # the first that wrote it


@each_queue
@each_kind
def test_a_run_killed_between_two_events_leaves_each_of_them_once(stories: Mapping[str, Story]) -> None:
    assert [event.attempt for event in stories["killed between"].events] == [1, 2]


@each_queue
@each_kind
@pytest.mark.parametrize("name", [*KILLED, *OTHERS])
def test_a_row_names_job_organization_real_actor_and_effective_user(
    stories: Mapping[str, Story], kind: Kind, name: str
) -> None:
    story = stories[name]
    assert story.events
    for event in story.events:
        assert (event.action, event.target_id) == (ACTION, f"account of {story.job_id}")
        assert (event.job_id, event.worker) == (story.job_id, f"{kind.way}.{kind.color}")
        assert event.organization_id == story.organization
        assert (event.actor_id, event.actor_type, event.effective_user_id) == ("admin", "user", "ann")


@each_queue
@each_kind
@pytest.mark.parametrize("name", [*KILLED, *OTHERS])
def test_work_committed_with_an_event_is_done_once(
    stories: Mapping[str, Story], kind: Kind, name: str
) -> None:
    assert stories[name].work == (kind.way == "required")


@each_queue
@each_kind
def test_a_failure_and_a_later_success_are_two_rows(stories: Mapping[str, Story]) -> None:
    events = stories["recovers"].events
    assert [(event.outcome, event.attempt) for event in events] == [("failure", 1), ("success", 2)]


@each_queue
@each_kind
def test_a_retry_that_audits_the_same_again_is_one_row(stories: Mapping[str, Story]) -> None:
    assert len(stories["repeats itself"].runs) == 2
    assert len(stories["repeats itself"].events) == 1


@each_queue
@each_kind
def test_each_run_of_a_job_that_snoozes_is_a_row(stories: Mapping[str, Story]) -> None:
    story = stories["snoozes"]
    assert len(story.runs) == len(story.events) == 4
    assert {event.attempt for event in story.events} == {1}


@each_queue
def test_no_event_is_told_to_be_lost(result: Result) -> None:
    assert result.lost == []
