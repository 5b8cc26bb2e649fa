"""A third-party adapter's own check, as ``sigra-workers doctor`` runs it."""

import time
from pathlib import Path

import pytest

from sigra_workers import AuditScope, OrganizationArgs, Workers, organization_args
from sigra_workers.doctor import examine
from sigra_workers_toy import ToyAdapter


def test_jobs_that_nobody_takes_are_a_problem_and_those_just_sent_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workers[AuditScope](adapter="toy", settings={"path": str(tmp_path / "jobs.sqlite")}) as workers:
        close = workers.declare("accounts.close", OrganizationArgs)
        close.enqueue(organization_args(organization_id="northwind", actor_id="ann"))
        (sound,) = examine(workers, ["toy"])
        assert (sound.check, sound.finding.status) == ("toy.taken", "ok")
        monkeypatch.setattr(ToyAdapter.of(workers), "clock", lambda: time.time() - 61)
        close.enqueue(organization_args(organization_id="northwind", actor_id="ann"))
        (broken,) = examine(workers, ["toy"])
    assert broken.finding.status == "problem"
    assert broken.finding.what == "1 jobs have been due for a minute: no worker process takes them"
    assert broken.finding.mend == "python -m sigra_workers_toy app.jobs:workers"
    assert (Path(__file__).parents[3] / broken.finding.page).exists()
