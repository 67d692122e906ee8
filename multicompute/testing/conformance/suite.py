"""The conformance suite as one class."""

from collections.abc import Iterator

import pytest

from multicompute.testing.conformance.abilities import AbilityConformance
from multicompute.testing.conformance.launching import LaunchConformance
from multicompute.testing.conformance.listing import ListingConformance
from multicompute.testing.conformance.outside import OutsideConformance
from multicompute.testing.conformance.probes import or_skip
from multicompute.testing.conformance.teardown import TeardownConformance
from multicompute.testing.provider_harness import ProviderHarness


class ProviderConformance(
    LaunchConformance, ListingConformance, TeardownConformance, OutsideConformance, AbilityConformance
):
    """Tests of every promise of `Provider`, through the provider and against the resources of its test cloud."""

    @pytest.fixture
    def harness(self) -> Iterator[ProviderHarness]:
        """Return the harness; the subclass overrides this fixture, and creates a new harness for each test."""
        raise NotImplementedError("a subclass of ProviderConformance must override the fixture `harness`")

    @pytest.fixture(autouse=True)
    def _skip_what_is_not_declared(self, request: pytest.FixtureRequest, harness: ProviderHarness) -> None:
        capability = getattr(request.function, "needs", None)
        if capability is not None and capability not in harness.provider.capabilities:
            pytest.skip(f"{harness.provider.name} does not declare the capability {capability}")

    @pytest.fixture(autouse=True)
    def _skip_what_the_cloud_lacks(self, harness: ProviderHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("other_account", "stop", "remove_tags", "protect", "unprotect", "refuse_launch"):
            monkeypatch.setattr(harness, name, or_skip(getattr(harness, name)))
