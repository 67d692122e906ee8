"""Quotas, prices and the checks of `doctor`: what can't be read is a note."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from multicompute.offer import Offer, Purchase
from multicompute_aws._families import FAMILIES, family_of
from multicompute_aws._prices import hourly_prices
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import ScriptedAws, described, instance_xml, json_refusal, refusal

CPUS = "<cpuOptions><coreCount>96</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>"


def _limits(**values: float) -> str:
    return json.dumps(
        {"Quotas": [{"QuotaCode": code.replace("_", "-"), "Value": value} for code, value in values.items()]}
    )


def test_a_quota_has_its_limit_and_what_runs_of_its_families_with_its_purchase(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    aws.answers["ListServiceQuotas"] = _limits(L_417A185B=1536, L_C4BD4855=192, L_0000FFFF=7)
    spot = "<instanceLifecycle>spot</instanceLifecycle>"
    block = "<instanceLifecycle>capacity-block</instanceLifecycle>"
    aws.answers["DescribeInstances"] = described(
        instance_xml("i-1", extra=CPUS),
        instance_xml("i-2", extra=CPUS),
        instance_xml("i-3", extra=CPUS + spot),
        instance_xml("i-4", extra=CPUS + block),
        instance_xml("i-5", extra=CPUS, instance_type="g5.48xlarge"),
    )
    found = provider.quotas("us-east-1")
    assert [(quota.name, quota.limit, quota.used, quota.purchase) for quota in found.quotas] == [
        ("Running On-Demand P instances", 1536, 384, "on_demand"),
        ("All P5 Spot Instance Requests", 192, 192, "spot"),
    ]
    assert found.notes == ()


def test_instances_that_are_listed_without_their_cpus_are_counted_by_their_type(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    aws.answers["ListServiceQuotas"] = _limits(L_417A185B=1536)
    aws.answers["DescribeInstances"] = described(instance_xml("i-1"), instance_xml("i-2"))
    aws.answers["DescribeInstanceTypes"] = (
        "<R><instanceTypeSet><item><instanceType>p5.48xlarge</instanceType><vCpuInfo><defaultVCpus>192</defaultVCpus>"
        "</vCpuInfo></item></instanceTypeSet></R>"
    )
    assert [quota.used for quota in provider.quotas("us-east-1").quotas] == [384]


@pytest.mark.parametrize(
    "answer",
    [json_refusal("AccessDeniedException", "no right", 403), (500, "<html>oops</html>"), json.dumps({"Quotas": []})],
    ids=["denied", "html", "none"],
)
def test_quotas_that_can_not_be_read_are_a_note(
    aws: ScriptedAws, provider: AwsProvider, answer: str | tuple[int, str]
) -> None:
    aws.answers["ListServiceQuotas"] = answer
    found = provider.quotas("us-east-1")
    assert found.quotas == ()
    assert len(found.notes) == 1 and "us-east-1" in found.notes[0]


def _reservation(state: str, kind: str) -> str:
    return (
        "<R><capacityReservationSet><item><capacityReservationId>cr-1</capacityReservationId><availabilityZone>us-east-1b"
        f"</availabilityZone><instanceType>p5.48xlarge</instanceType><state>{state}</state><reservationType>{kind}"
        "</reservationType><availableInstanceCount>4</availableInstanceCount></item></capacityReservationSet></R>"
    )


@pytest.mark.parametrize(
    ("state", "kind", "available", "named"),
    [("active", "default", 4, "reservation"), ("scheduled", "capacity-block", 0, "capacity-block")],
)
def test_a_reservation_that_is_not_active_has_nothing_available(
    aws: ScriptedAws, provider: AwsProvider, state: str, kind: str, available: int, named: str
) -> None:
    aws.answers["ListServiceQuotas"] = _limits(L_417A185B=1536)
    aws.answers["DescribeCapacityReservations"] = _reservation(state, kind)
    (held,) = provider.quotas("us-east-1", reservations=["cr-1"]).reservations
    assert (held.zone, held.instance_type, held.available, held.kind) == ("us-east-1b", "p5.48xlarge", available, named)


@pytest.mark.parametrize(
    ("kind", "instance_type", "margin"),
    [
        ("capacity-block", "p5.48xlarge", timedelta(minutes=30)),
        ("capacity-block", "p6e-gb200.36xlarge", timedelta(minutes=60)),
        ("capacity-block", "trn2u.48xlarge", timedelta(minutes=60)),
        # Its instances run on after its end.
        ("default", "p5.48xlarge", None),
    ],
)
def test_the_instances_in_a_capacity_block_end_before_it_does(
    aws: ScriptedAws, provider: AwsProvider, kind: str, instance_type: str, margin: timedelta | None
) -> None:
    answer = _reservation("active", kind).replace("p5.48xlarge", instance_type)
    end = "<endDate>2026-12-01T11:30:00.000Z</endDate>"
    aws.answers["DescribeCapacityReservations"] = answer.replace("<state>", f"{end}<state>")
    (held,) = provider.quotas("us-east-1", reservations=["cr-1"]).reservations
    assert held.ends_at == (None if margin is None else datetime(2026, 12, 1, 11, 30, tzinfo=UTC) - margin)


def test_a_reservation_of_another_region_causes_no_note(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["ListServiceQuotas"] = _limits(L_417A185B=1536)
    # The first call lists all reservations of the account.
    aws.answers["DescribeCapacityReservations"] = [None, refusal("InvalidCapacityReservationId.NotFound")]
    found = provider.quotas("us-east-1", reservations=["cr-1"])
    assert (found.reservations, found.notes) == ((), ())


@pytest.mark.parametrize(
    ("instance_type", "purchase", "code"),
    [
        ("p5.48xlarge", "on_demand", "L-417A185B"),
        ("p4d.24xlarge", "spot", "L-7212CCBC"),
        ("p5en.48xlarge", "spot", "L-C4BD4855"),
        ("g6e.xlarge", "on_demand", "L-DB2E81BA"),
        ("trn2.48xlarge", "on_demand", "L-2C3B7624"),
        ("inf2.xlarge", "spot", "L-B5D1601B"),
        ("dl1.24xlarge", "on_demand", "L-6E869C2A"),
        ("f2.6xlarge", "on_demand", "L-74FC7D96"),
        ("c7i.large", "on_demand", "L-1216C47A"),
        ("m8g.large", "spot", "L-34B43A08"),
        ("mac2.metal", "on_demand", None),
        ("p6-b200.48xlarge", "spot", None),
    ],
)
def test_each_type_counts_against_one_quota(instance_type: str, purchase: Purchase, code: str | None) -> None:
    family = family_of(instance_type, purchase)
    assert (family.code if family else None) == code
    matching = [item for item in FAMILIES if item.purchase == purchase and item.covers(instance_type)]
    assert len(matching) == (1 if code else 0)


def _product(*prices: str, unit: str = "Hrs") -> str:
    dimensions = {str(index): {"unit": unit, "pricePerUnit": {"USD": price}} for index, price in enumerate(prices)}
    return json.dumps({"terms": {"OnDemand": {"t": {"priceDimensions": dimensions}}}})


def test_the_on_demand_price_is_that_of_the_price_list(aws: ScriptedAws, provider: AwsProvider, offer: Offer) -> None:
    aws.answers["GetProducts"] = json.dumps({"PriceList": [_product("55.0400000000")]})
    other_zone = replace(offer, zone="us-east-1b")
    found = provider.quotes([offer, other_zone])
    assert {item.hourly_cost for item in found.values()} == {55.04} and set(found) == {offer, other_zone}
    (call,) = aws.sent("GetProducts")
    asked = {item["Field"]: item["Value"] for item in call.params["Filters"]}
    assert (asked["instanceType"], asked["regionCode"], asked["operatingSystem"]) == (
        "p5.48xlarge",
        "us-east-1",
        "Linux",
    )


@pytest.mark.parametrize(
    "listed", [[], [_product("0.0000000000")], [_product("1.0"), _product("2.0")]], ids=["none", "free", "ambiguous"]
)
def test_an_ambiguous_price_is_not_returned(
    aws: ScriptedAws, provider: AwsProvider, offer: Offer, listed: list[str]
) -> None:
    aws.answers["GetProducts"] = json.dumps({"PriceList": listed})
    assert provider.quotes([offer]) == {}


def test_prices_by_other_units_are_not_hourly() -> None:
    assert hourly_prices(_product("3.0", unit="Quantity")) == []


def test_the_spot_price_is_the_newest_of_the_zone(aws: ScriptedAws, provider: AwsProvider, offer: Offer) -> None:
    entries = "".join(
        f"<item><availabilityZone>{zone}</availabilityZone><spotPrice>{price}</spotPrice><timestamp>{stamp}</timestamp></item>"
        for zone, price, stamp in (
            ("us-east-1a", "20.1", "2026-11-24T10:00:00Z"),
            ("us-east-1a", "21.5", "2026-11-24T12:00:00Z"),
            ("us-east-1b", "9.9", "2026-11-24T12:00:00Z"),
        )
    )
    aws.answers["DescribeSpotPriceHistory"] = f"<R><spotPriceHistorySet>{entries}</spotPriceHistorySet></R>"
    spot = replace(offer, purchase="spot")
    nowhere = replace(spot, zone="us-east-1f")
    found = provider.quotes([spot, nowhere])
    assert {item.zone: quote.hourly_cost for item, quote in found.items()} == {"us-east-1a": 21.5}
    assert found[spot].as_of >= date(2026, 1, 1)


def test_prices_that_may_not_be_read_are_missing(aws: ScriptedAws, provider: AwsProvider, offer: Offer) -> None:
    aws.answers["GetProducts"] = json_refusal("AccessDeniedException", "no", 403)
    aws.answers["DescribeSpotPriceHistory"] = refusal("UnauthorizedOperation", "no", 403)
    assert provider.quotes([offer, replace(offer, purchase="spot"), replace(offer, purchase="reserved")]) == {}


WHO = "<R><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/me</Arn><Account>1</Account></GetCallerIdentityResult></R>"


def test_the_doctor_shows_who_we_are_and_which_permissions_exist(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers |= {
        "GetCallerIdentity": WHO,
        "RunInstances": refusal("DryRunOperation", "Request would have succeeded", 412),
        "CreateSecurityGroup": refusal(
            "UnauthorizedOperation", "not authorized to perform: ec2:CreateSecurityGroup", 403
        ),
        "ListServiceQuotas": json_refusal("AccessDeniedException", "no", 403),
    }
    found = {check.name: check for check in provider.check()}
    assert {name: check.ok for name, check in found.items()} == {
        "identity": True,
        "regions": True,
        "subnets": True,
        "DescribeInstances": True,
        "RunInstances": True,
        "CreateSecurityGroup": False,
        "ListServiceQuotas": True,
    }
    assert "user/me" in found["identity"].detail
    assert "ec2:CreateSecurityGroup" in found["CreateSecurityGroup"].hint
    assert aws.sent("RunInstances")[0].params["DryRun"] == "true"


def test_without_an_identity_nothing_else_is_checked(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["GetCallerIdentity"] = refusal("ExpiredToken", "The security token included in the request is expired")
    (identity,) = provider.check()
    assert not identity.ok and "aws sso login" in identity.hint
    assert aws.actions == ["GetCallerIdentity"]
