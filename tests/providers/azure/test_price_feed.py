"""The price feed of Azure: all regions over HTTP, pages, throttling, what was answered, and the second query."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from multicompute import errors
from multicompute.catalog import Catalog
from multicompute.offer import InstanceType, Quote
from multicompute.price_feed import FoundPrices, Price, PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute.provider_kit.vendor_errors import Place
from multicompute.testing import FakeClock
from multicompute.testing.local.server import Request, Response, Server, json_response
from multicompute_azure import plugin
from multicompute_azure._feed import AzurePriceFeed
from multicompute_azure._price_list import PriceList
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.price_rows import row, spot

LIST = "retailPrices.list"
TODAY = date(2027, 1, 1)
NC24 = InstanceType("azure", "Standard_NC24ads_A100_v4", "a100-80gb", 1, 80.0, 24, 220)
NC48 = InstanceType("azure", "Standard_NC48ads_A100_v4", "a100-80gb", 2, 80.0, 48, 440)
ND = InstanceType("azure", "Standard_ND96isr_H100_v5", "h100", 8, 80.0, 96, 1900)
D2 = InstanceType("azure", "Standard_D2s_v5", vcpus=2, memory_gib=8)
Progress = list[float]


def query_of(*types: InstanceType, regions: tuple[str, ...] = ("eastus",), accelerators: Any = None) -> PriceQuery:
    return PriceQuery(tuple(map(PricedType, types)), regions, accelerators)


def packaged(accelerators: set[str] | None = None) -> PriceQuery:
    """Return the query for everything in the packaged tables, or for these accelerators."""
    catalog = Catalog({"azure": plugin.tables})
    listings = [
        line
        for name in sorted({*catalog.accelerators(), ""} if accelerators is None else accelerators)
        for line in catalog.listings(name, provider="azure")
    ]
    types = {line.instance.name: PricedType(line.instance) for line in listings}
    every = {line.region.name for line in catalog.listings("", provider="azure")}
    return PriceQuery(tuple(types.values()), tuple(sorted(every)), accelerators)


def prices_of(found: FoundPrices) -> dict[tuple[str, str, str], float]:
    return {(each.instance_type, each.region, each.purchase): each.quote.hourly_cost for each in found.prices}


@dataclass
class PriceServer:
    """A price list that serves what a test tells it to, page by page, by region.

    Attributes:
        pages: Region -> its pages, each a list of rows.
        seen: The queries that were received.
        link: Returns the link to a page from the address of the server, the region and the number of the page.
    """

    pages: dict[str, list[Any]] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    link: Callable[[str, str, int], object] = lambda host, region, number: (
        f"http://{host}/api/retail/prices?$filter=armRegionName%20eq%20'{region}'&$skip={number}"
    )
    answer: Callable[[dict[str, str]], Response | None] | None = None

    def __post_init__(self) -> None:
        self._server, self._lock = Server(self._serve), threading.Lock()
        self._server.start()

    @property
    def url(self) -> str:
        return self._server.url

    def stop(self) -> None:
        self._server.stop()

    def _serve(self, request: Request) -> Response | None:
        query = dict(parse_qsl(request.query)) | {"path": request.path}
        with self._lock:
            self.seen.append(query)
        refused = self.answer(query) if self.answer is not None else None
        if refused is not None:
            return refused
        region = query["$filter"].partition("armRegionName eq '")[2].partition("'")[0]
        pages, number = self.pages.get(region, []), int(query.get("$skip", "0"))
        rows = pages[number] if number < len(pages) else []
        link = self.link(request.headers["host"], region, number + 1) if number + 1 < len(pages) else None
        return json_response(200, {"BillingCurrency": "USD", "Items": rows, "NextPageLink": link, "Count": len(rows)})


@pytest.fixture
def server() -> Iterator[PriceServer]:
    made = PriceServer()
    yield made
    made.stop()


@pytest.fixture
def fetch(server: PriceServer, clock: FakeClock) -> Callable[..., FoundPrices]:
    """Return a function that fetches a query from the server, without any credentials."""

    def make(query: PriceQuery, **values: object) -> FoundPrices:
        settings = Settings({"prices_endpoint_url": server.url, **values})
        return AzurePriceFeed(settings, clock=clock).fetch(query, progress=lambda share: None)

    return make


# --- the local cloud --------------------------------------------------------------------------------------------------


@pytest.fixture
def feed(cloud: AzureLocalCloud, clock: FakeClock) -> AzurePriceFeed:
    return AzurePriceFeed(Settings({"endpoint_url": cloud.endpoint_url}, cloud.environment), clock=clock)


def test_the_feed_finds_the_true_price_of_everything_with_few_calls(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    query, shares = packaged(), Progress()
    found = feed.fetch(query, progress=shares.append)
    catalog = Catalog({"azure": plugin.tables})
    true = {
        (line.instance.name, line.region.name, line.purchase): line.quote.hourly_cost
        for name in (*catalog.accelerators(), "")
        for line in catalog.listings(name, provider="azure")
        if line.instance.provider == "azure"
    }
    assert prices_of(found) == true
    assert {(each.quote.as_of, each.quote.basis, each.zones) for each in found.prices} == {(TODAY, "list", ())}
    assert len(found.prices) == len({(each.instance_type, each.region, each.purchase) for each in found.prices})
    assert (found.failed, found.unreadable, found.incomplete) == ([], {}, frozenset())
    assert {(region, purchase) for _, region, purchase in true} == found.answered
    assert (max(shares), shares[-1]) == (1.0, 1.0)
    # At most three pages for a region; 180 calls at once by eight take about a second at a round trip of 50 ms.
    assert found.calls[LIST] == cloud.faults.count(LIST) <= 3 * len(query.regions)
    assert sum(found.calls.values()) <= 3 * len(query.regions) + 10


def test_one_accelerator_is_one_call_for_each_region(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    query = packaged({"h100"})
    found = feed.fetch(query, progress=lambda share: None)
    assert found.calls[LIST] == len(query.regions) == cloud.faults.count(LIST)
    assert {each.instance_type for each in found.prices} == {ND.name}
    assert all("contains(armSkuName, 'Standard_N')" in str(call.fields["filter"]) for call in cloud.faults.calls[:5])


def test_a_price_that_was_changed_and_a_sale_that_was_ended_are_seen(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    cloud.set_price(ND.name, "eastus", 101.5)
    cloud.set_price(ND.name, "eastus", None, purchase="spot")
    found = feed.fetch(query_of(ND, NC24, accelerators={"h100"}), progress=lambda share: None)
    assert prices_of(found)[ND.name, "eastus", "on_demand"] == 101.5
    assert (ND.name, "eastus", "spot") not in prices_of(found)
    # Other machines have spot prices in the region, so this one is not sold as spot any more.
    assert ("eastus", "spot") in found.answered and found.incomplete == frozenset()


@pytest.mark.parametrize("size", [1, 37, 100])
def test_the_size_of_pages_does_not_matter(cloud: AzureLocalCloud, feed: AzurePriceFeed, size: int) -> None:
    query = query_of(ND, NC24, regions=("eastus", "westus3"), accelerators={"h100", "a100-80gb"})
    whole = feed.fetch(query, progress=lambda share: None)
    cloud.prices_page_size = size
    paged = feed.fetch(query, progress=lambda share: None)
    assert prices_of(paged) == prices_of(whole)
    assert paged.calls[LIST] > whole.calls[LIST]


@pytest.mark.parametrize(("after", "waited"), [(timedelta(seconds=7), 7), (None, 1)])
def test_a_throttled_page_is_asked_for_again_after_the_wait_that_the_answer_names(
    cloud: AzureLocalCloud, feed: AzurePriceFeed, clock: FakeClock, after: timedelta | None, waited: float
) -> None:
    cloud.faults.throttle(LIST, times=1, retry_after=after)
    before = clock.now()
    found = feed.fetch(query_of(ND), progress=lambda share: None)
    assert found.prices and found.failed == []
    assert (clock.now() - before).total_seconds() == pytest.approx(waited, abs=0.5)


def test_waits_double_and_a_region_that_stays_throttled_fails_alone(
    cloud: AzureLocalCloud, feed: AzurePriceFeed, clock: FakeClock
) -> None:
    cloud.faults.throttle(LIST, times=None, where={"region": "westus3"})
    before = clock.now()
    found = feed.fetch(query_of(ND, regions=("eastus", "westus3")), progress=lambda share: None)
    assert {region for region, _ in found.answered} == {"eastus"}
    assert [each.region for each in found.failed] == ["westus3"]
    assert "429" in found.failed[0].error and "\n" not in found.failed[0].error
    # 1, 2, 4, 8 and 16 seconds between six tries.
    assert (clock.now() - before).total_seconds() >= 31
    assert found.calls[LIST] >= 7


def test_a_wait_of_more_than_a_minute_is_a_failure(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.faults.throttle(LIST, times=None, retry_after=timedelta(minutes=10))
    with pytest.raises(errors.ThrottledError):
        feed.fetch(query_of(ND), progress=lambda share: None)
    assert cloud.faults.count(LIST) == 1


@pytest.mark.parametrize("fault", ["drop", "lose_answer", "reset", "truncate"])
def test_a_page_that_did_not_arrive_is_asked_for_again(
    cloud: AzureLocalCloud, feed: AzurePriceFeed, fault: str
) -> None:
    getattr(cloud.faults, fault)(LIST, times=2)
    assert feed.fetch(query_of(ND), progress=lambda share: None).failed == []


def test_without_a_network_the_feed_gives_up_soon(clock: FakeClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    feed, started = (
        AzurePriceFeed(Settings({"prices_endpoint_url": f"http://127.0.0.1:{port}"}), clock=clock),
        clock.now(),
    )
    with pytest.raises(errors.TransientError):
        feed.fetch(packaged(), progress=lambda share: None)
    # The first eight regions, asked at once, wait one and two seconds each. After that, none waits.
    assert clock.now() - started <= timedelta(seconds=3 * 8)


def test_a_page_of_a_proxy_is_asked_for_again_and_a_refused_filter_is_not(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    cloud.faults.fail(LIST, "", status=502)
    assert feed.fetch(query_of(ND), progress=lambda share: None).prices
    cloud.faults.clear()
    cloud.faults.fail(LIST, "400", status=400, times=None)
    with pytest.raises(errors.MulticomputeError):
        feed.fetch(query_of(ND), progress=lambda share: None)
    assert cloud.faults.count(LIST) == 1


def test_a_region_that_breaks_off_in_the_middle_has_no_prices(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.prices_page_size = 50
    cloud.faults.throttle(LIST, times=None, where={"region": "westus3", "skip": "100"})
    found = feed.fetch(query_of(ND, NC24, D2, regions=("eastus", "westus3")), progress=lambda share: None)
    assert [each.region for each in found.failed] == ["westus3"]
    assert {each.region for each in found.prices} == {"eastus"}


def test_every_region_that_fails_is_an_error(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.faults.throttle(LIST, times=None)
    with pytest.raises(errors.ThrottledError):
        feed.fetch(query_of(ND, regions=("eastus", "westus3")), progress=lambda share: None)


def test_regions_that_sell_to_few_are_not_asked(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    regions = ("eastus2euap", "centraluseuap", "brazilus", "EastUS")
    found = feed.fetch(query_of(ND, regions=regions), progress=lambda share: None)
    assert {call.region for call in cloud.faults.calls if call.operation == LIST} == {"eastus"}
    assert {each.region for each in found.prices} == {"eastus"}


# --- a server that misleads -------------------------------------------------------------------------------------------


def test_every_misleading_row_of_a_region_is_passed_over(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    """The server ignores the filter, so the rows of all regions and products come in every answer."""
    rows = [
        row(retailPrice=32000.0, type="Reservation", reservationTerm="1 Year"),
        row(retailPrice=1.0, type="DevTestConsumption"),
        row(retailPrice=7.0, productName="Virtual Machines NCadsA100v4 Series Windows"),
        row(retailPrice=0.4, skuName="NC24ads A100 v4 Low Priority"),
        row(retailPrice=9.0, armRegionName="westus"),
        row(retailPrice=2.0, effectiveStartDate="2027-06-01T00:00:00Z"),
        row(armRegionName="EastUS", isPrimaryMeterRegion=False),
        spot(),
    ]
    server.pages = {"eastus": [rows, [], rows[::-1]]}
    found = fetch(query_of(NC24))
    assert prices_of(found) == {(NC24.name, "eastus", "on_demand"): 3.673, (NC24.name, "eastus", "spot"): 0.97}
    assert len(server.seen) == 3 and {each["path"] for each in server.seen} == {"/api/retail/prices"}


def test_the_link_to_the_next_page_is_followed_as_it_is(server: PriceServer, fetch: Callable[..., FoundPrices]) -> None:
    server.pages = {"eastus": [[row()], [spot()]]}
    server.link = lambda host, region, number: (
        f"http://{host}/api/retail/prices?x=y&$skip={number}&$filter=armRegionName%20eq%20'{region}'"
    )
    assert len(fetch(query_of(NC24)).prices) == 2
    assert server.seen[1]["x"] == "y"
    server.link = lambda host, region, number: f"/api/retail/prices?$skip={number}&$filter=armRegionName eq '{region}'"
    assert len(fetch(query_of(NC24)).prices) == 2


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("https://prices.azure.com:443/api/retail/prices?$skip=1", "another host"),
        ("http://localhost:1/api/retail/prices?$skip=1", "another host"),
        ("file:///etc/passwd", "another host"),
    ],
)
def test_a_link_to_another_host_is_not_followed(
    server: PriceServer, fetch: Callable[..., FoundPrices], link: str, words: str
) -> None:
    server.pages = {"eastus": [[row()], [spot()]], "westus": [[row(armRegionName="westus")]]}
    server.link = lambda host, region, number: link
    found = fetch(query_of(NC24, regions=("eastus", "westus")))
    assert [each.region for each in found.failed] == ["eastus"]
    assert words in found.failed[0].error
    assert {region for region, _ in found.answered} == {"westus"}
    # No wait would help, so it is not asked again.
    assert len(server.seen) == 2


def test_links_that_lead_in_a_circle_are_an_error(server: PriceServer, fetch: Callable[..., FoundPrices]) -> None:
    server.pages = {"eastus": [[row()], [spot()], []]}
    server.link = lambda host, region, number: (
        f"http://{host}/api/retail/prices?$skip=1&$filter=armRegionName eq '{region}'"
    )
    with pytest.raises(errors.TransientError, match="already read"):
        fetch(query_of(NC24))


@pytest.mark.parametrize("document", [{}, {"Items": None}, {"Items": {}}, [], {"Error": {"Code": "1"}}])
def test_an_answer_without_rows_is_no_empty_page(
    server: PriceServer, fetch: Callable[..., FoundPrices], document: object
) -> None:
    server.answer = lambda query: json_response(200, document)
    with pytest.raises(errors.TransientError, match="no rows"):
        fetch(query_of(NC24))


def test_a_missing_link_and_a_missing_currency_of_a_row_are_read(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.answer = lambda query: json_response(200, {"BillingCurrency": "USD", "Items": [row(currencyCode=...), 7]})
    found = fetch(query_of(NC24))
    assert prices_of(found) == {(NC24.name, "eastus", "on_demand"): 3.673}
    assert found.unreadable == {"a row is empty or no object (without ids)": 1}


def test_rows_that_cannot_be_read_are_counted_over_all_regions_and_their_prices_stay(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {
        region: [
            [
                row(armRegionName=region, retailPrice="?", meterId=f"m-{region}"),
                spot(armRegionName=region),
                row(armRegionName=region, armSkuName=NC48.name),
            ]
        ]
        for region in ("eastus", "westus")
    }
    found = fetch(query_of(NC24, NC48, regions=("eastus", "westus")))
    ((text, count),) = found.unreadable.items()
    assert count == 2 and "retailPrice" in text and "meterId m-" in text
    assert found.incomplete == {(NC24.name, "", 1, region, "on_demand") for region in ("eastus", "westus")}
    assert (NC24.name, "eastus", "on_demand") not in prices_of(found)


# --- what was answered ------------------------------------------------------------------------------------------------


def test_a_size_that_is_missing_among_its_series_is_no_longer_sold(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {"eastus": [[row(), spot()]]}
    found = fetch(query_of(NC24, NC48))
    assert found.answered == {("eastus", "on_demand"), ("eastus", "spot")}
    assert (found.incomplete, [note for note in found.notes if "series" in note]) == (frozenset(), [])


def test_a_series_that_no_region_has_prices_for_keeps_its_old_ones(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {"eastus": [[row()]], "westus": [[row(armRegionName="westus"), spot(armRegionName="westus")]]}
    found = fetch(query_of(NC24, NC48, ND, regions=("eastus", "westus")))
    assert found.incomplete == {(ND.name, "", 8, region, purchase) for region, purchase in found.answered}
    assert "1 series (nd_h100_v5) had no prices in any region, so the old ones stay" in found.notes


def test_a_region_without_any_price_is_not_answered(server: PriceServer, fetch: Callable[..., FoundPrices]) -> None:
    server.pages = {"eastus": [[row(), spot()]], "westus": [[]]}
    found = fetch(query_of(NC24, regions=("eastus", "westus")))
    assert {region for region, _ in found.answered} == {"eastus"}
    assert found.failed == []
    assert "1 region (westus) had no prices in the answer, so the old ones stay" in found.notes


def test_a_purchase_without_any_price_in_a_region_is_not_answered(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {"eastus": [[row()]]}
    assert fetch(query_of(NC24)).answered == {("eastus", "on_demand")}


def test_a_list_without_any_price_is_an_error(server: PriceServer, fetch: Callable[..., FoundPrices]) -> None:
    server.pages = {"eastus": [[row(type="Reservation")]]}
    with pytest.raises(errors.ProviderError, match="no price in any region"):
        fetch(query_of(NC24))
    # Of a single accelerator that can be true.
    found = fetch(query_of(NC24, accelerators={"a100-80gb"}))
    assert (found.prices, found.answered) == ([], frozenset())


def test_a_purchase_that_the_tables_exclude_has_no_price(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {"eastus": [[row(), spot()]]}
    query = replace(query_of(NC24), types=(PricedType(NC24, frozenset({"spot"})),))
    assert [each.purchase for each in fetch(query).prices] == ["spot"]


def test_sizes_without_accelerators_are_asked_for_only_where_they_are_wanted(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {"eastus": [[row(), row(armSkuName=D2.name, retailPrice=0.096)]]}
    assert len(fetch(query_of(NC24, D2)).prices) == 2
    assert len(fetch(query_of(NC24, D2, accelerators={"", "a100-80gb"})).prices) == 2
    assert len(fetch(query_of(NC24, accelerators={"a100-80gb"})).prices) == 1
    assert ["Standard_N" in query["$filter"] for query in server.seen] == [False, False, True]


def test_priced_sizes_with_accelerators_that_are_in_no_table_are_named(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    new = [row(armSkuName=name) for name in ("Standard_ND96isr_B200_v6", "Standard_NC6", "Standard_D99s_v9")]
    server.pages = {"eastus": [[row(), *new]]}
    found = fetch(query_of(NC24))
    assert {each.instance_type for each in found.prices} == {NC24.name}
    (note,) = [note for note in found.notes if "not in the tables" in note]
    assert note.startswith("2 priced sizes") and "Standard_ND96isr_B200_v6" in note and "D99s" not in note


def test_without_credentials_there_are_no_eviction_rates_and_a_note(
    server: PriceServer, fetch: Callable[..., FoundPrices]
) -> None:
    server.pages = {"eastus": [[row(), spot()]]}
    found = fetch(query_of(NC24))
    assert found.interruptions is None
    assert any("no eviction rates" in note and "no credentials" in note for note in found.notes)
    assert set(found.calls) == {LIST}


def test_the_feed_needs_neither_credentials_nor_the_code_for_them(server: PriceServer) -> None:
    server.pages = {"eastus": [[row(), spot()]]}
    code = f"""
import sys
from multicompute.offer import InstanceType
from multicompute.price_feed import PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute_azure import plugin

feed = plugin.open_price_feed(Settings({{"prices_endpoint_url": {server.url!r}}}))
size = InstanceType("azure", {NC24.name!r}, "a100-80gb", 1, 80.0, 24, 220)
found = feed.fetch(PriceQuery((PricedType(size),), ("eastus",)), progress=lambda share: None)
assert len(found.prices) == 2
assert len(feed.confirm(found.prices)) == 2
print(sorted(name for name in sys.modules if name.startswith(("azure.identity", "azure.mgmt"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_cloud_that_the_list_is_not_about_has_no_prices() -> None:
    feed = plugin.open_price_feed(Settings({"endpoint_url": "https://management.chinacloudapi.cn"}))
    assert feed is not None
    with pytest.raises(errors.ProviderError, match="public Azure only"):
        feed.fetch(query_of(NC24), progress=lambda share: None)


def test_a_page_is_asked_for_when_the_rows_of_the_one_before_are_read(server: PriceServer) -> None:
    server.pages = {"eastus": [[row(), row()], [row()], [row()]]}
    rows = PriceList(server.url).rows(Place("azure", "eastus"), "armRegionName eq 'eastus'")
    asked = []
    for _ in rows:
        asked.append(len(server.seen))
    assert asked == [1, 1, 2, 3]


# --- the second query -------------------------------------------------------------------------------------------------


def price(hourly: float, **changes: Any) -> Price:
    return replace(
        Price(NC24.name, 1, "eastus", "on_demand", Quote(hourly, TODAY, "Azure Retail Prices API")), **changes
    )


def test_a_price_is_confirmed_by_a_query_for_the_machine_in_another_version(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    cloud.set_price(NC24.name, "eastus", 9.5)
    doubted = [price(2.0), price(1.0, purchase="spot"), price(1.0, region="westus3")]
    found = feed.confirm(doubted)
    assert [(each.region, each.purchase) for each in found] == [
        ("eastus", "on_demand"),
        ("eastus", "spot"),
        ("westus3", "on_demand"),
    ]
    assert found[0].quote == Quote(9.5, TODAY, "Azure Retail Prices API 2023-01-01-preview")
    # One for the machine in each region.
    calls = [call.fields for call in cloud.faults.calls if call.operation == LIST]
    assert sorted((str(call["region"]), call["size"], call["version"]) for call in calls) == [
        ("eastus", NC24.name, "2023-01-01-preview"),
        ("westus3", NC24.name, "2023-01-01-preview"),
    ]


def test_a_price_that_the_second_query_does_not_have_is_missing(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.set_price(NC24.name, "eastus", None)
    assert feed.confirm([price(2.0)]) == []
    assert feed.confirm([]) == []


def test_a_second_query_that_fails_everywhere_is_an_error(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.faults.throttle(LIST, times=None, where={"region": "eastus"})
    assert [each.region for each in feed.confirm([price(2.0), price(2.0, region="westus3")])] == ["westus3"]
    with pytest.raises(errors.ThrottledError):
        feed.confirm([price(2.0)])
