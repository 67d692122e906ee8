"""Each rule of the resolver, on a catalog small enough to know the answer."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from multicompute.errors import NoOfferError
from multicompute.plan import Outage
from multicompute.provider import Availability, LifetimeLimit, Reservation
from multicompute.resolver import require
from tests.unit.resolver.fake_catalog import (
    BIG,
    CPU,
    EAST,
    GREEN,
    NORTH,
    NOW,
    SMALL,
    TEA,
    WEST,
    FakeCatalog,
    line,
    plan,
    retired,
    shown,
)

SOON = NOW + timedelta(minutes=5)


def test_the_cheapest_total_comes_first_and_every_zone_is_a_candidate() -> None:
    found = plan(FakeCatalog(line(BIG, 80), line(GREEN, 70, NORTH)), gpus=16, type="h100")
    assert shown(found) == ["2 x g8 north-1a", "2 x g8 north-1b", "2 x b8 east-1a", "2 x b8 east-1b"]
    assert [item.hourly_cost for item in found] == [140, 140, 160, 160]


def test_at_the_same_total_a_list_price_comes_before_an_estimate_and_fewer_nodes_before_more() -> None:
    catalog = FakeCatalog(
        line(SMALL, 10, zones="a"), line(BIG, 80, zones="a", basis="estimate"), line(GREEN, 80, NORTH, "a")
    )
    found = plan(catalog, gpus=8, type="h100", interconnect="any")
    assert shown(found) == ["1 x g8 north-1a", "8 x b1 east-1a", "1 x b8 east-1a"]


def test_order_given_puts_every_offer_of_the_first_type_before_any_of_the_second() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a"), line(TEA, 1, zones="a"))
    assert shown(plan(catalog, gpus=8, type=["h100", "t4"], order="given")) == ["1 x b8 east-1a", "8 x t4.one east-1a"]
    assert shown(plan(catalog, gpus=8, type=["h100", "t4"])) == ["8 x t4.one east-1a", "1 x b8 east-1a"]


def test_surplus_accelerators_are_paid_for_and_shown() -> None:
    found = plan(FakeCatalog(line(BIG, 80)), gpus=9, type="h100", allow_surplus=True)
    best = found.best
    assert (best.nodes, best.accelerators, best.hourly_cost, best.price_per_accelerator) == (2, 16, 160, 10)
    assert "the first candidate has 16 accelerators, more than gpus=9; you pay for all" in found.notes


@pytest.mark.parametrize(
    ("values", "count", "nearest"),
    [
        ({"gpus": 13}, 2, None),
        ({"gpus": 12}, 0, "gpus=16"),
        ({"gpus": 9}, 0, "gpus=16"),
        ({"gpus": 1}, 0, "gpus=8"),
        ({"gpus": 8, "nodes": 3}, 0, "nodes=1"),
        ({"gpus": 20, "nodes": 3}, 2, None),
        ({"gpus": 12, "type": "b8"}, 0, "gpus=16"),
        ({"gpus": 12, "allow_surplus": True}, 2, None),
    ],
)
def test_over_a_quarter_more_accelerators_than_asked_for_are_refused_with_what_would_do(
    values: dict[str, Any], count: int, nearest: str | None
) -> None:
    found = plan(FakeCatalog(line(BIG, 80)), **{"type": "h100", **values})
    assert len(found.candidates) == count
    assert str(found.nearest).partition(" would have one")[0] == str(nearest)
    if not count:
        assert found.rejected["over a quarter more accelerators than asked for"].count == 2
        with pytest.raises(NoOfferError, match="nodes=3 rules out" if "nodes" in values else "at most a quarter more"):
            require(found)


def test_the_configured_ceiling_rejects_what_costs_more_in_addition_to_the_limits_of_the_request() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a"), line(GREEN, 70, NORTH, "a"))
    assert shown(plan(catalog, known={"ceiling": 150}, gpus=16, type="h100")) == ["2 x g8 north-1a"]
    found = plan(catalog, known={"ceiling": 100}, gpus=16, type="h100", max_hourly=150)
    assert {reason: item.count for reason, item in found.rejected.items()} == {
        "over max_hourly": 1,
        "over the configured max_hourly": 1,
    }
    assert str(found.nearest).startswith("gpus=8 would have one")


def test_many_single_machines_without_a_fabric_are_skipped_with_a_note_how_to_allow_them() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a"), line(SMALL, 9, zones="a"))
    found = plan(catalog, gpus=8, type="h100")
    assert shown(found) == ["1 x b8 east-1a"]
    assert found.rejected["no fabric"].count == 1
    assert "skipped 1 cheaper offer without a fabric between the nodes; interconnect='any' allows them" in found.notes
    assert shown(plan(catalog, gpus=8, type="h100", interconnect="any"))[0] == "8 x b1 east-1a"


def test_if_no_offer_has_a_fabric_auto_accepts_all_and_rdma_accepts_none() -> None:
    catalog = FakeCatalog(line(SMALL, 9, zones="a"))
    assert shown(plan(catalog, gpus=8, type="h100")) == ["8 x b1 east-1a"]
    assert shown(plan(catalog, gpus=8, type="h100", interconnect="rdma")) == []


def test_auto_does_not_apply_to_accelerators_that_are_not_built_to_be_linked() -> None:
    assert shown(plan(FakeCatalog(line(TEA, 1, zones="a")), gpus=4, type="t4")) == ["4 x t4.one east-1a"]


def test_one_node_needs_no_fabric() -> None:
    assert shown(plan(FakeCatalog(line(SMALL, 9, zones="a")), gpus=1, type="h100", interconnect="rdma")) == [
        "1 x b1 east-1a"
    ]


def test_fractions_of_an_accelerator_and_retired_types_are_used_only_when_named() -> None:
    third = replace(TEA, name="t4.third", accelerators=0.3333)
    catalog = FakeCatalog(line(TEA, 1), line(third, 0.1, zones="a"), line(retired(TEA), 0.1, zones="a"))
    found = plan(catalog, gpus=1, type="t4")
    assert shown(found) == ["1 x t4.one east-1a", "1 x t4.one east-1b"]
    assert (found.rejected["fraction of an accelerator"].count, found.rejected["retired"].count) == (1, 1)
    assert shown(plan(catalog, gpus=1, type="t4.one-old")) == ["1 x t4.one-old east-1a"]
    best = plan(catalog, gpus=2, type="t4.third").best
    assert best is not None
    assert (best.nodes, best.accelerators, best.price_per_accelerator) == (6, 2.0, 0.3)


def test_the_nominal_memory_of_an_accelerator_counts_although_the_cloud_reports_a_little_less() -> None:
    reported = replace(TEA, accelerator_memory_gib=14.9)
    assert len(plan(FakeCatalog(line(reported, 1)), gpus=1, type="t4", min_gpu_memory="16GiB")) == 2


def test_a_fraction_of_an_accelerator_has_a_fraction_of_its_memory_although_the_cloud_reports_all_of_it() -> None:
    half = replace(TEA, name="t4.half", accelerators=0.5)
    assert len(plan(FakeCatalog(line(half, 1)), gpus=1, type="t4.half", min_gpu_memory=8)) == 2
    assert len(plan(FakeCatalog(line(half, 1)), gpus=1, type="t4.half", min_gpu_memory=9)) == 0


def test_a_type_without_accelerators_is_requested_with_nodes_or_without_a_number() -> None:
    catalog = FakeCatalog(line(CPU, 0.2, zones="a"))
    assert shown(plan(catalog, type="c4", nodes=3)) == ["3 x c4 east-1a"]
    assert shown(plan(catalog, type="C4")) == ["1 x c4 east-1a"]


def test_only_the_requested_accelerators_are_read() -> None:
    catalog = FakeCatalog(line(BIG, 80), line(TEA, 1), line(CPU, 0.1))
    found = plan(catalog, gpus=8, type="h100")
    assert catalog.read == ["h100", "h100-nvl"]
    assert found.rejected["wrong accelerator"].count == 4


def test_spot_and_flex_start_are_used_only_when_requested() -> None:
    catalog = FakeCatalog(
        line(BIG, 80), line(BIG, 30, zones="a", purchase="spot"), line(BIG, 50, zones="a", purchase="flex_start")
    )
    purchases = {
        "none": [item.purchase for item in plan(catalog, gpus=8, type="h100")],
        "spot": [item.purchase for item in plan(catalog, gpus=8, type="h100", spot=True)],
        "prefer": [item.purchase for item in plan(catalog, gpus=8, type="h100", spot="prefer")],
        "flex": [item.purchase for item in plan(catalog, gpus=8, type="h100", flex_start=True)],
    }
    assert purchases == {
        "none": ["on_demand", "on_demand"],
        "spot": ["spot"],
        "prefer": ["spot", "on_demand", "on_demand"],
        "flex": ["flex_start", "on_demand", "on_demand"],
    }
    assert plan(catalog, gpus=8, type="h100", spot=True).rejected["on demand not asked for"].count == 2


@pytest.mark.parametrize(
    ("regions", "where"),
    [
        (["east-*"], {"east-1"}),
        (["eu"], {"west-1", "north-1"}),
        (["blue:eu"], {"west-1"}),
        (["blue:*-1"], {"east-1", "west-1"}),
        (["us", "green:north-?"], {"east-1", "north-1"}),
        (["EAST-1"], {"east-1"}),
    ],
)
def test_regions_are_globs_or_residencies_with_or_without_the_cloud(regions: list[str], where: set[str]) -> None:
    catalog = FakeCatalog(line(BIG, 80), line(BIG, 80, WEST), line(GREEN, 80, NORTH))
    assert {item.region for item in plan(catalog, gpus=8, type="h100", regions=regions)} == where
    others = {"east-1", "west-1", "north-1"} - where
    assert {item.region for item in plan(catalog, gpus=8, type="h100", exclude=regions)} == others


@pytest.mark.parametrize(
    ("regions", "where"),
    [
        (["east-1a"], {"east-1a"}),
        (["EAST-1A"], {"east-1a"}),
        (["blue:east-1?"], {"east-1a", "east-1b"}),
        (["east-1[bc]", "north-1a"], {"east-1b", "north-1a"}),
        (["*-1b"], {"east-1b", "west-1b", "north-1b"}),
        # A region that matches comes before its zones, and a whole region before one of its zones.
        (["east-1*"], {"east-1a", "east-1b"}),
        (["east-1", "east-1a"], {"east-1a", "east-1b"}),
    ],
)
def test_zones_are_accepted_where_regions_are(regions: list[str], where: set[str]) -> None:
    catalog = FakeCatalog(line(BIG, 80), line(BIG, 80, WEST), line(GREEN, 80, NORTH))
    assert {item.zone for item in plan(catalog, gpus=8, type="h100", regions=regions)} == where
    others = {f"{region}-1{zone}" for region in ("east", "west", "north") for zone in "ab"} - where
    assert {item.zone for item in plan(catalog, gpus=8, type="h100", exclude=regions)} == others


def test_zones_that_are_not_allowed_count_under_reasons_of_their_own() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="abc"), line(BIG, 80, WEST), line(GREEN, 80, NORTH))
    found = plan(
        catalog,
        gpus=8,
        type="h100",
        regions=["east-1[ab]", "west-1"],
        exclude=["east-1a"],
        known={"only": {"blue": ["east-1a", "east-1b", "west-1a"]}},
    )
    assert shown(found) == ["1 x b8 east-1b", "1 x b8 west-1a"]
    assert {reason: item.count for reason, item in found.rejected.items()} == {
        "region not asked for": 2,
        "zone not asked for": 1,
        "zone excluded": 1,
        "zone not configured": 1,
    }


def test_an_offer_without_zones_is_an_offer_in_each_allowed_zone_of_its_region() -> None:
    bare = line(BIG, 80, zones="")
    catalog = FakeCatalog(bare, line(SMALL, 100, zones="abc"))
    options: dict[str, Any] = {"gpus": 8, "type": "b8"}
    assert shown(plan(catalog, **options)) == ["1 x b8 east-1"]
    assert shown(plan(catalog, regions=["east-1b"], **options)) == ["1 x b8 east-1b"]
    assert shown(plan(catalog, exclude=["east-1b"], **options)) == ["1 x b8 east-1a", "1 x b8 east-1c"]
    refused = plan(catalog, regions=["east-1b"], exclude=["east-1b"], **options)
    assert {reason: item.count for reason, item in refused.rejected.items()} == {
        "other instance type": 3,
        "zone excluded": 1,
    }


def test_an_offer_without_zones_that_lacks_capacity_in_one_zone_is_a_candidate_in_the_others() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones=""), line(SMALL, 100, zones="abc"))
    outage = Outage("blue", "east-1a", "b8", "on_demand", "capacity", SOON)
    found = plan(catalog, known={"outages": [outage]}, gpus=8, type="b8", regions=["east-1[ab]"])
    assert shown(found) == ["1 x b8 east-1b"]
    assert "outage" not in found.rejected


@pytest.mark.parametrize(("zone", "is_used"), [("east-1a", True), ("east-1b", False), ("", False)])
def test_a_reservation_is_used_only_in_a_zone_that_is_allowed(zone: str, *, is_used: bool) -> None:
    reservation = Reservation("blue", "cr-1", "east-1", zone, "b8", 4)
    found = plan(
        FakeCatalog(line(BIG, 80)),
        known={"reservations": [reservation]},
        gpus=8,
        type="h100",
        reservations=["cr-1"],
        regions=["east-1a"],
    )
    assert (found.candidates[0].purchase == "reserved") is is_used
    assert any("can't be used: zone not asked for" in note for note in found.notes) is not is_used


def test_a_zone_id_is_the_zone_that_it_names_in_the_account() -> None:
    catalog = FakeCatalog(line(BIG, 80))
    known = {"availability": {("blue", "east-1"): Availability("east-1", zones={"e1-az4": "east-1b"})}}
    for pattern in ("e1-az4", "blue:E1-AZ4"):
        assert shown(plan(catalog, known=known, gpus=8, type="h100", regions=[pattern])) == ["1 x b8 east-1b"]
        assert shown(plan(catalog, known=known, gpus=8, type="h100", exclude=[pattern])) == ["1 x b8 east-1a"]
    only = {"only": {"blue": ["e1-az4"]}}
    assert shown(plan(catalog, known=known | only, gpus=8, type="h100")) == ["1 x b8 east-1b"]


def test_if_the_configuration_names_regions_no_other_is_used() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a"), line(BIG, 90, WEST, "a"), line(GREEN, 95, NORTH, "a"))
    found = plan(catalog, gpus=8, type="h100", known={"only": {"blue": ["west-1"]}})
    assert [item.region for item in found] == ["west-1", "north-1"]
    assert found.rejected["region not configured"].count == 1


def test_exclude_accepts_instance_types_and_globs_on_them() -> None:
    catalog = FakeCatalog(line(BIG, 80), line(GREEN, 80, NORTH))
    assert {item.instance_type for item in plan(catalog, gpus=8, type="h100", exclude=["B8"])} == {"g8"}
    assert {item.instance_type for item in plan(catalog, gpus=8, type="h100", exclude=["g?"])} == {"b8"}


def test_clouds_that_are_not_configured_stay_in_the_plan_and_are_marked() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a"), line(GREEN, 70, NORTH, "a"))
    found = plan(catalog, known={"configured": {"blue": "", "green": "no credentials found"}}, gpus=8, type="h100")
    assert [(item.provider, item.is_configured) for item in found] == [("green", False), ("blue", True)]
    assert "green is not configured: no credentials found" in found.notes


def test_stale_prices_are_marked_and_stay_in_the_plan() -> None:
    day = date(2026, 10, 25)
    catalog = FakeCatalog(
        line(BIG, 1, zones="a", as_of=day),
        line(BIG, 2, WEST, "a", as_of=day - timedelta(days=1)),
        line(GREEN, 3, NORTH, "a", purchase="spot", as_of=date(2026, 11, 23)),
        line(GREEN, 4, NORTH, "b", purchase="spot", as_of=date(2026, 11, 22)),
    )
    found = plan(catalog, gpus=8, type="h100", spot="prefer")
    assert [item.is_stale for item in found] == [False, True, False, True]
    assert "2 of 4 prices are out of date (older than 30d, or 1d for spot); the table marks them with S" in found.notes


def test_price_limits_apply_per_accelerator_and_per_hour() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a"), line(GREEN, 88, NORTH, "a"))
    assert shown(plan(catalog, gpus=16, type="h100", max_price=10)) == ["2 x b8 east-1a"]
    assert shown(plan(catalog, gpus=16, type="h100", max_hourly=160)) == ["2 x b8 east-1a"]


def test_a_budget_rejects_no_offer_and_a_note_says_when_it_is_spent() -> None:
    found = plan(FakeCatalog(line(BIG, 80, zones="a")), gpus=8, type="h100", budget=40, ttl="2h")
    assert shown(found) == ["1 x b8 east-1a"]
    assert "with the first candidate, the budget of $40.00 is spent after 30m" in found.notes


def test_an_outage_applies_to_its_place_its_purchase_type_its_size_of_gang_and_its_time() -> None:
    catalog = FakeCatalog(line(BIG, 80), line(BIG, 80, WEST))

    def remaining(outage: Outage, gpus: int = 16) -> list[str]:
        return [item.zone for item in plan(catalog, known={"outages": [outage]}, gpus=gpus, type="h100")]

    everywhere = ["east-1a", "east-1b", "west-1a", "west-1b"]
    assert remaining(Outage("blue", "east-1a", "b8", "on_demand", "capacity", SOON)) == everywhere[1:]
    assert remaining(Outage("blue", "east-1", "b*", "on_demand", "capacity", SOON)) == everywhere[2:]
    assert remaining(Outage("blue", "", "b8", "spot", "capacity", SOON)) == everywhere
    assert remaining(Outage("blue", "", "b8", "on_demand", "capacity", NOW)) == everywhere
    only_large = Outage("blue", "east-1", "b8", "on_demand", "capacity", SOON, nodes=2)
    assert (remaining(only_large, 16), remaining(only_large, 8)) == (everywhere[2:], everywhere)


def test_an_outage_is_shown_with_its_reason_and_end() -> None:
    outage = Outage("blue", "east-1a", "b8", "on_demand", "capacity", SOON)
    rejection = plan(FakeCatalog(line(BIG, 80)), known={"outages": [outage]}, gpus=8, type="h100").rejected["outage"]
    assert rejection.count == 1
    assert rejection.examples[0].endswith("capacity, until 2026-11-24 12:05 UTC")


def test_a_gang_that_may_spread_is_filled_cheapest_first_if_one_place_is_too_small() -> None:
    catalog = FakeCatalog(line(TEA, 1), line(TEA, 2, WEST, "a"))
    outages = [
        Outage("blue", zone, "t4.one", "on_demand", "capacity", SOON, nodes=nodes)
        for zone, nodes in (("east-1a", 3), ("east-1b", 2))
    ]
    known = {"outages": outages}
    assert shown(plan(catalog, known=known, gpus=4, type="t4")) == ["4 x t4.one west-1a"]
    assert shown(plan(catalog, known=known, gpus=4, type="t4", placement="region")) == ["4 x t4.one west-1a"]
    spread = plan(catalog, known=known, gpus=4, type="t4", placement="cloud")
    assert shown(spread) == [
        "2 x t4.one east-1a + 1 x t4.one east-1b + 1 x t4.one west-1a",
        "4 x t4.one west-1a",
    ]
    assert spread.candidates[0].hourly_cost == 5


def test_a_gang_that_spreads_has_no_fabric() -> None:
    catalog = FakeCatalog(line(BIG, 80))
    known = {
        "outages": [Outage("blue", f"east-1{zone}", "b8", "on_demand", "capacity", SOON, nodes=2) for zone in "ab"]
    }
    assert shown(plan(catalog, known=known, gpus=16, type="h100", placement="region")) == [
        "1 x b8 east-1a + 1 x b8 east-1b"
    ]
    assert shown(plan(catalog, known=known, gpus=16, type="h100", placement="region", interconnect="rdma")) == []


def reservation(free: int, **changes: Any) -> Reservation:
    return replace(Reservation("blue", "cr-1", "east-1", "east-1b", "b8", free), **changes)


def test_a_reservation_comes_first_at_its_own_price_and_the_missing_nodes_are_bought_in_its_zone() -> None:
    known = {"reservations": [reservation(1), reservation(5, id="cr-not-named")]}
    found = plan(FakeCatalog(line(BIG, 80)), known=known, gpus=24, type="h100", reservations=["cr-1"])
    assert shown(found) == ["1 x b8 east-1b + 2 x b8 east-1b", "3 x b8 east-1a", "3 x b8 east-1b"]
    best = found.candidates[0]
    assert (best.purchase, best.hourly_cost, [part.reservation for part in best.parts]) == (
        "reserved",
        160,
        ["cr-1", None],
    )


def test_a_reservation_with_an_active_outage_is_not_used() -> None:
    outage = Outage("blue", "east-1b", "b8", "reserved", "capacity", SOON)
    known = {"reservations": [reservation(4)], "outages": [outage]}
    found = plan(FakeCatalog(line(BIG, 80)), known=known, gpus=8, type="h100", reservations=["cr-1"])
    assert [item.purchase for item in found] == ["on_demand", "on_demand"]


def test_reservations_in_one_place_are_used_together() -> None:
    known = {"reservations": [reservation(1), reservation(5, id="cr-2", hourly_cost=3)]}
    best = plan(
        FakeCatalog(line(BIG, 80)), known=known, gpus=24, type="h100", reservations=["cr-2", "cr-1"]
    ).candidates[0]
    assert [(part.reservation, part.nodes) for part in best.parts] == [("cr-2", 3)]
    best = plan(
        FakeCatalog(line(BIG, 80)), known=known, gpus=24, type="h100", reservations=["cr-1", "cr-2"]
    ).candidates[0]
    assert [(part.reservation, part.nodes) for part in best.parts] == [("cr-1", 1), ("cr-2", 2)]
    assert best.hourly_cost == 6


def test_without_a_type_the_reservation_determines_it_even_if_it_is_not_on_sale() -> None:
    unsold = replace(BIG, name="b8-block")
    known = {"reservations": [reservation(4, instance_type="b8-block")]}
    found = plan(FakeCatalog(line(BIG, 80), more=[unsold]), known=known, reservations=["cr-1"], nodes=2)
    assert shown(found) == ["2 x b8-block east-1b"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"available": 0}, "can't be used: it has no free nodes"),
        ({"instance_type": "b1"}, "can't be used: it has 1 of 8 nodes"),
        ({"region": "west-1", "zone": "west-1a"}, "and no offer in the same place adds the others"),
        ({"instance_type": "c4"}, "can't be used: other instance type"),
        ({"instance_type": "zz"}, "zz is not in the offer tables"),
        ({"id": "cr-2"}, "reservation cr-1 is not part of this plan; the launch looks for it in the cloud"),
    ],
)
def test_a_reservation_that_can_not_be_used_is_a_note_and_the_plan_goes_on(
    changes: dict[str, object], why: str
) -> None:
    catalog = FakeCatalog(line(BIG, 80), more=[CPU, SMALL])
    found = plan(
        catalog,
        known={"reservations": [reservation(1, **changes)]},
        gpus=8 * (1 + ("zone" in changes)),
        type="h100",
        reservations=["cr-1"],
    )
    assert any(why in note for note in found.notes)
    assert found.best is not None
    assert found.best.purchase == "on_demand"


WEEK = LifetimeLimit(timedelta(days=7), purchases=("flex_start",), without_expiry=True)
MONTHS = LifetimeLimit(timedelta(days=120), families=("g*",))
LIMITS = {"lifetime_limits": {"blue": (WEEK,), "green": (WEEK, MONTHS)}}


def test_offers_that_end_before_the_ttl_come_after_those_that_do_not() -> None:
    catalog = FakeCatalog(line(BIG, 40, zones="a", purchase="flex_start"), line(BIG, 80, zones="a"))
    asked = {"gpus": 8, "type": "h100", "flex_start": True}
    found = plan(catalog, known=LIMITS, ttl="20d", **asked)
    assert [(item.purchase, item.max_lifetime, item.ends_early) for item in found] == [
        ("on_demand", None, False),
        ("flex_start", timedelta(days=7), True),
    ]
    assert (
        "1 cheaper offer ranks behind those that can live longer, because the request has a ttl of 20d" in found.notes
    )
    for ttl in ("7d", "12h"):
        first = plan(catalog, known=LIMITS, ttl=ttl, **asked).candidates[0]
        assert (first.purchase, first.ends_early) == ("flex_start", False)
    assert plan(catalog, known=LIMITS, ttl=None, **asked).candidates[0].purchase == "on_demand"
    assert (
        plan(catalog, known={**LIMITS, "default_ttl": timedelta(days=8)}, **asked).candidates[0].purchase == "on_demand"
    )
    assert (
        plan(catalog, known={**LIMITS, "default_ttl": timedelta(days=1)}, **asked).candidates[0].purchase
        == "flex_start"
    )


def test_a_limit_for_machines_with_an_expiry_does_not_apply_without_a_ttl() -> None:
    catalog = FakeCatalog(line(GREEN, 80, NORTH))
    assert plan(catalog, known=LIMITS, gpus=8, type="h100", ttl="200d").candidates[0].ends_early
    without = plan(catalog, known=LIMITS, gpus=8, type="h100", ttl=None).candidates[0]
    assert (without.max_lifetime, without.ends_early) == (None, False)


def test_with_order_given_a_type_that_ends_early_still_comes_before_the_next_type() -> None:
    catalog = FakeCatalog(line(BIG, 80, zones="a", purchase="flex_start"), line(GREEN, 10, NORTH, zones="a"))
    asked = {"gpus": 8, "type": ["b8", "g8"], "order": "given", "flex_start": True, "ttl": "20d"}
    assert [item.ends_early for item in plan(catalog, known=LIMITS, **asked)] == [True, False]


def test_strict_ttl_rejects_offers_that_end_early_and_giving_it_up_is_proposed() -> None:
    catalog = FakeCatalog(line(BIG, 40, purchase="flex_start"))
    asked = {"gpus": 8, "type": "h100", "flex_start": True, "ttl": "20d"}
    found = plan(catalog, known=LIMITS, **asked)
    assert found.notes[0] == (
        "the first candidate ends early: flex-start machines of blue live at most 7d, and the request has a ttl of 20d; "
        "strict_ttl=True excludes such offers"
    )
    refused = plan(catalog, known=LIMITS, strict_ttl=True, **asked)
    assert list(refused) == []
    assert refused.rejected["terminated before the ttl"].count == 2
    with pytest.raises(NoOfferError, match="without strict_ttl would have one"):
        require(refused)


def test_a_reservation_that_ends_before_the_ttl_stays_first_unless_the_ttl_is_strict() -> None:
    catalog = FakeCatalog(line(BIG, 80))
    known = {"reservations": [reservation(1, ends_at=NOW + timedelta(days=3))]}
    asked = {"gpus": 8, "type": "h100", "reservations": ["cr-1"], "ttl": "7d"}
    first = plan(catalog, known=known, **asked).candidates[0]
    assert (first.purchase, first.max_lifetime, first.ends_early) == ("reserved", timedelta(days=3), True)
    strict = plan(catalog, known=known, strict_ttl=True, **asked)
    assert strict.candidates[0].purchase == "on_demand"
    assert any("reservation cr-1 can't be used: terminated before the ttl" in note for note in strict.notes)
    assert plan(catalog, known=known, **{**asked, "ttl": "2d"}).candidates[0].ends_early is False


def test_the_same_request_has_the_same_plan() -> None:
    catalog = FakeCatalog(line(BIG, 80), line(GREEN, 80, NORTH), line(BIG, 80, WEST))
    assert plan(catalog, gpus=16, type="h100") == plan(catalog, gpus=16, type="h100")


def test_an_offer_without_zones_is_one_candidate_for_the_region() -> None:
    found = plan(FakeCatalog(line(GREEN, 70, NORTH, zones=())), gpus=8, type="h100")
    assert [(item.region, item.zone) for item in found] == [("north-1", "")]
    assert EAST.name not in {item.region for item in found}
