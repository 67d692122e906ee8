"""Requests that end up with flex-start: gangs and single nodes, the queue, failover, healing and the clean-up after a crash."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.clock import SystemClock
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.testing import LocalClouds, local_clouds
from tests.resilience.crash.test_lost_ledger import ledger_replaced

# The offer tables have A4 as flex-start, as spot and in reservations, and not on demand.
HERE = ["gcp:us-central1", "gcp:us-east4"]
QUEUE = {"resize-request", "instance-group-manager", "instance-template"}


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds


def _kinds(clouds: LocalClouds) -> set[str]:
    return {item.kind for item in clouds.alive()}


def _request(**arguments: object) -> Cluster:
    return Cluster.request(gpus=16, type="b200", flex_start=True, ttl="2h", regions=HERE, **arguments)  # type: ignore[arg-type]


def _exhaust(clouds: LocalClouds) -> None:
    for zone in ("us-central1-b", "us-east4-b"):
        clouds.gcp.set_capacity("a4-highgpu-8g", zone, 0)


def test_a_gang_runs_in_a_managed_instance_group_and_leaves_nothing_behind(clouds: LocalClouds) -> None:
    with _request() as cluster:
        assert cluster.state is ClusterState.READY
        assert sorted(clouds.gcp.running_ids()) == sorted(node.id for node in cluster.nodes)
        assert _kinds(clouds) >= QUEUE
    assert clouds.alive() == []


def test_a_gang_that_waits_longer_than_an_attempt_is_withdrawn_and_launched_in_another_region(
    clouds: LocalClouds,
) -> None:
    first = Cluster.plan(gpus=16, type="b200", flex_start=True, ttl="2h", regions=HERE).candidates[0].parts[0].offer
    clouds.gcp.set_capacity("a4-highgpu-8g", first.zone, 1)
    with _request(attempt_timeout="2s") as cluster:
        assert first.region not in {node.region for node in cluster.nodes}
        assert len([item for item in clouds.alive() if item.kind == "instance-group-manager"]) == 1
        clouds.gcp.set_capacity("a4-highgpu-8g", first.zone, None)
        cluster.refresh()
        assert len(clouds.gcp.running_ids()) == 2
    assert clouds.alive() == []


def test_a_request_without_capacity_anywhere_fails_and_leaves_no_request_in_a_queue(clouds: LocalClouds) -> None:
    _exhaust(clouds)
    with pytest.raises(errors.MulticomputeError):
        _request(attempt_timeout="1s")
    assert clouds.alive() == []


def test_a_quota_that_is_too_small_is_reported_and_leaves_no_request_in_a_queue(clouds: LocalClouds) -> None:
    for region in ("us-central1", "us-east4"):
        clouds.gcp.set_quota("PREEMPTIBLE_NVIDIA_B200_GPUS", region, 8)
    with pytest.raises(errors.QuotaError):
        _request()
    assert clouds.alive() == []


def test_a_lost_node_of_a_gang_is_replaced_by_one_that_is_launched_alone(clouds: LocalClouds) -> None:
    with _request() as cluster:
        clouds.gcp.terminate_node(cluster.nodes[1].id)
        # Shortly after a launch, a node that no listing shows is not proven to be gone.
        while cluster.refresh().state is not ClusterState.DEGRADED:
            SystemClock().sleep(timedelta(milliseconds=50))
        cluster.heal()
        assert len(clouds.gcp.running_ids()) == 2
        assert sorted(clouds.gcp.running_ids()) == sorted(node.id for node in cluster.nodes)
    assert clouds.alive() == []


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_gang_of_a_lost_ledger_is_found_and_deleted_with_its_group_request_and_template(
    clouds: LocalClouds, is_waiting: bool
) -> None:
    if is_waiting:
        _exhaust(clouds)
    _request(wait=False, attempt_timeout="10m")
    assert ("instance" in _kinds(clouds)) is not is_waiting
    with ledger_replaced() as session:
        report = reconcile(session, dry_run=True)
        assert len(report.orphans) == 1
        reconcile(session, terminate=[report.orphans[0].name])
    assert clouds.alive() == []
