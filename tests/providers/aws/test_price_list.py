"""Rows of the price list: which are the on-demand price of a Linux machine, and which only look like it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from multicompute_aws._price_list import UnreadableRowError, filters, parsed, prices_of, read_row, value_batches
from tests.providers.aws.scripted_aws import price_row

NOW = datetime(2026, 11, 30, tzinfo=UTC)
BARE = {"productFamily": "Compute Instance (bare metal)"}


def read(row: str) -> Any:
    return read_row(parsed(row), NOW)


def changed(row: str, **terms: Any) -> str:
    """Return a row with other terms."""
    document = json.loads(row)
    document["terms"] = terms
    return json.dumps(document)


def term(
    price: object, *, begins: str | None = "2026-05-01T00:00:00Z", currency: str = "USD", **rate: Any
) -> dict[str, Any]:
    dimension = {"unit": "Hrs", "beginRange": "0", "endRange": "Inf", "pricePerUnit": {currency: price}, **rate}
    found: dict[str, Any] = {"priceDimensions": {"x": dimension}, "offerTermCode": "JRTCKXETXF"}
    return {**found, "effectiveDate": begins} if begins else found


def test_the_price_of_a_linux_machine_has_ten_decimals() -> None:
    row = read(price_row("55.0400000000"))
    assert (row.instance_type, row.region, row.hourly_cost, row.sku) == ("p5.48xlarge", "us-east-1", 55.04, "SKU1")
    assert read(price_row("21.9576420000")).hourly_cost == 21.957642


def test_a_row_may_come_as_an_object_and_its_price_as_a_number() -> None:
    document = json.loads(changed(price_row("1"), OnDemand={"t": term(2.5)}))
    assert read_row(parsed(document), NOW) is not None
    assert read_row(document, NOW).hourly_cost == 2.5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "attributes",
    [
        {"capacitystatus": "UnusedCapacityReservation", "usagetype": "UnusedBox:p5.48xlarge", "instancesku": "SKU0"},
        {"capacitystatus": "AllocatedCapacityReservation"},
        {"capacitystatus": None},
        {"tenancy": "Dedicated"},
        {"tenancy": "Host"},
        {"tenancy": None},
        {"marketoption": "CapacityBlock", "operation": "RunInstances:CB"},
        {"operation": "RunInstances:CB", "marketoption": None},
        {"operatingSystem": "Windows", "operation": "RunInstances:0002"},
        {"operatingSystem": "Windows", "operation": "RunInstances:0002:box"},
        {"operatingSystem": "Windows", "operation": "RunInstances:0800", "licenseModel": "Bring your own license"},
        {"preInstalledSw": "SQL Std", "operation": "RunInstances:0004"},
        {"operatingSystem": "RHEL", "operation": "RunInstances:0010"},
        {"operatingSystem": "SUSE", "operation": "RunInstances:000g"},
        {"operatingSystem": "Ubuntu Pro", "operation": "RunInstances:0g00"},
        {"locationType": "AWS Local Zone", "regionCode": "us-west-2-lax-1"},
        {"locationType": "AWS Wavelength Zone", "regionCode": "us-east-1-wl1-bos1"},
        {"instanceType": None, "regionCode": "", "location": "Any"},
        {"servicecode": "AmazonECS"},
    ],
    ids=str,
)
def test_a_row_of_something_else_is_no_price(attributes: dict[str, str | None]) -> None:
    assert read(price_row("55.0400000000", changes=attributes)) is None


def test_a_product_of_another_family_is_no_price() -> None:
    assert read(price_row("1", product={"productFamily": "Dedicated Host"})) is None


@pytest.mark.parametrize("name", ["marketoption", "operation", "licenseModel", "locationType", "servicecode"])
def test_attributes_that_older_rows_lack_are_not_required(name: str) -> None:
    assert read(price_row("55.04", changes={name: None})).hourly_cost == 55.04


def test_a_price_of_zero_is_no_price() -> None:
    assert read(price_row("0.0000000000")) is None


def test_reserved_terms_of_the_same_product_are_not_its_price() -> None:
    upfront = {**term("0.0000000000"), "offerTermCode": "6QCMYABX3D"}
    both = changed(price_row("1"), OnDemand={"a.JRTCKXETXF": term("9.5")}, Reserved={"a.6QCMYABX3D": upfront})
    assert read(both).hourly_cost == 9.5
    assert read(changed(price_row("1"), Reserved={"a.6QCMYABX3D": upfront})) is None


def test_the_term_that_began_last_holds_and_one_of_the_future_does_not() -> None:
    terms = {
        "a.JRTCKXETXF": term("9", begins="2026-01-01T00:00:00Z"),
        "b.JRTCKXETXF": term("8", begins="2026-11-01T00:00:00Z"),
        "c.JRTCKXETXF": term("7", begins="2027-01-01T00:00:00Z"),
    }
    assert read(changed(price_row("1"), OnDemand=terms)).hourly_cost == 8


def test_a_term_with_another_code_does_not_hide_the_price() -> None:
    other = {**term("0.5"), "offerTermCode": "JRTCKXETXG"}
    assert read(changed(price_row("1"), OnDemand={"a": other, "b": term("9")})).hourly_cost == 9


def test_a_volume_tier_is_not_the_price() -> None:
    dimensions = {
        "1": {"unit": "Hrs", "beginRange": "0", "endRange": "750", "pricePerUnit": {"USD": "9"}},
        "2": {"unit": "Hrs", "beginRange": "750", "endRange": "Inf", "pricePerUnit": {"USD": "5"}},
    }
    assert read(changed(price_row("1"), OnDemand={"a": {"priceDimensions": dimensions}})).hourly_cost == 9


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"a": term("100", currency="CNY")}, "in CNY, not in USD"),
        ({"a": term("a lot")}, "could not convert"),
        ({"a": term("-1")}, "not a price"),
        ({"a": term("nan")}, "not a price"),
        ({"a": term(None)}, "float"),
        ({"a": term("1", unit="Quantity")}, "no hourly rate"),
        ({"a": term("1"), "b": term("2")}, "2 prices"),
        ({"a": term("1", begins="soon")}, "isoformat"),
        ({"a": ["no term"]}, "has no attribute"),
    ],
)
def test_a_price_that_is_not_understood_is_named_with_its_sku(terms: dict[str, Any], problem: str) -> None:
    with pytest.raises(UnreadableRowError, match=problem) as caught:
        read(changed(price_row("1"), OnDemand=terms))
    assert caught.value.row == "p5.48xlarge in us-east-1 (SKU SKU1)"


@pytest.mark.parametrize("row", ["{", "[]", "3", '{"terms": {}}', '{"product": {"attributes": "none"}}'])
def test_a_row_that_is_no_product_is_refused(row: str) -> None:
    with pytest.raises(UnreadableRowError):
        read(row)


def test_bare_metal_is_read_from_its_own_family_and_as_dedicated_hardware_only_there() -> None:
    shared = read(price_row("2", product=BARE, instanceType="g5g.metal"))
    dedicated = read(price_row("3", product=BARE, instanceType="g5g.metal", tenancy="Dedicated"))
    assert (shared.is_dedicated, dedicated.is_dedicated) == (False, True)
    assert prices_of([dedicated])[0] == {("g5g.metal", "us-east-1"): 3}
    assert prices_of([dedicated, shared])[0] == {("g5g.metal", "us-east-1"): 2}
    assert read(price_row("0", product=BARE, instanceType="g5g.metal", tenancy="Host")) is None


def test_two_rows_with_one_price_are_one_price_and_with_two_prices_none() -> None:
    one, same, other = (
        read(price_row(price, product={"sku": sku})) for price, sku in (("5", "A"), ("5", "B"), ("6", "C"))
    )
    assert prices_of([one, same]) == ({("p5.48xlarge", "us-east-1"): 5.0}, [])
    found, unclear = prices_of([one, other])
    assert (found, [row.sku for row in unclear]) == ({}, ["C"])


def test_values_are_split_where_a_filter_would_be_too_long() -> None:
    names = [f"g6e.{number}xlarge" for number in range(300)]
    found = value_batches(names)
    assert [name for batch in found for name in batch] == names
    assert max(len(",".join(batch)) for batch in found) <= 1024 < len(",".join(found[0] + found[1][:1]))


def test_several_values_are_a_list_and_one_is_a_term() -> None:
    kinds = {entry["Field"]: (entry["Type"], entry["Value"]) for entry in filters(["b", "a"], ["x"])}
    assert (kinds["regionCode"], kinds["instanceType"]) == (("ANY_OF", "a,b"), ("TERM_MATCH", "x"))
    assert kinds["tenancy"] == ("TERM_MATCH", "Shared")
