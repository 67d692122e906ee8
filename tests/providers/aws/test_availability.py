"""What an account can use in a region, as the plan and the doctor get it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from multicompute import errors
from multicompute.offer import Offer
from multicompute.provider import LaunchRequest, Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client
from tests.conformance.test_aws import harness_of
from tests.providers.aws.scripted_aws import Request, ScriptedAws, refusal

SCP = "You are not authorized to perform: ec2:DescribeX with an explicit deny in a service control policy"


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud()) as cloud:
        yield cloud


@pytest.fixture(name="local")
def _local(cloud: AwsLocalCloud) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1", "us-west-2"]}, cloud.environment))


@pytest.fixture(name="h100")
def _h100(cloud: AwsLocalCloud) -> Offer:
    return harness_of(cloud, FakeClock(), page_nodes=1).offer()


@pytest.mark.parametrize("seed", [1, 2])
def test_zones_have_the_names_of_this_account_and_launches_agree_with_what_they_sell(
    cloud: AwsLocalCloud, local: AwsProvider, h100: Offer, seed: int
) -> None:
    """The packaged tables have the names of another account: us-east-1a there may sell what us-east-1a here does not."""
    cloud.draw_zone_names(seed)
    found = local.availability("us-east-1")
    assert found.zones is not None and found.offered is not None
    ec2 = aws_client("ec2", cloud.endpoint_url)
    subnets = ec2.describe_subnets()["Subnets"]
    assert dict(found.zones) == {item["AvailabilityZoneId"]: item["AvailabilityZone"] for item in subnets}
    sold = set(found.offered["p4d.24xlarge"])
    assert sold and sold < set(found.zones.values())
    a100 = replace(h100, instance=replace(h100.instance, name="p4d.24xlarge", accelerator="a100", network_cards=4))
    for number, zone in enumerate(sorted(found.zones.values())):
        request = launch_request(replace(a100, zone=zone), token=f"t-{number}")
        if zone in sold:
            assert local.launch(request)
        else:
            with pytest.raises(errors.CapacityError) as caught:
                local.launch(request)
            assert (caught.value.is_offered, caught.value.scope) == (False, "zone")


def test_zone_names_differ_between_accounts_and_zone_ids_do_not(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    before = local.availability("us-east-1").zones or {}
    cloud.draw_zone_names(1)
    after = local.availability("us-east-1").zones or {}
    assert before.keys() == after.keys() and before != after
    assert sorted(before.values()) == sorted(after.values())


def test_a_type_that_was_withdrawn_is_not_offered(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    before = local.availability("us-east-1").offered or {}
    cloud.withdraw("p5.48xlarge", "us-east-1")
    after = local.availability("us-east-1").offered or {}
    assert set(before) - set(after) == {"p5.48xlarge"}
    # Without the families of plain machines, the answer fits into one page.
    assert not any(name.startswith(("m7i.", "c7i.", "t3.")) for name in before)
    assert {"g6.xlarge", "trn1.2xlarge", "inf2.xlarge"} <= set(before)


def test_a_region_that_is_not_enabled_is_refused_and_asked_nothing(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    cloud.set_region("ap-northeast-1", "disabled")
    found = local.availability("ap-northeast-1")
    assert (found.refused, found.zones, found.offered) == ("not enabled in this account", None, None)
    assert {call.operation for call in cloud.faults.calls} == {"DescribeRegions"}


def test_the_list_of_regions_is_read_once_for_all_of_them(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    for region in ("us-east-1", "us-west-2", "eu-west-1"):
        assert local.availability(region).refused == ""
    assert cloud.faults.count("DescribeRegions") == 1
    assert cloud.faults.count("DescribeInstanceTypeOfferings") == 3


def test_a_region_that_no_list_has_is_refused(local: AwsProvider) -> None:
    assert "no such region" in local.availability("us-east-9").refused


def test_a_region_that_the_organisation_denies_is_refused(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    cloud.set_region("us-west-2", "denied")
    assert "service control policy" in local.availability("us-west-2").refused
    assert local.availability("us-east-1").refused == ""


@pytest.mark.parametrize(
    ("operation", "missing"),
    [("DescribeAvailabilityZones", "zones"), ("DescribeInstanceTypeOfferings", "offered"), ("DescribeRegions", "")],
)
def test_a_part_that_may_not_be_read_is_a_note_and_the_rest_is_there(
    cloud: AwsLocalCloud, local: AwsProvider, operation: str, missing: str
) -> None:
    cloud.faults.fail(operation, "UnauthorizedOperation", status=403, times=None)
    found = local.availability("us-east-1")
    assert [name for name in ("zones", "offered") if getattr(found, name) is None] == [missing][: bool(missing)]
    assert found.refused == "" and len(found.notes) == 1
    assert operation in found.notes[0]


def test_a_policy_that_denies_one_of_the_calls_does_not_refuse_the_region(
    cloud: AwsLocalCloud, local: AwsProvider
) -> None:
    cloud.faults.fail("DescribeInstanceTypeOfferings", "UnauthorizedOperation", message=SCP, status=403)
    found = local.availability("us-east-1")
    assert found.refused == "" and found.zones and found.offered is None


def test_wrong_credentials_are_an_error_and_no_note(cloud: AwsLocalCloud, local: AwsProvider) -> None:
    cloud.revoke_key(cloud.environment["AWS_ACCESS_KEY_ID"])
    with pytest.raises(errors.AuthError) as caught:
        local.availability("us-west-2")
    assert caught.value.scope == "account"


# --- the calls themselves ---------------------------------------------------------------------------------------------


def _offerings(*items: tuple[str, str], more: str = "") -> str:
    rows = "".join(
        f"<item><instanceType>{name}</instanceType><locationType>availability-zone</locationType><location>{zone}</location></item>"
        for name, zone in items
    )
    token = f"<nextToken>{more}</nextToken>" if more else ""
    return f"<R><instanceTypeOfferingSet>{rows}</instanceTypeOfferingSet>{token}</R>"


ZONES = (
    "<R><availabilityZoneInfo>"
    "<item><zoneName>us-east-1a</zoneName><zoneId>use1-az4</zoneId><zoneType>availability-zone</zoneType><zoneState>available</zoneState></item>"
    "<item><zoneName>us-east-1b</zoneName><zoneId>use1-az1</zoneId><zoneType>availability-zone</zoneType><zoneState>unavailable</zoneState></item>"
    "<item><zoneName>us-east-1-atl-1a</zoneName><zoneId>use1-atl1-az1</zoneId><zoneType>local-zone</zoneType></item>"
    "</availabilityZoneInfo></R>"
)


def test_every_page_is_read_and_only_availability_zones_count(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeAvailabilityZones"] = ZONES
    aws.answers["DescribeInstanceTypeOfferings"] = [
        _offerings(("p5.48xlarge", "us-east-1b"), ("p5.48xlarge", "us-east-1a"), more="next"),
        _offerings(("g6.xlarge", "us-east-1-atl-1a"), ("g5.xlarge", "us-east-1a")),
    ]
    found = provider.availability("us-east-1")
    assert found.zones == {"use1-az4": "us-east-1a"}
    assert found.offered == {"g5.xlarge": ("us-east-1a",), "g6.xlarge": (), "p5.48xlarge": ("us-east-1a",)}
    first, second = aws.sent("DescribeInstanceTypeOfferings")
    assert (first.params["LocationType"], first.params["MaxResults"]) == ("availability-zone", "1000")
    assert set(first.under("Filter.1.Value.").values()) == {"p*", "g*", "trn*", "inf*", "dl*", "f*", "vt*"}
    assert second.params["NextToken"] == "next"


def test_an_answer_without_any_type_is_checked_without_the_filter(aws: ScriptedAws, provider: AwsProvider) -> None:
    def answer(request: Request) -> str:
        return (
            _offerings()
            if request.under("Filter.")
            else _offerings(("g5.xlarge", "us-east-1a"), ("m5.large", "us-east-1a"))
        )

    aws.answers |= {"DescribeAvailabilityZones": ZONES, "DescribeInstanceTypeOfferings": answer}
    assert provider.availability("us-east-1").offered == {"g5.xlarge": ("us-east-1a",)}


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
def test_a_call_that_fails_leaves_its_part_unknown(aws: ScriptedAws, provider: AwsProvider, code: str) -> None:
    aws.answers |= {
        "DescribeAvailabilityZones": refusal(code, "no", 503),
        "DescribeInstanceTypeOfferings": refusal(code),
    }
    found = provider.availability("us-east-1")
    assert (found.refused, found.zones, found.offered, len(found.notes)) == ("", None, None, 2)


Requests = Callable[..., LaunchRequest]


def test_of_a_vpc_subnets_on_an_outpost_or_without_ipv4_are_not_used(aws: ScriptedAws, request_of: Requests) -> None:
    def subnet(name: str, extra: str = "") -> str:
        return (
            f"<item><subnetId>subnet-{name}</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-east-1a</availabilityZone>"
            f"<availableIpAddressCount>90</availableIpAddressCount><mapPublicIpOnLaunch>true</mapPublicIpOnLaunch>{extra}</item>"
        )

    outpost = "<outpostArn>arn:aws:outposts:us-east-1:1:outpost/op-1</outpostArn>"
    listed = subnet("1", outpost) + subnet("2", "<ipv6Native>true</ipv6Native>") + subnet("3")
    aws.answers["DescribeSubnets"] = f"<R><subnetSet>{listed}</subnetSet></R>"
    used: list[Any] = []
    for values in ({"vpc": "vpc-1"}, {"subnets": ["subnet-1"]}):
        AwsProvider(Settings(values, aws.environment)).launch(request_of(token=json.dumps(values)[:20]))
        used.append(aws.sent("RunInstances")[-1].params["NetworkInterface.1.SubnetId"])
    assert used == ["subnet-3", "subnet-1"]
