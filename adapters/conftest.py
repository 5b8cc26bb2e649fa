"""Settings of the adapters' tests."""

import pytest

pytest.register_assert_rewrite("tests.queues")  # its assertions tell what they saw, as those of test files do
