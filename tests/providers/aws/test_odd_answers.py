"""The price feed on answers that are allowed and rare: empty pages, entries in any order, rows that are not understood."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from multicompute.offer import InstanceType
from multicompute.price_feed import FoundPrices, PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute_aws._feed import AwsPriceFeed
from tests.providers.aws.scripted_aws import Answer, Request, ScriptedAws, price_row

P5 = InstanceType("aws", "p5.48xlarge", "h100", 8, 80, 192, 2048, 1, 3200, "efa", network_cards=32)
REGION = "us-east-1"
ZONES = {"us-east-1a": "use1-az6", "us-east-1b": "use1-az1"}
NOW_ON = "2026-11-{:02}T10:00:00.000Z"


def zones(*, local: bool = True) -> str:
    items = [(name, zone_id, "availability-zone") for name, zone_id in ZONES.items()]
    items += [("us-east-1-bos-1a", "use1-bos1-az1", "local-zone")] if local else []
    listed = "".join(
        f"<item><zoneName>{name}</zoneName><zoneId>{zone_id}</zoneId><zoneType>{kind}</zoneType>"
        "<zoneState>available</zoneState></item>"
        for name, zone_id, kind in items
    )
    return f"<R><availabilityZoneInfo>{listed}</availabilityZoneInfo></R>"


def offerings(*rows: tuple[str, str]) -> str:
    listed = "".join(
        f"<item><instanceType>{name}</instanceType><locationType>availability-zone-id</locationType>"
        f"<location>{place}</location></item>"
        for name, place in rows
    )
    return f"<R><instanceTypeOfferingSet>{listed}</instanceTypeOfferingSet></R>"


def history(rows: Iterable[tuple[str, str, int, str]], *, token: str = "") -> str:
    """Return entries of zone, price, day and product."""
    listed = "".join(
        f"<item><availabilityZone>{zone}</availabilityZone><instanceType>p5.48xlarge</instanceType>"
        f"<productDescription>{product}</productDescription><spotPrice>{price}</spotPrice>"
        f"<timestamp>{NOW_ON.format(day)}</timestamp></item>"
        for zone, price, day, product in rows
    )
    return f"<R><spotPriceHistorySet>{listed}</spotPriceHistorySet><nextToken>{token}</nextToken></R>"


def described(name: str, gpu: str, mib: int) -> str:
    return (
        f"<R><instanceTypeSet><item><instanceType>{name}</instanceType><vCpuInfo><defaultVCpus>8</defaultVCpus></vCpuInfo>"
        f"<memoryInfo><sizeInMiB>65536</sizeInMiB></memoryInfo><gpuInfo><gpus><item><name>{gpu}</name><count>1</count>"
        f"<memoryInfo><sizeInMiB>{mib}</sizeInMiB></memoryInfo></item></gpus></gpuInfo></item></instanceTypeSet></R>"
    )


@pytest.fixture
def priced(aws: ScriptedAws) -> ScriptedAws:
    """Return a server with one region that sells p5.48xlarge in two zones, without any price."""
    region = f"<item><regionName>{REGION}</regionName><optInStatus>opt-in-not-required</optInStatus></item>"
    aws.answers |= {
        "DescribeRegions": f"<R><regionInfo>{region}</regionInfo></R>",
        "DescribeAvailabilityZones": zones(),
        "DescribeInstanceTypeOfferings": offerings(
            *(("p5.48xlarge", zone_id) for zone_id in ZONES.values()), ("p5.48xlarge", "use1-bos1-az1")
        ),
        "DescribeInstanceTypes": "<R><instanceTypeSet/></R>",
        "DescribeSpotPriceHistory": history([]),
        "GetProducts": products(),
    }
    return aws


def products(*rows: str, **more: str) -> str:
    return json.dumps({"PriceList": list(rows), **more})


def fetch(aws: ScriptedAws, *, accelerators: Sequence[str] | None = ("h100",), **settings: Any) -> FoundPrices:
    nowhere = "http://127.0.0.1:1/spot-advisor-data.json"
    feed = AwsPriceFeed(Settings({"spot_advisor_url": nowhere, **settings}, aws.environment))
    query = PriceQuery([PricedType(P5)], [REGION], accelerators)
    return feed.fetch(query, progress=lambda _: None)


def costs(found: FoundPrices, purchase: str = "on_demand") -> list[tuple[float, tuple[str, ...]]]:
    return [(item.quote.hourly_cost, item.zones) for item in found.prices if item.purchase == purchase]


def test_local_zones_are_not_zones_of_the_region(priced: ScriptedAws) -> None:
    priced.answers["GetProducts"] = products(price_row("55.04"))
    assert costs(fetch(priced)) == [(55.04, ("us-east-1a", "us-east-1b"))]


def test_an_empty_page_with_a_token_is_not_the_end(priced: ScriptedAws) -> None:
    linux = "Linux/UNIX"
    priced.answers["DescribeSpotPriceHistory"] = [
        history([], token="t1"),
        history([("us-east-1a", "20.5", 3, linux)], token="t2"),
        history([("us-east-1b", "20.5", 3, linux)]),
    ]
    priced.answers["GetProducts"] = [products(NextToken="n"), products(price_row("55.04"), NextToken="")]
    found = fetch(priced)
    assert costs(found, "spot") == [(20.5, ("us-east-1a", "us-east-1b"))]
    assert costs(found)[0][0] == 55.04
    assert (found.calls["DescribeSpotPriceHistory"], found.calls["GetProducts"]) == (3, 2)


def test_the_latest_entry_of_a_zone_holds_whatever_the_order(priced: ScriptedAws) -> None:
    priced.answers["DescribeSpotPriceHistory"] = history(
        [
            ("us-east-1a", "21", 5, "Linux/UNIX"),
            ("us-east-1a", "29", 9, "Linux/UNIX (Amazon VPC)"),
            ("us-east-1a", "22", 7, "Linux/UNIX"),
            ("us-east-1a", "1", 20, "Windows"),
            ("us-east-1b", "25", 2, "Linux/UNIX"),
            ("us-east-1b", "0.000000", 8, "Linux/UNIX"),
            ("us-east-1c", "2", 8, "Linux/UNIX"),
        ]
    )
    found = fetch(priced)
    assert costs(found, "spot") == [(29.0, ("us-east-1a",))] and (REGION, "spot") in found.answered


def test_a_spot_price_that_is_not_understood_is_named_and_incomplete(priced: ScriptedAws) -> None:
    priced.answers["DescribeSpotPriceHistory"] = history([("us-east-1a", "cheap", 5, "Linux/UNIX")])
    found = fetch(priced)
    assert costs(found, "spot") == []
    ((text, number),) = found.unreadable.items()
    assert number == 1 and "'cheap' of p5.48xlarge in us-east-1a" in text
    assert found.incomplete == {("p5.48xlarge", "", 8, REGION, "spot")}


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([price_row("much")], "p5.48xlarge in us-east-1 (SKU SKU1)"),
        ([price_row("1"), price_row("2", product={"sku": "SKU2"})], "SKU2"),
        (["no json"], "an unknown type"),
    ],
)
def test_a_row_that_is_not_understood_is_named_and_its_price_is_incomplete(
    priced: ScriptedAws, rows: list[str], named: str
) -> None:
    priced.answers["GetProducts"] = products(*rows, price_row("0", marketoption="CapacityBlock"))
    found = fetch(priced)
    assert costs(found) == [] and (REGION, "on_demand") in found.answered
    ((text, number),) = found.unreadable.items()
    assert (named in text, number) == (True, 1)
    assert found.incomplete == {("p5.48xlarge", "", 8, REGION, "on_demand")}


def test_a_new_type_that_can_not_be_identified_is_counted_and_named(priced: ScriptedAws) -> None:
    priced.answers["DescribeInstanceTypeOfferings"] = offerings(("p9.48xlarge", "use1-az6"))
    priced.answers["DescribeInstanceTypes"] = described("p9.48xlarge", "NVIDIA", 144384)
    found = fetch(priced, accelerators=None)
    assert found.unreadable == {
        "instance types that can't be identified: the accelerator NVIDIA is not known, such as p9.48xlarge": 1
    }
    assert found.types == [] and found.prices == []


def test_a_known_type_that_ec2_describes_badly_keeps_its_shape(priced: ScriptedAws) -> None:
    priced.answers["DescribeInstanceTypes"] = described("p5.48xlarge", "NVIDIA", 81920)
    found = fetch(priced)
    assert (found.types, found.unreadable) == ([], {})


def test_a_server_that_knows_zone_names_only_is_understood(priced: ScriptedAws) -> None:
    priced.answers["DescribeInstanceTypeOfferings"] = offerings(*(("p5.48xlarge", name) for name in ZONES))
    priced.answers["GetProducts"] = products(price_row("55.04"))
    assert costs(fetch(priced)) == [(55.04, ("us-east-1a", "us-east-1b"))]


def test_a_region_without_any_offering_has_failed(priced: ScriptedAws) -> None:
    priced.answers["DescribeInstanceTypeOfferings"] = offerings()
    with pytest.raises(Exception, match="no instance type is listed"):
        fetch(priced)


def test_types_that_the_history_does_not_know_are_asked_for_without_names(priced: ScriptedAws) -> None:
    def answer(request: Request) -> Answer | str:
        if any(name.startswith("InstanceType") for name in request.params):
            text = "<Response><Errors><Error><Code>InvalidParameterValue</Code><Message>x</Message></Error></Errors></Response>"
            return (400, text)
        return history([("us-east-1a", "20", 3, "Linux/UNIX")])

    priced.answers["DescribeSpotPriceHistory"] = answer
    assert costs(fetch(priced), "spot") == [(20.0, ("us-east-1a",))]


@pytest.mark.parametrize(
    ("home", "endpoint"), [("eu-west-1", "eu-central-1"), ("ap-northeast-1", "ap-south-1"), ("us-west-2", "us-east-1")]
)
def test_the_price_list_is_asked_at_the_nearest_endpoint(priced: ScriptedAws, home: str, endpoint: str) -> None:
    environment = {**priced.environment, "AWS_REGION": home}
    feed = AwsPriceFeed(Settings({"spot_advisor_url": "http://127.0.0.1:1/x"}, environment))
    feed.fetch(PriceQuery([PricedType(P5)], [REGION], ("h100",)), progress=lambda _: None)
    assert {request.region for request in priced.sent("GetProducts")} == {endpoint}


def test_prices_can_have_an_endpoint_of_their_own(priced: ScriptedAws) -> None:
    with ScriptedAws() as other:
        other.answers["GetProducts"] = products(price_row("44"))
        environment = {**priced.environment, "AWS_ENDPOINT_URL_PRICING": other.environment["AWS_ENDPOINT_URL"]}
        feed = AwsPriceFeed(Settings({"spot_advisor_url": "http://127.0.0.1:1/x"}, environment))
        found = feed.fetch(PriceQuery([PricedType(P5)], [REGION], ("h100",)), progress=lambda _: None)
    assert costs(found)[0][0] == 44 and not priced.sent("GetProducts")
