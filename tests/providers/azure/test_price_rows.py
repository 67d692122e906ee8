"""The rows of the Azure price list: which of them a Linux machine is billed by, which of those holds, and what can't be read."""

from datetime import UTC, datetime
from typing import Any

import pytest

from multicompute_azure._price_rows import CurrentPrices, Key
from tests.providers.azure.price_rows import row, spot

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PLAIN, SPOT = (
    Key("eastus", "standard_nc24ads_a100_v4", "on_demand"),
    Key("eastus", "standard_nc24ads_a100_v4", "spot"),
)


def read(*rows: Any, region: str = "eastus") -> CurrentPrices:
    found = CurrentPrices(NOW, lambda place, size: place == region and size == PLAIN.size)
    for each in rows:
        found.add(each)
    return found


def test_a_machine_has_a_price_on_demand_and_one_as_spot() -> None:
    assert read(spot(), row()).prices() == {PLAIN: 3.673, SPOT: 0.97}


@pytest.mark.parametrize("marked", [{"skuName": "x Spot", "meterName": "x"}, {"skuName": "x", "meterName": "x Spot"}])
def test_spot_is_told_by_either_name(marked: dict[str, str]) -> None:
    assert read(spot(**marked)).prices() == {SPOT: 0.97}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"type": "Reservation", "reservationTerm": "1 Year", "retailPrice": 19305.0}, id="reservation"),
        pytest.param({"reservationTerm": "3 Years", "retailPrice": 38611.0}, id="reservation by its term"),
        pytest.param({"type": "DevTestConsumption", "retailPrice": 3.0}, id="DevTest"),
        pytest.param({"productName": "Virtual Machines NCadsA100v4 Series Windows"}, id="Windows"),
        pytest.param({"productName": "Virtual Machines NCCadsv5 Srs Win"}, id="Win"),
        pytest.param({"skuName": "NC24ads A100 v4 Low Priority"}, id="low priority by its sku"),
        pytest.param({"meterName": "NC24ads A100 v4 Low Priority"}, id="low priority by its meter"),
        pytest.param({"productName": "NCadsA100v4 Series Cloud Services"}, id="Cloud Services"),
        pytest.param({"productName": "NCadsA100v4 Series CloudServices"}, id="CloudServices"),
        pytest.param({"productName": "NCadsA100v4 Series Dedicated Host"}, id="Dedicated Host"),
        pytest.param({"serviceName": "Azure Machine Learning"}, id="other service"),
        pytest.param({"armSkuName": ""}, id="without a size"),
        pytest.param({"armSkuName": None}, id="size null"),
        pytest.param({"armSkuName": "Standard_NC48ads_A100_v4"}, id="other size"),
        pytest.param({"armRegionName": "eastus2euap"}, id="early access"),
        pytest.param({"effectiveStartDate": "2026-12-01T00:00:00Z"}, id="future"),
        pytest.param({"effectiveStartDate": "2026-01-01T00:00:00Z", "effectiveEndDate": "2026-06-01T00:00:00Z"}, id="ended"),
        pytest.param({"tierMinimumUnits": 100.0}, id="volume tier"),
        pytest.param({"retailPrice": 0.0, "effectiveStartDate": "2026-01-01T00:00:00Z"}, id="zero"),
        pytest.param({"retailPrice": "0", "effectiveStartDate": "2026-01-01T00:00:00Z"}, id="zero as text"),
    ],
)  # fmt: skip
def test_a_row_for_something_else_is_neither_a_price_nor_unreadable(other: dict[str, Any]) -> None:
    misleading = row(**({"retailPrice": 1.0, "effectiveStartDate": "2025-01-01T00:00:00Z"} | other))
    for rows in ((misleading, row()), (row(), misleading), (misleading,)):
        found = read(*rows)
        assert found.prices() == ({PLAIN: 3.673} if len(rows) == 2 else {})
        assert (found.unreadable, found.doubtful()) == ({}, frozenset())


def test_a_spot_row_for_windows_is_left_out() -> None:
    assert read(spot(productName="Virtual Machines NCadsA100v4 Series Windows", retailPrice=0.1)).prices() == {}


def test_savings_plans_inside_a_row_are_not_its_price() -> None:
    plans = [
        {"term": "1 Year", "unitPrice": 2.4, "retailPrice": 2.4},
        {"term": "3 Years", "unitPrice": 1.6, "retailPrice": 1.6},
    ]
    assert read(row(savingsPlan=plans)).prices() == {PLAIN: 3.673}


@pytest.mark.parametrize(
    "same",
    [
        {"armRegionName": "EastUS"},
        {"armRegionName": "East US"},
        {"armSkuName": "standard_nc24ads_a100_V4"},
        {"isPrimaryMeterRegion": False},
        {"isPrimaryMeterRegion": ...},
        {"productName": "Virtual Machines NCadsA100v4 Series Linux"},
        {"retailPrice": "3.673"},
        {"tierMinimumUnits": ...},
        {"tierMinimumUnits": "0"},
        {"effectiveStartDate": "2023-08-01T00:00:00"},
        {"effectiveStartDate": "2023-08-01T00:00:00.0000000Z"},
        {"effectiveStartDate": "2023-08-01T02:00:00+02:00"},
        {"unitOfMeasure": "1 hour"},
        {"meterName": ...},
        {"location": ..., "serviceId": ..., "unitPrice": ..., "productId": ..., "meterId": ...},
        {"effectiveEndDate": None},
        {"aNewField": {"x": [1]}},
    ],
)
def test_spellings_and_optional_fields_do_not_matter(same: dict[str, Any]) -> None:
    found = read(row(**same))
    assert (found.prices(), found.unreadable) == ({PLAIN: 3.673}, {})


def test_of_several_rows_that_have_begun_the_latest_holds_in_any_order() -> None:
    rows = [row(effectiveStartDate=f"{year}-01-01T00:00:00Z", retailPrice=float(year)) for year in (2024, 2026, 2025)]
    assert read(*rows).prices() == read(*reversed(rows)).prices() == {PLAIN: 2026.0}


def test_exact_repeats_are_one_row() -> None:
    found = read(row(), row(), row())
    assert (found.prices(), found.unreadable) == ({PLAIN: 3.673}, {})


def test_the_primary_meter_holds_against_another_with_the_same_date_only() -> None:
    secondary = row(isPrimaryMeterRegion=False, retailPrice=4.0)
    assert read(row(), secondary).prices() == read(secondary, row()).prices() == {PLAIN: 3.673}
    newer = row(isPrimaryMeterRegion=False, retailPrice=4.0, effectiveStartDate="2024-01-01T00:00:00Z")
    assert read(newer, row()).prices() == {PLAIN: 4.0}


def test_two_rows_that_contradict_each_other_give_no_price() -> None:
    found = read(row(), row(retailPrice=4.0), spot())
    assert (found.prices(), found.doubtful()) == ({SPOT: 0.97}, frozenset({PLAIN}))
    assert list(found.unreadable.values()) == [1]
    # A newer row ends the contradiction.
    found.add(row(retailPrice=5.0, effectiveStartDate="2025-01-01T00:00:00Z"))
    assert found.prices() == {PLAIN: 5.0, SPOT: 0.97}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"retailPrice": ...}, "retailPrice"),
        ({"retailPrice": None}, "retailPrice"),
        ({"retailPrice": "3,673"}, "retailPrice"),
        ({"retailPrice": -1.0}, "retailPrice"),
        ({"retailPrice": float("nan")}, "retailPrice"),
        ({"retailPrice": float("inf")}, "retailPrice"),
        ({"retailPrice": True}, "retailPrice"),
        ({"effectiveStartDate": ...}, "effectiveStartDate"),
        ({"effectiveStartDate": "soon"}, "effectiveStartDate"),
        ({"effectiveStartDate": 20230801}, "effectiveStartDate"),
        ({"unitOfMeasure": "100 Hours"}, "100 Hours"),
        ({"unitOfMeasure": ...}, "unitOfMeasure is missing"),
        ({"currencyCode": "EUR"}, "EUR"),
        ({"currencyCode": ...}, "currencyCode is missing"),
        ({"tierMinimumUnits": "none"}, "tierMinimumUnits"),
        ({"type": ...}, "type is missing"),
        ({"serviceName": None}, "serviceName is missing"),
        ({"productName": ...}, "productName is missing"),
        ({"skuName": ..., "meterName": ...}, "skuName and meterName are missing"),
    ],
)
def test_a_row_that_cannot_be_read_is_counted_and_named_and_never_a_price(broken: dict[str, Any], words: str) -> None:
    found = read(row(**broken), row(**{**broken, "meterId": "meter-2"}))
    assert (found.prices(), found.doubtful()) == ({}, frozenset({PLAIN}))
    ((text, count),) = found.unreadable.items()
    assert (words in text, count) == (True, 2)
    assert "meterId meter-1, skuId DZH318Z08NRP/0008" in text and "meter-2" not in text
    # The price that another row states is not in doubt.
    found.add(row())
    assert found.prices() == {PLAIN: 3.673}


def test_an_old_price_is_not_used_where_the_newer_one_cannot_be_read() -> None:
    found = read(row(), row(retailPrice=None, effectiveStartDate="2026-10-01T00:00:00Z"))
    assert (found.prices(), found.doubtful()) == ({}, frozenset({PLAIN}))
    later = read(row(), row(retailPrice=None, effectiveStartDate="2026-12-01T00:00:00Z"))
    assert later.prices() == {PLAIN: 3.673}


def test_what_is_wrong_with_rows_for_other_machines_does_not_count() -> None:
    found = read(row(armSkuName="Standard_M8ms", retailPrice=None), row(armRegionName="westus", currencyCode="EUR"))
    assert (found.prices(), found.unreadable) == ({}, {})


def test_an_empty_row_is_counted() -> None:
    assert read({}, row()).unreadable == {"a row is empty or no object (without ids)": 1}
