"""Fixtures for the tests of the Google adapter."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

A3 = InstanceType("gcp", "a3-highgpu-8g", "h100", 8, 80, 208, 1872, fabric="gpudirect-tcpx")


@pytest.fixture
def cloud() -> Iterator[GcpLocalCloud]:
    cloud = GcpLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def provider_of(cloud: GcpLocalCloud) -> Callable[..., GcpProvider]:
    """Return a function that opens the adapter on the local cloud, with additional settings."""

    def make(**values: object) -> GcpProvider:
        named = {"endpoint_url": cloud.endpoint_url, "project": cloud.project}
        return GcpProvider(Settings({**named, **values}, cloud.environment))

    return make


@pytest.fixture
def provider(provider_of: Callable[..., GcpProvider]) -> GcpProvider:
    return provider_of()


@pytest.fixture
def offer() -> Offer:
    return Offer(A3, "us-central1", "us-central1-a", "on_demand", Quote(88.49, date(2026, 8, 3), "list"))


@pytest.fixture
def request_of(offer: Offer) -> Callable[..., LaunchRequest]:
    """Return a function that makes a request for one part of two nodes; every field may be changed."""

    def make(**changes: object) -> LaunchRequest:
        tags = {
            "multicompute-cluster": "train",
            "multicompute-id": "id-1",
            "multicompute-attempt": "tok",
            "multicompute-owner": "me@host",
            "multicompute-expires-at": "never",
            "team": "nlp",
        }
        plain = LaunchRequest("tok", "id-1", "train", "me@host", (Part(offer, 2),), tags)
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
