"""Fixtures of the tests of the Azure adapter."""

from collections.abc import Callable, Iterator
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute.testing import FakeClock
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud
from tests.providers.launch_requests import request_maker

ND = InstanceType("azure", "Standard_ND96isr_H100_v5", "h100", 8, 80.0, 96, 1900, fabric="infiniband")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[AzureLocalCloud]:
    """A local Azure in virtual time, so that no test depends on the speed of the machine."""
    made = AzureLocalCloud(clock=clock)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def open_with(cloud: AzureLocalCloud, clock: FakeClock) -> Callable[..., AzureProvider]:
    """Return a function that opens the provider on the local cloud with the given settings."""

    def make(**values: object) -> AzureProvider:
        known = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
        return AzureProvider(Settings(values=known | values), clock=clock)

    return make


@pytest.fixture
def provider(open_with: Callable[..., AzureProvider]) -> AzureProvider:
    return open_with()


@pytest.fixture
def offer() -> Offer:
    return Offer(ND, "eastus", "eastus-1", "on_demand", Quote(98.32, date(2026, 6, 18), "list"))


@pytest.fixture
def request_of(offer: Offer) -> Callable[..., LaunchRequest]:
    """Return a function that makes a request for one part of two nodes; its arguments replace fields."""
    return request_maker(offer)
