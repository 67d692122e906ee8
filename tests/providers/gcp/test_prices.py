"""The price feed of Google Cloud: pages, faults, keys, places, second queries, calls and memory."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multicompute import errors
from multicompute.catalog.tables import TYPES, Tables, rows
from multicompute.price_feed import FoundPrices, Price, PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute.testing.local.server import Request, Response, Server, json_response
from multicompute_gcp import plugin
from multicompute_gcp._settings import GcpSettings
from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.prices._feed import GcpPriceFeed
from tests.providers.gcp.price_server import A2, IOWA, KEY, Prices, costs, error_page, served, sku, tpu

SKUS = [
    sku("A2 Instance Core running in Iowa", "0.03"),
    sku("A2 Instance Ram running in Iowa", "0.004"),
    sku("Nvidia Tesla A100 GPU running in Iowa", "2.9"),
]
A2_PRICE = pytest.approx(12 * 0.03 + 85 * 0.004 + 2.9)
QUERY = PriceQuery([A2], [IOWA])


@pytest.fixture(name="prices")
def _prices() -> Prices:
    prices = Prices()
    prices.compute = list(SKUS)
    return prices


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[GcpLocalCloud]:
    cloud = GcpLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


def fetched(feed: GcpPriceFeed, query: PriceQuery = QUERY) -> FoundPrices:
    return feed.fetch(query, progress=lambda _: None)


def opened(cloud: GcpLocalCloud, **values: object) -> GcpPriceFeed:
    keys: dict[str, object] = {"endpoint_url": cloud.endpoint_url, "project": cloud.project, "api_key": cloud.api_key}
    feed = plugin.open_price_feed(Settings(keys | values, cloud.environment))
    assert isinstance(feed, GcpPriceFeed)
    return feed


def all_types() -> list[PricedType]:
    assert plugin.tables is not None
    tables, found = Tables("gcp", plugin.tables), []
    for shard in tables.shards:
        purchases = {
            (row[0], row[1]): frozenset(filter(None, row[TYPES.index("purchases")].split(";")))
            for _, row in rows(plugin.tables / shard / "types.csv", TYPES)
        }
        found += [PricedType(instance, purchases[key]) for key, instance in tables.types(shard).items()]
    return found


def all_regions() -> list[str]:
    assert plugin.tables is not None
    return list(Tables("gcp", plugin.tables).regions)


# --- pages --------------------------------------------------------------------------------------------------------


def test_every_page_is_read_to_the_empty_token(prices: Prices) -> None:
    prices.page = 1
    with served(prices) as feed:
        found = fetched(feed)
    assert costs(found) == {"on_demand": A2_PRICE}
    assert found.calls == {"services.skus.list": 3}
    assert "pageSize=5000" in prices.requests[0].query


def test_empty_pages_and_pages_without_skus_are_no_end(prices: Prices) -> None:
    pages = {"": {"nextPageToken": "a"}, "a": {"skus": [], "nextPageToken": "b"}, "b": {"skus": SKUS}}
    prices.refuse = lambda request: json_response(200, pages[request.query.partition("pageToken=")[2]])
    with served(prices) as feed:
        assert costs(fetched(feed)) == {"on_demand": A2_PRICE}


def test_a_token_that_comes_again_is_an_error_and_no_endless_loop(prices: Prices) -> None:
    prices.refuse = lambda _: json_response(200, {"skus": [], "nextPageToken": "again"})
    with served(prices) as feed, pytest.raises(errors.TransientError, match="comes again"):
        fetched(feed)


def test_only_the_services_that_are_needed_are_asked(prices: Prices) -> None:
    prices.tpu = [sku("Tpu-v2 in USA", "4.5", regions=(IOWA, "us-east1"))]
    with served(prices) as feed:
        fetched(feed)
        fetched(feed, PriceQuery([tpu("v2-8", "v2", 4)], [IOWA]))
        fetched(feed, PriceQuery([tpu("v5p-8", "v5p", 4)], [IOWA]))
    assert [request.path.split("/")[3][:4] for request in prices.requests] == ["6F81", "E000", "6F81"]


def test_progress_grows_to_one(prices: Prices) -> None:
    seen: list[float] = []
    prices.page = 1
    with served(prices) as feed:
        feed.fetch(QUERY, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and all(0 <= share <= 1 for share in seen)


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        error_page(
            429, "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'", "RESOURCE_EXHAUSTED"
        ),
        error_page(503, "The service is currently unavailable.", "UNAVAILABLE"),
        Response(502, b"<html>Bad gateway</html>", "text/html"),
        Response(200, b'{"skus": [{"desc'),
    ],
)
def test_throttling_and_faults_that_pass_are_asked_again(prices: Prices, response: Response) -> None:
    faults = iter([response, response])
    prices.refuse = lambda _: next(faults, None)
    with served(prices) as feed:
        found = fetched(feed)
    assert costs(found) == {"on_demand": A2_PRICE}
    assert found.calls == {"services.skus.list": 3}


def test_a_list_that_breaks_off_says_nothing(prices: Prices) -> None:
    prices.page = 1
    broken = error_page(503, "The service is currently unavailable.", "UNAVAILABLE")
    prices.refuse = lambda request: broken if "pageToken=2" in request.query else None
    with served(prices) as feed, pytest.raises(errors.TransientError):
        fetched(feed)
    assert len(prices.requests) == 7


@pytest.mark.parametrize(
    ("response", "kind", "hint"),
    [
        (
            error_page(
                403,
                "Cloud Billing API has not been used in project 1 before or it is disabled.",
                "PERMISSION_DENIED",
                "SERVICE_DISABLED",
            ),
            errors.AccessDeniedError,
            "gcloud services enable cloudbilling.googleapis.com",
        ),
        (
            error_page(
                403, "Cloud Billing API has not been used in project 1 before or it is disabled.", "PERMISSION_DENIED"
            ),
            errors.AccessDeniedError,
            "gcloud services enable cloudbilling.googleapis.com",
        ),
        (
            error_page(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", "API_KEY_INVALID"),
            errors.AuthError,
            "api_key",
        ),
        (
            error_page(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
            errors.AuthError,
            "api_key",
        ),
        (
            error_page(400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT"),
            errors.AuthError,
            "api_key",
        ),
        (
            error_page(403, "Requests to this API are blocked.", "PERMISSION_DENIED", "API_KEY_SERVICE_BLOCKED"),
            errors.AccessDeniedError,
            "restrictions of the API key",
        ),
        (
            error_page(403, "The caller does not have permission", "PERMISSION_DENIED"),
            errors.AccessDeniedError,
            "enable",
        ),
        (
            error_page(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED"),
            errors.AuthError,
            "sign in",
        ),
    ],
)
def test_a_refusal_says_what_to_do(prices: Prices, response: Response, kind: type[Exception], hint: str) -> None:
    prices.refuse = lambda _: response
    with served(prices) as feed, pytest.raises(kind) as caught:
        fetched(feed)
    assert isinstance(caught.value, errors.MulticomputeError)
    assert hint in (caught.value.hint or "")
    assert len(prices.requests) == 1


def test_without_a_key_and_credentials_the_feed_says_what_is_missing() -> None:
    with pytest.raises(errors.AuthError) as caught:
        plugin.open_price_feed(Settings({}, {}))
    assert "api_key" in (caught.value.hint or "")


# --- the key ------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_in_a_header_only_and_appears_nowhere(prices: Prices, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    prices.refuse = lambda _: error_page(400, f"API key {KEY} not valid.", "INVALID_ARGUMENT", "API_KEY_INVALID")
    with served(prices) as feed, pytest.raises(errors.AuthError) as caught:
        fetched(feed)
    [request] = prices.requests
    assert request.headers["x-goog-api-key"] == KEY
    assert KEY not in request.path + request.query
    error = caught.value
    settings = Settings({"api_key": KEY})
    shown = [str(error), repr(error), repr(vars(error)), repr(settings), repr(GcpSettings.of(settings)), repr(feed)]
    assert not [text for text in [*shown, caplog.text] if KEY in text]


@pytest.mark.parametrize("key", [f" {KEY}", f"{KEY}\nX: y", f"{KEY}é", 5])
def test_a_malformed_key_is_refused_without_showing_it(key: object) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        GcpSettings.of(Settings({"api_key": key}))
    assert KEY not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert "api_key=..." in str(caught.value)


def test_the_key_is_not_sent_to_where_an_answer_redirects(prices: Prices) -> None:
    prices.refuse = lambda request: (
        Response(302, headers={"Location": "/elsewhere"}) if "services" in request.path else None
    )
    with served(prices) as feed, pytest.raises(errors.MulticomputeError):
        fetched(feed)
    assert [request.path for request in prices.requests if request.path == "/elsewhere"] == []


# --- places -------------------------------------------------------------------------------------------------------


def test_with_an_api_key_only_the_zones_are_those_of_the_tables(prices: Prices) -> None:
    with served(prices) as feed:
        found = fetched(feed)
    assert found.prices[0].zones == ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f")
    assert "Compute Engine was not asked" in found.notes[0]


def test_with_credentials_zones_and_built_in_disks_are_those_of_compute_engine(cloud: GcpLocalCloud) -> None:
    names = ("a3-highgpu-8g", "v5p-8")
    found = fetched(opened(cloud), PriceQuery([one for one in all_types() if one.instance.name in names], [IOWA]))
    assert {price.zones for price in found.prices if price.instance_type == "v5p-8"} == {("us-central1-a",)}
    listed = cloud.faults.calls
    assert {call.operation for call in listed} == {
        "cloudbilling.skus.list",
        "machineTypes.aggregatedList",
        "tpu.locations.list",
        "tpu.acceleratorTypes.list",
    }
    assert sum(found.calls.values()) == len(listed)
    on_demand = next(price for price in found.prices if price.instance_type == "a3-highgpu-8g")
    assert "local SSD" in on_demand.quote.source


def test_a_machine_type_that_compute_engine_does_not_list_is_no_longer_sold(cloud: GcpLocalCloud) -> None:
    gone = PricedType(A2.instance.__class__("gcp", "a2-highgpu-3g", "a100", 3, 40.0, vcpus=36, memory_gib=255))
    found = fetched(opened(cloud), PriceQuery([A2, gone], [IOWA]))
    assert "a2-highgpu-1g" in {price.instance_type for price in found.prices}
    assert "a2-highgpu-3g" not in {price.instance_type for price in found.prices}
    assert "a2-highgpu-3g" not in {name for name, *_ in found.incomplete}
    assert (IOWA, "on_demand") in found.answered


def test_new_types_of_a_known_family_and_new_shapes_are_reported(cloud: GcpLocalCloud) -> None:
    known = [one for one in all_types() if one.instance.name == "g2-standard-4"]
    other = PricedType(
        A2.instance.__class__("gcp", "g2-standard-8", "l4", 1, 24.0, vcpus=6, memory_gib=30), known[0].purchases
    )
    found = fetched(opened(cloud), PriceQuery([*known, other], [IOWA]))
    shapes = {one.instance.name: one.instance for one in found.types}
    assert set(shapes) == {f"g2-standard-{size}" for size in (8, 12, 16, 24, 32, 48, 96)}
    assert (shapes["g2-standard-8"].vcpus, shapes["g2-standard-8"].memory_gib) == (8, 32)
    assert shapes["g2-standard-96"].accelerators == 8
    assert "g2-standard-96" in {price.instance_type for price in found.prices}


def test_machine_types_that_cannot_be_read_are_replaced_by_the_tables_with_a_note(cloud: GcpLocalCloud) -> None:
    cloud.faults.fail("machineTypes.aggregatedList", "forbidden", status=403, times=None)
    found = fetched(opened(cloud), QUERY)
    assert found.prices
    assert any("machine types could not be read" in note for note in found.notes)


def test_credentials_are_used_where_there_is_no_key(cloud: GcpLocalCloud, tmp_path: Path) -> None:
    cloud.add_key(tmp_path / "key.json")
    feed = opened(cloud, api_key="", credentials_file=str(tmp_path / "key.json"))
    assert fetched(feed).prices


# --- the second query ---------------------------------------------------------------------------------------------


def test_a_second_query_asks_the_pricing_api_for_each_sku(cloud: GcpLocalCloud) -> None:
    feed = opened(cloud)
    first = fetched(feed, PriceQuery([A2], [IOWA]))
    cloud.set_price("a2-highgpu-1g", IOWA, 99.0)
    again = feed.confirm(first.prices)
    assert {
        price.quote.hourly_cost for price in again if price.key == ("a2-highgpu-1g", "", 1.0, IOWA, "on_demand")
    } == {99.0}
    assert all("Pricing API v1beta" in price.quote.source for price in again)
    assert cloud.faults.count("cloudbilling.price.get") == 9


def test_where_the_pricing_api_is_not_served_the_list_is_read_again(prices: Prices) -> None:
    with served(prices) as feed:
        first = fetched(feed)
        prices.compute[2] = sku("Nvidia Tesla A100 GPU running in Iowa", "0.9")
        [again] = feed.confirm(first.prices)
    assert again.quote.hourly_cost == pytest.approx(12 * 0.03 + 85 * 0.004 + 0.9)


def test_many_prices_are_confirmed_by_the_list(cloud: GcpLocalCloud) -> None:
    feed = opened(cloud)
    first = fetched(feed, PriceQuery(all_types(), all_regions()))
    before = len(cloud.faults.calls)
    again = feed.confirm(first.prices)
    assert {price.key: price.quote for price in again} == {price.key: price.quote for price in first.prices}
    assert len({price.key for price in first.prices}) == len(first.prices)
    assert len(cloud.faults.calls) - before <= 4


def test_a_price_that_was_never_read_has_no_second_answer(prices: Prices) -> None:
    with served(prices) as feed:
        found = fetched(feed)
        other = Price("a2-highgpu-2g", 2.0, IOWA, "on_demand", found.prices[0].quote)
        assert list(feed.confirm([other])) == []


# --- the local cloud ----------------------------------------------------------------------------------------------


def test_a_price_that_is_set_in_the_local_cloud_is_read(cloud: GcpLocalCloud) -> None:
    wanted = [one for one in all_types() if one.instance.name in ("a3-highgpu-8g", "v5p-8", "a4-highgpu-8g", "v3-32")]
    where = {"a3-highgpu-8g": IOWA, "v5p-8": IOWA, "a4-highgpu-8g": IOWA, "v3-32": "europe-west4"}
    for name, region in where.items():
        cloud.set_price(name, region, 111.0, purchase="spot")
    found = fetched(opened(cloud), PriceQuery(wanted, [IOWA, "europe-west4"]))
    read_back = {
        price.instance_type: price.quote.hourly_cost
        for price in found.prices
        if price.purchase == "spot" and where.get(price.instance_type) == price.region
    }
    assert read_back == pytest.approx(dict.fromkeys(where, 111.0))


def test_a_price_below_that_of_the_other_parts_is_refused(cloud: GcpLocalCloud) -> None:
    with pytest.raises(ValueError, match="other parts"):
        cloud.set_price("a3-highgpu-8g", IOWA, 1.0)
    with pytest.raises(ValueError, match="not offered"):
        cloud.set_price("a3-highgpu-8g", "us-central9", 1.0)
    with pytest.raises(ValueError, match="can't omit"):
        cloud.set_price("a3-highgpu-8g", IOWA, None)


def test_everything_is_read_with_a_bounded_number_of_calls(cloud: GcpLocalCloud) -> None:
    found = fetched(opened(cloud), PriceQuery(all_types(), all_regions()))
    assert len(found.prices) > 14_000
    assert found.unreadable == {}
    # Two pages of Compute Engine here, seven at Google; one of Cloud TPU; machine types in pages of 500; the zones with TPUs.
    assert found.calls["services.skus.list"] <= 3
    assert found.calls["machineTypes.aggregatedList"] <= 40
    assert sum(found.calls.values()) == len(cloud.faults.calls)


def test_no_spot_or_flex_start_price_of_the_local_cloud_is_above_the_one_on_demand(cloud: GcpLocalCloud) -> None:
    found = fetched(opened(cloud), PriceQuery(all_types(), all_regions()))
    by_type: dict[Any, dict[str, float]] = {}
    for price in found.prices:
        key = price.instance_type, price.accelerators, price.region
        by_type.setdefault(key, {})[price.purchase] = price.quote.hourly_cost
    for key, costs_of in by_type.items():
        assert max(costs_of.values()) == costs_of.get("on_demand", max(costs_of.values())), key


def test_one_accelerator_takes_few_calls(cloud: GcpLocalCloud) -> None:
    wanted = [one for one in all_types() if one.instance.accelerator == "h100"]
    found = fetched(opened(cloud), PriceQuery(wanted, all_regions(), accelerators={"h100"}))
    assert {price.instance_type for price in found.prices} >= {"a3-highgpu-8g", "a3-megagpu-8g"}
    assert sum(found.calls.values()) <= 4


def test_32000_skus_take_little_memory(tmp_path: Path) -> None:
    """The limit holds for the complete process, with the interpreter and the libraries that it needs."""
    filler = [
        sku(f"Reserved N2 Instance Core in place {number} {'x' * 100}", regions=(IOWA,), summary="y" * 300)
        for number in range(32_000)
    ]
    prices = Prices()
    prices.compute = [*filler, *SKUS]
    pages = [
        json.dumps({"skus": prices.compute[at : at + 5000], "nextPageToken": str(at + 5000)})
        for at in range(0, 32_003, 5000)
    ]
    pages[-1] = json.dumps({"skus": prices.compute[30_000:], "nextPageToken": ""})

    def answer(request: Request) -> Response:
        return Response(200, pages[int(request.query.partition("pageToken=")[2] or 0) // 5000].encode())

    server = Server(answer)
    server.start()
    try:
        program = tmp_path / "program.py"
        program.write_text(_PROGRAM)
        done = subprocess.run(
            [sys.executable, str(program), server.url], capture_output=True, text=True, check=True, timeout=120
        )
    finally:
        server.stop()
    found = json.loads(done.stdout)
    assert found["prices"] == 1 and found["calls"] == {"services.skus.list": 7}
    assert found["mib"] < 150


_PROGRAM = """
import json, re, sys
from multicompute.offer import InstanceType
from multicompute.price_feed import PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute_gcp import plugin

feed = plugin.open_price_feed(Settings({"billing_endpoint_url": sys.argv[1], "api_key": "k"}))
machine = InstanceType("gcp", "a2-highgpu-1g", "a100", 1, 40.0, vcpus=12, memory_gib=85)
found = feed.fetch(PriceQuery([PricedType(machine)], ["us-central1"]), progress=lambda _: None)
# Not ru_maxrss, which the process inherits from the one that started it.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps({"mib": peak, "prices": len(found.prices), "calls": found.calls}))
"""


def test_g2_and_cpu_types_share_one_listing(cloud: GcpLocalCloud) -> None:
    types = [one for one in all_types() if one.instance.name in ("g2-standard-4", "n2-standard-8")]
    found = fetched(opened(cloud), PriceQuery(types, [IOWA]))
    assert {price.instance_type for price in found.prices} >= {"g2-standard-4", "n2-standard-8"}
