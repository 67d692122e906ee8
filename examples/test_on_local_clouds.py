"""Tests of a user's script on local clouds: the clouds' own SDKs and calls, on 127.0.0.1, with the fixture `local_clouds`.

Every method is typed: a type checker knows what `local_clouds.aws` can do.
"""

from datetime import timedelta

from multicompute import Cluster
from multicompute.testing import LocalClouds


def test_training_goes_to_the_next_zone_if_the_first_is_sold_out(local_clouds: LocalClouds) -> None:
    local_clouds.aws.set_capacity("p5.48xlarge", "us-east-1a", 0)
    with Cluster.request(gpus=16, type="p5.48xlarge", clouds=["aws"], regions=["us-east-1"]) as cluster:
        assert cluster.zone != "us-east-1a"
        assert sorted(local_clouds.aws.running_ids()) == sorted(node.id for node in cluster.nodes)
    assert local_clouds.alive() == []


def test_a_lost_answer_and_a_slow_listing_launch_nothing_twice(local_clouds: LocalClouds) -> None:
    local_clouds.aws.lag = timedelta(milliseconds=200)
    local_clouds.aws.faults.lose_answer("RunInstances")
    with Cluster.request(gpus=8, type="p5.48xlarge", clouds=["aws"], regions=["us-east-1"]) as cluster:
        assert local_clouds.aws.running_ids() == [cluster.head.id]
    assert local_clouds.alive() == []


def test_a_preempted_node_degrades_the_cluster_and_foreign_resources_stay(local_clouds: LocalClouds) -> None:
    local_clouds.aws.seed_foreign()
    with Cluster.request(gpus=16, type="p5.48xlarge", spot=True, clouds=["aws"], regions=["us-east-1"]) as cluster:
        local_clouds.aws.preempt(cluster.nodes[1].id)
        assert cluster.refresh().state == "DEGRADED"
    assert local_clouds.aws.foreign_intact()
    assert local_clouds.alive() == []
