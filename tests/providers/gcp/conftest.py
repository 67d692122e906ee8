"""Fixtures for the tests of the Google adapter."""

from collections.abc import Callable, Iterator
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute.testing import FakeClock
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.launch_requests import request_maker

A3 = InstanceType("gcp", "a3-highgpu-8g", "h100", 8, 80, 208, 1872, fabric="gpudirect-tcpx")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[GcpLocalCloud]:
    """A local Google Cloud in virtual time, so that no test depends on the speed of the machine."""
    cloud = GcpLocalCloud(clock=clock)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def provider_of(cloud: GcpLocalCloud, clock: FakeClock) -> Callable[..., GcpProvider]:
    """Return a function that opens the adapter on the local cloud, with additional settings."""

    def make(**values: object) -> GcpProvider:
        named = {"endpoint_url": cloud.endpoint_url, "project": cloud.project}
        return GcpProvider(Settings({**named, **values}, cloud.environment), clock=clock)

    return make


@pytest.fixture
def provider(provider_of: Callable[..., GcpProvider]) -> GcpProvider:
    return provider_of()


@pytest.fixture
def offer() -> Offer:
    return Offer(A3, "us-central1", "us-central1-a", "on_demand", Quote(88.49, date(2026, 8, 3), "list"))


@pytest.fixture
def request_of(offer: Offer) -> Callable[..., LaunchRequest]:
    """Return a function that makes a request for one part of two nodes; its arguments replace fields."""
    return request_maker(offer, owner="me@host")
