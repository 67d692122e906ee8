"""The in-memory double keeps every promise of the seam, or it would prove nothing about the code that is tested on it."""

import pytest

from multicompute.testing import ProviderConformance
from multicompute.testing.fake_world import FakeWorld


class TestFakeProvider(ProviderConformance):
    provider_name = "fake"

    @pytest.fixture
    def world(self) -> FakeWorld:
        return FakeWorld()
