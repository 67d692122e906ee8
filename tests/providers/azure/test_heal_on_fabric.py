"""A cluster on an InfiniBand fabric is healed on the same fabric, through the public interface."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, errors
from multicompute.clock import SystemClock
from multicompute.node import NodeState
from multicompute.testing import LocalClouds, local_clouds
from multicompute_azure.local import AzureLocalCloud

SIZE = "Standard_ND96isr_H100_v5"


@pytest.fixture
def clouds() -> Iterator[LocalClouds]:
    with local_clouds("azure") as running:
        yield running


@pytest.fixture
def cloud(clouds: LocalClouds) -> AzureLocalCloud:
    return clouds.of(AzureLocalCloud)


def request(nodes: int) -> Cluster:
    return Cluster.request(gpus=8 * nodes, type=SIZE, regions=["eastus"], interconnect="rdma", progress=False)


def lose(cloud: AzureLocalCloud, cluster: Cluster, rank: int) -> str:
    """Delete a node, and wait until it counts as gone: not before the consistency window is over (I4)."""
    lost = cluster.nodes[rank].id
    cloud.terminate_node(lost)
    clock = SystemClock()
    deadline = clock.now() + timedelta(seconds=20)
    while cluster.refresh().state != "DEGRADED" and clock.now() < deadline:
        clock.sleep(timedelta(milliseconds=50))
    assert cluster.state == "DEGRADED"
    return lost


def fabrics(cloud: AzureLocalCloud, cluster: Cluster) -> set[str]:
    return {cloud.fabric_of(node.id) for node in cluster.nodes}


def test_a_lost_node_is_replaced_on_the_fabric_of_the_others(clouds: LocalClouds, cloud: AzureLocalCloud) -> None:
    cluster = request(4)
    before = fabrics(cloud, cluster)
    for _ in range(2):
        lost = lose(cloud, cluster, 1)
        assert cluster.heal().state == "READY"
        assert [node.rank for node in cluster.nodes] == [0, 1, 2, 3]
        assert lost not in {node.id for node in cluster.nodes}
        assert fabrics(cloud, cluster) == before != {""}
        assert sorted(node.id for node in cluster.nodes) == sorted(cloud.running_ids())
        assert cluster.refresh().state == "READY"
    cluster.terminate()
    assert clouds.alive() == []


def test_a_repair_without_capacity_leaves_the_cluster_as_it_was(clouds: LocalClouds, cloud: AzureLocalCloud) -> None:
    cluster = request(3)
    lose(cloud, cluster, 0)
    cloud.set_capacity(SIZE, "eastus", 2)
    with pytest.raises(errors.CapacityError):
        cluster.heal(timeout="20s")
    running = cloud.running_ids()
    assert len(running) == 2
    assert {node.id for node in cluster.refresh().nodes if node.state is NodeState.RUNNING} == set(running)
    cloud.set_capacity(SIZE, "eastus", None)
    assert cluster.heal().state == "READY"
    assert len(fabrics(cloud, cluster)) == 1
    cluster.terminate()
    assert clouds.alive() == []
