"""The calls of complete requests: a refresh costs one listing, and quotas are known before anything is launched."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.testing import LocalClouds, local_clouds

HERE = ["gcp:us-central1"]
# What the engine asks once a day: which zones and types the project can use.
OFFERED = {"zones.list", "machineTypes.aggregatedList", "tpu.locations.list", "tpu.acceleratorTypes.list"}
# What the engine asks once an hour: prices.
PRICES = "cloudbilling.skus.list"


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
        called = set(_calls(clouds)) - OFFERED
    assert "instances.aggregatedList" in called
    assert not [call for call in called if call.startswith("tpu.")]
    clouds.gcp.faults.clear()
    with Cluster.request(type="v5p-32", regions=["gcp:us-east5"]) as cluster:
        # The quotas of the region, and the routes of the network, which a slice needs as well.
        called = set(_calls(clouds)) - {"regions.get", "projects.get", "routes.list", PRICES, *OFFERED}
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


# --- places that refuse -----------------------------------------------------------------------------------------------

# https://github.com/GoogleCloudPlatform/oss-test-infra/pull/2703
LOCATION = (
    "Location ZONE:us-central1-a violates constraint constraints/gcp.resourceLocations on the resource projects/p."
)
# https://cloud.google.com/blog/products/containers-kubernetes/avoiding-the-gke-ip_space_exhausted-error
NO_ADDRESSES = "IP space of 'projects/p/regions/us-central1/subnetworks/default' is exhausted."
NO_SUBNETWORK = (
    "Invalid value for field 'resource.networkInterfaces[0].subnetwork': 'projects/p/regions/us-central1/subnetworks/gpu'."
    " The referenced subnetwork resource cannot be found."
)
NO_IMAGE = "The resource 'projects/p/global/images/family/mine' was not found"


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("conditionNotMet", 412, LOCATION),
        ("CONDITION_NOT_MET", 412, LOCATION),
        ("IP_SPACE_EXHAUSTED", 400, NO_ADDRESSES),
        ("invalid", 400, NO_SUBNETWORK),
        ("notFound", 404, NO_IMAGE),
    ],
)
def test_what_one_place_refuses_costs_that_place_only(
    clouds: LocalClouds, code: str, status: int, message: str
) -> None:
    where = {"region": "us-central1"}
    clouds.gcp.faults.fail("instances.bulkInsert", code, status=status, message=message, times=None, where=where)
    regions = ["gcp:us-central1", "gcp:europe-west4"]
    with Cluster.request(gpus=1, type="g2-standard-4", regions=regions) as cluster:
        assert cluster.region == "europe-west4"
    assert clouds.alive() == []


def test_a_policy_on_locations_is_not_repeated_as_a_passing_failure(clouds: LocalClouds) -> None:
    clouds.gcp.faults.fail("instances.bulkInsert", "conditionNotMet", status=412, message=LOCATION, times=None)
    with pytest.raises(errors.AccessDeniedError, match=r"constraints/gcp\.resource"):
        Cluster.request(gpus=1, type="g2-standard-4", regions=HERE)
    zones = [call.fields["zone"] for call in clouds.gcp.faults.calls if call.operation == "instances.bulkInsert"]
    assert len(zones) == len(set(zones))
    assert clouds.alive() == []


def test_a_network_that_does_not_exist_is_looked_for_once_in_each_region(clouds: LocalClouds) -> None:
    text = "The resource 'projects/p/global/networks/default' was not found"
    clouds.gcp.faults.fail("instances.bulkInsert", "notFound", status=404, message=text, times=None)
    with pytest.raises(errors.ProviderError) as caught:
        Cluster.request(gpus=1, type="g2-standard-4", regions=["gcp:us-central1", "gcp:europe-west4"])
    assert clouds.gcp.faults.count("instances.bulkInsert") == 2
    assert "network" in (caught.value.hint or "")


def test_a_project_without_the_tpu_api_can_still_launch_instances(clouds: LocalClouds) -> None:
    message = "Cloud TPU API has not been used in project 1 before or it is disabled."
    for call in ("queuedResources.create", "queuedResources.list", "nodes.list"):
        clouds.gcp.faults.fail(f"tpu.{call}", "SERVICE_DISABLED", status=403, message=message, times=None)
    with Cluster.request(
        gpus=8, type=["v6e", "l4"], order="given", regions=["gcp:us-east5", "gcp:us-central1"]
    ) as cluster:
        assert cluster.nodes[0].instance_type.startswith("g2-")
    assert clouds.alive() == []


def test_a_protected_instance_is_news_at_once_and_the_rest_of_the_cluster_is_deleted(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=2, type="g2-standard-4", regions=HERE)
    protected = cluster.nodes[0].id
    clouds.gcp.protect(protected)
    cluster.terminate(wait=False)
    assert [item.id for item in clouds.alive() if item.kind == "instance"] == [protected]
    (stuck,) = [event.message for event in cluster.events() if event.kind == "stuck"]
    assert f"{protected} is protected from deletion" in stuck and "--no-deletion-protection" in stuck
    clouds.gcp.protect(protected, is_protected=False)
    cluster.terminate()
    assert clouds.alive() == []


def test_stopped_instances_are_degraded_and_healed_by_starting_them(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=2, type="g2-standard-4", regions=HERE)
    for node in cluster.nodes:
        clouds.gcp.stop_node(node.id)
    assert cluster.refresh().state is ClusterState.DEGRADED
    before = sorted(node.id for node in cluster.nodes)
    assert cluster.heal().state is ClusterState.READY
    assert sorted(clouds.gcp.running_ids()) == before
    cluster.terminate()
    assert clouds.alive() == []


def test_a_cluster_whose_labels_were_removed_is_kept_restored_and_torn_down(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=2, type="g2-standard-4", regions=HERE, tags={"Cost Center": "R&D"})
    for node in cluster.nodes:
        clouds.gcp.remove_tags(node.id)
    assert cluster.refresh().state is ClusterState.READY
    assert all(item.tags["cost_center"] == "r_d" for item in clouds.alive())
    for node in cluster.nodes:
        clouds.gcp.remove_tags(node.id)
    cluster.terminate()
    assert clouds.alive() == []
