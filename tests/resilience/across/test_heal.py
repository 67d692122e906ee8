"""Lost nodes are replaced in the same zone with the same ranks, on every cloud over HTTP."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import apply_environment
from multicompute.testing import LocalClouds, local_clouds

REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}


@pytest.fixture(name="clouds")
def _clouds(cloud: str) -> Iterator[LocalClouds]:
    with local_clouds(cloud) as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}):
        yield clouds


@pytest.mark.parametrize("cloud", REGIONS)
def test_a_preempted_node_is_replaced_in_the_zone_of_the_others(clouds: LocalClouds, cloud: str) -> None:
    with Cluster.request(gpus=32, type="h100", spot=True, clouds=[cloud], regions=[REGIONS[cloud]]) as cluster:
        before = {node.rank: node.id for node in cluster.nodes}
        clouds[cloud].preempt(before[2])
        cluster.wait_for("degraded", timeout="20s")
        (event,) = [event for event in cluster.events() if event.kind == "degraded"]
        assert f"{before[2]} (rank 2)" in event.message
        assert cluster.heal().state is ClusterState.READY
        after = {node.rank: node.id for node in cluster.nodes}
        assert [rank for rank in before if after[rank] != before[rank]] == [2]
        assert sorted(clouds[cloud].running_ids()) == sorted(after.values())
        assert {node.zone for node in cluster.nodes} == {cluster.zone}
    assert clouds.alive() == []


@pytest.mark.parametrize("cloud", ["gcp"])
def test_a_preempted_slice_is_replaced_as_a_unit(clouds: LocalClouds, cloud: str) -> None:
    with Cluster.request(
        type="v5litepod-16", nodes=2, spot=True, regions=["gcp:us-west4", "gcp:europe-west4"]
    ) as cluster:
        hosts = [node.id for node in cluster.nodes]
        assert len(hosts) == 8
        clouds.gcp.preempt(hosts[0])
        cluster.wait_for("degraded", timeout="20s")
        assert [node.id for node in cluster.nodes] == hosts[4:]
        cluster.heal()
        assert [node.rank for node in cluster.nodes] == list(range(8))
        assert [node.id for node in cluster.nodes][4:] == hosts[4:]
    assert clouds.alive() == []
