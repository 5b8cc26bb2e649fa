"""The conformance kit: derive a test class from `AdapterConformance`, and give it a fixture `harness`."""

from sigra_workers.conformance.harness import Harness
from sigra_workers.conformance.kit import AdapterConformance
from sigra_workers.conformance.rule import Rule

__all__ = ["AdapterConformance", "Harness", "Rule"]
