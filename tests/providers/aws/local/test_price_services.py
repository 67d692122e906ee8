"""The price list, the spot price history and the Spot Advisor's data of the local AWS."""

import json
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from multicompute_aws.local import AwsLocalCloud

Refused = Callable[..., tuple[str, int, str]]
LINUX = {
    "instanceType": "p5.48xlarge",
    "regionCode": "us-east-1",
    "tenancy": "Shared",
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


def match(**fields: str) -> list[dict[str, str]]:
    return [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]


@pytest.fixture
def own_client(own_cloud: AwsLocalCloud, client_of: Callable[[AwsLocalCloud], Any]) -> Any:
    return client_of(own_cloud)


@pytest.fixture
def ask(own_client: Any) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that returns the products for some filters."""

    def call(filters: list[dict[str, str]]) -> list[dict[str, Any]]:
        pages = own_client("pricing").get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
        return [json.loads(item) for page in pages for item in page["PriceList"]]

    return call


def amounts(product: dict[str, Any], kind: str = "OnDemand") -> list[str]:
    return [
        rate["pricePerUnit"]["USD"]
        for term in product["terms"].get(kind, {}).values()
        for rate in term["priceDimensions"].values()
    ]


def test_the_price_of_a_machine_is_that_of_the_offer_table(ask: Any) -> None:
    [product] = ask(match(**LINUX))
    assert amounts(product) == ["55.0400000000"]
    assert "0.0000000000" in amounts(product, "Reserved")
    assert product["publicationDate"] and all(term["effectiveDate"] for term in product["terms"]["OnDemand"].values())


def test_a_price_can_be_changed_and_removed(ask: Any, own_cloud: AwsLocalCloud) -> None:
    own_cloud.set_price("p5.48xlarge", "us-east-1", 12.5)
    assert amounts(ask(match(**LINUX))[0]) == ["12.5000000000"]
    own_cloud.set_price("p5.48xlarge", "us-east-1", None)
    assert ask(match(**LINUX)) == []


def test_a_spot_price_is_set_in_all_zones(own_client: Any, own_cloud: AwsLocalCloud) -> None:
    own_cloud.set_price("p5.48xlarge", "us-east-1", 12.5, purchase="spot")
    listed = own_client("ec2").describe_spot_price_history(
        InstanceTypes=["p5.48xlarge"], ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
    )["SpotPriceHistory"]
    assert len(listed) > 1 and {float(entry["SpotPrice"]) for entry in listed} == {12.5}
    with pytest.raises(ValueError, match="can't have a spot price of None"):
        own_cloud.set_price("p5.48xlarge", "us-east-1", None, purchase="spot")
    with pytest.raises(ValueError, match="can't have a flex_start price"):
        own_cloud.set_price("p5.48xlarge", "us-east-1", 1.0, purchase="flex_start")


def test_without_one_filter_other_rows_come(ask: Any) -> None:
    for name in ("tenancy", "operatingSystem", "preInstalledSw", "capacitystatus", "marketoption"):
        assert len(ask(match(**{key: value for key, value in LINUX.items() if key != name}))) > 1, name
    everything = ask(match(instanceType="p5.48xlarge", regionCode="us-east-1"))
    assert len({item["product"]["sku"] for item in everything}) == len(everything) == 13


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("EQUALS", "p5.48xlarge", {"p5.48xlarge"}),
        ("CONTAINS", "p5.", {"p5.48xlarge", "p5.4xlarge"}),
        ("ANY_OF", "p5.48xlarge,g6.xlarge", {"p5.48xlarge", "g6.xlarge"}),
    ],
)
def test_each_type_of_filter(ask: Any, kind: str, value: str, expected: set[str]) -> None:
    others = match(**{key: each for key, each in LINUX.items() if key != "instanceType"})
    found = ask([*others, {"Type": kind, "Field": "instanceType", "Value": value}])
    assert {item["product"]["attributes"]["instanceType"] for item in found} == expected


def test_a_value_can_be_excluded(ask: Any) -> None:
    found = ask(
        [*match(instanceType="p5.48xlarge"), {"Type": "NONE_OF", "Field": "operatingSystem", "Value": "Linux,RHEL"}]
    )
    assert {item["product"]["attributes"]["operatingSystem"] for item in found} == {"Windows", "SUSE", "Ubuntu Pro"}


def test_the_list_comes_in_pages(own_client: Any) -> None:
    pricing, filters = own_client("pricing"), match(instanceType="p5.48xlarge", regionCode="us-east-1")
    first = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=10)
    second = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=10, NextToken=first["NextToken"])
    assert (len(first["PriceList"]), len(second["PriceList"]), second.get("NextToken")) == (10, 3, None)


def test_a_token_of_another_service_and_a_region_without_an_endpoint_are_refused(
    own_client: Any, refused: Refused
) -> None:
    assert (
        refused(own_client("pricing").get_products, ServiceCode="AmazonEC2", NextToken="x")[0]
        == "InvalidNextTokenException"
    )
    assert (
        refused(own_client("pricing", "us-west-2").get_products, ServiceCode="AmazonEC2")[0]
        == "InvalidParameterException"
    )


def test_a_local_zone_has_its_own_rows(ask: Any) -> None:
    found = ask(match(instanceType="g6.xlarge", regionCode="us-west-2-lax-1"))
    assert {item["product"]["attributes"]["locationType"] for item in found} == {"AWS Local Zone"}


def test_the_free_tier_is_listed_without_a_type_or_a_region(ask: Any) -> None:
    [product] = ask(match(location="Any"))
    assert "instanceType" not in product["product"]["attributes"] and amounts(product) == ["0.0000000000"]


def test_the_data_of_the_spot_advisor_are_public(own_cloud: AwsLocalCloud) -> None:
    own_cloud.set_interruptions("p5.48xlarge", "us-east-1", 3)
    url = own_cloud.endpoint_url + "/spot-bid-advisor/spot-advisor-data.json"
    with urllib.request.urlopen(url) as answer:
        document = json.load(answer)
    assert document["spot_advisor"]["us-east-1"]["Linux"]["p5.48xlarge"]["r"] == 3
    assert [item["index"] for item in document["ranges"]] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="0 to 4"):
        own_cloud.set_interruptions("p5.48xlarge", "us-east-1", 5)
