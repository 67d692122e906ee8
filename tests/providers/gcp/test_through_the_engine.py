"""The calls of complete requests: a refresh costs one listing, and quotas are known before anything is launched."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.testing import LocalClouds, local_clouds

HERE = ["gcp:us-central1"]


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds


def _calls(clouds: LocalClouds) -> list[str]:
    return [call.operation for call in clouds.gcp.faults.calls]


def test_a_refresh_of_instances_is_one_call_however_many_there_are(clouds: LocalClouds) -> None:
    with Cluster.request(gpus=40, type="g2-standard-4", regions=HERE) as cluster:
        clouds.gcp.faults.clear()
        assert cluster.refresh().state is ClusterState.READY
        assert _calls(clouds) == ["instances.aggregatedList"]
    assert clouds.alive() == []


def test_waiting_for_instances_never_lists_tpus_and_waiting_for_slices_lists_nothing_else(clouds: LocalClouds) -> None:
    clouds.gcp.set_delays(boot=0.2)
    with Cluster.request(gpus=8, type="g2-standard-4", regions=HERE):
        called = set(_calls(clouds))
    assert "instances.aggregatedList" in called
    assert not [call for call in called if call.startswith("tpu.")]
    clouds.gcp.faults.clear()
    with Cluster.request(type="v5p-32", regions=["gcp:us-east5"]) as cluster:
        called = set(_calls(clouds)) - {"regions.get", "projects.get"}
        assert called and all(call.startswith("tpu.") for call in called)
        clouds.gcp.faults.clear()
        assert cluster.refresh().state is ClusterState.READY
        assert _calls(clouds) == ["tpu.queuedResources.list", "tpu.nodes.list"]
    assert clouds.alive() == []


def test_a_quota_of_t4_is_known_before_the_launch_and_does_not_apply_to_v100(clouds: LocalClouds) -> None:
    clouds.gcp.set_quota("NVIDIA_T4_GPUS", "us-central1", 1)
    with pytest.raises(errors.QuotaError, match="NVIDIA_T4_GPUS"):
        Cluster.request(gpus=2, type="t4", regions=HERE)
    assert "instances.bulkInsert" not in _calls(clouds)
    with Cluster.request(gpus=2, type="v100", regions=HERE) as cluster:
        assert cluster.state is ClusterState.READY
    assert clouds.alive() == []


def test_instances_are_torn_down_even_if_the_tpu_api_was_disabled_meanwhile(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=2, type="g2-standard-4", regions=HERE)
    for listing in ("queuedResources", "nodes"):
        message = "Cloud TPU API has not been used in project 1 before or it is disabled."
        clouds.gcp.faults.fail(f"tpu.{listing}.list", "SERVICE_DISABLED", status=403, message=message, times=None)
    cluster.terminate()
    assert cluster.state is ClusterState.TERMINATED
    assert clouds.alive() == []
