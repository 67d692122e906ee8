"""The Azure provider keeps every promise of the seam: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from multicompute.node import Node, NodeState
from multicompute.offer import InstanceType, Quote
from multicompute.provider import LaunchRequest, Settings
from multicompute.testing import FailureKind, FakeClock, LocalCloudHarness, ProviderConformance, Refusal, running
from multicompute.testing.conformance.probes import FIRST, ids_of, until_running
from multicompute.testing.provider_harness import ProviderHarness, launch_request
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


def harness_of(
    cloud: AzureLocalCloud, clock: FakeClock, kind: type[AzureProvider], *, page_nodes: int
) -> LocalCloudHarness:
    other = cloud.add_account("00000000-0000-0000-0000-00000000b0b0")
    values = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
    return LocalCloudHarness(
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

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(AzureLocalCloud(clock=clock)) as cloud:
            # A fabric has at most 100 nodes.
            cloud.page_size = 40
            yield harness_of(cloud, clock, OnFabric, page_nodes=60)

    def test_a_node_without_tags_is_found_by_its_id_and_by_its_token(self, harness: ProviderHarness) -> None:
        """The instances of a Uniform scale set have no tags of their own, so all of them lose the tags of the scale set."""
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        harness.remove_tags(nodes[0].id)
        here = replace(FIRST, region=harness.offer().region)
        for selector in (
            replace(here, known_ids=(nodes[0].id,)),
            replace(here, tokens=("attempt-1",), known_ids=tuple(node.id for node in nodes)),
        ):
            found = {node.id: node for node in harness.provider.nodes(selector)}
            assert found.keys() == ids_of(nodes)
            assert not any(node.is_tagged for node in found.values())
            assert {node.state for node in found.values()} == {NodeState.RUNNING}
