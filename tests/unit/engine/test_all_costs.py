"""Discounts, paid reservations and the transfer of data in plans, at launch, in the ledger and in cost reports."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.config import Config
from multicompute.cost.report import report
from multicompute.cost.text import render_html
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.testing import FakeCloud, fake_cloud

EAST: dict[str, Any] = {"gpus": 16, "type": "p5.48xlarge", "regions": ["us-east-1a"]}
SPOT: dict[str, Any] = {"gpus": 8, "type": "p5.48xlarge", "spot": True, "regions": ["us-east-1a"]}
LIST = 55.04


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def configure(cloud: FakeCloud, *discounts: dict[str, Any], **settings: Any) -> None:
    """Change the configuration of the session."""
    values = dict(cloud.session.config) | {"discounts": [{"cloud": "aws"} | each for each in discounts]} | settings
    cloud.session.__dict__["config"] = Config(**values)
    cloud.session.__dict__.pop("discounts", None)


def test_a_discount_is_in_the_plan_the_ledger_and_the_cost_with_the_list_price_next_to_it(cloud: FakeCloud) -> None:
    configure(cloud, {"instance_type": "p5*", "percent": 32})
    best = Cluster.plan(**EAST).best
    assert best.hourly_cost == pytest.approx(2 * LIST * 0.68)
    assert best.list_hourly_cost == 2 * LIST
    assert best.to_dict()["discount"] == "aws p5*: 32% off"
    assert "110.08" in str(Cluster.plan(**EAST))
    cluster = Cluster.request(**EAST)
    assert cluster.hourly_cost == pytest.approx(2 * LIST * 0.68)
    cloud.advance(timedelta(hours=2))
    refresh_all(cloud.session)
    found = report(cloud.session)
    assert float(found.total.cost) == pytest.approx(float(found.total.list_cost) * 0.68)
    assert "list cost" in render_html(found)
    cluster.terminate()


def test_without_discounts_the_cost_report_shows_no_list_cost(cloud: FakeCloud) -> None:
    with Cluster.request(**EAST):
        cloud.advance(timedelta(hours=1))
        found = report(cloud.session)
        assert found.total.list_cost == found.total.cost
        assert "list cost" not in render_html(found)


def test_nodes_beyond_those_that_a_discount_covers_cost_the_list_price(cloud: FakeCloud) -> None:
    configure(cloud, {"hourly_usd": 20, "nodes": 3})
    best = Cluster.plan(**EAST | {"gpus": 40}).best
    assert best.hourly_cost == pytest.approx(3 * 20 + 2 * LIST)
    assert best.discount == "aws *: $20 per node-hour, 3 of 5 nodes"


def test_live_nodes_use_up_a_discount_and_leave_it_when_they_end(cloud: FakeCloud) -> None:
    configure(cloud, {"hourly_usd": 20, "nodes": 3})
    first = Cluster.request(**EAST)
    assert first.hourly_cost == 40
    assert Cluster.plan(**EAST).best.hourly_cost == pytest.approx(20 + LIST)
    second = Cluster.request(**EAST)
    assert second.hourly_cost == pytest.approx(20 + LIST)
    assert Cluster.plan(**EAST).best.hourly_cost == pytest.approx(2 * LIST)
    first.terminate()
    # The two nodes of the other cluster count, whatever they cost.
    assert Cluster.plan(**EAST).best.hourly_cost == pytest.approx(20 + LIST)
    second.terminate()
    assert Cluster.plan(**EAST).best.hourly_cost == 40


def test_the_last_discount_that_matches_holds(cloud: FakeCloud) -> None:
    configure(
        cloud,
        {"percent": 10},
        {"instance_type": "p5.*", "regions": ["us-east-1"], "percent": 50},
        {"regions": ["eu"], "percent": 99},
    )
    assert Cluster.plan(**EAST).best.hourly_cost == pytest.approx(LIST)
    other = Cluster.plan(**EAST | {"regions": ["us-west-2"]}).best
    assert other.hourly_cost == pytest.approx(2 * LIST * 0.9)


def test_limits_hold_against_the_price_with_the_discount(cloud: FakeCloud) -> None:
    configure(cloud, {"percent": 50}, max_hourly=60)
    assert Cluster.plan(**EAST, max_price=4, max_hourly=56).best.hourly_cost == pytest.approx(LIST)
    configure(cloud)
    with pytest.raises(errors.NoOfferError):
        Cluster.plan(**EAST, max_price=4)


@pytest.mark.parametrize(
    "price", [{"percent": 100}, {"percent": 0}, {"usd_per_accelerator_hour": 0}, {"hourly_usd": 0}]
)
def test_no_discount_makes_a_price_negative(cloud: FakeCloud, price: dict[str, float]) -> None:
    configure(cloud, price)
    assert 0 <= Cluster.plan(**EAST).best.hourly_cost <= 2 * LIST


def test_a_confirmed_list_price_has_the_discount_too(cloud: FakeCloud) -> None:
    configure(cloud, {"purchase": "spot", "percent": 50})
    offer = Cluster.plan(**SPOT).best.parts[0].offer.at_list()
    cloud.aws.set_price(offer, 33.0)
    with Cluster.request(**SPOT, max_hourly=20) as cluster:
        assert cluster.hourly_cost == 16.5
    launched = [call for call in cloud.aws.faults.calls if call.operation == "launch"]
    assert launched[-1].fields["max_price"] == 40.0


def test_the_cost_of_discounted_spot_nodes_follows_the_list_price(cloud: FakeCloud) -> None:
    configure(cloud, {"purchase": "spot", "percent": 50})
    offer = Cluster.plan(**SPOT).best.parts[0].offer.at_list()
    cloud.aws.set_price(offer, 20.0)
    cluster = Cluster.request(**SPOT)
    boot = 10.0 / 120
    cloud.advance(timedelta(hours=2))
    cloud.aws.set_price(offer, 50.0)
    cloud.advance(timedelta(hours=1))
    refresh_all(cloud.session)
    assert Cluster.get(cluster.name).hourly_cost == 25.0
    assert Cluster.get(cluster.name).accrued_cost == pytest.approx(boot + 2 * 10 + 25)
    found = report(cloud.session)
    assert float(found.total.list_cost) == pytest.approx(2 * float(found.total.cost))
    cluster.terminate()


def test_a_replaced_node_keeps_the_discount(cloud: FakeCloud) -> None:
    configure(cloud, {"percent": 32})
    cluster = Cluster.request(**EAST)
    cloud.aws.preempt(cluster.nodes[1].id)
    cloud.advance(timedelta(minutes=5))
    cluster.heal()
    assert cluster.hourly_cost == pytest.approx(2 * LIST * 0.68)
    cluster.terminate()


def test_a_paid_reservation_costs_nothing_up_to_its_size(cloud: FakeCloud) -> None:
    offer = Cluster.plan(**EAST).best.parts[0].offer
    name = cloud.aws.add_reservation(offer, 2)
    inside = Cluster.request(**EAST, reservations=[name], name="inside")
    assert inside.hourly_cost == 0
    inside.terminate()
    beyond = Cluster.request(**EAST | {"gpus": 24}, reservations=[name], name="beyond")
    assert beyond.hourly_cost == LIST
    cloud.advance(timedelta(hours=1))
    costs = {row.group: float(row.cost) for row in report(cloud.session).rows}
    assert costs.get("inside", 0.0) == 0
    assert LIST <= costs["beyond"] < 1.1 * LIST
    beyond.terminate()


def test_the_data_decides_where_a_cluster_is_launched(cloud: FakeCloud) -> None:
    arguments: dict[str, Any] = {"gpus": 8, "type": "p5.48xlarge", "regions": ["us-east-1", "us-west-2"], "hours": 10}
    arguments["data"] = [("s3://bucket/tokens", "aws:us-west-2", "20TiB")]
    plan = Cluster.plan(**arguments)
    assert [plan.best.region, plan.best.transfer_cost, plan.best.total_cost] == ["us-west-2", 0.0, 550.4]
    moved = next(candidate for candidate in plan if candidate.region == "us-east-1")
    assert moved.transfer_cost == pytest.approx(20 * 1024 * 0.02)
    assert moved.to_dict()["total_usd"] == pytest.approx(550.4 + 409.6)
    assert "409.60" in str(plan)
    assert "transfer $" in plan._repr_html_()
    with Cluster.request(**arguments) as cluster:
        assert cluster.nodes[0].region == "us-west-2"


def test_the_hours_are_the_ttl_if_they_are_not_given(cloud: FakeCloud) -> None:
    data = [("s3://bucket/tokens", "aws:us-west-2", "1TiB")]
    assert Cluster.plan(**EAST, data=data).best.hours == 24
    assert Cluster.plan(**EAST, data=data, ttl="2h").best.hours == 2
    with pytest.raises(errors.SpecError, match="hours=200"):
        Cluster.plan(**EAST, data=data, ttl=None)
    assert Cluster.plan(**EAST, data=data, ttl=None, hours=3).best.hours == 3


@pytest.mark.parametrize(("ttl", "is_noted"), [("default", True), ("2h", True), ("300h", False), (None, False)])
def test_a_plan_says_if_the_cluster_ends_before_its_hours(cloud: FakeCloud, ttl: str | None, is_noted: bool) -> None:
    notes = Cluster.plan(**EAST, hours=200, ttl=ttl).notes
    assert any("terminated before hours=200" in note for note in notes) is is_noted


@pytest.mark.parametrize(
    ("place", "message"),
    [("us-east-1", "write aws:us-east-1"), ("aws:us-esat-1", "us-east-1"), ("awz:us-east-1", "did you mean aws")],
)
def test_data_in_an_unknown_place_is_an_error_that_names_the_nearest(
    cloud: FakeCloud, place: str, message: str
) -> None:
    with pytest.raises(errors.SpecError, match=message):
        Cluster.plan(**EAST, data=[("s3://bucket/tokens", place, "1TiB")])
