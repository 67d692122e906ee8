"""Which prices of an answer are used: the rules of the merge, through the public call."""

from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute.price_feed import Interruption
from tests.unit.price_refresh.conftest import Clouds
from tests.unit.price_refresh.scripted_feed import Sold, new_type

BIG: Sold = ("big", "h100", "east", "on_demand")
SPOT: Sold = ("big", "h100", "east", "spot")


def test_a_type_that_is_no_longer_sold_disappears(clouds: Clouds) -> None:
    del clouds.north.sold["huge", "h100", "west", "on_demand"]
    report = clouds.refresh()
    assert (report.removed, report.changed, report.notes) == (1, 0, ())
    assert (clouds.price("huge", "west"), clouds.price("huge", "east")) == (0, 100)
    assert clouds.session.catalog.instances("huge")


def test_the_only_type_with_an_accelerator_disappears_too(clouds: Clouds) -> None:
    del clouds.north.sold["node", "l4", "east", "on_demand"]
    assert clouds.refresh().removed == 1
    assert clouds.price("node", "east", shard="l4") == 0


def test_an_answer_without_any_row_of_a_region_is_an_outage(clouds: Clouds) -> None:
    clouds.north.empty.add(("west", "on_demand"))
    report = clouds.refresh()
    assert (report.removed, report.ok) == (0, True)
    assert "2 groups of prices missing in the answer, probably an outage" in report.notes[0]
    assert clouds.price("big", "west") == 90


def test_a_family_that_vanishes_is_an_outage_for_a_week(clouds: Clouds) -> None:
    for name in ("big", "huge"):
        del clouds.north.sold[name, "h100", "east", "on_demand"]
    assert clouds.refresh().removed == 0
    clouds.next_day(6)
    report = clouds.refresh()
    assert (report.removed, clouds.price("big", "east")) == (0, 80)
    assert "h100 east on_demand" in report.notes[0]
    clouds.next_day()
    report = clouds.refresh()
    assert (report.removed, clouds.price("big", "east")) == (2, 0)
    assert "h100 in east, on_demand: no price since 2026-11-29; removed" in report.notes
    clouds.next_day()
    assert clouds.refresh().notes == ()


def test_a_family_that_returns_starts_a_new_week(clouds: Clouds) -> None:
    sold = {
        key: clouds.north.sold.pop(key) for key in list(clouds.north.sold) if key[1:] == ("h100", "east", "on_demand")
    }
    clouds.refresh()
    clouds.next_day(5)
    clouds.north.sold |= sold
    assert clouds.refresh().notes == ()
    for key in sold:
        del clouds.north.sold[key]
    clouds.next_day(5)
    assert clouds.refresh().removed == 0


def test_an_accelerator_that_vanishes_everywhere_is_an_outage_even_if_each_region_had_one_type(clouds: Clouds) -> None:
    for region in ("east", "west"):
        del clouds.north.sold["big", "h100", region, "spot"]
    # An answer is there, for another type.
    clouds.north.sold["box", "", "east", "spot"] = clouds.north.sold["box", "", "west", "spot"] = {"": 0.1}
    report = clouds.refresh()
    assert (report.removed, report.added) == (0, 2)
    assert clouds.price("big", "west", "spot") == 40


def test_spot_prices_of_zones_are_rows_of_their_own(clouds: Clouds) -> None:
    clouds.north.sold[SPOT] = {"east-a": 25, "east-b": 35}
    report = clouds.refresh()
    assert (report.changed, report.added, report.removed) == (2, 0, 0)
    assert clouds.price("big", "east", "spot", zone="east-a") == 25
    assert clouds.price("big", "east", "spot", zone="east-b") == 35
    clouds.north.sold[SPOT] = {"east-b": 35}
    assert (clouds.refresh().removed, clouds.price("big", "east", "spot")) == (1, 35)


def test_zones_stay_where_the_answer_names_none(clouds: Clouds) -> None:
    clouds.north.sold[BIG] = {"": 81}
    clouds.refresh()
    (line,) = [x for x in clouds.session.catalog.listings("h100", provider="north") if x.quote.hourly_cost == 81]
    assert line.zones == ("east-a", "east-b")


@pytest.mark.parametrize("price", [121, 39])
def test_a_price_that_moved_by_more_than_half_needs_a_second_query(clouds: Clouds, price: float) -> None:
    del clouds.north.sold[SPOT]
    clouds.north.sold[BIG] = {"": price}
    report = clouds.refresh()
    assert clouds.price("big", "east") == price
    assert [move.is_accepted for move in report.moves] == [True]
    assert [each.instance_type for each in clouds.north.confirmed[0]] == ["big"]
    assert report.to_dict()["moves"][0]["after_usd"] == price


@pytest.mark.parametrize("second", [None, 1.02 * 121, 80.0])
def test_without_agreement_the_old_price_stays(clouds: Clouds, second: float | None) -> None:
    clouds.north.sold[BIG] = {"": 121}
    clouds.north.second[BIG] = {zone: second for zone in ("", "east-a", "east-b")}
    report = clouds.refresh()
    assert (clouds.price("big", "east"), report.changed) == (80, 0)
    assert [(move.before, move.after, move.is_accepted) for move in report.moves] == [(80, 121, False)]
    assert "big east on_demand" in report.notes[0]


def test_two_queries_agree_within_a_hundredth(clouds: Clouds) -> None:
    clouds.north.sold[BIG] = {"": 121}
    clouds.north.second[BIG] = {zone: 121.9 for zone in ("", "east-a", "east-b")}
    clouds.refresh()
    assert clouds.price("big", "east") == 121


def test_each_zone_is_confirmed_by_itself(clouds: Clouds) -> None:
    clouds.north.sold[SPOT] = {"east-a": 60, "east-b": 60}
    clouds.north.second[SPOT] = {"east-b": 10}
    clouds.refresh()
    assert clouds.price("big", "east", "spot", zone="east-a") == 60
    assert clouds.price("big", "east", "spot", zone="east-b") == 30


def test_a_move_by_half_needs_no_second_query(clouds: Clouds) -> None:
    clouds.north.sold[BIG] = {"": 120}
    clouds.refresh()
    assert (clouds.price("big", "east"), clouds.north.confirmed) == (120, [])


def test_a_spot_price_that_is_higher_by_rounding_is_the_on_demand_price(clouds: Clouds) -> None:
    clouds.north.sold["box", "", "east", "on_demand"] = {"": 0.20004}
    clouds.north.sold["box", "", "east", "spot"] = {"": 0.2001}
    report = clouds.refresh()
    assert clouds.price("box", "east", "spot", shard="") == 0.20004
    assert report.notes == ()


def test_a_spot_price_above_the_on_demand_price_is_not_used(clouds: Clouds) -> None:
    clouds.north.sold["box", "", "east", "spot"] = {"": 0.21}
    clouds.north.sold[SPOT] = {"": 44}
    clouds.north.sold[BIG] = {"": 43}
    report = clouds.refresh()
    assert clouds.price("box", "east", "spot", shard="") == 0
    # The old spot price is below today's on-demand price.
    assert clouds.price("big", "east", "spot") == 30
    assert (
        "2 spot prices above the on-demand price of the same place, not used: big east spot, box east spot"
        in report.notes
    )


def test_a_region_that_fails_does_not_keep_a_spot_price_above_todays_on_demand_price(clouds: Clouds) -> None:
    clouds.north.sold[BIG] = {"": 41}
    clouds.north.sold[SPOT] = {"": 30}
    clouds.refresh()
    clouds.north.sold[BIG] = {"": 29}
    clouds.north.incomplete.add(("big", "h100", 8, "east", "spot"))
    del clouds.north.sold[SPOT]
    assert clouds.refresh().removed == 1
    assert clouds.price("big", "east", "spot") == 0


def test_prices_that_the_feed_could_not_determine_stay(clouds: Clouds) -> None:
    clouds.north.incomplete.add(("huge", "", 8, "west", "on_demand"))
    del clouds.north.sold["huge", "h100", "west", "on_demand"]
    assert clouds.refresh().removed == 0
    assert clouds.price("huge", "west") == 110


def test_attached_accelerators_are_told_apart(clouds: Clouds) -> None:
    clouds.north.sold["node", "l4", "east", "on_demand"] = {"": 0.85}
    clouds.refresh()
    assert (clouds.price("node", "east", shard="l4"), clouds.price("node", "east", shard="t4")) == (0.85, 0.5)


def test_rows_that_make_no_sense_are_counted_named_and_never_used(clouds: Clouds) -> None:
    price = clouds.north.price
    good = price(BIG, "", 82)
    del clouds.north.sold[BIG]
    clouds.north.extra = [
        replace(good, quote=replace(good.quote, hourly_cost=float("nan"))),
        replace(good, instance_type="unheard"),
        price(("node", "", "east", "on_demand"), "", 0.7),
        replace(price(("huge", "h100", "east", "spot"), "", 60), quote=replace(good.quote, as_of=good.quote.as_of + timedelta(days=1))),
        replace(price(("huge", "h100", "west", "spot"), "", 60), quote=replace(good.quote, source=" ")),
        price(("box", "", "east", "spot"), "", 0.1),
        price(("box", "", "east", "spot"), "east-a", 0.15),
    ]  # fmt: skip
    clouds.north.extra[1:1] = [replace(good, quote=replace(good.quote, hourly_cost=0.0))]
    clouds.north.unreadable = {"a row without a unit, such as X": 3}
    report = clouds.refresh()
    assert dict(report.unreadable) == {
        "a row without a unit, such as X": 3,
        "a price that is not a positive amount, such as big east on_demand": 2,
        "a price of an unknown instance type, such as unheard east on_demand": 1,
        "a price of an ambiguous instance type, such as node east on_demand": 1,
        "a price with a date in the future, such as huge east spot": 1,
        "a price without a source, such as huge west spot": 1,
        "two prices of one zone, such as box east spot": 1,
    }
    assert clouds.price("big", "east") == 80
    assert clouds.price("huge", "west", "spot") == clouds.price("huge", "east", "spot") == 0


def test_new_types_and_corrected_shapes_are_used(clouds: Clouds) -> None:
    clouds.north.types = [
        new_type(),
        new_type("big", "h100", accelerators=8, accelerator_memory_gib=80, vcpus=208, memory_gib=0),
    ]
    clouds.north.sold["new", "l4", "west", "on_demand"] = {"": 3.5}
    report = clouds.refresh()
    assert (report.added, clouds.price("new", "west", shard="l4")) == (1, 3.5)
    (big,) = [each for each in clouds.session.catalog.instances("big") if each.provider == "north"]
    assert (big.vcpus, big.memory_gib, big.fabric, big.network_cards) == (208, 2048, "efa", 32)


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (new_type(accelerator="positron"), "an accelerator of an unknown kind (positron)"),
        (new_type(vcpus=0), "an impossible shape"),
        (new_type("big", "", accelerators=0, accelerator_memory_gib=0), "other accelerators than in the tables"),
        (new_type("big", "h100", accelerators=4), "other accelerators than in the tables"),
        (new_type(arch="sparc"), "an unknown architecture"),
    ],
)
def test_a_shape_that_makes_no_sense_is_counted_and_not_used(clouds: Clouds, found: object, what: str) -> None:
    clouds.north.types = [found]  # type: ignore[list-item]
    report = clouds.refresh()
    assert any(what in text for text in report.unreadable)
    assert report.ok
    assert clouds.price("big", "east") == 80


def test_interruption_rates_are_part_of_the_tables(clouds: Clouds) -> None:
    clouds.north.interruptions = [
        Interruption("big", "east", 0.05, 0.1, "month"),
        Interruption("big", "mars", 0, 1, "month"),
    ]
    clouds.refresh()
    path = clouds.folder / "north" / "h100" / "interruptions.csv"
    assert path.read_text() == "instance_type,region,low,high,period\nbig,east,0.05,0.1,month\n"
    # An answer without any leaves them, and so does a refresh of another part.
    for number in range(2):
        clouds.north.interruptions = [] if number else None
        clouds.next_day()
        clouds.refresh()
        assert len(path.read_text().splitlines()) == 2
    clouds.north.interruptions = [Interruption("box", "east", 0, 0.05, "month")]
    clouds.refresh(accelerators=["cpu"])
    assert len(path.read_text().splitlines()) == 2
    clouds.refresh()
    assert not path.exists()
