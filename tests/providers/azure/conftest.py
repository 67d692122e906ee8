"""Fixtures of the tests of the Azure adapter."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

ND = InstanceType("azure", "Standard_ND96isr_H100_v5", "h100", 8, 80.0, 96, 1900, fabric="infiniband")


@pytest.fixture
def cloud() -> Iterator[AzureLocalCloud]:
    made = AzureLocalCloud()
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def open_with(cloud: AzureLocalCloud) -> Callable[..., AzureProvider]:
    """Return a function that opens the provider on the local cloud with the given settings."""

    def make(**values: object) -> AzureProvider:
        known = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
        return AzureProvider(Settings(values=known | values))

    return make


@pytest.fixture
def provider(open_with: Callable[..., AzureProvider]) -> AzureProvider:
    return open_with()


@pytest.fixture
def offer() -> Offer:
    return Offer(ND, "eastus", "eastus-1", "on_demand", Quote(98.32, date(2026, 6, 18), "list"))


@pytest.fixture
def request_of(offer: Offer) -> Callable[..., LaunchRequest]:
    """Return a function that builds a request for one part of two nodes; its arguments replace fields."""

    def make(**changes: object) -> LaunchRequest:
        token = str(changes.get("token", "tok"))
        tags = {
            "multicompute-cluster": "train",
            "multicompute-id": "id-1",
            "multicompute-attempt": token,
            "multicompute-owner": "me",
            "multicompute-expires-at": "never",
            "team": "nlp",
        }
        plain = LaunchRequest(token, "id-1", "train", "me", (Part(offer, 2),), tags)
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
