"""The own store only: 32 network cards, thousands of instances in pages, and EC2's limits on listings."""

import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from multicompute_aws.local import AwsLocalCloud

Refused = Callable[..., tuple[str, int, str]]
Run = Callable[..., list[str]]


def efa(subnet: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    primary = {"NetworkCardIndex": 0, "DeviceIndex": 0, "SubnetId": subnet, "InterfaceType": "efa"}
    others = [
        {"NetworkCardIndex": card, "DeviceIndex": 1, "SubnetId": subnet, "InterfaceType": "efa-only", **changes}
        for card in range(1, count)
    ]
    return [primary, *others]


@pytest.fixture
def subnet(own_ec2: Any) -> str:
    filters = [{"Name": "availability-zone", "Values": ["us-east-1a"]}]
    found: str = own_ec2.describe_subnets(Filters=filters)["Subnets"][0]["SubnetId"]
    return found


def test_a_p5_gets_an_interface_on_each_of_its_32_network_cards(
    own_ec2: Any, own_run: Run, own_cloud: AwsLocalCloud, subnet: str
) -> None:
    ids = own_run(2, InstanceType="p5.48xlarge", NetworkInterfaces=efa(subnet, 32))
    described = own_ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"]
    for item in described:
        cards = [nic["Attachment"]["NetworkCardIndex"] for nic in item["NetworkInterfaces"]]
        assert cards == list(range(32))
        assert [nic.get("PrivateIpAddress") for nic in item["NetworkInterfaces"][1:]] == [None] * 31
    every = [nic for item in described for nic in item["NetworkInterfaces"]]
    for field in ("NetworkInterfaceId", "MacAddress"):
        assert len({nic[field] for nic in every}) == 64
    assert (
        own_ec2.describe_network_interfaces(NetworkInterfaceIds=[every[5]["NetworkInterfaceId"]])["NetworkInterfaces"][
            0
        ]["Attachment"]["InstanceId"]
        == ids[0]
    )
    assert all("PublicIpAddress" not in item for item in described)


@pytest.mark.parametrize(
    ("instance_type", "count", "changes", "code"),
    [
        ("p5.48xlarge", 33, {}, "InvalidParameterValue"),
        ("g6.xlarge", 2, {}, "InvalidParameterValue"),
        ("g6.xlarge", 1, {}, "Unsupported"),
        ("p5.48xlarge", 3, {"NetworkCardIndex": 1}, "InvalidParameterValue"),
        ("p5.48xlarge", 4, {"DeviceIndex": 0, "NetworkCardIndex": 0}, "InvalidParameterValue"),
        ("p5.48xlarge", 2, {"InterfaceType": "branch"}, "InvalidParameterValue"),
        ("p5.48xlarge", 2, {"AssociatePublicIpAddress": True}, "InvalidParameterCombination"),
        ("p5.48xlarge", 2, {"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ("p5.48xlarge", 2, {"Groups": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
    ],
)
def test_interfaces_that_the_hardware_does_not_support_are_refused(
    own_run: Run,
    own_cloud: AwsLocalCloud,
    subnet: str,
    refused: Refused,
    instance_type: str,
    count: int,
    changes: dict[str, Any],
    code: str,
) -> None:
    nics = efa(subnet, count, **changes)
    assert refused(own_run, InstanceType=instance_type, NetworkInterfaces=nics)[:2] == (code, 400)
    assert own_cloud.alive() == []


def test_thousands_of_instances_are_listed_in_pages_without_gap_or_repetition(own_ec2: Any, own_run: Run) -> None:
    ids = own_run(700) + own_run(800)
    sizes, found = [], []
    for page in own_ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 400}):
        items = [item["InstanceId"] for reservation in page["Reservations"] for item in reservation["Instances"]]
        sizes.append(len(items))
        found += items
    assert sizes == [400, 400, 400, 300]
    assert found == ids


def _bare(url: str, **form: str) -> bytes:
    """Return a response without the SDK, which takes ten times as long to parse it as the local cloud to write it."""
    scope = "AWS4-HMAC-SHA256 Credential=AK/20270101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"Authorization": scope, "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"Version": "2016-11-15", **form}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        content: bytes = answer.read()
    return content


def test_ten_thousand_instances_are_created_and_listed_in_seconds(own_cloud: AwsLocalCloud, own_image: str) -> None:
    url = own_cloud.endpoint_url
    start = time.perf_counter()
    launch = {"ImageId": own_image, "InstanceType": "g6.xlarge", "MinCount": "1000", "MaxCount": "1000"}
    for _ in range(10):
        _bare(url, Action="RunInstances", **launch)
    listed = _bare(url, Action="DescribeInstances")
    took = time.perf_counter() - start
    assert listed.count(b"<amiLaunchIndex>") == len(own_cloud.running_ids()) == 10_000
    # 2 s on an idle machine.
    assert took < 20


def test_listings_have_the_limits_of_ec2(own_ec2: Any, own_run: Run, refused: Refused) -> None:
    ids = own_run(101)
    describe = own_ec2.describe_instances
    assert refused(describe, InstanceIds=ids, MaxResults=5)[0] == "InvalidParameterCombination"
    assert refused(describe, MaxResults=4)[0] == "InvalidParameterValue"
    many = [{"Name": "instance-id", "Values": [f"i-{number}" for number in range(201)]}]
    assert refused(describe, Filters=many)[0] == "FilterLimitExceeded"
    nonsense = [{"Name": "color", "Values": ["red"]}]
    assert refused(describe, Filters=nonsense)[0] == "InvalidParameterValue"
    assert refused(own_ec2.describe_instance_status, InstanceIds=ids)[0] == "InvalidParameterValue"


def test_a_stopped_instance_starts_again_and_a_one_time_spot_instance_cannot_be_stopped(
    own_ec2: Any, own_run: Run, refused: Refused
) -> None:
    ids = own_run(1)
    own_ec2.stop_instances(InstanceIds=ids)
    assert _state(own_ec2, ids[0]) == "stopped"
    own_ec2.start_instances(InstanceIds=ids)
    assert _state(own_ec2, ids[0]) == "running"
    spot = own_run(1, InstanceMarketOptions={"MarketType": "spot"})
    assert refused(own_ec2.stop_instances, InstanceIds=spot)[0] == "UnsupportedOperation"
    own_ec2.terminate_instances(InstanceIds=ids)
    assert refused(own_ec2.start_instances, InstanceIds=ids)[0] == "IncorrectInstanceState"


def _state(ec2: Any, identifier: str) -> str:
    answer = ec2.describe_instances(InstanceIds=[identifier])
    state: str = answer["Reservations"][0]["Instances"][0]["State"]["Name"]
    return state


def test_attributes_are_kept_and_protection_can_be_lifted(own_ec2: Any, own_run: Run, own_cloud: AwsLocalCloud) -> None:
    ids = own_run(1, UserData="#!/bin/sh\n", DisableApiTermination=True, InstanceInitiatedShutdownBehavior="terminate")
    answer = own_ec2.describe_instance_attribute(InstanceId=ids[0], Attribute="userData")
    assert answer["UserData"]["Value"] == own_cloud.boot_script(ids[0])
    behaviour = own_ec2.describe_instance_attribute(InstanceId=ids[0], Attribute="instanceInitiatedShutdownBehavior")
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    own_ec2.modify_instance_attribute(InstanceId=ids[0], DisableApiTermination={"Value": False})
    own_ec2.terminate_instances(InstanceIds=ids)
    assert own_cloud.alive() == []


def test_interfaces_in_the_own_store_and_in_moto_are_in_one_listing(own_ec2: Any, own_run: Run, subnet: str) -> None:
    own_run(1)
    alone = own_ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    listed = own_ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert len(listed) == 2 and alone in {nic["NetworkInterfaceId"] for nic in listed}
    own_ec2.delete_network_interface(NetworkInterfaceId=alone)
    assert len(own_ec2.describe_network_interfaces()["NetworkInterfaces"]) == 1


def test_text_of_users_is_escaped_and_returned_unchanged(own_ec2: Any, own_run: Run) -> None:
    value = "<b>&\"'{id} \u00e4\u4e16"
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "note", "Value": value}]}]
    ids = own_run(1, TagSpecifications=tags)
    answer = own_ec2.describe_instances(InstanceIds=ids)
    assert answer["Reservations"][0]["Instances"][0]["Tags"] == [{"Key": "note", "Value": value}]
