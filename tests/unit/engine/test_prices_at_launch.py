"""Prices are confirmed before a launch, limits hold against the confirmed price, and cost follows the spot price."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.offer import Offer
from multicompute.provider import Capability
from multicompute.testing import FakeCloud, fake_cloud

SPOT: dict[str, Any] = {"gpus": 8, "type": "p5.48xlarge", "spot": True, "regions": ["us-east-1a"]}


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def spot_offer() -> Offer:
    return Cluster.plan(**SPOT).candidates[0].parts[0].offer


def test_the_price_of_a_spot_node_is_that_of_today(cloud: FakeCloud) -> None:
    cloud.aws.set_price(spot_offer(), 33.0)
    with Cluster.request(**SPOT) as cluster:
        assert cluster.hourly_cost == 33.0
        assert any("is $33.00/h today" in event.message for event in cluster.events())


@pytest.mark.parametrize(("limit", "value"), [("max_hourly", 30.0), ("max_price", 4.0)])
def test_a_limit_holds_against_the_price_of_today(cloud: FakeCloud, limit: str, value: float) -> None:
    limits: dict[str, Any] = {limit: value}
    cloud.aws.set_price(spot_offer(), 33.0)
    with pytest.raises(errors.CapacityError, match=f"today, more than {limit}={value:g}"):
        Cluster.request(**SPOT, **limits)
    assert cloud.alive() == []


def test_the_spot_ceiling_comes_from_both_limits(cloud: FakeCloud) -> None:
    request: dict[str, Any] = {"gpus": 16, "type": "p5.48xlarge", "spot": True, "regions": ["us-east-1a"]}
    cases: list[tuple[dict[str, Any], float]] = [
        ({"max_price": 9.0}, 72.0),
        ({"max_hourly": 100.0}, 50.0),
        ({"max_price": 5.0, "max_hourly": 100.0}, 40.0),
    ]
    for limits, expected in cases:
        Cluster.request(**request, **limits).terminate()
        launched = [call for call in cloud.aws.faults.calls if call.operation == "launch"]
        assert launched[-1].fields["max_price"] == expected


def test_a_price_is_asked_for_once_in_a_request(cloud: FakeCloud) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=8, type="p5.48xlarge", regions=["us-east-1"], keep_trying="10m", interconnect="any")
    asked = [call.fields["offers"] for call in cloud.aws.faults.calls if call.operation == "quotes"]
    launches = [call for call in cloud.aws.faults.calls if call.operation == "launch"]
    assert len(asked) <= len({call.fields["zone"] for call in launches})


@pytest.mark.parametrize("retry_after", [None, timedelta(seconds=40)])
def test_a_launch_waits_a_few_seconds_for_prices_and_asks_a_cloud_without_an_answer_once(
    cloud: FakeCloud, retry_after: timedelta | None
) -> None:
    cloud.aws.faults.throttle("quotes", times=None, retry_after=retry_after)
    cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
    with Cluster.request(gpus=8, type="p5.48xlarge", regions=["us-east-1", "us-east-2"], interconnect="any") as cluster:
        events = cluster.events()
    assert sum(call.operation == "launch" for call in cloud.aws.faults.calls) > 1
    asked = [call for call in cloud.aws.faults.calls if call.operation == "quotes"]
    assert len(asked) == 1 if retry_after else 2 <= len(asked) <= 4
    [note] = [event for event in events if "the price could not be confirmed" in event.message]
    assert note.at - events[0].at < timedelta(seconds=10)


def test_a_difference_of_less_than_a_cent_is_no_note(cloud: FakeCloud) -> None:
    offer = spot_offer()
    cloud.aws.set_price(offer, offer.quote.hourly_cost + 0.000001)
    with Cluster.request(**SPOT) as cluster:
        assert cluster.hourly_cost == pytest.approx(offer.quote.hourly_cost + 0.000001, abs=1e-9)
        assert not [event for event in cluster.events() if "in the tables" in event.message]


def test_cost_follows_the_spot_price_while_the_cluster_lives(cloud: FakeCloud) -> None:
    offer = spot_offer()
    cloud.aws.set_price(offer, 20.0)
    cluster = Cluster.request(**SPOT)
    boot = 20.0 / 120
    cloud.advance(timedelta(hours=2))
    cloud.aws.set_price(offer, 50.0)
    cloud.advance(timedelta(hours=1))
    refresh_all(cloud.session)
    cluster = Cluster.get(cluster.name)
    assert cluster.hourly_cost == 50.0
    assert cluster.accrued_cost == pytest.approx(boot + 2 * 20 + 1 * 50)
    cloud.advance(timedelta(hours=1))
    assert Cluster.get(cluster.name).accrued_cost == pytest.approx(boot + 2 * 20 + 2 * 50)
    cluster.terminate()


def test_the_spot_price_is_asked_for_once_an_hour_for_all_nodes(cloud: FakeCloud) -> None:
    cluster = Cluster.request(**{**SPOT, "gpus": 16})
    for _ in range(6):
        cloud.advance(timedelta(minutes=20))
        refresh_all(cloud.session)
    asked = [call.fields["offers"] for call in cloud.aws.faults.calls if call.operation == "spot_prices"]
    assert asked == [1, 1]
    cluster.terminate()


def test_a_cloud_without_spot_prices_is_not_asked(cloud: FakeCloud) -> None:
    cloud.aws.capabilities -= {Capability.SPOT_PRICES}
    cluster = Cluster.request(**SPOT)
    cost = cluster.hourly_cost
    assert any("keeps the price of its launch" in event.message for event in cluster.events())
    cloud.aws.set_price(spot_offer(), 99.0)
    cloud.advance(timedelta(hours=2))
    refresh_all(cloud.session)
    assert Cluster.get(cluster.name).hourly_cost == cost
    cluster.terminate()


def test_a_replaced_node_joins_the_fabric_of_its_gang(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="p5.48xlarge", regions=["us-east-1a"])
    cloud.aws.preempt(cluster.nodes[1].id)
    cloud.advance(timedelta(minutes=5))
    cluster.heal()
    launches = [call.fields for call in cloud.aws.faults.calls if call.operation == "launch"]
    assert [fields["fabric"] for fields in launches] == [True, True]
    assert launches[1]["peers"] == (launches[0]["token"],)
    cluster.terminate()
