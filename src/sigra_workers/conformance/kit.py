"""The kit: the class that an adapter's tests derive from."""

from collections.abc import Iterator

import pytest

from sigra_workers.conformance.bench import Begun, Bench
from sigra_workers.conformance.harness import MISSING, Harness
from sigra_workers.conformance.rule import Rule, rule_of
from sigra_workers.conformance.rules.adapter import Itself
from sigra_workers.conformance.rules.contract import Contract
from sigra_workers.conformance.rules.dead import DeadJobs
from sigra_workers.conformance.rules.decisions import Decisions
from sigra_workers.conformance.rules.delays import Delays
from sigra_workers.conformance.rules.hooks import Hooks
from sigra_workers.conformance.rules.isolation import Isolation
from sigra_workers.conformance.rules.processes import Processes
from sigra_workers.conformance.rules.sending import Sending


class AdapterConformance(Sending, Decisions, Contract, Processes, Isolation, Delays, Hooks, DeadJobs, Itself):
    """Derive a test class from it and give it a fixture `harness`: it fails for each rule that is broken.

    What keeps jobs safe is demanded of every adapter. A capability that is not declared is refused clearly;
    one that is declared holds.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Harness:
        """To be written by the class that is derived."""
        pytest.fail(MISSING.format(name=cls.__name__), pytrace=False)

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, request: pytest.FixtureRequest, harness: Harness) -> Iterator[Bench]:
        """The adapter, running, with all rules begun that are to be checked."""
        bench = Bench(harness)
        try:
            tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
            chosen = {rule_of(getattr(cls, test.originalname)) for test in tests if test.cls is cls}
            for found in sorted(filter(None, chosen), key=lambda rule: rule.number):
                bench.begun[found.body.__name__] = Begun(found.body(cls(), bench))
            yield bench
        finally:
            bench.close()

    @classmethod
    def rules(cls) -> list[Rule]:
        """The rules, in order."""
        found = (rule_of(getattr(cls, name)) for name in dir(cls))
        return sorted(filter(None, found), key=lambda rule: rule.number)
