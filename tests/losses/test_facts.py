"""What the tables are made of: a loss, a repetition and an overlap would be seen."""

from pathlib import Path

import pytest
from tests.losses.aging import age, latest_due
from tests.losses.bare import outcome
from tests.losses.catastrophes import Row
from tests.losses.facts import ended, facts, overlaps, repeated, seconds
from tests.losses.servers import RedisServer
from tests.losses.stage import Run, Story

DECIDES = Row("a row", decides=True)


def story(*runs: Run, dead: str | None = None, max_attempts: int = 3) -> Story:
    return Story("a row", "sync", "j1", max_attempts, since=10, runs=[*runs], dead=dead)


def run(attempt: int, snoozes: int, decision: str | None, began: float = 0.0) -> Run:
    return Run(attempt, snoozes, began, decision, None if decision is None else began + 1, began + 1)


def test_a_job_whose_runs_all_ended_without_its_end_is_lost() -> None:
    assert ended(story(run(1, 0, "error"))) == "lost"
    assert ended(story(run(1, 0, None))) == "lost"
    assert ended(story()) == "lost"
    assert ended(story(run(1, 0, None), run(2, 0, "ok", 9))) == "completed"
    assert ended(story(run(1, 0, None), dead="crashed: in attempt 1")) == "dead: crashed"


@pytest.mark.parametrize(
    ("told", "counted", "kept", "duplicates"),
    [
        (story(run(1, 0, "ok")), "-", "yes", "none"),
        (story(run(1, 0, "ok"), run(2, 0, "ok", 9)), "yes", "no, made again", "1 run that had ended"),
        (story(run(1, 0, "ok"), run(1, 0, "ok", 9)), "no", "no, made again", "1 run that had ended"),
        (story(run(1, 0, "error"), run(2, 0, "ok", 9)), "-", "yes", "none"),
        (story(run(1, 0, "error"), run(2, 0, "ok", 1.5)), "yes", "no, made again", "1 run that had ended"),
        (story(run(1, 0, "error"), dead="refused", max_attempts=1), "-", "yes", "none"),
        (story(run(1, 0, "error"), dead="crashed", max_attempts=1), "yes", "no", "none"),
        (story(run(1, 0, "snooze"), run(1, 1, "ok", 9)), "-", "yes", "none"),
        (story(run(1, 0, "snooze"), run(1, 0, "ok", 9)), "no", "no, made again", "1 run that had ended"),
        (story(run(1, 0, None), run(2, 0, "ok", 9)), "yes", "none was made", "none"),
        (story(run(1, 0, None), run(3, 0, "ok", 9)), "yes", "none was made", "none"),
        (story(run(1, 0, None), run(1, 0, "ok", 9)), "no", "none was made", "none"),
    ],
)
def test_what_became_of_a_decision_is_told_by_the_run_behind_it(
    told: Story, counted: str, kept: str, duplicates: str
) -> None:
    found = facts(DECIDES, told)
    assert (found.counted, found.kept, found.duplicates) == (counted, kept, duplicates)


def test_runs_at_once_and_turns_run_twice_are_seen() -> None:
    first, second = run(1, 0, None), run(1, 0, "ok", 0.5)
    assert overlaps(story(first, second)) == [(first, second)]
    assert repeated(story(first, second)) == [(1, 0)]
    apart = story(run(1, 0, None), run(2, 0, "ok", 12))
    assert not overlaps(apart)
    assert not repeated(apart)
    assert seconds(apart) == 2


def test_what_became_of_a_bare_queues_job_is_told_by_its_runs() -> None:
    cut_short, failed, done = run(1, 0, None), run(1, 0, "error"), run(2, 0, "ok", 9)
    assert outcome(story(done)) == "completed"
    assert outcome(story(cut_short, done)) == "runs again"
    assert outcome(story(failed)) == outcome(story(cut_short)) == "lost"
    assert outcome(story(cut_short, cut_short, dead="failed", max_attempts=2)) == "dead"
    assert outcome(story(*[cut_short] * 4, max_attempts=2)) == "lost"
    assert outcome(story(*[cut_short] * 5, max_attempts=2)) == "again and again"


@pytest.mark.integration
def test_time_moves_for_what_redis_holds(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        with server.client() as client:
            client.set("kept", b'\x80{"due_at": 2000000000.25, "id": "j1"}')
            client.set("short", "x", ex=1_000)
            client.hset("hash", "field", r'{"text": "{\"due_at\": 1999999999.5}"}')
            client.zadd("zset", {"seconds": 2_000_000_000, "ms": 2_000_000_000_000, "count": 7})
            assert latest_due(client) == 2_000_000_000.25
            age(client, 1_001)
            assert client.get("kept") == b'\x80{"due_at": 1999998999.25, "id": "j1"}'
            assert client.get("short") is None
            assert client.hget("hash", "field") == rb'{"text": "{\"due_at\": 1999998998.5}"}'
            found = dict(client.zrange("zset", 0, -1, withscores=True))
            assert found == {b"seconds": 1_999_998_999, b"ms": 1_999_998_999_000, b"count": 7}
    finally:
        server.kill()
