"""Prices that are confirmed before a launch: which offers have one, what limits and the ledger see, and what happens without an answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster, catalog, errors
from multicompute.catalog.tables import Tables
from multicompute.offer import InstanceType, Offer, Purchase
from multicompute.provider import Settings
from multicompute.testing import FakeClock, LocalClouds, local_clouds
from multicompute.testing.local.server import Response, Server
from multicompute_gcp import plugin
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.prices import _current
from tests.providers.gcp.price_server import IOWA, KEY, Prices, error_page, sku

LIST = "cloudbilling.skus.list"
H100: dict[str, Any] = {"type": "a3-highgpu-8g", "gpus": 8, "regions": ["gcp:us-central1"]}
SPOT: dict[str, Any] = {**H100, "spot": True}
DISABLED = "Cloud Billing API has not been used in project 1 before or it is disabled."


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds


def planned(request: dict[str, Any]) -> Offer:
    return Cluster.plan(**request).candidates[0].parts[0].offer


def notes(cluster: Cluster) -> list[str]:
    return [event.message for event in cluster.events() if event.kind in ("note", "retry") and "price" in event.message]


# --- through the engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_of", "name", "usd", "why"),
    [
        (SPOT, "a3-highgpu-8g", 50.25, "spot"),
        (H100, "a3-highgpu-8g", 91.5, "stale"),
        ({"type": "t4", "nodes": 1, "gpus": 1, "regions": ["gcp:us-central1"]}, "", 0.0, "estimate"),
        ({"type": "v5p-8", "regions": ["gcp:us-east5"]}, "v5p-8", 17.5, "stale"),
    ],
)
def test_a_price_that_is_spot_an_estimate_or_stale_is_that_of_today(
    clouds: LocalClouds, request_of: dict[str, Any], name: str, usd: float, why: str
) -> None:
    candidate = Cluster.plan(**request_of).candidates[0]
    offer = candidate.parts[0].offer
    assert {"spot": offer.purchase == "spot", "stale": candidate.is_stale, "estimate": offer.quote.basis == why}[why]
    if name:
        clouds.gcp.set_price(name, offer.region, usd, purchase=offer.purchase)
    else:
        # A GPU that is attached has a price of its own, which is that of no type.
        prices, usd = clouds.of(GcpLocalCloud)._billing.prices, offer.quote.hourly_cost + 1
        prices.set("gpu:t4", offer.region, "on_demand", prices.rate("gpu:t4", offer.region, "on_demand") + 1)
    with Cluster.request(**request_of) as cluster:
        assert cluster.hourly_cost == pytest.approx(usd, abs=1e-5)
        # What another process reads is what the ledger has.
        assert Cluster.get(cluster.name).hourly_cost == cluster.hourly_cost
        assert {node.hourly_cost for node in cluster.nodes} == {cluster.hourly_cost}
        assert any(f"is ${usd:,.2f}/h today" in event.message for event in cluster.events())
    assert clouds.gcp.faults.count(LIST) in (1, 2)


def test_a_launch_at_the_prices_of_the_tables_costs_what_the_plan_said(clouds: LocalClouds) -> None:
    cost = planned(H100).quote.hourly_cost
    with Cluster.request(**H100, max_hourly=cost) as cluster:
        assert cluster.hourly_cost == cost
        assert notes(cluster) == []
        assert clouds.gcp.faults.count(LIST) == 2


def test_a_candidate_whose_price_of_today_is_above_the_limit_is_left_out_for_the_next_one(clouds: LocalClouds) -> None:
    places = {**H100, "regions": ["gcp:us-central1", "gcp:us-east4"]}
    cheapest = planned(places)
    clouds.gcp.set_price(cheapest.instance_type, cheapest.region, 120.0)
    with Cluster.request(**places, max_price=13.0) as cluster:
        assert cluster.region != cheapest.region
        assert cluster.hourly_cost < 8 * 13
    assert clouds.alive() == []


@pytest.mark.parametrize(("limit", "value"), [("max_price", 12.0), ("max_hourly", 100.0)])
def test_where_every_price_of_today_is_above_the_limit_the_error_names_it(
    clouds: LocalClouds, limit: str, value: float
) -> None:
    clouds.gcp.set_price("a3-highgpu-8g", IOWA, 120.0)
    limits: dict[str, Any] = {limit: value}
    with pytest.raises(errors.CapacityError, match=f"today, more than {limit}={value:g}") as caught:
        Cluster.request(**H100, **limits)
    assert f"raise {limit}" in (caught.value.hint or str(caught.value))
    assert "instances.bulkInsert" not in [call.operation for call in clouds.gcp.faults.calls]


def test_a_launch_without_access_to_the_price_list_has_one_note_and_the_price_of_the_tables(
    clouds: LocalClouds,
) -> None:
    clouds.gcp.faults.fail(LIST, "SERVICE_DISABLED", status=403, message=DISABLED, times=None)
    places = {**H100, "regions": ["gcp:us-central1", "gcp:us-east4"]}
    first = planned(places)
    clouds.gcp.set_capacity(first.instance_type, first.zone, 0)
    with Cluster.request(**places) as cluster:
        [note] = notes(cluster)
        assert "the price could not be confirmed" in note and "it is disabled" in note
        assert cluster.hourly_cost == pytest.approx(first.quote.hourly_cost, rel=0.5)
    # Once for the operation, though several candidates were tried.
    assert clouds.gcp.faults.count(LIST) == 1


def test_a_launch_does_not_wait_for_a_price_list_that_is_throttled(clouds: LocalClouds) -> None:
    clouds.gcp.faults.throttle(LIST, times=None, retry_after=timedelta(minutes=5))
    with Cluster.request(**H100) as cluster:
        [note] = notes(cluster)
        assert "the price could not be confirmed" in note
    assert clouds.gcp.faults.count(LIST) == 1


def test_a_fault_that_passes_is_asked_again(clouds: LocalClouds) -> None:
    clouds.gcp.faults.fail(LIST, "UNAVAILABLE", status=503)
    clouds.gcp.set_price("a3-highgpu-8g", IOWA, 91.5)
    with Cluster.request(**H100) as cluster:
        assert cluster.hourly_cost == 91.5


def test_a_refresh_and_a_launch_see_the_same_price(clouds: LocalClouds) -> None:
    before = planned(H100).quote
    clouds.gcp.set_price("a3-highgpu-8g", IOWA, 99.0)
    report = catalog.refresh(clouds=["gcp"], regions=[IOWA], accelerators=["h100"]).clouds["gcp"]
    assert report.changed == 1 and report.failed == ()
    offer = planned(H100)
    assert (before.hourly_cost, offer.quote.hourly_cost) == (88.49, 99.0)
    with Cluster.request(**H100) as cluster:
        assert cluster.hourly_cost == 99.0 and notes(cluster) == []


@contextmanager
def served(prices: Prices) -> Iterator[str]:
    server = Server(prices)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


# --- the provider -----------------------------------------------------------------------------------------------------


@pytest.fixture(name="keyed")
def _keyed(cloud: GcpLocalCloud, provider_of: Callable[..., GcpProvider]) -> GcpProvider:
    return provider_of(api_key=cloud.api_key)


def of(offer: Offer, instance: InstanceType, purchase: Purchase = "on_demand", region: str = IOWA) -> Offer:
    return replace(offer, instance=instance, purchase=purchase, region=region)


T4 = InstanceType("gcp", "n1-standard-4", "t4", 2, 16.0, vcpus=4, memory_gib=15, attached=True)
V5P = InstanceType("gcp", "v5p-16", "tpu-v5p", 8, hosts=2)
V3 = InstanceType("gcp", "v3-32", "tpu-v3", 16, hosts=4)
B200 = InstanceType("gcp", "a4-highgpu-8g", "b200", 8, 180.0, vcpus=224, memory_gib=3968)
EDGE = InstanceType("gcp", "a3-edgegpu-8g", "h100", 8, 80.0, vcpus=208, memory_gib=1872)


def test_attached_gpus_built_in_disks_and_slices_are_in_the_price(
    cloud: GcpLocalCloud, keyed: GcpProvider, offer: Offer
) -> None:
    rate = cloud._billing.prices.rate
    found = keyed.quotes([offer, of(offer, T4, "spot"), of(offer, V5P), of(offer, V3, region="europe-west4")])
    sums = [
        208 * rate("core:a3", IOWA, "on_demand")
        + 1872 * rate("ram:a3", IOWA, "on_demand")
        + 8 * rate("gpu:h100", IOWA, "on_demand")
        + 16 * 375 * rate("ssd", IOWA, "on_demand"),
        4 * rate("core:n1", IOWA, "spot") + 15 * rate("ram:n1", IOWA, "spot") + 2 * rate("gpu:t4", IOWA, "spot"),
        8 * rate("tpu:v5p", IOWA, "on_demand"),
        16 * rate("tpu-pod:v3", "europe-west4", "on_demand"),
    ]
    assert [quote.hourly_cost for quote in found.values()] == pytest.approx([float(usd) for usd in sums], abs=1e-6)
    assert "local SSD" in found[offer].source
    assert {quote.as_of for quote in found.values()} == {keyed._clock.now().date()}


def test_the_prices_of_the_local_cloud_are_those_of_the_tables(keyed: GcpProvider) -> None:
    """The tables round to a millionth of a dollar, and some of them more than once."""
    assert plugin.tables is not None
    tables = Tables("gcp", plugin.tables)
    offers = [line.offers[0] for shard in tables.shards for line in tables.listings(shard)]
    found = keyed.quotes(offers)
    missing = {(offer.instance_type, offer.purchase) for offer in offers if offer not in found}
    assert len(found) > 12_000 and missing == {("a4-highgpu-8g", "flex_start")}
    off = [offer for offer, quote in found.items() if abs(quote.hourly_cost - offer.quote.hourly_cost) > 1.5e-6]
    assert off == []


def test_an_offer_that_can_not_be_composed_is_missing(keyed: GcpProvider, offer: Offer) -> None:
    unknown = [
        of(offer, EDGE),
        of(offer, B200, "flex_start"),
        replace(offer, purchase="flex_start"),
        replace(offer, purchase="reserved"),
        replace(offer, region="us-central9"),
    ]
    assert set(keyed.quotes([*unknown, offer])) == {offer}
    assert keyed.quotes(unknown[:2]) == {}


def test_rates_are_kept_for_an_hour_and_only_new_components_are_asked_for(
    cloud: GcpLocalCloud, keyed: GcpProvider, offer: Offer, clock: FakeClock
) -> None:
    keyed.quotes([offer])
    once = cloud.faults.count(LIST)
    clock.advance("59m")
    keyed.quotes([offer, replace(offer, region="europe-west4", purchase="spot")])
    assert cloud.faults.count(LIST) == once
    # v3 is in another service. What was known is read again with it, so that all rates are of the same time.
    keyed.quotes([of(offer, V3, region="europe-west4")])
    assert cloud.faults.count(LIST) == 2 * once + 1
    keyed.quotes([offer])
    assert cloud.faults.count(LIST) == 2 * once + 1
    cloud.set_price("a3-highgpu-8g", IOWA, 99.0)
    clock.advance("1h")
    assert keyed.quotes([offer])[offer].hourly_cost == 99.0
    assert cloud.faults.count(LIST) == 3 * once + 1


def test_without_an_offer_that_can_be_composed_nothing_is_asked(
    cloud: GcpLocalCloud, keyed: GcpProvider, offer: Offer
) -> None:
    assert keyed.quotes([]) == {} and keyed.quotes([of(offer, EDGE)]) == {}
    assert cloud.faults.count(LIST) == 0


def test_a_failed_listing_is_an_error_and_the_next_call_asks_again(
    cloud: GcpLocalCloud, keyed: GcpProvider, offer: Offer
) -> None:
    cloud.faults.throttle(LIST)
    with pytest.raises(errors.ThrottledError):
        keyed.quotes([offer])
    assert cloud.faults.count(LIST) == 1
    assert keyed.quotes([offer])


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error_page(403, DISABLED, "PERMISSION_DENIED", "SERVICE_DISABLED"), errors.AccessDeniedError),
        (error_page(400, "API key not valid.", "INVALID_ARGUMENT", "API_KEY_INVALID"), errors.AuthError),
        (Response(200, b'{"skus": ['), errors.TransientError),
        (Response(200, b"[]"), errors.TransientError),
    ],
)
def test_an_answer_that_is_no_list_is_the_error_that_it_means(
    provider_of: Callable[..., GcpProvider], offer: Offer, answer: Response, kind: type[Exception]
) -> None:
    prices = Prices()
    prices.refuse = lambda _: answer
    with served(prices) as url, pytest.raises(kind):
        provider_of(billing_endpoint_url=url, api_key=KEY).quotes([offer])


def test_a_list_that_takes_too_long_is_given_up(
    provider_of: Callable[..., GcpProvider], offer: Offer, clock: FakeClock
) -> None:
    prices = Prices()
    prices.compute, prices.page = [sku("A3 Instance Core running in Iowa", sku_id=str(n)) for n in range(9)], 1

    def slow(_: object) -> None:
        clock.advance("11s")

    prices.refuse = slow
    with served(prices) as url, pytest.raises(errors.ProviderError, match="not complete after 30 s") as caught:
        provider_of(billing_endpoint_url=url, api_key=KEY).quotes([offer])
    assert caught.value.code == "TooSlow" and len(prices.requests) == 3


def test_a_price_list_on_this_machine_and_a_real_compute_engine_are_never_combined(offer: Offer) -> None:
    prices = Prices()
    with served(prices) as url:
        real = GcpProvider(Settings({"billing_endpoint_url": url, "project": "p", "api_key": KEY}))
        assert real.quotes([offer]) == {}
    assert prices.requests == []
    local = {"endpoint_url": "http://127.0.0.1:1", "project": "p", "api_key": KEY}
    # This host does not exist, so a request to it would be an error.
    other = GcpProvider(Settings({**local, "billing_endpoint_url": "https://billing.invalid"}))
    assert other.quotes([offer]) == {}


def test_without_a_key_the_credentials_are_used(
    cloud: GcpLocalCloud, provider_of: Callable[..., GcpProvider], offer: Offer, tmp_path: Any
) -> None:
    cloud.add_key(tmp_path / "key.json")
    assert provider_of(credentials_file=str(tmp_path / "key.json")).quotes([offer])


def test_doctor_reports_a_price_list_that_can_not_be_read_as_no_failure(
    cloud: GcpLocalCloud, keyed: GcpProvider
) -> None:
    cloud.faults.fail(LIST, "SERVICE_DISABLED", status=403, message=DISABLED)
    [found] = [one for one in keyed.check() if one.name == "services.skus.list"]
    assert found.ok and found.detail.startswith("not readable, so prices are not confirmed")
    [found] = [one for one in keyed.check() if one.name == "services.skus.list"]
    assert (found.ok, found.detail) == (True, "allowed")


def test_the_patience_of_a_launch_is_short() -> None:
    assert _current._PATIENCE.tries == 1
    assert _current._PATIENCE.longest is not None and _current._PATIENCE.longest <= timedelta(seconds=30)
