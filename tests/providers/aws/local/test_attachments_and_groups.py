"""Groups, reservations, quotas, images, prices and tags of the local AWS."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_aws.local import AwsLocalCloud

Refused = Callable[..., tuple[str, int, str]]
Run = Callable[..., list[str]]
TAGS = [{"Key": "multicompute-id", "Value": "c-1"}]


def test_a_placement_group_is_tagged_at_its_creation_and_in_use_while_it_has_members(
    cloud: AwsLocalCloud, ec2: Any, run: Run, refused: Refused
) -> None:
    tagged = [{"ResourceType": "placement-group", "Tags": TAGS}]
    ec2.create_placement_group(GroupName="pg", Strategy="cluster", TagSpecifications=tagged)
    assert refused(ec2.create_placement_group, GroupName="pg")[0] == "InvalidPlacementGroup.Duplicate"
    [group] = ec2.describe_placement_groups(Filters=[{"Name": "tag:multicompute-id", "Values": ["c-1"]}])[
        "PlacementGroups"
    ]
    assert (group["GroupName"], group["Strategy"], group["Tags"]) == ("pg", "cluster", TAGS)
    ids = run(2, InstanceType="p5.48xlarge", Placement={"GroupName": "pg"})
    described = ec2.describe_instances(Filters=[{"Name": "placement-group-name", "Values": ["pg"]}])
    assert len(described["Reservations"][0]["Instances"]) == 2
    assert refused(ec2.delete_placement_group, GroupName="pg")[0] == "InvalidPlacementGroup.InUse"
    ec2.terminate_instances(InstanceIds=ids)
    ec2.delete_placement_group(GroupName="pg")
    assert refused(ec2.delete_placement_group, GroupName="pg")[0] == "InvalidPlacementGroup.Unknown"
    assert refused(ec2.describe_placement_groups, GroupNames=["pg"])[0] == "InvalidPlacementGroup.Unknown"
    assert cloud.alive() == []


def test_a_cluster_placement_group_has_one_zone_and_only_types_that_support_it(
    ec2: Any, run: Run, refused: Refused
) -> None:
    ec2.create_placement_group(GroupName="pg", Strategy="cluster")
    run(1, InstanceType="p5.48xlarge", Placement={"GroupName": "pg", "AvailabilityZone": "us-east-1a"})
    elsewhere = {"GroupName": "pg", "AvailabilityZone": "us-east-1b"}
    assert refused(run, InstanceType="p5.48xlarge", Placement=elsewhere)[0] == "InvalidParameterValue"
    assert refused(run, InstanceType="t3.micro", Placement={"GroupName": "pg"})[0] == "InvalidParameterValue"


def test_a_security_group_cannot_be_deleted_before_its_instances(
    cloud: AwsLocalCloud, ec2: Any, run: Run, refused: Refused
) -> None:
    group = ec2.create_security_group(GroupName="sg", Description="d")["GroupId"]
    ids = run(1, SecurityGroupIds=[group])
    assert refused(ec2.delete_security_group, GroupId=group)[:2] == ("DependencyViolation", 400)
    ec2.terminate_instances(InstanceIds=ids)
    ec2.delete_security_group(GroupId=group)
    assert refused(ec2.delete_security_group, GroupId=group)[0] == "InvalidGroup.NotFound"
    assert cloud.alive() == []


def test_groups_stay_in_use_while_instances_shut_down(client_of: Any, refused: Refused) -> None:
    clock = FakeClock()
    cloud = AwsLocalCloud(clock=clock)
    cloud.shutdown_delay = timedelta(seconds=30)
    cloud.start()
    try:
        cloud.seed_foreign()
        ec2 = client_of(cloud)("ec2")
        group = ec2.create_security_group(GroupName="sg", Description="d")["GroupId"]
        image = ec2.describe_instances()["Reservations"][0]["Instances"][0]["ImageId"]
        request = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        made = ec2.run_instances(SecurityGroupIds=[group], **request)["Instances"][0]["InstanceId"]
        ec2.terminate_instances(InstanceIds=[made])
        assert refused(ec2.delete_security_group, GroupId=group)[0] == "DependencyViolation"
        clock.advance("30s")
        ec2.delete_security_group(GroupId=group)
        assert cloud.alive() == []
    finally:
        cloud.stop()


def target(reservation: str) -> dict[str, Any]:
    return {"CapacityReservationTarget": {"CapacityReservationId": reservation}}


def test_a_reservation_has_capacity_of_its_own_until_it_is_full(
    cloud: AwsLocalCloud, ec2: Any, run: Run, refused: Refused
) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    held = cloud.add_reservation("p5.48xlarge", "us-east-1a", 2)
    spec = {"InstanceType": "p5.48xlarge", "CapacityReservationSpecification": target(held)}
    ids = run(1, **spec)
    [described] = ec2.describe_capacity_reservations(CapacityReservationIds=[held])["CapacityReservations"]
    assert (described["TotalInstanceCount"], described["AvailableInstanceCount"]) == (2, 1)
    assert (described["State"], described["ReservationType"]) == ("active", "default")
    assert refused(run, count=2, **spec)[:2] == ("ReservationCapacityExceeded", 400)
    ec2.terminate_instances(InstanceIds=ids)
    assert len(run(2, **spec)) == 2


def test_a_capacity_block_needs_its_market_type_and_does_not_count_against_the_quota(
    cloud: AwsLocalCloud, ec2: Any, run: Run, refused: Refused
) -> None:
    cloud.set_quota("L-417A185B", "us-east-1", 0)
    block = cloud.add_reservation("p5.48xlarge", "us-east-1a", 2, is_block=True)
    spec = {"InstanceType": "p5.48xlarge", "CapacityReservationSpecification": target(block)}
    assert refused(run, **spec)[0] == "InvalidParameterCombination"
    [identifier] = run(1, InstanceMarketOptions={"MarketType": "capacity-block"}, **spec)
    described = ec2.describe_instances(InstanceIds=[identifier])["Reservations"][0]["Instances"][0]
    assert (described["InstanceLifecycle"], described["CapacityReservationId"]) == ("capacity-block", block)


def test_a_reservation_of_another_type_or_zone_is_refused(cloud: AwsLocalCloud, run: Run, refused: Refused) -> None:
    held = cloud.add_reservation("p5.48xlarge", "us-east-1a", 2)
    spec = {"CapacityReservationSpecification": target(held)}
    assert refused(run, InstanceType="g6.xlarge", **spec)[0] == "InvalidParameterValue"
    there = {"Placement": {"AvailabilityZone": "us-east-1b"}}
    assert refused(run, InstanceType="p5.48xlarge", **spec, **there)[0] == "InvalidParameterValue"


def test_more_vcpus_than_the_quota_are_refused_separately_for_on_demand_and_spot(
    cloud: AwsLocalCloud, client: Any, run: Run, refused: Refused
) -> None:
    cloud.set_quota("Running On-Demand P instances", "us-east-1", 400)
    cloud.set_quota("L-C4BD4855", "us-east-1", 192)
    quotas = client("service-quotas")
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")["Quota"]["Value"] == 400
    run(2, InstanceType="p5.48xlarge")
    code, status, message = refused(run, InstanceType="p5.48xlarge")
    assert (code, status) == ("VcpuLimitExceeded", 400)
    assert "current vCPU limit of 400" in message
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}, "InstanceType": "p5.48xlarge"}
    run(1, **spot)
    assert refused(run, **spot)[0] == "MaxSpotInstanceCountExceeded"
    run(1, InstanceType="g6.xlarge")


def test_quotas_are_listed_in_pages_and_an_unknown_one_is_not_found(
    client: Any, cloud: AwsLocalCloud, refused: Refused
) -> None:
    quotas = client("service-quotas")
    pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="ec2", PaginationConfig={"PageSize": 4})
    codes = [quota["QuotaCode"] for page in pages for quota in page["Quotas"]]
    assert len(codes) == len(set(codes)) == 16
    assert refused(quotas.get_service_quota, ServiceCode="ec2", QuotaCode="L-0")[0] == "NoSuchResourceException"
    with pytest.raises(ValueError, match="L-417A185B"):
        cloud.set_quota("L-0", "us-east-1", 1)


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id", "x86_64"),
        ("/aws/service/deeplearning/ami/arm64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id", "arm64"),
        ("/aws/service/neuron/dlami/base/ubuntu-24.04/latest/image_id", "x86_64"),
        ("/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id", "arm64"),
    ],
)
def test_the_public_image_parameters_name_images_that_exist_in_their_region_only(
    client: Any, refused: Refused, name: str, arch: str
) -> None:
    image = client("ssm", "eu-central-1").get_parameter(Name=name)["Parameter"]["Value"]
    [described] = client("ec2", "eu-central-1").describe_images(ImageIds=[image])["Images"]
    assert (described["Architecture"], described["State"]) == (arch, "available")
    assert described["BlockDeviceMappings"][0]["DeviceName"] == described["RootDeviceName"]
    assert refused(client("ec2", "us-east-1").describe_images, ImageIds=[image])[0] == "InvalidAMIID.NotFound"
    both = client("ssm", "eu-central-1").get_parameters(Names=[name, "/no/such"])
    assert ([item["Value"] for item in both["Parameters"]], both["InvalidParameters"]) == ([image], ["/no/such"])


def test_other_parameters_are_unknown_or_answered_by_moto(client: Any, refused: Refused) -> None:
    ssm = client("ssm")
    assert refused(ssm.get_parameter, Name="/aws/service/deeplearning/ami/x86_64")[0] == "ParameterNotFound"
    ssm.put_parameter(Name="mine", Value="1", Type="String")
    assert ssm.get_parameter(Name="mine")["Parameter"]["Value"] == "1"


def test_prices_are_those_of_the_offer_table(client: Any) -> None:
    fields = {"instanceType": "p5.48xlarge", "regionCode": "us-east-1", "tenancy": "Shared", "operatingSystem": "Linux"}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]
    pricing = client("pricing")
    [product] = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    [term] = json.loads(product)["terms"]["OnDemand"].values()
    [dimension] = term["priceDimensions"].values()
    assert float(dimension["pricePerUnit"]["USD"]) == 55.04
    windows = [*filters[:3], {"Type": "TERM_MATCH", "Field": "operatingSystem", "Value": "Windows"}]
    assert pricing.get_products(ServiceCode="AmazonEC2", Filters=windows)["PriceList"] == []


def test_each_zone_that_sells_a_type_has_a_spot_price(ec2: Any) -> None:
    history = ec2.describe_spot_price_history(InstanceTypes=["p5.48xlarge"])["SpotPriceHistory"]
    assert len(history) > 1
    assert all(float(entry["SpotPrice"]) > 1 for entry in history)
    here = ec2.describe_spot_price_history(InstanceTypes=["p5.48xlarge"], AvailabilityZone="us-east-1a")
    assert [entry["AvailabilityZone"] for entry in here["SpotPriceHistory"]] == ["us-east-1a"]


def test_one_call_changes_tags_in_the_own_store_and_in_moto(ec2: Any, run: Run, refused: Refused) -> None:
    [instance] = run(1)
    group = ec2.create_security_group(GroupName="sg", Description="d")["GroupId"]
    placement = ec2.create_placement_group(GroupName="pg", Strategy="cluster")["PlacementGroup"]["GroupId"]
    resources = [instance, group, placement]
    ec2.create_tags(Resources=resources, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    rows = ec2.describe_tags(Filters=[{"Name": "key", "Values": ["a"]}])["Tags"]
    assert {row["ResourceId"] for row in rows} == {instance, group, placement}
    ec2.delete_tags(Resources=resources, Tags=[{"Key": "a"}])
    assert {row["Key"] for row in ec2.describe_tags()["Tags"]} == {"b"}
    bad = [instance, "i-0123456789abcdef0"]
    assert refused(ec2.create_tags, Resources=bad, Tags=TAGS)[0] == "InvalidInstanceID.NotFound"
    many = [{"Key": f"k{number}", "Value": "v"} for number in range(50)]
    assert refused(ec2.create_tags, Resources=[placement], Tags=many)[0] == "TagLimitExceeded"


def test_a_changed_foreign_resource_is_noticed(cloud: AwsLocalCloud, ec2: Any) -> None:
    cloud.seed_foreign()
    assert cloud.foreign_intact()
    assert cloud.alive() == [] and cloud.running_ids() == []
    [*reservations] = ec2.describe_instances()["Reservations"]
    identifier = reservations[0]["Instances"][0]["InstanceId"]
    ec2.create_tags(Resources=[identifier], Tags=TAGS)
    assert not cloud.foreign_intact()
    ec2.delete_tags(Resources=[identifier], Tags=TAGS)
    assert cloud.foreign_intact()
    ec2.terminate_instances(InstanceIds=[identifier])
    assert not cloud.foreign_intact()
