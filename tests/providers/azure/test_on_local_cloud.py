"""The adapter on a local Azure that keeps state: complete gangs, from launch to teardown, with every call failing once."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.clock import SystemClock
from multicompute.testing import LocalClouds, local_clouds
from multicompute.testing.faults import Fault, FaultKind
from multicompute_azure.local import AzureLocalCloud
from multicompute_azure.local.admission import Stockout

SIZE = "Standard_ND96isr_H100_v5"
# Every call of a request and of the teardown of its cluster, of Flexible scale sets and of Uniform ones with a fabric; a test checks that
# the lists are complete.
BOTH = (
    "networkSecurityGroups.createOrUpdate",
    "networkSecurityGroups.get",
    "operations.get",
    "resourceGroups.createOrUpdate",
    "resourceGroups.delete",
    "resourceGroups.get",
    "retailPrices.list",
    "skus.list",
    "subscriptions.get",
    "subscriptions.listLocations",
    "usages.list",
    "virtualMachineImages.get",
    "virtualMachineImages.list",
    "virtualMachineScaleSets.createOrUpdate",
    "virtualMachineScaleSets.get",
    "virtualMachineScaleSets.list",
    "virtualNetworks.createOrUpdate",
    "virtualNetworks.get",
)
OPERATIONS = {
    "any": (*BOTH, "networkInterfaces.list", "publicIPAddresses.list", "virtualMachines.list"),
    "rdma": (
        *BOTH,
        "virtualMachineScaleSetVMs.list",
        "virtualMachineScaleSets.listNetworkInterfaces",
        "virtualMachineScaleSets.listPublicIPAddresses",
    ),
}


@pytest.fixture
def clouds() -> Iterator[LocalClouds]:
    with local_clouds("azure") as running:
        yield running


def request(**changes: Any) -> Cluster:
    arguments: dict[str, Any] = {"gpus": 16, "type": SIZE, "regions": ["eastus"], "progress": False}
    return Cluster.request(**(arguments | changes))


def test_64_h100_start_in_one_zone_and_leave_nothing(clouds: LocalClouds) -> None:
    with request(gpus=64, regions=None) as cluster:
        assert (cluster.provider, len(cluster.nodes)) == ("azure", 8)
        assert [node.id for node in cluster.nodes] == clouds.azure.running_ids()
        assert len({node.zone for node in cluster.nodes}) == 1
        assert all(node.private_ip and node.public_ip for node in cluster.nodes)
    assert clouds.alive() == []


@pytest.mark.parametrize("interconnect", OPERATIONS)
def test_the_calls_of_a_request_are_those_that_fail_in_the_next_test(clouds: LocalClouds, interconnect: str) -> None:
    with request(interconnect=interconnect):
        pass
    assert {call.operation for call in clouds.azure.faults.calls} == set(OPERATIONS[interconnect])


@pytest.mark.parametrize(
    ("interconnect", "operation"), [(mode, operation) for mode, calls in OPERATIONS.items() for operation in calls]
)
@pytest.mark.parametrize("kind", [FaultKind.LOSE_ANSWER, FaultKind.DROP])
def test_whichever_call_fails_the_gang_is_bought_once_and_torn_down_completely(
    clouds: LocalClouds, interconnect: str, operation: str, kind: FaultKind
) -> None:
    clouds.azure.faults.add(Fault(kind, operation))
    with request(interconnect=interconnect) as cluster:
        assert [node.id for node in cluster.nodes] == clouds.azure.running_ids()
        assert len(cluster.nodes) == 2
    assert clouds.alive() == []


@pytest.mark.parametrize(
    ("stockout", "late"),
    [
        ("SkuNotAvailable", False),
        ("AllocationFailed", False),
        ("AllocationFailed", True),
        ("OverconstrainedAllocationRequest", False),
    ],
)
@pytest.mark.parametrize("interconnect", OPERATIONS)
def test_after_a_lack_of_capacity_the_next_region_is_tried_and_nothing_billed_is_left(
    clouds: LocalClouds, stockout: Stockout, late: bool, interconnect: str
) -> None:
    clouds.of(AzureLocalCloud).stockout = stockout
    clouds.azure.boot_delay = timedelta(milliseconds=1300 if late else 0)
    clouds.azure.set_capacity(SIZE, "eastus", 1)
    with request(regions=["eastus", "westus3"], interconnect=interconnect) as cluster:
        assert cluster.region == "westus3"
        assert len(clouds.azure.running_ids()) == 2
        assert any(event.kind == "capacity" and "eastus" in event.message for event in cluster.events())
    assert clouds.alive() == []


@pytest.mark.parametrize("interconnect", OPERATIONS)
def test_a_preempted_spot_node_degrades_the_cluster(clouds: LocalClouds, interconnect: str) -> None:
    with request(spot=True, interconnect=interconnect) as cluster:
        clouds.azure.preempt(cluster.nodes[0].id)
        # A node that is not listed does not count as gone before the consistency window is over (I4).
        clock = SystemClock()
        deadline = clock.now() + timedelta(seconds=10)
        while cluster.state != "DEGRADED" and clock.now() < deadline:
            clock.sleep(timedelta(milliseconds=50))
            cluster.refresh()
        assert cluster.state == "DEGRADED"
    assert clouds.alive() == []
