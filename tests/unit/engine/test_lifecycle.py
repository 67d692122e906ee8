"""Clusters that are up are refreshed, extended, terminated, reconciled and reaped; on clouds in memory."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.provider import TAG_EXPIRES_AT, Capability
from multicompute.testing import FakeCloud, fake_cloud


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def expiry_tags(cloud: FakeCloud) -> set[str]:
    return {resource.tags[TAG_EXPIRES_AT] for resource in cloud.alive() if resource.kind == "node"}


def test_extending_moves_the_expiry_in_the_cloud_and_in_the_ledger(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100", ttl="2h") as cluster:
        before = cluster.expires_at
        assert before is not None
        assert cluster.extend("3h") == before + timedelta(hours=3)
        assert expiry_tags(cloud) == {str(int((before + timedelta(hours=3)).timestamp()))}
        assert Cluster.get(cluster.name).expires_at == before + timedelta(hours=3)
        cloud.advance("4h")
        assert cluster.refresh().state is ClusterState.READY


@pytest.mark.parametrize("by", ["soon", "-1h", "0h", timedelta(0), "400d"])
def test_an_extension_that_makes_no_sense_is_refused(cloud: FakeCloud, by: str | timedelta) -> None:
    with Cluster.request(gpus=8, type="h100") as cluster:
        before = expiry_tags(cloud)
        with pytest.raises(errors.SpecError):
            cluster.extend(by)
        assert expiry_tags(cloud) == before


def test_a_cluster_that_has_ended_or_has_no_expiry_can_not_be_extended(cloud: FakeCloud) -> None:
    endless = Cluster.request(gpus=8, type="h100", ttl=None)
    with pytest.raises(errors.SpecError, match="has no expiry"):
        endless.extend("1h")
    endless.terminate()
    with pytest.raises(errors.ClusterNotFound, match="TERMINATED"):
        endless.extend("1h")


def test_an_extension_that_the_cloud_refuses_changes_nothing(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100") as cluster:
        before = cluster.expires_at
        cloud.aws.faults.fail("set_expiry", "denied")
        with pytest.raises(errors.AccessDeniedError):
            cluster.extend("1h")
        assert Cluster.get(cluster.name).expires_at == before


def test_an_extension_whose_answer_is_always_lost_is_undone(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100") as cluster:
        before, tags = cluster.expires_at, expiry_tags(cloud)
        cloud.aws.faults.lose_answer("set_expiry", times=5)
        with pytest.raises(errors.TransientError):
            cluster.extend("1h")
        assert expiry_tags(cloud) == tags
        assert Cluster.get(cluster.name).expires_at == before


def test_an_extension_that_can_not_be_undone_says_so_and_the_next_one_moves_all_nodes(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100") as cluster:
        before = cluster.expires_at
        cloud.aws.faults.lose_answer("set_expiry", times=None)
        with pytest.raises(errors.TransientError) as caught:
            cluster.extend("1h")
        assert any("later expiry" in note for note in caught.value.__notes__)
        assert Cluster.get(cluster.name).expires_at == before
        cloud.aws.faults.clear()
        later = cluster.extend("2h")
        assert expiry_tags(cloud) == {str(int(later.timestamp()))}


def test_terminate_can_be_repeated(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    assert cluster.terminate().state is ClusterState.TERMINATED
    ended = [event for event in cluster.events() if event.kind == "terminated"]
    assert cluster.terminate().state is ClusterState.TERMINATED
    assert [event for event in cluster.events() if event.kind == "terminated"] == ended
    assert cloud.alive() == []


def test_terminate_without_wait_leaves_the_rest_to_reap(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    assert cluster.terminate(wait=False).state is ClusterState.TERMINATING
    assert reap(cloud.session).terminated == [cluster.name]
    assert cloud.alive() == []


def test_a_teardown_that_the_cloud_refuses_stays_terminating_and_reap_continues(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    cloud.aws.faults.fail("terminate", "denied", times=2)
    with pytest.raises(errors.AccessDeniedError):
        cluster.terminate()
    assert Cluster.get(cluster.name).state is ClusterState.TERMINATING
    assert list(reap(cloud.session).failed) == [cluster.name]
    assert reap(cloud.session).terminated == [cluster.name]
    assert cloud.alive() == []


def test_a_teardown_that_fails_on_leaving_the_block_keeps_the_first_error(
    cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError) as caught, Cluster.request(gpus=8, type="h100", name="mine"):
        cloud.aws.faults.fail("terminate", "denied")
        raise ZeroDivisionError
    assert any("mine is not torn down yet" in note for note in caught.value.__notes__)
    assert "mine is not torn down yet, something of it may still run" in caplog.text
    reap(cloud.session)
    assert cloud.alive() == []


def test_a_lost_node_makes_the_cluster_degraded_and_is_named(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=64, type="h100", spot=True) as cluster:
        lost = cluster.nodes[3]
        cost = cluster.hourly_cost
        cloud.aws.preempt(lost.id)
        assert cluster.refresh().state is ClusterState.DEGRADED
        assert len(cluster.nodes) == 7
        assert cluster.hourly_cost == pytest.approx(cost * 7 / 8)
        (event,) = [event for event in cluster.events() if event.kind == "degraded"]
        assert lost.id in event.message
        assert "rank 3" in event.message


def test_listings_of_nodes_name_instance_types_and_those_that_must_find_everything_do_not(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100") as cluster:
        assert cluster.refresh().state is ClusterState.READY
        reconcile(cloud.session)
    asked: dict[str, set[str]] = {}
    for call in cloud.aws.faults.calls:
        if "instance_types" in call.fields:
            asked.setdefault(call.operation, set()).add(str(call.fields["instance_types"]))
    assert asked == {"nodes": {"['p5.48xlarge']"}, "resources": {"[]"}, "terminate": {"[]"}}
    assert cloud.alive() == []


def test_a_gang_that_is_gone_is_closed_with_its_dependent_resources(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", spot=True)
    for node in cluster.nodes:
        cloud.aws.preempt(node.id)
    assert cluster.refresh().state is ClusterState.TERMINATED
    assert "all its nodes are gone" in cluster.reason
    assert cloud.alive() == []


def test_cost_is_counted_by_the_second_and_stops_with_the_node(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", ttl="20h")
    # Past the billing minimum.
    cloud.advance("1m")
    start = cluster.accrued_cost
    cloud.advance("90m")
    assert cluster.accrued_cost - start == pytest.approx(55.04 * 1.5)
    cluster.terminate()
    end = cluster.accrued_cost
    cloud.advance("10h")
    assert cluster.accrued_cost == end
    assert cluster.hourly_cost == 0


def test_reap_terminates_expired_clusters_and_nothing_else(cloud: FakeCloud) -> None:
    short = Cluster.request(gpus=8, type="h100", ttl="1h")
    long = Cluster.request(gpus=8, type="h100", ttl="9h")
    endless = Cluster.request(gpus=8, type="h100", ttl=None)
    cloud.advance("2h")
    assert reap(cloud.session, dry_run=True).terminated == [short.name]
    assert Cluster.get(short.name).state is ClusterState.READY
    assert reap(cloud.session).terminated == [short.name]
    assert [cluster.name for cluster in Cluster.list()] == [long.name, endless.name]
    long.terminate()
    endless.terminate()


def test_reap_terminates_clusters_that_have_spent_their_budget(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", budget=100.0)
    cloud.advance("1h")
    assert reap(cloud.session).terminated == []
    cloud.advance("1h")
    assert reap(cloud.session).terminated == [cluster.name]
    assert "budget of $100.00 reached" in cluster.refresh().reason


def test_reap_deletes_expired_orphans_of_this_owner_only(cloud: FakeCloud) -> None:
    cloud.aws.add_foreign()
    with fake_cloud("aws", clock=cloud.clock) as other:
        # Another ledger in the same cloud account.
        other.session._providers["aws"] = cloud.aws
        cluster = Cluster.request(gpus=8, type="h100", ttl="1h", name="orphan")
        (node,) = cluster.nodes
    report = reconcile(cloud.session)
    assert [orphan.name for orphan in report.orphans] == ["orphan"]
    assert report.orphans[0].cluster_id == cluster.id
    assert reap(cloud.session).orphans == []
    cloud.aws._machines[node.id].expires_at = None  # so that the cloud does not terminate it
    cloud.advance("2h")
    assert reap(cloud.session, dry_run=True).orphans == ["orphan"]
    assert reap(cloud.session).orphans == ["orphan"]
    assert cloud.clusters_alive() == []
    assert cloud.aws.foreign_intact()


def test_reconcile_finds_nothing_to_do_when_ledger_and_cloud_agree(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100") as cluster:
        report = reconcile(cloud.session)
        assert report.clusters == [cluster.name]
        assert not report.is_leak
        assert report.notes == []


def test_reconcile_deletes_what_is_left_of_a_cluster_that_has_ended(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100")
    # As if the cloud had reported the nodes as gone, and they still run.
    cloud.session.ledger.update_cluster(cluster.id, state=ClusterState.TERMINATED)
    assert reconcile(cloud.session, dry_run=True).terminated == [cluster.name]
    assert cloud.alive() != []
    reconcile(cloud.session)
    assert cloud.alive() == []


def test_a_cloud_that_does_not_answer_is_a_note_and_stops_nothing(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100"):
        cloud.aws.faults.fail("resources", "denied")
        report = reconcile(cloud.session)
        assert "could not be listed" in report.coverage.not_asked["aws"]
        assert reap(cloud.session).failed == {}


def test_list_finds_by_state_and_tags(cloud: FakeCloud) -> None:
    one = Cluster.request(gpus=8, type="h100", tags={"team": "nlp"})
    two = Cluster.request(gpus=8, type="h100", tags={"team": "vision"})
    assert [cluster.id for cluster in Cluster.list()] == [one.id, two.id]
    assert [cluster.id for cluster in Cluster.list(tags={"team": "vision"})] == [two.id]
    one.terminate()
    assert [cluster.id for cluster in Cluster.list()] == [two.id]
    assert [cluster.id for cluster in Cluster.list(state="TERMINATED")] == [one.id]
    assert [cluster.id for cluster in Cluster.list(include_ended=True)] == [one.id, two.id]
    with pytest.raises(errors.SpecError, match="no such state"):
        Cluster.list(state="running")
    two.terminate()


def test_an_unknown_name_is_not_found(cloud: FakeCloud) -> None:
    with pytest.raises(errors.ClusterNotFound, match="nobody"):
        Cluster.get("nobody")


def test_a_reap_sends_the_deletes_of_all_before_it_waits_for_one(cloud: FakeCloud) -> None:
    # Only the reaper terminates anything here.
    cloud.aws.capabilities -= {Capability.EXPIRY}
    names = [Cluster.request(gpus=8, type="h100", ttl="1h").name for _ in range(3)]
    cloud.advance("61m")
    cloud.aws.shutdown_time = timedelta(minutes=10)
    began = cloud.clock.now()
    deletes: list[timedelta] = []
    cloud.aws.faults.hook("terminate", lambda call: deletes.append(cloud.clock.now() - began))
    assert reap(cloud.session).terminated == names
    assert deletes[:4] == [timedelta(0)] * 4, (
        "one for each cluster, and one more for the first, which is then waited for"
    )
    assert cloud.clock.now() - began < timedelta(minutes=12)
    assert cloud.alive() == []


def test_a_teardown_that_the_cloud_refuses_for_an_hour_says_why_and_what_it_costs(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", ttl="24h", name="stuck")
    cloud.aws.faults.fail("terminate", "throttled", times=None)
    with pytest.raises(errors.ThrottledError):
        cluster.terminate()
    cost = Cluster.get("stuck").accrued_cost
    for _ in range(4):
        cloud.advance("15m")
        assert list(reap(cloud.session).failed) == ["stuck"]
    stuck = Cluster.get("stuck")
    assert stuck.state is ClusterState.TERMINATING
    assert "the teardown is not complete" in stuck.blocked_on
    assert stuck.accrued_cost >= cost + 55.04
    assert len([event for event in stuck.events() if event.kind == "stuck"]) == 1, "one event while it stays the same"
    assert not any(event.kind in ("terminated", "failed") for event in stuck.events())
    assert cloud.aws.running_ids()
    cloud.aws.faults.clear()
    assert reap(cloud.session).terminated == ["stuck"]
    assert Cluster.get("stuck").blocked_on == ""
    assert cloud.alive() == []
