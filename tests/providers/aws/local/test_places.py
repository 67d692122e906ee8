"""The local AWS has regions, zones, offerings and VPCs as accounts have them, and refuses what the service models lack."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from multicompute_aws.local import AwsLocalCloud
from multicompute_aws.local.images import IMAGE_PARAMETERS
from multicompute_aws.local.json_requests import check_parameters
from multicompute_aws.local.wire import AwsError, parse_request

Client = Callable[..., Any]
Refused = Callable[..., tuple[str, int, str]]


def test_zone_ids_stay_and_zone_names_follow_the_account(own_cloud: AwsLocalCloud, own_ec2: Any) -> None:
    own_cloud.draw_zone_names(7)
    zones = own_ec2.describe_availability_zones()["AvailabilityZones"]
    ids = {zone["ZoneName"]: zone["ZoneId"] for zone in zones}
    assert len(set(ids.values())) == len(ids) == 6
    by_id = own_ec2.describe_instance_type_offerings(
        LocationType="availability-zone-id", Filters=[{"Name": "instance-type", "Values": ["p5en.48xlarge"]}]
    )["InstanceTypeOfferings"]
    by_name = own_ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["p5en*"]}]
    )["InstanceTypeOfferings"]
    assert {item["Location"] for item in by_id} == {ids[item["Location"]] for item in by_name}
    # The same zones as in moto's listings, where they are us-east-1a and us-east-1c.
    assert {item["Location"] for item in by_id} == {"use1-az6", "use1-az2"}
    prices = own_ec2.describe_spot_price_history(InstanceTypes=["p5en.48xlarge"], ProductDescriptions=["Linux/UNIX"])
    assert {item["AvailabilityZone"] for item in prices["SpotPriceHistory"]} == {item["Location"] for item in by_name}


def test_zones_can_be_filtered_by_name_and_by_id(own_ec2: Any, refused: Refused) -> None:
    def names(**params: Any) -> list[str]:
        return [zone["ZoneName"] for zone in own_ec2.describe_availability_zones(**params)["AvailabilityZones"]]

    assert names(ZoneIds=["use1-az6"]) == names(ZoneNames=["us-east-1a"]) == ["us-east-1a"]
    assert names(Filters=[{"Name": "zone-id", "Values": ["use1-az1"]}]) == ["us-east-1b"]
    assert names(Filters=[{"Name": "zone-type", "Values": ["local-zone"]}]) == []
    code, _, message = refused(own_ec2.describe_availability_zones, ZoneNames=["us-east-1z"])
    assert code == "InvalidParameterValue" and "us-east-1z" in message


def test_offerings_come_in_pages(own_ec2: Any) -> None:
    params = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": ["p*"]}]}
    every = own_ec2.describe_instance_type_offerings(**params)["InstanceTypeOfferings"]
    pages = own_ec2.get_paginator("describe_instance_type_offerings").paginate(
        **params, PaginationConfig={"PageSize": 7}
    )
    counts = [page["InstanceTypeOfferings"] for page in pages]
    assert [item for page in counts for item in page] == every
    assert len(counts) == -(-len(every) // 7)
    by_region = own_ec2.describe_instance_type_offerings(Filters=params["Filters"])["InstanceTypeOfferings"]
    assert {item["Location"] for item in by_region} == {"us-east-1"}


def test_a_type_that_is_withdrawn_from_a_zone_is_sold_in_the_others(
    own_cloud: AwsLocalCloud, own_ec2: Any, own_run: Any, refused: Refused
) -> None:
    own_cloud.withdraw("g6.xlarge", "us-east-1a")
    found = own_ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["g6.xlarge"]}]
    )
    zones = {item["Location"] for item in found["InstanceTypeOfferings"]}
    assert zones and "us-east-1a" not in zones
    code, _, message = refused(own_run, Placement={"AvailabilityZone": "us-east-1a"})
    assert code == "Unsupported" and "requested Availability Zone (us-east-1a)" in message
    own_cloud.withdraw("g6.xlarge", "us-east-1")
    code, _, message = refused(own_run)
    assert (code, message) == (
        "Unsupported",
        "The requested configuration is currently not supported. Please check the documentation for supported configurations.",
    )
    assert refused(own_ec2.describe_instance_types, InstanceTypes=["g6.xlarge"]) == (
        "InvalidInstanceType",
        400,
        "The following supplied instance types do not exist: [g6.xlarge]",
    )


def test_an_unverified_region_can_be_listed_and_not_launched_in(
    cloud: AwsLocalCloud, ec2: Any, run: Any, refused: Refused
) -> None:
    cloud.set_region("us-east-1", "unverified")
    code, status, message = refused(run)
    assert (code, status) == ("PendingVerification", 400) and "in this region is being validated" in message
    assert ec2.describe_instances()["Reservations"] == []


def test_without_a_default_vpc_a_launch_and_a_group_must_name_one(
    cloud: AwsLocalCloud, ec2: Any, run: Any, refused: Refused
) -> None:
    cloud.delete_default_vpcs()
    assert ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"] == []
    assert ec2.describe_vpcs()["Vpcs"] == []
    assert refused(run)[0] == "VPCIdNotSpecified"
    group = {"GroupName": "one", "Description": "one"}
    assert refused(ec2.create_security_group, **group)[0] == "VPCIdNotSpecified"
    # EC2 looks for the VPC before it answers a dry run.
    assert refused(ec2.create_security_group, **group, DryRun=True)[0] == "VPCIdNotSpecified"
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    assert refused(ec2.create_security_group, **group, VpcId=vpc, DryRun=True)[0] == "DryRunOperation"
    assert ec2.create_security_group(**group, VpcId=vpc)["GroupId"].startswith("sg-")


def test_a_new_group_is_found_after_the_lag_and_its_name_is_taken_at_once(
    cloud: AwsLocalCloud, ec2: Any, refused: Refused
) -> None:
    cloud.group_lag = timedelta(minutes=1)
    group = ec2.create_security_group(GroupName="late", Description="late")["GroupId"]
    ec2.create_placement_group(GroupName="late", Strategy="cluster")
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    assert (
        refused(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=rule)[0] == "InvalidGroup.NotFound"
    )
    assert refused(ec2.describe_placement_groups, GroupNames=["late"])[0] == "InvalidPlacementGroup.Unknown"
    named = [{"Name": "group-name", "Values": ["late"]}]
    assert ec2.describe_security_groups(Filters=named)["SecurityGroups"] == []
    assert refused(ec2.create_security_group, GroupName="late", Description="x")[0] == "InvalidGroup.Duplicate"
    assert refused(ec2.create_placement_group, GroupName="late", Strategy="cluster")[0].endswith(".Duplicate")
    assert {item.kind for item in cloud.alive()} == {"security-group", "placement-group"}


@pytest.mark.parametrize(
    "name",
    [
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-26.04/latest/ami-id",
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/image_id",
        "/aws/service/neuron/dlami/base/ubuntu-20.04/latest/image_id",
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp2/ami-id",
    ],
)
def test_a_name_that_no_list_of_images_has_is_not_found(own_cloud: AwsLocalCloud, client_of: Any, name: str) -> None:
    assert name not in IMAGE_PARAMETERS
    with pytest.raises(ClientError, match="ParameterNotFound"):
        client_of(own_cloud)("ssm").get_parameter(Name=name)


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("DescribeInstanceTypeOfferings", {"LocationType": "planet"}),
        ("DescribeInstanceTypeOfferings", {"MaxResults": "1001"}),
        ("DescribeInstanceTypeOfferings", {"MaxResults": "4"}),
        ("DescribeRegions", {"Everything": "true"}),
        ("RunInstances", {"MinCount": "1", "MaxCount": "1", "MetadataOptions.HttpTokens": "always"}),
        ("RunInstances", {"MaxCount": "1"}),
        ("CreatePlacementGroup", {"Strategy": "near"}),
    ],
)
def test_ec2_refuses_what_its_model_lacks(action: str, form: dict[str, str]) -> None:
    with pytest.raises(AwsError) as caught:
        parse_request(action, form)
    assert caught.value.code in ("InvalidParameterValue", "UnknownParameter", "MissingParameter")


@pytest.mark.parametrize(
    ("service", "action", "params"),
    [
        ("ssm", "GetParameter", {}),
        ("ssm", "GetParameter", {"Name": "x", "Region": "us-east-1"}),
        ("servicequotas", "ListServiceQuotas", {"ServiceCode": "ec2", "MaxResults": 0}),
        ("servicequotas", "ListServiceQuotas", {"ServiceCode": 7}),
        (
            "pricing",
            "GetProducts",
            {"ServiceCode": "AmazonEC2", "Filters": [{"Type": "LIKE", "Field": "a", "Value": "b"}]},
        ),
        ("pricing", "GetProducts", {"ServiceCode": "AmazonEC2", "Filters": [{"Type": "TERM_MATCH", "Field": "a"}]}),
    ],
)
def test_the_services_with_json_refuse_what_their_models_lack(
    service: str, action: str, params: dict[str, Any]
) -> None:
    with pytest.raises(AwsError):
        check_parameters(service, action, params)
