"""The Azure provider keeps every promise of the seam: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from multicompute.node import Node
from multicompute.offer import InstanceType, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute.testing import FailureKind, FakeClock, LocalCloudHarness, ProviderConformance, Refusal, running
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

SIZE = "Standard_ND96isr_H100_v5"
TYPE = InstanceType("azure", SIZE, "h100", 8, 80.0, vcpus=96, memory_gib=1900, fabric="infiniband")
REFUSALS = {
    FailureKind.CAPACITY: Refusal(
        "SkuNotAvailable", 409, f"Following SKUs have failed for Capacity Restrictions: {SIZE}"
    ),
    FailureKind.NOT_OFFERED: Refusal(
        "InvalidParameter", 400, f"The requested VM size {SIZE} is not available in the current region."
    ),
    FailureKind.QUOTA: Refusal(
        "OperationNotAllowed",
        409,
        "Operation could not be completed as it results in exceeding approved standardNDSH100v5Family Cores quota.",
    ),
    FailureKind.THROTTLED: Refusal("TooManyRequests", 429, "The request is being throttled."),
    FailureKind.TRANSIENT: Refusal("InternalServerError", 500, "An unexpected error occurred."),
    # Twice: after the first rejection the credentials are read again, and the call is repeated.
    FailureKind.AUTH: Refusal("ExpiredAuthenticationToken", 401, "The access token expiry is in the past.", times=2),
    FailureKind.DENIED: Refusal(
        "AuthorizationFailed", 403, "The client does not have authorization to perform action."
    ),
    FailureKind.INVALID: Refusal("InvalidParameter", 400, "The value of a parameter is invalid."),
    FailureKind.UNKNOWN: Refusal("SomethingNobodyHasHeardOf", 400, "It is what it is."),
}


class OnFabric(AzureProvider):
    """The provider, asked for an InfiniBand fabric in every launch that can have one."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        return super().launch(replace(request, fabric=len(request.parts) == 1))


class FabricHarness(LocalCloudHarness):
    """The harness for Uniform scale sets."""

    def remove_tags(self, node_id: str) -> None:
        # tests/providers/azure/test_fabric.py removes those of the scale set.
        raise NotImplementedError("an instance of a Uniform scale set has no tags of its own")


def harness_of(
    cloud: AzureLocalCloud,
    clock: FakeClock,
    kind: type[AzureProvider],
    *,
    page_nodes: int,
    harness: type[LocalCloudHarness] = LocalCloudHarness,
) -> LocalCloudHarness:
    other = cloud.add_account("00000000-0000-0000-0000-00000000b0b0")
    values = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
    return harness(
        cloud=cloud,
        provider=kind(Settings(values=values, environment=cloud.environment), clock=clock),
        clock=clock,
        instance_type=TYPE,
        zones={"eastus": ("eastus-1", "eastus-2"), "westus2": ("westus2-1", "westus2-2")},
        quote=Quote(98.32, date(2026, 6, 18), "test"),
        launch="virtualMachineScaleSets.createOrUpdate",
        refusals=REFUSALS,
        page_nodes=page_nodes,
        other_account=lambda: kind(Settings({"endpoint_url": cloud.endpoint_url}, other), clock=clock),
    )


class TestAzureProvider(ProviderConformance):
    provider_name = "azure"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(AzureLocalCloud(clock=clock)) as cloud:
            yield harness_of(cloud, clock, AzureProvider, page_nodes=250)


class TestAzureProviderWithFabric(TestAzureProvider):
    """The same promises for gangs on an InfiniBand fabric, which are Uniform scale sets with calls of their own."""

    provider_name = "azure"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(AzureLocalCloud(clock=clock)) as cloud:
            # A fabric has at most 100 nodes.
            cloud.page_size = 40
            yield harness_of(cloud, clock, OnFabric, page_nodes=60, harness=FabricHarness)
