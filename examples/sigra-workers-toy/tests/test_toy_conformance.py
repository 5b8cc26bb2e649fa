"""The conformance kit on the toy queue."""

import sys
from pathlib import Path

import pytest

from sigra_workers.conformance import AdapterConformance, Harness
from sigra_workers_toy import ToyAdapter


class TestToy(AdapterConformance):
    """Every rule, with real worker processes."""

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, tmp_path_factory: pytest.TempPathFactory) -> Harness:
        """One file for the class; one worker process serves a queue."""
        folder: Path = tmp_path_factory.mktemp("toy")
        return Harness(
            adapter="toy",
            settings={"path": str(folder / "jobs.sqlite")},
            unreachable_settings={"path": str(folder / "missing" / "jobs.sqlite")},
            command=[
                *(sys.executable, "-m", "sigra_workers_toy", "sigra_workers.conformance.app:workers"),
                *("--import", "sigra_workers.conformance.workers", "--queue", "{queue}"),
            ],
            result=lambda workers, job_id: ToyAdapter.of(workers).result(job_id),
        )
