"""Gangs of several parts, next to a reservation or spread over zones and regions, come up all or nothing."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from multicompute import Cluster, ClusterState, Event, errors
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.provider import Quotas
from multicompute.testing import Call, FakeCloud, fake_cloud
from tests.unit.engine.spread import allow_one_node_per_zone


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def test_reserved_nodes_are_used_first_and_the_rest_is_bought_in_the_same_zone(cloud: FakeCloud) -> None:
    (offer,) = [part.offer for part in next(iter(Cluster.plan(gpus=64, type="h100", regions=["us-west-2"]))).parts]
    reservation = cloud.aws.add_reservation(offer, 3)
    with Cluster.request(gpus=64, type="h100", reservations=[reservation]) as cluster:
        assert len(cluster.nodes) == 8
        assert {node.zone for node in cluster.nodes} == {offer.zone}
        assert cluster.hourly_cost == pytest.approx(5 * offer.hourly_cost)
        assert sum(node.hourly_cost == 0 for node in cluster.nodes) == 3
    assert cloud.alive() == []


def test_a_reservation_that_is_not_found_is_a_spec_error(cloud: FakeCloud) -> None:
    with pytest.raises(errors.SpecError, match="cr-none"):
        Cluster.request(gpus=64, type="h100", reservations=["cr-none"])
    assert cloud.alive() == []


def test_regions_that_could_not_be_read_are_named_if_a_reservation_is_not_found(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quotas(region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        if region == "us-east-1":
            raise errors.ThrottledError(f"{region}: too many calls")
        is_read = region != "us-east-2"
        return Quotas(notes=() if is_read else (f"{region}: reservation {reservations[0]} could not be read: denied",))

    monkeypatch.setattr(cloud.aws, "quotas", quotas)
    with pytest.raises(
        errors.SpecError, match=r"cr-none: not found in \d+ regions of aws; in 2 more they could not be"
    ):
        Cluster.request(gpus=64, type="h100", reservations=["cr-none"])
    assert cloud.alive() == []


def test_a_spread_gang_comes_up_in_several_regions_with_consecutive_ranks(cloud: FakeCloud) -> None:
    allow_one_node_per_zone(cloud, "us-east-1", "us-east-2")
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


def test_a_spread_gang_that_lacks_capacity_in_one_region_leaves_nothing_in_the_other(cloud: FakeCloud) -> None:
    allow_one_node_per_zone(cloud, "us-east-1", "us-east-2")
    cloud.set_capacity("p5.48xlarge", "us-east-2", 0)
    regions = ["us-east-1", "us-east-2"]
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=64, type="p5.48xlarge", regions=regions, placement="cloud", interconnect="any")
    assert cloud.alive() == []


class _Dead(BaseException):
    pass


@pytest.mark.parametrize("when", ["launched", "launch"], ids=["between two regions", "in the call of the second"])
def test_a_spread_gang_whose_process_was_killed_comes_up_complete_and_once(cloud: FakeCloud, when: str) -> None:
    allow_one_node_per_zone(cloud, "us-east-1", "us-east-2")

    def die(_: object) -> None:
        # From now on every call fails, so nothing is torn down either, as after a kill.
        cloud.aws.faults.hook("*", lambda _: die(_))
        raise _Dead

    def callback(event: Event) -> None:
        if event.kind == when:
            die(event)

    def second(call: Call) -> None:
        if call.region == "us-east-2" and when == "launch":
            die(call)

    cloud.aws.faults.hook("launch", second)

    def get(progress: Callable[[Event], None] | None) -> Cluster:
        return Cluster.request(
            gpus=64,
            type="p5.48xlarge",
            regions=["us-east-1", "us-east-2"],
            placement="cloud",
            interconnect="any",
            name="killed",
            progress=progress,
        )

    with pytest.raises(_Dead):
        get(callback)
    assert cloud.alive() != []
    cloud.aws.faults.clear()
    cloud.session.ledger.update_cluster(Cluster.get("killed").id, state=ClusterState.PROVISIONING)
    cloud.advance("10m")
    with get(None) as cluster:
        assert len(cluster.nodes) == len(cloud.aws.running_ids()) == 8
    assert cloud.alive() == []
