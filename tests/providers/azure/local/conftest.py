"""Fixtures for tests of the local Azure: a cloud in virtual time, raw HTTP, and the real SDK connected to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient

from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import Arm, Site


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[AzureLocalCloud]:
    """A local Azure in virtual time."""
    cloud = AzureLocalCloud(clock=clock)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def arm(cloud: AzureLocalCloud) -> Arm:
    return Arm(cloud)


@pytest.fixture
def site(arm: Arm) -> Site:
    return Site(arm)


class _Credential:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("local", 9999999999)


@dataclass
class Sdk:
    """The clients of the real SDK."""

    compute: Any
    network: Any
    resources: Any


@pytest.fixture
def sdk(cloud: AzureLocalCloud) -> Iterator[Sdk]:
    options: dict[str, Any] = {"base_url": cloud.endpoint_url, "polling_interval": 0, "retry_total": 0}
    made = [
        client(_Credential(), cloud.subscription_id, authentication_policy=SansIOHTTPPolicy(), **options)
        for client in (ComputeManagementClient, NetworkManagementClient, ResourceManagementClient)
    ]
    yield Sdk(*made)
    for client in made:
        client.close()
