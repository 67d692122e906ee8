"""Nodes that are lost, impaired and replaced; on clouds in memory."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.operation.operation import working_on
from multicompute.engine.provision.launch import launch, open_attempt
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import RefreshReport, refresh_all
from multicompute.node import NodeState
from multicompute.provider import Capability
from multicompute.testing import FakeCloud, fake_cloud


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp") as cloud:
        yield cloud


def kinds(cluster: Cluster) -> list[str]:
    return [event.kind for event in cluster.events()]


def test_an_impaired_node_makes_the_cluster_degraded_and_a_passed_check_ready_again(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["aws"]) as cluster:
        sick = cluster.nodes[1]
        cloud.aws.impair(sick.id)
        assert cluster.refresh().state is ClusterState.DEGRADED
        (event,) = [event for event in cluster.events() if event.kind == "degraded"]
        assert f"{sick.id} (rank 1)" in event.message
        assert "health check of the machine fails" in event.message
        assert cluster.nodes[1].state is NodeState.IMPAIRED
        assert cluster.hourly_cost == pytest.approx(2 * 55.04), "an impaired node is billed"
        cluster.refresh()
        assert kinds(cluster).count("degraded") == 1, "one event"
        cloud.aws.impair(sick.id, fails=False)
        assert cluster.refresh().state is ClusterState.READY
        assert kinds(cluster)[-1] == "recovered"
    assert cloud.alive() == []


def test_healing_replaces_what_is_gone_with_the_same_ranks_and_touches_nothing_else(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=64, type="h100", clouds=["aws"]) as cluster:
        before = {node.rank: node for node in cluster.nodes}
        for rank in (0, 5):
            cloud.aws.preempt(before[rank].id)
        assert cluster.refresh().state is ClusterState.DEGRADED
        assert cluster.heal().state is ClusterState.READY
        after = {node.rank: node for node in cluster.nodes}
        assert sorted(after) == list(range(8))
        assert [rank for rank in after if after[rank].id != before[rank].id] == [0, 5]
        assert {(node.zone, node.instance_type) for node in after.values()} == {(cluster.zone, "p5.48xlarge")}
        assert sorted(cloud.aws.running_ids()) == sorted(node.id for node in after.values())
        assert cluster.hourly_cost == pytest.approx(8 * 55.04)
        assert cluster.head.rank == 0
        assert "healed" in kinds(cluster)
        assert cluster.heal().state is ClusterState.READY, "nothing to replace, and nothing bought"
        assert len(cloud.aws.running_ids()) == 8
    assert cloud.alive() == []


def test_healing_is_all_or_nothing(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=64, type="h100", clouds=["aws"]) as cluster:
        for node in cluster.nodes[:3]:
            cloud.aws.preempt(node.id)
        cloud.aws.set_capacity("p5.48xlarge", cluster.zone or "", 7)
        with pytest.raises(errors.CapacityError):
            cluster.heal()
        assert cluster.refresh().state is ClusterState.DEGRADED
        assert len(cloud.aws.running_ids()) == len(cluster.nodes) == 5
        cloud.aws.set_capacity("p5.48xlarge", cluster.zone or "", None)
        assert cluster.heal().state is ClusterState.READY
    assert cloud.alive() == []


def test_new_nodes_that_never_run_are_terminated(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["aws"]) as cluster:
        survivor = cluster.nodes[0].id
        cloud.aws.preempt(cluster.nodes[1].id)
        cloud.aws.boot_time = timedelta(hours=5)
        with pytest.raises((errors.CapacityError, errors.ProvisionTimeout)):
            cluster.heal(timeout="5m")
        assert [node.id for node in cluster.nodes] == [survivor]
        assert cloud.aws.running_ids() == [survivor]
    assert cloud.alive() == []


def test_ctrl_c_while_healing_terminates_what_was_launched(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["aws"]) as cluster:
        survivor = cluster.nodes[0].id
        cloud.aws.preempt(cluster.nodes[1].id)

        def interrupt(call: object) -> None:
            cloud.aws.faults.clear()
            raise KeyboardInterrupt

        cluster.refresh()
        cloud.aws.faults.hook("launch", lambda call: cloud.aws.faults.hook("nodes", interrupt))
        with pytest.raises(KeyboardInterrupt):
            cluster.heal()
        assert cloud.aws.running_ids() == [survivor]
        assert cluster.refresh().state is ClusterState.DEGRADED
    assert cloud.alive() == []


def launch_unranked(cloud: FakeCloud, cluster: Cluster) -> None:
    """Launch a node as a process does that is killed while healing, before the node has a rank."""
    with working_on(cloud.session, cluster.id) as op:
        assert op is not None
        part = replace(op.ledger.attempts(cluster.id)[0].parts[0], nodes=1)
        launch(op, open_attempt(op, (part,), is_repair=True), is_repeated=False)


@pytest.mark.parametrize("is_healed", [False, True], ids=["reconcile", "heal"])
def test_what_a_killed_process_launched_while_healing_is_terminated_by_the_next(
    cloud: FakeCloud, is_healed: bool
) -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["aws"]) as cluster:
        survivor, lost = cluster.nodes
        cloud.aws.preempt(lost.id)
        cluster.refresh()
        launch_unranked(cloud, cluster)
        (unranked,) = {node.id for node in cluster.nodes} - {survivor.id}
        assert cluster.hourly_cost == pytest.approx(2 * 55.04), "it is in the ledger, and costs money"
        if is_healed:
            cluster.heal()
        else:
            reconcile(cloud.session)
        cluster.refresh()
        assert unranked not in [item.id for item in cloud.alive()]
        assert len(cluster.nodes) == len([item for item in cloud.alive() if item.kind == "node"]) == 1 + is_healed
    assert cloud.alive() == []


def test_a_cluster_that_is_not_up_can_not_be_healed(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    for node in cluster.nodes:
        cloud.aws.preempt(node.id)
    with pytest.raises(errors.ClusterNotFound, match="all its nodes are gone"):
        cluster.heal()
    assert cluster.refresh().state is ClusterState.TERMINATED
    with pytest.raises(errors.ClusterNotFound, match="it is TERMINATED"):
        cluster.heal()
    assert cloud.alive() == []


def test_waiting_for_a_state_returns_when_it_is_reached(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["aws"]) as cluster:
        calls = iter(range(1, 100))
        victim = cluster.nodes[1].id
        cloud.aws.faults.hook("nodes", lambda call: cloud.aws.preempt(victim) if next(calls) == 4 else None)
        assert cluster.wait_for("degraded", timeout="10m").state is ClusterState.DEGRADED
        with pytest.raises(errors.ProvisionTimeout, match="still DEGRADED"):
            cluster.wait_for("ready", timeout="1m")
        with pytest.raises(errors.SpecError, match="no such state"):
            cluster.wait_for("bored")
        cluster.terminate()
        with pytest.raises(errors.ClusterNotFound):
            cluster.wait_for("ready")
        assert cluster.wait_for("terminated").state is ClusterState.TERMINATED
    assert cloud.alive() == []


async def _twins(cluster: Cluster, cloud: FakeCloud) -> None:
    cloud.aws.preempt(cluster.nodes[1].id)
    await cluster.await_for("degraded")
    await cluster.aheal()
    assert await cluster.ametrics() == []


@pytest.mark.asyncio
async def test_the_async_twins_do_the_same(cloud: FakeCloud) -> None:
    async with await Cluster.arequest(gpus=16, type="h100", clouds=["aws"]) as cluster:
        await _twins(cluster, cloud)
        assert cluster.state is ClusterState.READY
    assert cloud.alive() == []


def test_a_refresh_of_all_clusters_costs_one_call_for_each_region_with_nodes(cloud: FakeCloud) -> None:
    cloud.aws.capabilities -= {Capability.GLOBAL_LISTING}
    clusters = [
        Cluster.request(gpus=8, type="h100", name=f"all-{number}", regions=[region], clouds=[name])
        for number, (name, region) in enumerate(
            [("aws", "us-east-1"), ("aws", "us-east-1"), ("aws", "us-west-2"), ("gcp", "us-central1")] * 3
        )
    ]
    cloud.aws.faults.calls.clear()
    cloud.gcp.faults.calls.clear()
    assert refresh_all(cloud.session).changed == []
    assert (cloud.aws.faults.count(), cloud.gcp.faults.count()) == (2, 1)

    cloud.gcp.preempt(clusters[3].nodes[0].id)
    cloud.aws.impair(clusters[0].nodes[0].id)
    report = refresh_all(cloud.session)
    assert sorted(report.changed) == ["all-0", "all-3"]
    assert Cluster.get("all-3").state is ClusterState.TERMINATED
    assert Cluster.get("all-0").state is ClusterState.DEGRADED

    cloud.aws.faults.fail("nodes", "denied", times=None, where={"region": "us-west-2"})
    coverage = refresh_all(cloud.session).coverage
    assert coverage.asked == ["aws us-east-1", "gcp us-central1"]
    (note,) = coverage.problems()
    assert note.startswith("aws us-west-2: could not be listed")
    for cluster in clusters:
        cluster.terminate()
    assert cloud.alive() == []


def test_a_cloud_that_lists_all_its_regions_is_asked_once_and_region_by_region_if_that_fails(
    cloud: FakeCloud,
) -> None:
    here, there = (
        Cluster.request(gpus=16, type="h100", name=region, regions=[region], clouds=["gcp"])
        for region in ("us-central1", "us-east4")
    )
    cloud.advance("5m")
    cloud.gcp.faults.calls.clear()
    assert refresh_all(cloud.session) == RefreshReport(coverage=Coverage(["gcp us-central1", "gcp us-east4"]))
    assert cloud.gcp.faults.count() == 1

    for cluster in (here, there):
        cloud.gcp.preempt(cluster.nodes[1].id)
    cloud.gcp.faults.fail("nodes", "denied", times=None, where={"region": None})
    cloud.gcp.faults.fail("nodes", "denied", times=None, where={"region": "us-east4"})
    report = refresh_all(cloud.session)
    assert report.changed == ["us-central1"]
    (note,) = report.coverage.problems()
    assert note.startswith("gcp us-east4: could not be listed")
    cloud.gcp.faults.clear()
    assert refresh_all(cloud.session).changed == ["us-east4"]
    for cluster in (here, there):
        cluster.terminate()
    assert cloud.alive() == []
