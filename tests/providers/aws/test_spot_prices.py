"""Spot prices: confirmed before a launch, capped by the launch, and followed while the nodes run."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import errors
from multicompute.offer import Offer
from multicompute.provider import PriceChange, Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.conformance.test_aws import harness_of

HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud(clock=clock)) as cloud:
        yield cloud


@pytest.fixture
def provider(cloud: AwsLocalCloud, clock: FakeClock) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1"]}, cloud.environment), clock=clock)


@pytest.fixture
def spot(cloud: AwsLocalCloud, clock: FakeClock) -> Offer:
    return harness_of(cloud, clock, page_nodes=1).offer("spot")


def test_the_price_of_a_spot_offer_is_that_of_its_zone_now(
    cloud: AwsLocalCloud, provider: AwsProvider, spot: Offer
) -> None:
    other = replace(spot, zone="us-east-1b")
    cloud.set_spot_price(spot.instance_type, "us-east-1a", 71.55)
    cloud.set_spot_price(spot.instance_type, "us-east-1b", 12.5)
    found = provider.quotes([spot, other])
    assert {offer.zone: quote.hourly_cost for offer, quote in found.items()} == {
        "us-east-1a": 71.55,
        "us-east-1b": 12.5,
    }


def test_the_changes_of_a_spot_price_begin_with_the_one_that_holds_at_the_start(
    cloud: AwsLocalCloud, provider: AwsProvider, spot: Offer, clock: FakeClock
) -> None:
    start = clock.now()
    cloud.set_spot_price(spot.instance_type, spot.zone, 20.0, at=start - 2 * HOUR)
    cloud.set_spot_price(spot.instance_type, spot.zone, 21.0, at=start - HOUR)
    cloud.set_spot_price(spot.instance_type, spot.zone, 25.0, at=start + HOUR)
    cloud.set_spot_price(spot.instance_type, spot.zone, 30.0, at=start + 9 * HOUR)
    clock.advance("3h")
    assert provider.spot_prices([spot], since=start) == {
        spot: (PriceChange(start, 21.0), PriceChange(start + HOUR, 25.0)),
    }


def test_a_history_of_several_pages_is_read_to_its_end_and_kept_apart_by_zone(
    cloud: AwsLocalCloud, provider: AwsProvider, spot: Offer, clock: FakeClock
) -> None:
    start, other = clock.now(), replace(spot, zone="us-east-1b")
    for minute in range(1, 701):
        for number, zone in enumerate((spot.zone, other.zone)):
            cloud.set_spot_price(spot.instance_type, zone, 10 + minute + number / 10, at=start + minute * HOUR / 60)
    clock.advance("12h")
    found = provider.spot_prices([spot, other], since=start)
    assert cloud.faults.count("DescribeSpotPriceHistory") == 2
    assert [len(changes) for changes in found.values()] == [701, 701]
    assert (found[spot][-1].hourly_cost, found[other][-1].hourly_cost) == (710.0, 710.1)


def test_an_offer_without_a_price_is_missing(provider: AwsProvider, spot: Offer, clock: FakeClock) -> None:
    elsewhere = replace(spot, zone="us-east-1z")
    assert set(provider.spot_prices([spot, elsewhere], since=clock.now() - HOUR)) == {spot}


def test_a_spot_launch_costs_at_most_its_highest_price(
    cloud: AwsLocalCloud, provider: AwsProvider, spot: Offer
) -> None:
    cloud.set_spot_price(spot.instance_type, spot.zone, 71.55)
    request = launch_request(spot)
    with pytest.raises(errors.InvalidRequestError, match="SpotMaxPriceTooLow"):
        provider.launch(replace(request, max_price=55.0))
    assert cloud.running_ids() == []
    assert len(provider.launch(replace(request, max_price=80.0))) == 2
