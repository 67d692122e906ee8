"""The in-memory double keeps every promise of the seam; otherwise it would prove nothing about the code that is tested on it."""

import pytest

from multicompute.testing import ProviderConformance
from multicompute.testing.fake.harness import FakeHarness


class TestFakeProvider(ProviderConformance):
    provider_name = "fake"

    @pytest.fixture
    def harness(self) -> FakeHarness:
        return FakeHarness()
