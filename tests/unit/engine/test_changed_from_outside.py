"""Nodes that are stopped, lose their tags or are protected from outside are neither lost nor terminated by a refresh."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState, NodeState, errors
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.provider import TAG_ATTEMPT, TAG_ID, Capability
from multicompute.testing import Call, FakeCloud, fake_cloud

HOURLY = 55.04


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


@pytest.fixture(name="cluster")
def _cluster(cloud: FakeCloud) -> Iterator[Cluster]:
    cluster = Cluster.request(gpus=16, type="h100", name="train-1")
    cloud.advance("2m")
    yield cluster
    cluster.terminate()
    assert cloud.alive() == []


def last_event(cluster: Cluster, kind: str) -> str:
    return next(event.message for event in reversed(cluster.events()) if event.kind == kind)


# --- stopped nodes ----------------------------------------------------------------------------------------------------


def stop_all(cloud: FakeCloud, cluster: Cluster) -> None:
    for node in cluster.nodes:
        cloud.aws.stop(node.id)


def test_a_refresh_of_a_cluster_whose_nodes_were_all_stopped_terminates_nothing(
    cloud: FakeCloud, cluster: Cluster
) -> None:
    stop_all(cloud, cluster)
    before = cloud.alive()
    for _ in range(2):
        assert cluster.refresh().state is ClusterState.DEGRADED
    refresh_all(cloud.session)
    reconcile(cloud.session)
    assert cluster.refresh().state is ClusterState.DEGRADED
    assert cloud.alive() == before
    assert [node.state for node in cluster.nodes] == [NodeState.STOPPED, NodeState.STOPPED]
    assert "2 of 2 nodes are stopped" in last_event(cluster, "degraded")
    assert [event.kind for event in cluster.events()].count("degraded") == 1


def test_a_stopped_node_costs_nothing_until_it_runs_again(cloud: FakeCloud, cluster: Cluster) -> None:
    cloud.aws.stop(cluster.nodes[1].id)
    before = cluster.refresh().accrued_cost
    assert cluster.hourly_cost == pytest.approx(HOURLY)
    cloud.advance("1h")
    assert cluster.refresh().accrued_cost - before == pytest.approx(HOURLY)
    cloud.aws.start(cluster.nodes[1].id)
    assert cluster.refresh().state is ClusterState.READY
    assert "run again" in last_event(cluster, "recovered")
    assert cluster.hourly_cost == pytest.approx(2 * HOURLY)
    before = cluster.accrued_cost
    cloud.advance("1h")
    assert cluster.accrued_cost - before == pytest.approx(2 * HOURLY)


def test_healing_starts_stopped_nodes_again(cloud: FakeCloud, cluster: Cluster) -> None:
    ids = [node.id for node in cluster.nodes]
    stop_all(cloud, cluster)
    assert cluster.heal().state is ClusterState.READY
    assert [node.id for node in cluster.nodes] == ids
    assert sorted(cloud.aws.running_ids()) == sorted(ids)
    assert cloud.aws.faults.count("launch") == 2


def test_healing_waits_for_nodes_that_a_process_that_died_has_started(cloud: FakeCloud, cluster: Cluster) -> None:
    stop_all(cloud, cluster)
    assert cluster.refresh().state is ClusterState.DEGRADED

    def die(_: Call) -> None:
        if cloud.aws.faults.count("launch") == 2:
            raise SystemExit

    cloud.aws.faults.hook("nodes", die)
    with pytest.raises(SystemExit):
        cluster.heal()
    cloud.aws.faults.clear()
    assert {node.state for node in Cluster.get("train-1").refresh().nodes} == {NodeState.PENDING}
    assert Cluster.get("train-1").heal().state is ClusterState.READY
    assert cloud.aws.faults.count("launch") == 0


def test_healing_replaces_stopped_nodes_if_asked_to(cloud: FakeCloud, cluster: Cluster) -> None:
    kept, stopped = cluster.nodes
    cloud.aws.stop(stopped.id)
    assert cluster.heal(stopped="replace").state is ClusterState.READY
    cloud.advance("2m")
    assert cluster.refresh().state is ClusterState.READY
    assert cluster.nodes[0].id == kept.id
    assert cluster.nodes[1].id != stopped.id
    assert sorted(cloud.aws.running_ids()) == sorted(node.id for node in cluster.nodes)
    assert not [item for item in cloud.alive() if item.id == stopped.id]


def test_healing_starts_stopped_nodes_and_replaces_lost_ones(cloud: FakeCloud, cluster: Cluster) -> None:
    kept, lost = cluster.nodes
    cloud.aws.stop(kept.id)
    cloud.aws.preempt(lost.id)
    assert cluster.heal().state is ClusterState.READY
    assert cluster.nodes[0].id == kept.id
    assert cluster.nodes[1].id != lost.id


def test_a_stopped_node_that_finds_no_capacity_stays_stopped(cloud: FakeCloud, cluster: Cluster) -> None:
    stop_all(cloud, cluster)
    cloud.aws.set_capacity("p5.48xlarge", cluster.zone or "", 0)
    with pytest.raises(errors.CapacityError):
        cluster.heal()
    assert cluster.refresh().state is ClusterState.DEGRADED
    assert [node.state for node in cluster.nodes] == [NodeState.STOPPED, NodeState.STOPPED]


def test_a_cloud_that_cannot_start_nodes_says_how_to_replace_them(cloud: FakeCloud, cluster: Cluster) -> None:
    cloud.aws.capabilities -= {Capability.RESTART}
    stop_all(cloud, cluster)
    with pytest.raises(errors.ProviderError, match="can't start.*stopped='replace'"):
        cluster.heal()


def test_an_unknown_way_to_handle_stopped_nodes_is_refused(cluster: Cluster) -> None:
    with pytest.raises(errors.SpecError, match="must be 'start' or 'replace'"):
        cluster.heal(stopped="delete")  # type: ignore[arg-type]


# --- removed tags -----------------------------------------------------------------------------------------------------


def test_tags_that_were_removed_are_set_again_and_the_cluster_stays_ready(cloud: FakeCloud, cluster: Cluster) -> None:
    tags = {item.id: item.tags for item in cloud.alive()}
    for node in cluster.nodes:
        cloud.aws.remove_tags(node.id)
    cloud.advance("10m")
    assert cluster.refresh().state is ClusterState.READY
    message = last_event(cluster, "untagged")
    assert all(node.id in message for node in cluster.nodes)
    assert "set again" in message
    assert {item.id: item.tags for item in cloud.alive()} == tags
    cluster.refresh()
    assert [event.kind for event in cluster.events()].count("untagged") == 1


def test_a_teardown_finds_nodes_without_tags_by_their_ids(cloud: FakeCloud, cluster: Cluster) -> None:
    for node in cluster.nodes:
        cloud.aws.remove_tags(node.id)
    cloud.advance("10m")
    cluster.terminate()
    assert cloud.alive() == []


def test_a_refresh_of_all_clusters_finds_nodes_without_tags(cloud: FakeCloud, cluster: Cluster) -> None:
    cloud.aws.remove_tags(cluster.nodes[0].id)
    cloud.advance("10m")
    assert refresh_all(cloud.session).notes == []
    assert Cluster.get("train-1").state is ClusterState.READY
    assert all({TAG_ID, TAG_ATTEMPT} <= item.tags.keys() for item in cloud.alive() if item.kind == "node")


def test_an_extension_reaches_nodes_without_tags(cloud: FakeCloud, cluster: Cluster) -> None:
    cloud.aws.remove_tags(cluster.nodes[0].id)
    end = cluster.extend("5h")
    assert {machine.expires_at for machine in cloud.aws._machines.values()} == {end}


# --- protection -------------------------------------------------------------------------------------------------------


def test_a_protected_node_is_reported_at_once_and_the_teardown_continues_later(
    cloud: FakeCloud, cluster: Cluster
) -> None:
    node = cluster.nodes[0]
    cloud.aws.protect(node.id)
    started = cloud.clock.now()
    with pytest.raises(errors.TeardownIncomplete, match=f"{node.id} is protected from deletion"):
        cluster.terminate()
    stuck = next(event for event in cluster.events() if event.kind == "stuck")
    assert f"{node.id} is protected from deletion; remove the protection" in stuck.message
    assert (stuck.at - started).total_seconds() < 10
    assert f"{node.id} is protected" in (Cluster.get("train-1").blocked_on or "")
    cloud.aws.protect(node.id, is_protected=False)
