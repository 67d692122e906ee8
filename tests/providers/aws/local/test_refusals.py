"""The local EC2 refuses what EC2 refuses: with the same code, and before anything is created."""

import base64
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

import pytest

from multicompute_aws.local import AwsLocalCloud

Refused = Callable[..., tuple[str, int, str]]
Run = Callable[..., list[str]]


def tags(number: int, kind: str = "instance", key: str = "k{}", value: str = "v") -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": key.format(n), "Value": value} for n in range(number)]}]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "ubuntu"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "p9.huge"}, "InvalidParameterValue"),
        ({"InstanceType": "g5g.xlarge"}, "InvalidParameterValue"),
        ({"MinCount": 0}, "InvalidParameterValue"),
        ({"MinCount": 3, "MaxCount": 2}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"KeyName": "nobodys"}, "InvalidKeyPair.NotFound"),
        ({"IamInstanceProfile": {"Name": "nobodys"}}, "InvalidParameterValue"),
        ({"Placement": {"AvailabilityZone": "us-east-1z"}}, "InvalidParameterValue"),
        ({"Placement": {"GroupName": "nobodys"}}, "InvalidPlacementGroup.Unknown"),
        ({"ClientToken": "t" * 65}, "InvalidParameterValue"),
        ({"UserData": "x" * 16385}, "InvalidParameterValue"),
        ({"TagSpecifications": tags(51)}, "TagLimitExceeded"),
        ({"TagSpecifications": tags(2, key="same")}, "InvalidParameterValue"),
        ({"TagSpecifications": tags(1, key="aws:mine")}, "InvalidParameterValue"),
        ({"TagSpecifications": tags(1, key="k" * 129)}, "InvalidParameterValue"),
        ({"TagSpecifications": tags(1, value="v" * 257)}, "InvalidParameterValue"),
        ({"TagSpecifications": tags(1, kind="spot-instances-request")}, "InvalidParameterValue"),
        ({"InstanceMarketOptions": {"MarketType": "capacity-block"}}, "InvalidParameterCombination"),
        (
            {
                "CapacityReservationSpecification": {
                    "CapacityReservationTarget": {"CapacityReservationId": "cr-0123456789abcdef0"}
                }
            },
            "InvalidCapacityReservationId.NotFound",
        ),
        (
            {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 1}}]},
            "InvalidBlockDeviceMapping",
        ),
        ({"MetadataOptions": {"HttpTokens": "perhaps"}}, "InvalidParameterValue"),
    ],
)
def test_a_launch_that_ec2_would_refuse_is_refused_and_creates_nothing(
    cloud: AwsLocalCloud, run: Run, refused: Refused, changes: dict[str, Any], code: str
) -> None:
    assert refused(run, **changes)[:2] == (code, 400)
    assert cloud.alive() == []


def test_a_type_that_the_zone_does_not_sell_is_unsupported_and_the_zones_that_do_are_named(
    run: Run, refused: Refused, cloud: AwsLocalCloud
) -> None:
    code, status, message = refused(run, InstanceType="p4d.24xlarge", Placement={"AvailabilityZone": "us-east-1e"})
    assert (code, status) == ("Unsupported", 400)
    assert "is not supported in your requested Availability Zone (us-east-1e)" in message
    assert "us-east-1b" in message
    with pytest.raises(ValueError, match="not offered"):
        cloud.set_capacity("p4d.24xlarge", "us-east-1e", 3)


def test_user_data_at_the_limit_is_accepted(cloud: AwsLocalCloud, run: Run) -> None:
    ids = run(1, UserData="x" * 16384)
    assert base64.b64decode(cloud.boot_script(ids[0])) == b"x" * 16384


def test_subnets_and_zone_of_a_launch_must_agree(run: Run, refused: Refused, subnet_in: Callable[[str], str]) -> None:
    there = {"Placement": {"AvailabilityZone": "us-east-1b"}}
    assert refused(run, SubnetId=subnet_in("us-east-1a"), **there)[0] == "InvalidParameterValue"


def test_a_group_of_another_network_is_refused(
    ec2: Any, run: Run, refused: Refused, subnet_in: Callable[[str], str]
) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="there", Description="there", VpcId=vpc)["GroupId"]
    assert refused(run, SecurityGroupIds=[group], SubnetId=subnet_in("us-east-1a"))[0] == "InvalidParameter"


def test_an_unknown_action_is_refused_like_in_ec2(ec2: Any, refused: Refused) -> None:
    assert refused(ec2.get_spot_placement_scores, TargetCapacity=1)[:2] == ("InvalidAction", 400)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("Action=RunGadgets", "InvalidAction"),
        ("Action=RunInstances&MinCount=1&MaxCount=1&Color=red", "UnknownParameter"),
        ("Action=RunInstances&MinCount=one&MaxCount=1", "InvalidParameterValue"),
        ("Action=RunInstances&MinCount=1", "MissingParameter"),
        ("Action=RunInstances&MinCount=1&MaxCount=1", "MissingParameter"),
        ("Action=RunInstances&MinCount=1&MaxCount=1&MinCount.1=2", "InvalidParameterValue"),
        ("Action=DescribeInstances&InstanceId=i-1", "InvalidParameterValue"),
        ("Action=TerminateInstances&InstanceId.1=x-1", "InvalidInstanceID.Malformed"),
    ],
)
def test_a_request_that_the_sdk_would_never_send_is_refused_in_xml(cloud: AwsLocalCloud, form: str, code: str) -> None:
    scope = "AWS4-HMAC-SHA256 Credential=AK/20270101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"Authorization": scope, "Content-Type": "application/x-www-form-urlencoded"}
    request = urllib.request.Request(cloud.endpoint_url, form.encode(), headers)
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert answer.code == 400
        assert f"<Code>{code}</Code>" in answer.read().decode()


def test_an_unknown_region_is_refused(client: Any, refused: Refused) -> None:
    assert refused(client("ec2", "mars-north-1").describe_instances)[0] == "AuthFailure"


def test_a_full_subnet_in_motos_store_is_refused_like_in_ec2(
    ec2: Any, cloud: AwsLocalCloud, run: Run, refused: Refused
) -> None:
    if cloud.store == "own":
        # The own store has addresses for ten thousand instances in a zone, more than a default subnet.
        assert len(run(12, SubnetId=_small_subnet(ec2))) == 12
    else:
        assert refused(run, count=12, SubnetId=_small_subnet(ec2))[:2] == ("InsufficientFreeAddressesInSubnet", 400)


def _small_subnet(ec2: Any) -> str:
    """Return a subnet of 16 addresses, of which AWS reserves five."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/28", AvailabilityZone="us-east-1a")["Subnet"]
    identifier: str = subnet["SubnetId"]
    return identifier
