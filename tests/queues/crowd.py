"""Jobs of many organizations, interleaved over worker processes, and what they must leave behind."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.queues.harness import script
from tests.queues.host import Host, StepArgs

from sigra_workers import Job

ORGANIZATIONS: Final = 50


def keys(number: int) -> dict[str, Any]:
    """Who the job acts as, and for whom; each job has an actor of its own."""
    return {
        "organization_id": f"org-{number % ORGANIZATIONS}",
        "actor_id": None if number % 7 == 0 else f"user-{number}",
        "impersonating_from": f"admin-{number}" if number % 5 == 0 else None,
    }


def steps(number: int) -> list[str]:
    """Most jobs do what they do at once, some fail first."""
    return ["error:no", "ok:done"] if number % 10 == 1 else ["ok:done"]


def crowd_of(host: Host, size: int) -> list[Job[StepArgs]]:
    """So many jobs, of `def` and `async def` workers in turn."""
    kinds = (host.sync, host.asynchronous)
    return [kinds[n % 2].new(script(*steps(n), **keys(n))) for n in range(size)]


def runs_of(numbers: Mapping[str, int]) -> dict[str, int]:
    """How often each of these jobs, by id and number, is to run."""
    return {job_id: len(steps(number)) for job_id, number in numbers.items()}


def check_ids(trail: Iterable[Mapping[str, Any]], numbers: Mapping[str, int]) -> None:
    """Every audit row has the ids of its own job."""
    for row in trail:
        number = numbers[row["job_id"]]
        sent = keys(number)
        assert row["organization_id"] == sent["organization_id"]
        assert row["effective_user_id"] == sent["actor_id"]
        assert row["actor_id"] == (sent["impersonating_from"] or sent["actor_id"] or "system:host")
        assert row["worker"] == ("steps.async" if number % 2 else "steps.sync")


def check_events(trail: Iterable[Mapping[str, Any]], numbers: Mapping[str, int]) -> None:
    """Every run has one event in the trail, and every event is there once."""
    rows = [*trail]
    assert max(Counter(row["event_id"] for row in rows).values()) == 1
    assert Counter(row["job_id"] for row in rows) == runs_of(numbers)
