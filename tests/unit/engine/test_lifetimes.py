"""A cluster expires when its cloud terminates its nodes, if that is before its ttl; on clouds in memory."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.provider import TAG_EXPIRES_AT, expiry_tag
from multicompute.session import use_session
from multicompute.testing import Call, FakeCloud, fake_cloud

DAY = timedelta(days=1)
B200: dict[str, Any] = {"gpus": 8, "type": "b200", "clouds": ["gcp"], "flex_start": True}
"""On Google Cloud, flex-start machines live seven days."""


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp") as cloud:
        yield cloud


def no_capacity_on_demand(cloud: FakeCloud) -> None:
    """Leave only flex-start capacity, so that the offers that live for the ttl fail first."""
    cloud.set_capacity("*", "*", 0, purchase="on_demand")


def early_events(cluster: Cluster) -> list[str]:
    return [event.message for event in cluster.events() if event.kind == "early expiry"]


def expiry_tags(cloud: FakeCloud) -> set[str]:
    return {item.tags[TAG_EXPIRES_AT] for item in cloud.alive() if item.kind == "node"}


def test_a_flex_start_cluster_expires_after_seven_days_whatever_its_ttl_is(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    begin = cloud.clock.now()
    cluster = Cluster.request(**B200, ttl="20d")
    assert cluster.nodes[0].provider == "gcp"
    assert cluster.expires_at is not None
    assert begin + 7 * DAY <= cluster.expires_at < begin + 7 * DAY + timedelta(hours=1)
    assert expiry_tags(cloud) == {expiry_tag(cluster.expires_at)}
    (message,) = early_events(cluster)
    assert "earlier than its ttl of 20d: flex-start machines of gcp live at most 7d" in message
    ready = next(event for event in cluster.events() if event.kind == "ready")
    assert f"until {cluster.expires_at:%Y-%m-%d %H:%M} UTC" in ready.message
    cloud.advance(7 * DAY)
    assert cluster.refresh().state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_ttl_that_the_cloud_allows_is_kept_without_a_word(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    with Cluster.request(**B200, ttl="6d") as cluster:
        assert cluster.expires_at == cluster.created_at + 6 * DAY
        assert early_events(cluster) == []
    assert cloud.alive() == []


def test_a_flex_start_cluster_without_a_ttl_expires_with_its_machines(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    with Cluster.request(**B200, ttl=None) as cluster:
        assert cluster.expires_at is not None
        assert cluster.expires_at < cluster.created_at + 7 * DAY + timedelta(hours=1)
        assert "earlier than requested (ttl=None)" in early_events(cluster)[0]


def test_on_demand_machines_with_an_expiry_live_120_days_and_without_one_for_ever(cloud: FakeCloud) -> None:
    asked: dict[str, Any] = {"gpus": 8, "type": "h100", "clouds": ["gcp"]}
    with Cluster.request(**asked, ttl="200d") as cluster:
        assert cluster.expires_at is not None
        assert cluster.expires_at < cluster.created_at + 120 * DAY + timedelta(hours=1)
        assert "on-demand machines of gcp live at most 120d" in early_events(cluster)[0]
    with Cluster.request(**asked, ttl=None) as cluster:
        assert cluster.expires_at is None


def test_offers_that_live_for_the_ttl_are_tried_before_cheaper_ones_that_do_not(cloud: FakeCloud) -> None:
    asked = {**B200, "clouds": ["aws", "gcp"]}
    plan = Cluster.plan(**asked, ttl="20d")
    early = [candidate.ends_early for candidate in plan]
    assert early == sorted(early)
    assert set(early) == {False, True}
    cheapest = min(plan, key=lambda candidate: candidate.hourly_cost)
    assert (cheapest.purchase, cheapest.max_lifetime, cheapest.to_dict()["max_lifetime"]) == (
        "flex_start",
        7 * DAY,
        "7d",
    )
    assert any("cheaper offer" in note and "a ttl of 20d" in note for note in plan.notes)
    with Cluster.request(**asked, ttl="20d") as cluster:
        assert cluster.expires_at == cluster.created_at + 20 * DAY


def test_with_strict_ttl_a_cluster_comes_up_for_its_ttl_or_not_at_all(cloud: FakeCloud) -> None:
    asked = {**B200, "clouds": ["aws", "gcp"]}
    plan = Cluster.plan(**asked, ttl="20d", strict_ttl=True)
    assert {candidate.purchase for candidate in plan} == {"on_demand"}
    assert plan.rejected["terminated before the ttl"].count > 0
    no_capacity_on_demand(cloud)
    with pytest.raises(errors.CapacityError):
        Cluster.request(**asked, ttl="20d", strict_ttl=True)
    assert cloud.alive() == []


def test_a_failover_to_machines_without_a_limit_gets_the_full_ttl_again(cloud: FakeCloud) -> None:
    asked = {**B200, "clouds": None, "type": ["a4-highgpu-8g", "p6-b200.48xlarge"], "order": "given"}
    cloud.set_capacity("a4-highgpu-8g", "*", 0)
    with Cluster.request(**asked, ttl="20d") as cluster:
        assert cluster.nodes[0].provider == "aws"
        tried = [event for event in cluster.events() if event.kind == "attempt" and "flex start" in event.message]
        assert tried
        assert cluster.expires_at == cluster.created_at + 20 * DAY
        assert expiry_tags(cloud) == {expiry_tag(cluster.expires_at)}


def test_a_cluster_whose_launch_is_only_accepted_has_the_earlier_expiry_already(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    cluster = Cluster.request(**B200, ttl="20d", wait=False)
    assert cluster.expires_at is not None
    assert cluster.expires_at < cluster.created_at + 8 * DAY
    assert early_events(cluster)
    cluster.wait()
    assert cluster.expires_at < cluster.created_at + 8 * DAY
    cluster.terminate()


def test_a_launch_that_is_repeated_after_a_crash_asks_for_the_same_end(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    cloud.gcp.faults.lose_answer("launch")
    with Cluster.request(**B200, ttl="20d") as cluster:
        assert expiry_tags(cloud) == {expiry_tag(cluster.expires_at)}
        assert len(cloud.gcp.running_ids()) == 1


def test_an_extension_beyond_the_limit_is_refused_with_the_latest_time_and_calls_no_cloud(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    with Cluster.request(**B200, ttl="2d", name="short") as cluster:
        latest = cluster.created_at + 7 * DAY
        calls: list[Call] = []
        cloud.gcp.faults.hook("set_expiry", calls.append)
        with pytest.raises(errors.SpecError, match="flex-start machines of gcp live at most 7d") as caught:
            cluster.extend("6d")
        assert caught.value.hint is not None
        assert f"{latest:%Y-%m-%d}" in caught.value.hint
        assert calls == []
        assert cluster.expires_at == cluster.created_at + 2 * DAY
        assert cluster.extend("4d") == cluster.created_at + 6 * DAY
        assert cluster.refresh().expires_at == cluster.created_at + 6 * DAY


def test_replaced_nodes_live_on_and_do_not_shorten_the_cluster(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    with Cluster.request(**{**B200, "gpus": 16}, ttl="20d") as cluster:
        end = cluster.expires_at
        cloud.advance(2 * DAY)
        cloud.gcp.preempt(cluster.nodes[0].id)
        cluster.heal()
        assert cluster.expires_at == end
        assert expiry_tags(cloud) == {expiry_tag(end)}
        assert not [event for event in cluster.events() if "the new nodes end" in event.message]


def test_a_new_node_that_ends_before_its_cluster_is_logged(cloud: FakeCloud) -> None:
    no_capacity_on_demand(cloud)
    with Cluster.request(**{**B200, "gpus": 16}, ttl="20d") as cluster:
        # As an earlier version has recorded it.
        later = cluster.created_at + 20 * DAY
        cloud.session.ledger.update_cluster(cluster.id, expires_at=later)
        cloud.gcp.preempt(cluster.nodes[0].id)
        cluster.heal()
        (note,) = [event.message for event in cluster.events() if "the new nodes end" in event.message]
        assert "before the cluster" in note
        assert "flex-start machines of gcp live at most 7d" in note


def test_the_nodes_of_a_reservation_with_an_end_expire_with_it(cloud: FakeCloud) -> None:
    (offer, *_) = [part.offer for part in next(iter(Cluster.plan(gpus=16, type="h100", clouds=["aws"]))).parts]
    end = cloud.clock.now() + 3 * DAY
    reservation = cloud.aws.add_reservation(offer, 2, ends_at=end)
    asked: dict[str, Any] = {"gpus": 16, "type": "h100", "clouds": ["aws"], "reservations": [reservation]}
    with Cluster.request(**asked, ttl="7d") as cluster:
        assert cluster.expires_at == end
        assert f"nodes in reservation {reservation} are terminated at" in early_events(cluster)[0]
        with pytest.raises(errors.SpecError, match=reservation):
            cluster.extend("1h")
        cloud.advance(1 * DAY)
        cloud.aws.preempt(cluster.nodes[0].id)
        cluster.heal()
        assert cluster.expires_at == end
        assert expiry_tags(cloud) == {expiry_tag(end)}
        cloud.advance(2 * DAY)
        assert cluster.refresh().state is ClusterState.TERMINATED
    with Cluster.request(gpus=16, type="h100", clouds=["aws"], ttl="1d") as cluster:
        assert cluster.expires_at == cluster.created_at + 1 * DAY


def test_a_reservation_that_ends_before_the_ttl_is_not_used_with_strict_ttl(cloud: FakeCloud) -> None:
    (offer, *_) = [part.offer for part in next(iter(Cluster.plan(gpus=16, type="h100", clouds=["aws"]))).parts]
    reservation = cloud.aws.add_reservation(offer, 2, ends_at=cloud.clock.now() + 3 * DAY)
    asked: dict[str, Any] = {"gpus": 16, "type": "h100", "clouds": ["aws"], "reservations": [reservation]}
    with Cluster.request(**asked, ttl="7d", strict_ttl=True) as cluster:
        assert cluster.hourly_cost > 0
        assert cluster.expires_at == cluster.created_at + 7 * DAY


def test_a_reservation_that_has_ended_is_not_used(cloud: FakeCloud) -> None:
    (offer, *_) = [part.offer for part in next(iter(Cluster.plan(gpus=16, type="h100", clouds=["aws"]))).parts]
    reservation = cloud.aws.add_reservation(offer, 2, ends_at=cloud.clock.now())
    with Cluster.request(gpus=16, type="h100", clouds=["aws"], reservations=[reservation]) as cluster:
        assert cluster.hourly_cost > 0


def test_a_cloud_refuses_a_launch_with_a_later_expiry_than_its_machines_can_have(cloud: FakeCloud) -> None:
    # An engine that does not know of the limit asks for too long a life.
    no_capacity_on_demand(cloud)
    cloud.session.__dict__["lifetime_limits"] = {}
    with pytest.raises(errors.InvalidRequestError, match="is later than"):
        Cluster.request(**B200, ttl="20d")
    assert cloud.alive() == []


def test_a_plug_in_of_a_third_party_without_limits_works(cloud: FakeCloud) -> None:
    del vars(cloud.session.plugins["aws"])["lifetime_limits"]
    with use_session(cloud.session), Cluster.request(gpus=8, type="h100", clouds=["aws"], ttl="300d") as cluster:
        assert cluster.expires_at == cluster.created_at + 300 * DAY
