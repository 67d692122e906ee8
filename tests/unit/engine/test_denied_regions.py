"""A region that refuses every call costs that region, and does not keep a cluster TERMINATING."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.reap import reap
from multicompute.testing import FakeCloud, fake_cloud

REFUSING, OTHER = "us-east-1", "us-west-2"


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def refuse(cloud: FakeCloud, *operations: str, code: str = "denied-region") -> None:
    for operation in operations:
        cloud.aws.faults.fail(operation, code, times=None, where={"region": REFUSING})


def request(*regions: str) -> Cluster:
    return Cluster.request(gpus=8, type="h100", name="train-1", clouds=["aws"], regions=list(regions))


def test_a_teardown_ends_although_a_region_refuses_it_as_it_refused_every_attempt(cloud: FakeCloud) -> None:
    refuse(cloud, "launch", "nodes", "resources", "terminate", "set_expiry")
    cluster = request(REFUSING, OTHER)
    assert cluster.region == OTHER
    assert cluster.terminate().state is ClusterState.TERMINATED
    assert any(f"{REFUSING}: nothing to delete" in event.message for event in cluster.events())
    assert cloud.alive() == []


def test_a_request_that_only_refusing_regions_could_meet_ends_as_failed(cloud: FakeCloud) -> None:
    refuse(cloud, "launch", "nodes", "resources", "terminate", "set_expiry")
    with pytest.raises(errors.AccessDeniedError):
        request(REFUSING)
    assert Cluster.get("train-1").state is ClusterState.FAILED


def test_a_region_that_had_let_an_attempt_in_is_waited_for(cloud: FakeCloud) -> None:
    """What lacked capacity there was accepted, and may have left a group behind."""
    for letter in "abcdef":
        cloud.aws.set_capacity("*", f"{REFUSING}{letter}", 0)
    cluster = request(REFUSING, OTHER)
    assert cluster.region == OTHER
    refuse(cloud, "terminate")
    with pytest.raises(errors.AccessDeniedError):
        cluster.terminate()
    assert Cluster.get("train-1").state is ClusterState.TERMINATING
    cloud.aws.faults.clear()
    assert reap(cloud.session).terminated == ["train-1"]
    assert cloud.alive() == []


@pytest.mark.parametrize("code", ["denied-region", "auth"])
def test_nodes_in_a_region_that_began_to_refuse_keep_the_cluster_terminating(cloud: FakeCloud, code: str) -> None:
    cluster = request(REFUSING)
    refuse(cloud, "terminate", code=code)
    with pytest.raises(errors.MulticomputeError):
        cluster.terminate()
    assert Cluster.get("train-1").state is ClusterState.TERMINATING
    cloud.aws.faults.clear()
    cluster.terminate()
    assert cloud.alive() == []
