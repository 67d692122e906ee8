"""The clouds of the campaign, started once for all its tests."""

import logging
from collections.abc import Iterator

import pytest

from tests.resilience.faults.campaign import Campaign
from tests.resilience.faults.harnesses import HARNESSES, ProviderHarness


class Campaigns:
    """The campaign of each local cloud, started on first use."""

    def __init__(self) -> None:
        self._started: dict[str, Campaign] = {}

    def __getitem__(self, name: str) -> Campaign:
        if name not in self._started:
            harness = ProviderHarness(name, *HARNESSES[name])
            harness.start()
            self._started[name] = Campaign(harness)
        return self._started[name]

    def stop(self) -> None:
        for campaign in self._started.values():
            campaign.harness.stop()


# Not for the session: other modules start clouds in this process, and a process can run only one moto.
@pytest.fixture(name="campaigns", scope="module")
def _campaigns() -> Iterator[Campaigns]:
    campaigns = Campaigns()
    yield campaigns
    campaigns.stop()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep thousands of expected warnings out of the log."""
    caplog.set_level(logging.CRITICAL)
