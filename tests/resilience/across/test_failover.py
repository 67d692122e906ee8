"""A request fails over between three clouds, each over HTTP through its own SDK, and leaves nothing in any of them."""

import re
from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState, Event, errors
from multicompute.config import apply_environment
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds

REGIONS = ["aws:us-east-1", "gcp:us-central1", "azure:eastus"]


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("aws", "azure", "gcp") as clouds:
        yield clouds


def empty_aws(clouds: LocalClouds) -> None:
    clouds.aws.faults.fail("RunInstances", "InsufficientInstanceCapacity", status=500, times=None)


def empty_gcp(clouds: LocalClouds) -> None:
    clouds.gcp.faults.fail("instances.bulkInsert", "ZONE_RESOURCE_POOL_EXHAUSTED", status=503, times=None)


def empty_azure(clouds: LocalClouds) -> None:
    clouds.azure.faults.fail("virtualMachineScaleSets.createOrUpdate", "SkuNotAvailable", status=409, times=None)


def test_a_request_goes_to_the_next_cheapest_cloud_and_then_to_the_last(clouds: LocalClouds) -> None:
    with Cluster.request(gpus=64, type="h100", regions=REGIONS) as cluster:
        assert cluster.provider == "aws"
    empty_aws(clouds)
    with Cluster.request(gpus=64, type="h100", regions=REGIONS) as cluster:
        assert cluster.provider == "gcp"
        assert cluster.state is ClusterState.READY
        assert len(cluster.nodes) == 8
    empty_gcp(clouds)
    with Cluster.request(gpus=64, type="h100", regions=REGIONS) as cluster:
        assert cluster.provider == "azure"
        assert len(cluster.nodes) == 8
    assert clouds.alive() == []


def test_when_all_fail_the_error_counts_the_causes_and_has_each_try_in_order(clouds: LocalClouds) -> None:
    empty_aws(clouds)
    empty_gcp(clouds)
    empty_azure(clouds)
    with pytest.raises(errors.CapacityError) as caught:
        Cluster.request(gpus=64, type="h100", regions=REGIONS, name="nowhere")
    tried = [report.provider for report in caught.value.attempts]
    assert list(dict.fromkeys(tried)) == ["aws", "gcp", "azure"]
    first, example = str(caught.value).splitlines()
    counts = [int(count) for count in re.findall(r"(\d+) no capacity \(", first)]
    assert sum(counts) == len(tried) and counts == sorted(counts, reverse=True)
    assert example.startswith("  such as aws ")
    assert {report.code for report in caught.value.attempts} >= {
        "InsufficientInstanceCapacity",
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "SkuNotAvailable",
    }
    assert Cluster.get("nowhere").state is ClusterState.FAILED
    assert clouds.alive() == []


def test_a_remembered_outage_saves_the_call_in_every_cloud(clouds: LocalClouds) -> None:
    empty_aws(clouds)
    empty_gcp(clouds)
    empty_azure(clouds)
    for _ in range(2):
        with pytest.raises(errors.CapacityError):
            Cluster.request(gpus=64, type="h100", regions=REGIONS)
        tried = [
            clouds.aws.faults.count("RunInstances"),
            clouds.azure.faults.count("virtualMachineScaleSets.createOrUpdate"),
        ]
        assert all(tried)
    before = list(tried)
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=64, type="h100", regions=REGIONS)
    assert before == [
        clouds.aws.faults.count("RunInstances"),
        clouds.azure.faults.count("virtualMachineScaleSets.createOrUpdate"),
    ]


def test_one_ledger_has_clusters_in_all_clouds_and_reconciles_them_together(clouds: LocalClouds) -> None:
    clusters = [
        Cluster.request(gpus=8, type="h100", clouds=[name], regions=REGIONS, name=f"one-{name}")
        for name in ("aws", "azure", "gcp")
    ]
    tpu = Cluster.request(type="v5p-128", name="one-tpu")
    assert len(tpu.nodes) == 16
    report = reconcile(open_session())
    assert not report.is_leak
    assert sorted(report.clusters) == ["one-aws", "one-azure", "one-gcp", "one-tpu"]
    for cluster in (*clusters, tpu):
        assert cluster.extend("1h") is not None
        cluster.terminate()
    assert clouds.alive() == []


def test_a_slice_that_waits_in_the_queue_has_an_event_that_says_so(clouds: LocalClouds) -> None:
    clouds.gcp.set_capacity("v5p-128", "us-east1-d", 0)
    queued = []

    def free_capacity(event: Event) -> None:
        if event.kind == "queued" and "WAITING_FOR_RESOURCES" in event.message:
            queued.append(event)
            clouds.gcp.set_capacity("v5p-128", "us-east1-d", None)

    with Cluster.request(type="v5p-128", regions=["us-east1"], attempt_timeout="1m", progress=free_capacity) as cluster:
        assert len(cluster.nodes) == 16
        assert queued
    assert clouds.alive() == []


def test_nothing_is_launched_in_a_region_that_is_not_configured(clouds: LocalClouds) -> None:
    only = {"MULTICOMPUTE_AWS__REGIONS": "eu-west-1", "MULTICOMPUTE_AZURE__LOCATIONS": "westeurope"}
    with apply_environment(only):
        for cloud, region in (("aws", "eu-west-1"), ("azure", "westeurope")):
            plan = Cluster.plan(gpus=8, type=["a100", "h100"], clouds=[cloud], spot="prefer")
            assert {candidate.region for candidate in plan.candidates} == {region}
            assert plan.rejected["region not configured"].count > 0
        with pytest.raises(errors.NoOfferError) as caught:
            Cluster.request(gpus=8, type="h100", clouds=["aws"], regions=["us-*"])
        assert caught.value.plan is not None
        assert caught.value.plan.rejected["region not configured"].count > 0
    assert clouds.alive() == []
