"""Prices from the Retail Prices API: of all the rows that a size has, exactly the one that a machine is billed by."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Settings
from multicompute.testing import FakeClock
from multicompute_azure._prices import current_prices
from multicompute_azure._provider import AzureProvider
from multicompute_azure._session import Clients
from multicompute_azure._settings import AzureSettings
from multicompute_azure.local import AzureLocalCloud

Open = Callable[..., AzureProvider]
LIST = "retailPrices.list"
SUBSCRIPTION = "00000000-0000-0000-0000-00000000a2e0"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
KIND = ("eastus", "Standard_ND96isr_H100_v5")


def row(**changes: Any) -> dict[str, Any]:
    found = {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": 98.32,
        "armRegionName": "eastus",
        "effectiveStartDate": "2023-08-01T00:00:00Z",
        "meterName": "ND96isrH100v5",
        "productName": "Virtual Machines NDsr H100 v5 Series Linux",
        "skuName": "ND96isrH100v5",
        "serviceName": "Virtual Machines",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "armSkuName": "Standard_ND96isr_H100_v5",
    }
    return found | changes


def test_on_demand_and_spot_prices_are_those_of_the_list(
    cloud: AzureLocalCloud, provider: AzureProvider, offer: Offer
) -> None:
    spot = replace(offer, purchase="spot")
    cloud.set_price(offer.instance_type, "eastus", 101.5)
    cloud.set_price(offer.instance_type, "eastus", 33.25, purchase="spot")
    found = provider.quotes([offer, spot, replace(offer, zone="eastus-2")])
    assert {each.purchase: quote.hourly_cost for each, quote in found.items()} == {"on_demand": 101.5, "spot": 33.25}
    assert {(quote.source, quote.basis) for quote in found.values()} == {("Azure Retail Prices API", "list")}
    assert len(found) == 3
    # One call for the size in its region, however many offers it has.
    assert cloud.faults.count(LIST) == 1


def test_every_page_of_the_list_is_read(cloud: AzureLocalCloud, provider: AzureProvider, offer: Offer) -> None:
    cloud.prices_page_size = 2
    cloud.set_price(offer.instance_type, "eastus", 7.5, purchase="spot")
    spot = replace(offer, purchase="spot")
    assert provider.quotes([spot])[spot].hourly_cost == 7.5
    assert cloud.faults.count(LIST) > 5


@pytest.mark.parametrize(
    "other",
    [
        {"productName": "Virtual Machines NDsr H100 v5 Series Windows"},
        {"productName": "Virtual Machines NCCadsv5 Srs Win"},
        {"productName": "NDsr Series Cloud Services"},
        {"productName": "NDsr Series CloudServices"},
        {"productName": "NDsr Series Dedicated Host"},
        {"skuName": "ND96isrH100v5 Low Priority", "meterName": "ND96isrH100v5 Low Priority"},
        {"type": "DevTestConsumption"},
        {"type": "Reservation", "reservationTerm": "1 Year", "retailPrice": 500000.0},
        {"serviceName": "Azure Machine Learning"},
        {"effectiveStartDate": "2026-12-01T00:00:00Z"},
        {"effectiveStartDate": None},
        {"effectiveStartDate": "2020-01-01T00:00:00Z"},
        {"retailPrice": 0.0},
        {"tierMinimumUnits": 10.0},
        {"unitOfMeasure": "1/Month"},
        {"currencyCode": "EUR"},
        {"armSkuName": "Standard_ND96isr_H200_v5"},
        {"armSkuName": ""},
        {"armRegionName": "eastus2"},
    ],
)
def test_a_row_that_a_machine_is_not_billed_by_is_left_out(other: dict[str, Any]) -> None:
    misleading = row(**{"retailPrice": 1.0, "effectiveStartDate": "2025-01-01T00:00:00Z"} | other)
    assert current_prices([misleading, row()], KIND, now=NOW) == {"on_demand": 98.32}
    assert current_prices([row(), misleading], KIND, now=NOW) == {"on_demand": 98.32}


def test_a_row_without_the_mark_of_the_primary_region_and_in_other_case_counts() -> None:
    found = row(isPrimaryMeterRegion=False, armRegionName="EastUS", armSkuName="standard_nd96isr_h100_v5")
    assert current_prices([found], KIND, now=NOW) == {"on_demand": 98.32}


def test_of_rows_that_have_begun_the_latest_holds() -> None:
    rows = [row(effectiveStartDate=f"{year}-01-01T00:00:00Z", retailPrice=float(year)) for year in (2024, 2026, 2025)]
    assert current_prices(rows, KIND, now=NOW) == {"on_demand": 2026.0}


def test_a_size_that_the_list_lacks_has_no_price(provider: AzureProvider, offer: Offer) -> None:
    unknown = replace(offer, instance=replace(offer.instance, name="Standard_Nothing_v9"))
    assert provider.quotes([unknown]) == {}
    assert provider.quotes([]) == {}


def test_a_throttled_list_is_an_error_only_if_nothing_else_could_be_read(
    cloud: AzureLocalCloud, provider: AzureProvider, offer: Offer
) -> None:
    elsewhere = replace(offer, region="westus3", zone="westus3-1")
    cloud.faults.throttle(LIST, where={"region": "eastus"}, retry_after=timedelta(seconds=3), times=None)
    assert set(provider.quotes([offer, elsewhere])) == {elsewhere}
    with pytest.raises(errors.ThrottledError):
        provider.quotes([offer])


def test_the_list_is_asked_without_a_token(cloud: AzureLocalCloud, offer: Offer) -> None:
    environment = cloud.rotate_credentials()
    seen: list[dict[str, str]] = []
    answer = cloud._prices._answer

    def record(request: Any, query: Any) -> Any:
        seen.append(dict(request.headers))
        return answer(request, query)

    cloud._prices._answer = record  # type: ignore[method-assign]
    provider = AzureProvider(Settings({"endpoint_url": cloud.endpoint_url}, environment))
    assert provider.quotes([offer])
    assert [name for headers in seen for name in headers if name.lower() == "authorization"] == []


@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({}, "https://prices.azure.com"),
        ({"endpoint_url": "https://management.azure.com"}, "https://prices.azure.com"),
        ({"endpoint_url": "https://management.chinacloudapi.cn"}, None),
        ({"endpoint_url": "http://127.0.0.1:5000"}, "http://127.0.0.1:5000"),
        ({"prices_endpoint_url": "https://prices.example.com"}, "https://prices.example.com"),
    ],
)
def test_the_list_of_public_azure_is_not_asked_about_another_cloud(
    values: dict[str, str], endpoint: str | None
) -> None:
    settings = AzureSettings.of(Settings({"subscription_id": SUBSCRIPTION, **values}))
    assert Clients(settings, FakeClock(), step=timedelta(seconds=1)).prices_endpoint == endpoint


def test_a_link_to_the_next_page_is_followed_on_the_same_host_only(
    cloud: AzureLocalCloud, open_with: Open, offer: Offer
) -> None:
    cloud.prices_page_size = 2
    # The same machine by another name: the links in the answers lead to the address that the server was asked by.
    provider = open_with(prices_endpoint_url=cloud.endpoint_url.replace("127.0.0.1", "localhost"))
    assert provider.quotes([offer])
    answer = cloud._prices._answer

    def elsewhere(request: Any, query: Any) -> Any:
        response = answer(request, query)
        return replace(response, body=response.body.replace(b"http://localhost", b"http://127.0.0.1"))

    cloud._prices._answer = elsewhere  # type: ignore[method-assign]
    with pytest.raises(errors.TransientError, match="another host"):
        provider.quotes([offer])


def test_a_spot_machine_is_refused_where_the_price_of_today_is_over_its_ceiling(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Callable[..., LaunchRequest], offer: Offer
) -> None:
    spot = replace(offer, purchase="spot")
    cloud.set_price(offer.instance_type, "eastus", 60.0, purchase="spot")
    with pytest.raises(errors.InvalidRequestError) as caught:
        provider.launch(request_of(parts=(Part(spot, 1),), max_price=59.0))
    assert (caught.value.code, caught.value.scope) == ("SpotPriceGreaterThanProvidedMaxPrice", "request")
    assert len(provider.launch(request_of(parts=(Part(spot, 1),), max_price=61.0))) == 1
