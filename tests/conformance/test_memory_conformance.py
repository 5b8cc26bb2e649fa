"""The kit on the embedded adapter, inside this process."""

import pytest
from tests.conformance.support import memory

from sigra_workers.conformance import AdapterConformance, Harness


class TestMemory(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Harness:
        return memory()
