"""The clouds of the campaign, started once for all its tests."""

import logging
from collections.abc import Iterator

import pytest

from tests.resilience.faults.campaign import Campaign
from tests.resilience.faults.harnesses import WORLDS, ProviderHarness


class Campaigns:
    """The campaign of each world, begun when it is first asked for."""

    def __init__(self) -> None:
        self._begun: dict[str, Campaign] = {}

    def __getitem__(self, name: str) -> Campaign:
        if name not in self._begun:
            world = ProviderHarness(name, *WORLDS[name])
            world.start()
            self._begun[name] = Campaign(world)
        return self._begun[name]

    def stop(self) -> None:
        for campaign in self._begun.values():
            campaign.world.stop()


# Not for the session: other modules start clouds of their own in this process, and moto is one to a process.
@pytest.fixture(name="campaigns", scope="module")
def _campaigns() -> Iterator[Campaigns]:
    campaigns = Campaigns()
    yield campaigns
    campaigns.stop()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep thousands of expected complaints from being written and kept."""
    caplog.set_level(logging.CRITICAL)
