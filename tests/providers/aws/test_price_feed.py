"""The price feed on the local cloud, over HTTP."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.catalog.tables import Tables
from multicompute.offer import InstanceType, Quote
from multicompute.price_feed import FoundPrices, Interruption, Price, PricedType, PriceFeed, PriceQuery
from multicompute.provider import Settings
from multicompute.testing import running
from multicompute_aws import plugin
from multicompute_aws.local import AwsLocalCloud

P5 = InstanceType("aws", "p5.48xlarge", "h100", 8, 80, 192, 2048, 1, 3200, "efa", network_cards=32)
G6 = InstanceType("aws", "g6.xlarge", "l4", 1, 22.35, 4, 16, network_gbps=2.5)
METAL = InstanceType("aws", "g5g.metal", "t4g", 2, 16, 64, 128, network_gbps=25, arch="arm64")
REGIONS = ("us-east-1", "us-east-2", "eu-central-1")
# No type that the query does not have has these accelerators.
ONLY_THESE = ("none",)
OP = "GetProducts"
Fetch = Callable[..., FoundPrices]


@pytest.fixture(scope="module")
def shared() -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud()) as cloud:
        yield cloud


@pytest.fixture
def cloud(shared: AwsLocalCloud) -> Iterator[AwsLocalCloud]:
    """Return the cloud of this module, without the faults, prices and places of other tests."""
    yield shared
    shared.faults.clear()
    for changes in (
        shared._state.prices,
        shared._state.spot_prices,
        shared._state.interruptions,
        shared._state.region_status,
    ):
        changes.clear()
    shared._state.withdrawn.clear()


@pytest.fixture
def feed(cloud: AwsLocalCloud) -> PriceFeed:
    found = plugin.open_price_feed(Settings({}, cloud.environment))
    assert found is not None
    return found


def query(
    *types: InstanceType, regions: Sequence[str] = REGIONS, accelerators: Sequence[str] | None = None
) -> PriceQuery:
    return PriceQuery([PricedType(item) for item in types], regions, accelerators)


@pytest.fixture
def fetch(feed: PriceFeed) -> Fetch:
    def call(*types: InstanceType, **how: Any) -> FoundPrices:
        return feed.fetch(query(*types, **how), progress=lambda _: None)

    return call


def on_demand(found: FoundPrices) -> dict[tuple[str, str], float]:
    return {
        (item.instance_type, item.region): item.quote.hourly_cost
        for item in found.prices
        if item.purchase == "on_demand"
    }


def spot(found: FoundPrices, region: str = "us-east-1") -> dict[tuple[str, ...], float]:
    return {
        item.zones: item.quote.hourly_cost for item in found.prices if (item.purchase, item.region) == ("spot", region)
    }


def test_a_price_is_dated_today_and_has_the_zones_that_can_start_it(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.set_price("p5.48xlarge", "us-east-1", 54.321)
    cloud.withdraw("p5.48xlarge", "us-east-1a")
    (price,) = (
        item
        for item in fetch(P5, regions=["us-east-1"], accelerators=["h100"]).prices
        if item.purchase == "on_demand" and item.instance_type == "p5.48xlarge"
    )
    assert price.quote.hourly_cost == 54.321 and price.quote.basis == "list"
    assert price.quote.as_of >= date(2026, 1, 1) and price.accelerators == 8
    assert price.zones and "us-east-1a" not in price.zones and all(zone.startswith("us-east-1") for zone in price.zones)


def test_types_that_the_query_does_not_have_come_with_their_shape(fetch: Fetch) -> None:
    found = fetch(P5, accelerators=["h100"])
    (new,) = found.types
    assert new.instance.name == "p5.4xlarge" and new.instance.accelerator == "h100" and new.source
    assert ("p5.4xlarge", "us-east-1") in on_demand(found)


def test_zones_with_the_same_spot_price_are_one_price(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    zones = [f"us-east-1{letter}" for letter in "abcdf"]
    for zone, price in zip(zones, (20.0, 21.0, 20.0, 0.0, 22.0), strict=True):
        cloud.set_spot_price("g6.xlarge", zone, price)
    cloud.withdraw("g6.xlarge", "us-east-1f")
    found = spot(fetch(G6, regions=["us-east-1"], accelerators=ONLY_THESE))
    assert found[("us-east-1a", "us-east-1c")] == 20.0 and found[("us-east-1b",)] == 21.0
    # A price of 0 is none, and the history still lists the zone that can't start the type.
    assert not {"us-east-1d", "us-east-1f"} & {zone for listed in found for zone in listed}


def test_zones_have_the_names_of_the_account() -> None:
    with running(AwsLocalCloud()) as cloud:
        cloud.draw_zone_names(7)
        feed = plugin.open_price_feed(Settings({}, cloud.environment))
        assert feed is not None
        found = feed.fetch(query(P5, regions=["us-east-1"], accelerators=ONLY_THESE), progress=lambda _: None)
        offered = cloud._state.offered("us-east-1")["p5.48xlarge"]
        assert {zone for item in found.prices for zone in item.zones} == set(offered)


def test_a_type_with_a_capacity_block_row_only_has_no_on_demand_price(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    p5e = replace(P5, name="p5e.48xlarge", accelerator="h200", accelerator_memory_gib=141)
    region = next(
        name for name in ("us-east-2", "us-east-1", "us-west-2") if "p5e.48xlarge" in cloud._state.offered(name)
    )
    cloud._state.prices.clear()
    found = fetch(p5e, regions=[region], accelerators=ONLY_THESE)
    assert on_demand(found) == {} and (region, "on_demand") in found.answered and not found.failed


def test_a_type_that_is_no_longer_sold_has_no_price_in_a_region_that_answered(
    cloud: AwsLocalCloud, fetch: Fetch
) -> None:
    cloud.withdraw("g6.xlarge", "us-east-2")
    found = fetch(G6, P5, accelerators=ONLY_THESE)
    assert not [item for item in found.prices if (item.instance_type, item.region) == ("g6.xlarge", "us-east-2")]
    assert {("us-east-2", "on_demand"), ("us-east-2", "spot")} <= found.answered


def test_bare_metal_that_is_listed_as_dedicated_hardware_has_its_price(fetch: Fetch) -> None:
    found = fetch(METAL, regions=["us-east-1"], accelerators=ONLY_THESE)
    assert ("g5g.metal", "us-east-1") in on_demand(found)


def test_a_region_that_is_not_enabled_has_on_demand_prices_without_zones(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.set_region("us-east-2", "disabled")
    found = fetch(P5, accelerators=ONLY_THESE)
    closed = [item for item in found.prices if item.region == "us-east-2"]
    assert [(item.purchase, item.zones) for item in closed] == [("on_demand", ())]
    assert any("us-east-2" in note for note in found.notes) and not found.failed
    assert ("us-east-2", "spot") not in found.answered


@pytest.mark.parametrize("operation", ["DescribeInstanceTypeOfferings", "DescribeAvailabilityZones"])
def test_a_region_that_fails_has_no_prices_and_the_others_have_theirs(
    cloud: AwsLocalCloud, fetch: Fetch, operation: str
) -> None:
    cloud.faults.fail(operation, "UnauthorizedOperation", times=None, status=403, where={"region": "us-east-2"})
    found = fetch(P5, accelerators=ONLY_THESE)
    assert [item.region for item in found.failed] == ["us-east-2"]
    assert {region for region, _ in found.answered} == {"us-east-1", "eu-central-1"}
    assert {item.region for item in found.prices} == {"us-east-1"} | {
        name for name in ["eu-central-1"] if "p5.48xlarge" in cloud._state.offered(name)
    }


def test_spot_prices_that_fail_leave_the_price_list(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.fail("DescribeSpotPriceHistory", "UnauthorizedOperation", times=None, status=403)
    found = fetch(P5, regions=["us-east-1"], accelerators=ONLY_THESE)
    assert found.answered == {("us-east-1", "on_demand")} and on_demand(found)
    assert "DescribeSpotPriceHistory" in found.failed[0].error


def test_a_price_list_that_is_denied_leaves_the_spot_prices(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.fail(OP, "AccessDeniedException", times=None)
    found = fetch(P5, accelerators=ONLY_THESE)
    assert {purchase for region, purchase in found.answered if region == "us-east-1"} == {"spot"}
    assert [item.region for item in found.failed] == [""] and "GetProducts" in found.failed[0].error


def test_throttled_calls_are_repeated_and_counted(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.throttle("DescribeSpotPriceHistory", times=1)
    cloud.faults.fail(OP, "ThrottlingException", times=1)
    found = fetch(P5, regions=["us-east-1"], accelerators=ONLY_THESE)
    assert found.answered == {("us-east-1", "on_demand"), ("us-east-1", "spot")}
    assert (found.calls[OP], found.calls["DescribeSpotPriceHistory"]) == (2, 2)


def test_a_token_that_expires_starts_the_question_again(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.fail(OP, "ExpiredNextTokenException", times=1)
    assert on_demand(fetch(P5, regions=["us-east-1"], accelerators=ONLY_THESE))


def test_a_large_question_that_is_refused_is_asked_region_by_region(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.fail(OP, "InvalidParameterException", times=1)
    found = fetch(P5, G6, accelerators=ONLY_THESE)
    assert on_demand(found).keys() >= {("p5.48xlarge", "us-east-1"), ("g6.xlarge", "eu-central-1")}
    assert not found.failed and found.calls[OP] > 3


def test_an_empty_answer_keeps_what_the_tables_have(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.set_price("g6.xlarge", "us-east-1", None)
    found = fetch(G6, regions=["us-east-1"], accelerators=ONLY_THESE)
    assert ("us-east-1", "on_demand") not in found.answered and ("us-east-1", "spot") in found.answered


def test_wrong_credentials_are_an_error(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.fail("*", "AuthFailure", times=None, status=401)
    with pytest.raises(errors.AuthError):
        fetch(P5, accelerators=ONLY_THESE)


def test_without_credentials_nothing_is_called() -> None:
    feed = plugin.open_price_feed(Settings({}, {}))
    assert feed is not None
    with pytest.raises(errors.AuthError, match="no credentials"):
        feed.fetch(query(P5), progress=lambda _: None)


def test_other_partitions_are_not_asked(fetch: Fetch) -> None:
    found = fetch(P5, regions=["us-gov-west-1", "cn-north-1", "us-east-1"], accelerators=ONLY_THESE)
    assert {region for region, _ in found.answered} == {"us-east-1"}


@pytest.mark.parametrize(
    ("number", "low", "high"), [(0, 0.0, 0.05), (1, 0.05, 0.1), (2, 0.1, 0.15), (3, 0.15, 0.2), (4, 0.2, 1.0)]
)
def test_interruption_rates_are_those_of_the_spot_advisor(
    cloud: AwsLocalCloud, fetch: Fetch, number: int, low: float, high: float
) -> None:
    cloud.set_interruptions("p5.48xlarge", "us-east-1", number)
    found = fetch(P5, regions=["us-east-1"], accelerators=ONLY_THESE)
    assert found.interruptions == [Interruption("p5.48xlarge", "us-east-1", low, high, "month")]


def test_interruption_rates_that_fail_are_a_note(cloud: AwsLocalCloud, feed: PriceFeed) -> None:
    url = f"{cloud.endpoint_url}/nowhere/spot-advisor-data.json"
    other = plugin.open_price_feed(Settings({"spot_advisor_url": url}, cloud.environment))
    assert other is not None
    found = other.fetch(query(P5, regions=["us-east-1"], accelerators=ONLY_THESE), progress=lambda _: None)
    assert found.interruptions is None and any("Interruption rates" in note for note in found.notes)
    assert not found.failed


def test_one_accelerator_takes_few_calls(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    regions = [f"{name}" for name in cloud._moto.regions()]
    found = fetch(P5, regions=regions, accelerators=["h100"])
    opened = found.calls["DescribeAvailabilityZones"]
    assert found.calls[OP] <= 2
    assert sum(found.calls.values()) <= 3 * opened + 6


def test_all_prices_take_few_calls(fetch: Fetch) -> None:
    assert plugin.tables is not None
    tables = Tables("aws", plugin.tables)
    types = [item for shard in tables.shards for item in tables.types(shard).values()]
    found = fetch(*types, regions=list(tables.regions))
    opened = found.calls["DescribeAvailabilityZones"]
    assert opened >= 15 and len(found.prices) > 3000 and not found.failed and not found.unreadable
    # A page of 100 rows for each 50 prices, because capacity blocks have rows of their own, and a page that is not full in each question.
    listed = sum(item.purchase == "on_demand" for item in found.prices)
    assert found.calls[OP] <= listed / 50 + 20
    assert sum(found.calls.values()) - found.calls[OP] <= 4 * opened + 8


def test_progress_goes_from_0_to_1(feed: PriceFeed) -> None:
    steps: list[float] = []
    feed.fetch(query(P5, accelerators=ONLY_THESE), progress=steps.append)
    assert steps == sorted(steps) and 0 < steps[0] and steps[-1] == 1.0


def test_a_second_query_confirms_each_price(cloud: AwsLocalCloud, feed: PriceFeed, fetch: Fetch) -> None:
    cloud.set_price("p5.48xlarge", "us-east-1", 11.0)
    cloud.set_spot_price("p5.48xlarge", "us-east-1a", 3.0)
    found = fetch(P5, regions=["us-east-1"], accelerators=ONLY_THESE).prices
    again = feed.confirm(found)
    assert {(item.purchase, item.zones, item.quote.hourly_cost) for item in again} == {
        (item.purchase, item.zones, item.quote.hourly_cost) for item in found
    }
    assert all("asked again" in item.quote.source for item in again)


def test_a_price_that_the_second_query_does_not_find_is_missing(cloud: AwsLocalCloud, feed: PriceFeed) -> None:
    cloud.set_price("p5.48xlarge", "us-east-1", None)
    quote = Quote(1.0, date(2026, 11, 30), "test")
    asked = [
        Price("p5.48xlarge", 8, "us-east-1", "on_demand", quote, ("us-east-1a",)),
        Price("p5.48xlarge", 8, "us-east-1", "spot", quote, ("us-east-1z",)),
    ]
    assert feed.confirm(asked) == []


def test_calls_that_are_late_are_waited_for(cloud: AwsLocalCloud, fetch: Fetch) -> None:
    cloud.faults.delay(OP, timedelta(milliseconds=50), times=None)
    assert on_demand(fetch(P5, regions=["us-east-1"], accelerators=ONLY_THESE))
