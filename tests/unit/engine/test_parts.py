"""Gangs that are bought in several parts: beside a reservation, and spread over zones and regions; still all or nothing."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.reconcile import reconcile
from multicompute.plan import Outage
from multicompute.testing import FakeCloud, fake_cloud


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def only_one_node_each(cloud: FakeCloud, *regions: str) -> None:
    """Remember that no zone of these regions has two nodes together."""
    until = cloud.clock.now() + timedelta(hours=1)
    for region in regions:
        outage = Outage("aws", region, "p5.48xlarge", "on_demand", "capacity", until, nodes=2)
        cloud.session.ledger.remember(outage)


def test_what_is_reserved_is_used_first_and_the_rest_is_bought_beside_it(cloud: FakeCloud) -> None:
    (offer,) = [part.offer for part in next(iter(Cluster.plan(gpus=64, type="h100", regions=["us-west-2"]))).parts]
    reservation = cloud.aws.add_reservation(offer, 3)
    with Cluster.request(gpus=64, type="h100", reservations=[reservation]) as cluster:
        assert len(cluster.nodes) == 8
        assert {node.zone for node in cluster.nodes} == {offer.zone}
        assert cluster.hourly_cost == pytest.approx(5 * offer.hourly_cost)
        assert sum(node.hourly_cost == 0 for node in cluster.nodes) == 3
    assert cloud.alive() == []


def test_a_reservation_that_is_nowhere_is_an_input_error(cloud: FakeCloud) -> None:
    with pytest.raises(errors.SpecError, match="cr-none"):
        Cluster.request(gpus=64, type="h100", reservations=["cr-none"])
    assert cloud.alive() == []


def test_a_spread_gang_comes_up_in_several_regions_with_ranks_over_all(cloud: FakeCloud) -> None:
    only_one_node_each(cloud, "us-east-1", "us-east-2")
    regions = ["us-east-1", "us-east-2"]
    with Cluster.request(
        gpus=64, type="p5.48xlarge", regions=regions, placement="cloud", interconnect="any"
    ) as cluster:
        assert {node.region for node in cluster.nodes} == set(regions)
        assert [node.rank for node in cluster.nodes] == list(range(8))
        assert sorted(node.id for node in cluster.nodes) == sorted(cloud.aws.running_ids())
        assert cluster.extend("1h") is not None
        assert cluster.refresh().state is ClusterState.READY
        assert not reconcile(cloud.session).is_leak
    assert cloud.alive() == []


def test_a_spread_gang_of_which_one_region_has_no_capacity_leaves_nothing_in_the_other(cloud: FakeCloud) -> None:
    only_one_node_each(cloud, "us-east-1", "us-east-2")
    cloud.set_capacity("p5.48xlarge", "us-east-2", 0)
    regions = ["us-east-1", "us-east-2"]
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=64, type="p5.48xlarge", regions=regions, placement="cloud", interconnect="any")
    assert cloud.alive() == []


def test_a_spread_gang_that_was_cut_off_between_two_regions_is_not_taken_for_whole(cloud: FakeCloud) -> None:
    only_one_node_each(cloud, "us-east-1", "us-east-2")
    regions = ["us-east-1", "us-east-2"]
    arguments = {"regions": regions, "placement": "cloud", "interconnect": "any", "name": "cut"}

    class Dead(BaseException):
        pass

    def die(call: object) -> None:
        if getattr(call, "region", "") == "us-east-2":
            cloud.aws.faults.hook("*", lambda _: (_ for _ in ()).throw(Dead()))
            raise Dead

    cloud.aws.faults.hook("launch", die)
    with pytest.raises(Dead):
        Cluster.request(gpus=64, type="p5.48xlarge", **arguments)  # type: ignore[arg-type]
    cloud.aws.faults.clear()
    assert cloud.aws.running_ids() or cloud.alive()
    # As a kill would have left it: not ended, nobody at work on it.
    cloud.session.ledger.update_cluster(Cluster.get("cut").id, state=ClusterState.PROVISIONING)
    cloud.advance("10m")
    with Cluster.request(gpus=64, type="p5.48xlarge", **arguments) as cluster:  # type: ignore[arg-type]
        assert len(cluster.nodes) == len(cloud.aws.running_ids()) == 8
    assert cloud.alive() == []
