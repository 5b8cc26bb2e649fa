"""Test an application's workers, without a server: see `testing`, and the pytest fixture ``sigra``."""

from sigra_workers.testing.kit import SigraTesting, testing
from sigra_workers.testing.matching import EventFilters, JobFilters
from sigra_workers.testing.performing import RunFacts
from sigra_workers.testing.runs import JobRun, RunEnding

__all__ = ["EventFilters", "JobFilters", "JobRun", "RunEnding", "RunFacts", "SigraTesting", "testing"]
