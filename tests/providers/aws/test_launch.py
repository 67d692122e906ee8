"""What a launch sends to EC2, in which order, and how it handles the answers."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Settings
from multicompute_aws._image import default_parameter
from multicompute_aws._names import client_token
from multicompute_aws._provider import AwsProvider
from tests.providers.aws.scripted_aws import ScriptedAws, described, instance_xml, json_refusal, network_cards, refusal

Request = Callable[..., LaunchRequest]


def test_a_gang_is_one_call_that_asks_for_all_or_nothing(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    nodes = provider.launch(request_of(parts=(Part(offer, 8),)))
    (call,) = aws.sent("RunInstances")
    assert (call.params["MinCount"], call.params["MaxCount"]) == ("8", "8")
    assert call.params["ClientToken"] == "tok"
    assert call.region == "us-east-1"
    assert len({node.id for node in nodes}) == 8
    assert {(node.state, node.zone, node.token, node.rank) for node in nodes} == {
        (NodeState.PENDING, "us-east-1a", "tok", -1)
    }
    assert {(node.accelerators, node.hourly_cost) for node in nodes} == {(8, 55.04)}


def test_nothing_is_billed_before_everything_that_is_free_exists(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of(fabric=True))
    assert aws.actions == [
        *("GetParameter", "DescribeImages", "DescribeSubnets", "DescribeInstanceTypes", "DescribeRouteTables"),
        # Whether the nodes can have elastic IP addresses; the last of these is a dry run.
        *("DescribeAddresses", "GetServiceQuota", "AllocateAddress", "CreateSecurityGroup"),
        *("AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress", "CreatePlacementGroup", "RunInstances"),
        *("DescribeAddresses", "AllocateAddress", "AllocateAddress"),
    ]


def test_what_was_looked_up_is_not_looked_up_again(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of(fabric=True))
    aws.requests.clear()
    provider.launch(request_of(fabric=True))
    # How many elastic IP addresses the account has changes with every launch.
    read = [action for action in aws.actions if action.startswith(("Describe", "Get"))]
    assert read == ["DescribeAddresses", "DescribeAddresses"]


def test_everything_that_the_call_creates_is_tagged_in_that_call(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    request = request_of(parts=(Part(replace(offer, purchase="spot"), 2),), fabric=True)
    provider.launch(request)
    call = aws.sent("RunInstances")[0]
    kinds = [call.params[f"TagSpecification.{index}.ResourceType"] for index in (1, 2, 3, 4)]
    assert kinds == ["instance", "volume", "network-interface", "spot-instances-request"]
    # An instance with several network cards waits for an address, and its tag says so.
    assert _tags(call.under("TagSpecification.1.Tag.")) == {**request.tags, "multicompute-address": "elastic"}
    for index in (2, 3, 4):
        assert _tags(call.under(f"TagSpecification.{index}.Tag.")) == dict(request.tags)
    for allocation in aws.sent("AllocateAddress")[1:]:
        assert _tags(allocation.under("TagSpecification.1.Tag.")) == {**request.tags, "multicompute-attempt": "tok"}
    for action in ("CreateSecurityGroup", "CreatePlacementGroup"):
        assert _tags(aws.sent(action)[0].under("TagSpecification.1.Tag.")) == dict(request.tags)


def _tags(params: dict[str, str]) -> dict[str, str]:
    count = len(params) // 2
    return {params[f"{index}.Key"]: params[f"{index}.Value"] for index in range(1, count + 1)}


def test_an_instance_is_closed_encrypted_and_gone_when_it_shuts_down(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    params = aws.sent("RunInstances")[0].params
    assert params["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert params["MetadataOptions.HttpTokens"] == "required"
    assert params["MetadataOptions.InstanceMetadataTags"] == "enabled"
    assert {name: params[f"BlockDeviceMapping.1.{name}"] for name in ("DeviceName", "Ebs.VolumeType")} == {
        "DeviceName": "/dev/xvda",
        "Ebs.VolumeType": "gp3",
    }
    assert params["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert params["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    assert params["BlockDeviceMapping.1.Ebs.VolumeSize"] == "200"
    assert params["NetworkInterface.1.DeleteOnTermination"] == "true"
    assert "Placement.GroupName" not in params and "InstanceMarketOptions.MarketType" not in params


def test_the_disk_has_the_requested_size_and_is_not_smaller_than_the_image(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of(disk_gib=500.5))
    assert aws.sent("RunInstances")[0].params["BlockDeviceMapping.1.Ebs.VolumeSize"] == "501"
    with pytest.raises(errors.InvalidRequestError, match="smaller than the image"):
        provider.launch(request_of(disk_gib=20))
    assert len(aws.sent("RunInstances")) == 1


def test_efa_is_on_every_card_and_only_the_first_carries_ip(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of(fabric=True))
    params = aws.sent("RunInstances")[0].params
    cards = [_interface(aws, index) for index in range(1, 34)]
    kinds = [(card["NetworkCardIndex"], card["DeviceIndex"], card["InterfaceType"]) for card in cards]
    assert kinds[:2] == [("0", "0", "interface"), ("0", "1", "efa-only")]
    assert kinds[2:] == [(str(index), "0", "efa-only") for index in range(1, 32)]
    assert {(card["SubnetId"], card["SecurityGroupId.1"]) for card in cards} == {("subnet-a", "sg-1")}
    # EC2 refuses a public address for an instance with several interfaces.
    assert not [name for name in params if name.endswith("AssociatePublicIpAddress")]
    assert params["Placement.GroupName"] == "multicompute-id-1-us-east-1a"
    assert aws.sent("CreatePlacementGroup")[0].params["Strategy"] == "cluster"


def test_a_card_that_takes_no_efa_gets_an_ip_interface(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["DescribeInstanceTypes"] = network_cards(17, without_efa=1)
    provider.launch(request_of(fabric=True))
    assert _interface(aws, 1)["InterfaceType"] == "interface"
    assert [_interface(aws, index)["InterfaceType"] for index in range(2, 18)] == ["efa-only"] * 16


def _interface(aws: ScriptedAws, index: int) -> dict[str, str]:
    return aws.sent("RunInstances")[0].under(f"NetworkInterface.{index}.")


def test_without_a_fabric_there_is_one_interface_with_a_public_address_unless_private(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    provider.launch(request_of(private=True))
    addresses = [call.params["NetworkInterface.1.AssociatePublicIpAddress"] for call in aws.sent("RunInstances")]
    assert addresses == ["true", "false"]
    assert not [name for name in aws.sent("RunInstances")[0].params if name.startswith("NetworkInterface.2")]


def test_the_nodes_can_reach_each_other_and_nothing_outside_can_reach_them(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    (call,) = aws.sent("AuthorizeSecurityGroupIngress")
    assert call.under("IpPermissions.") == {"1.IpProtocol": "-1", "1.Groups.1.GroupId": "sg-1"}
    # Outbound traffic is allowed already; only the fabric needs a rule for its own group.
    assert aws.sent("AuthorizeSecurityGroupEgress") == []


def test_a_fabric_gets_a_rule_that_allows_outbound_traffic_to_its_own_group(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of(fabric=True))
    (call,) = aws.sent("AuthorizeSecurityGroupEgress")
    assert call.under("IpPermissions.") == {"1.IpProtocol": "-1", "1.Groups.1.GroupId": "sg-1"}


def test_ssh_is_open_only_with_a_key_and_only_from_the_caller(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    provider.launch(request_of(ssh_public_key="ssh-ed25519 AAAA me"))
    provider.launch(request_of(ssh_public_key="ssh-ed25519 AAAA me", private=True, cluster_id="id-2"))
    first, second = (call.under("IpPermissions.2.") for call in aws.sent("AuthorizeSecurityGroupIngress"))
    assert first == {
        "IpProtocol": "tcp",
        "FromPort": "22",
        "ToPort": "22",
        "IpRanges.1.CidrIp": "127.0.0.1/32",
    }
    assert second == {}


def test_ssh_is_open_for_the_configured_addresses(aws: ScriptedAws, request_of: Request) -> None:
    settings = Settings({"ssh_from": ["198.51.100.0/24", "2001:db8::/32"]}, aws.environment)
    AwsProvider(settings).launch(request_of(ssh_public_key="ssh-ed25519 AAAA me"))
    rules = aws.sent("AuthorizeSecurityGroupIngress")[0]
    assert rules.params["IpPermissions.2.IpRanges.1.CidrIp"] == "198.51.100.0/24"
    assert rules.params["IpPermissions.3.Ipv6Ranges.1.CidrIpv6"] == "2001:db8::/32"


GROUP_OF_OURS = (
    "<R><securityGroupInfo><item><groupId>sg-9</groupId><tagSet><item><key>multicompute-id</key><value>id-1</value></item>"
    "</tagSet></item></securityGroupInfo></R>"
)


def test_the_group_of_an_earlier_attempt_is_used_again_and_its_rules_completed(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["CreateSecurityGroup"] = refusal("InvalidGroup.Duplicate")
    aws.answers["DescribeSecurityGroups"] = GROUP_OF_OURS
    aws.answers["AuthorizeSecurityGroupIngress"] = [refusal("InvalidPermission.Duplicate")]
    provider.launch(request_of(ssh_public_key="ssh-ed25519 AAAA me"))
    assert [len(call.under("IpPermissions.2.")) for call in aws.sent("AuthorizeSecurityGroupIngress")] == [4, 0, 0]
    assert aws.sent("RunInstances")[0].params["NetworkInterface.1.SecurityGroupId.1"] == "sg-9"


@pytest.mark.parametrize(
    ("listed", "kind", "message"),
    [
        (GROUP_OF_OURS.replace("id-1", "id-2"), errors.CapacityError, "is not ours"),
        ("<R><securityGroupInfo/></R>", errors.TransientError, "not listed yet"),
    ],
    ids=["foreign", "hidden"],
)
def test_a_group_of_the_clusters_name_is_used_only_if_it_is_ours(
    aws: ScriptedAws,
    provider: AwsProvider,
    request_of: Request,
    listed: str,
    kind: type[errors.MulticomputeError],
    message: str,
) -> None:
    aws.answers["CreateSecurityGroup"] = refusal("InvalidGroup.Duplicate")
    aws.answers["DescribeSecurityGroups"] = listed
    with pytest.raises(kind, match=message):
        provider.launch(request_of())
    assert not aws.sent("RunInstances")


def test_after_a_failed_zone_the_next_one_of_the_region_is_tried_without_further_lookups(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["RunInstances"] = [refusal("InsufficientInstanceCapacity", "none", 500)]
    with pytest.raises(errors.CapacityError):
        provider.launch(request_of(fabric=True))
    aws.requests.clear()
    there = replace(offer, zone="us-east-1b")
    provider.launch(request_of(token="tok-2", parts=(Part(there, 2),), fabric=True))
    assert aws.actions == [
        *("DescribeAddresses", "AllocateAddress", "CreatePlacementGroup", "RunInstances"),
        *("DescribeAddresses", "AllocateAddress", "AllocateAddress"),
    ]


def test_the_settings_choose_network_key_and_role(aws: ScriptedAws, request_of: Request) -> None:
    values = {
        "subnets": ["subnet-a", "subnet-b"],
        "security_groups": ["sg-7"],
        "key_name": "mine",
        "instance_profile": "arn:aws:iam::1:instance-profile/p",
    }
    aws.answers["DescribeSecurityGroups"] = (
        "<R><securityGroupInfo><item><groupId>sg-7</groupId></item></securityGroupInfo></R>"
    )
    AwsProvider(Settings(values, aws.environment)).launch(request_of())
    params = aws.sent("RunInstances")[0].params
    assert aws.sent("DescribeSubnets")[0].params["Filter.1.Name"] == "subnet-id"
    assert params["NetworkInterface.1.SecurityGroupId.1"] == "sg-7"
    assert (params["KeyName"], params["IamInstanceProfile.Arn"]) == ("mine", values["instance_profile"])
    assert not aws.sent("CreateSecurityGroup")


def test_a_zone_without_a_subnet_counts_as_one_without_capacity(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(parts=(Part(replace(offer, zone="us-east-1f"), 1),)))
    assert (caught.value.scope, caught.value.code) == ("zone", "NoSubnet")
    aws.answers["DescribeSubnets"] = "<R><subnetSet/></R>"
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(parts=(Part(replace(offer, region="eu-west-1", zone="eu-west-1a"), 1),)))
    assert caught.value.scope == "region"
    assert not aws.sent("RunInstances")


def test_spot_requests_are_one_time_and_have_a_highest_price(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(request_of(parts=(Part(replace(offer, purchase="spot"), 1),), max_price=12.5))
    market = aws.sent("RunInstances")[0].under("InstanceMarketOptions.")
    assert market == {
        "MarketType": "spot",
        "SpotOptions.SpotInstanceType": "one-time",
        "SpotOptions.InstanceInterruptionBehavior": "terminate",
        "SpotOptions.MaxPrice": "12.500000",
    }


def _reservation(kind: str, group: str = "") -> str:
    arn = f"<placementGroupArn>arn:aws:ec2:us-east-1:1:placement-group/{group}</placementGroupArn>" if group else ""
    return (
        "<R><capacityReservationSet><item><capacityReservationId>cr-1</capacityReservationId>"
        f"<reservationType>{kind}</reservationType>{arn}</item></capacityReservationSet></R>"
    )


def test_the_part_in_a_capacity_block_and_the_rest_are_two_calls_of_one_launch(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["DescribeCapacityReservations"] = _reservation("capacity-block")
    parts = (Part(replace(offer, purchase="reserved"), 2, reservation="cr-1"), Part(offer, 1))
    provider.launch(request_of(parts=parts, fabric=True))
    block, rest = (call.params for call in aws.sent("RunInstances"))
    assert block["CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId"] == "cr-1"
    assert block["InstanceMarketOptions.MarketType"] == "capacity-block"
    assert "Placement.GroupName" not in block
    assert rest["Placement.GroupName"] == "multicompute-id-1-us-east-1a"
    assert (block["ClientToken"], rest["ClientToken"]) == ("tok", "tok-1")


def test_a_reservation_in_a_placement_group_is_launched_into_that(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["DescribeCapacityReservations"] = _reservation("default", group="theirs")
    provider.launch(request_of(parts=(Part(offer, 2, reservation="cr-1"),), fabric=True))
    params = aws.sent("RunInstances")[0].params
    assert params["Placement.GroupName"] == "theirs"
    assert "InstanceMarketOptions.MarketType" not in params


def test_a_refused_second_part_terminates_the_first(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["RunInstances"] = [None, refusal("InsufficientInstanceCapacity", "none", 500)]
    with pytest.raises(errors.CapacityError):
        provider.launch(request_of(parts=(Part(offer, 2), Part(replace(offer, zone="us-east-1b"), 1))))
    (call,) = aws.sent("TerminateInstances")
    assert len(call.under("InstanceId.")) == 2


def test_if_the_first_part_can_not_be_terminated_the_outcome_is_reported_as_unknown(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["RunInstances"] = [None, refusal("InsufficientInstanceCapacity", "none", 500)]
    aws.answers["TerminateInstances"] = refusal("Unavailable", "later", 503)
    with pytest.raises(errors.TransientError, match="could not be taken back"):
        provider.launch(request_of(parts=(Part(offer, 2), Part(replace(offer, zone="us-east-1b"), 1))))


def test_a_second_part_without_an_answer_keeps_the_first_for_the_repeated_launch(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["RunInstances"] = [None, refusal("RequestLimitExceeded", "slow down", 503)]
    with pytest.raises(errors.ThrottledError):
        provider.launch(request_of(parts=(Part(offer, 2), Part(replace(offer, zone="us-east-1b"), 1))))
    assert not aws.sent("TerminateInstances")


@pytest.mark.parametrize("code", ["IdempotentParameterMismatch", "IdempotentInstanceTerminated"])
def test_a_token_that_was_used_with_other_parameters_returns_the_nodes_of_the_earlier_launch(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, code: str
) -> None:
    aws.answers["RunInstances"] = refusal(code)
    aws.answers["DescribeInstances"] = described(instance_xml("i-00000001"), instance_xml("i-00000002"))
    assert [node.id for node in provider.launch(request_of())] == ["i-00000001", "i-00000002"]
    (call,) = aws.sent("DescribeInstances")
    assert call.params["Filter.1.Name"] == "client-token"
    aws.answers["DescribeInstances"] = described()
    with pytest.raises(errors.TransientError, match="not listed yet"):
        provider.launch(request_of())


def test_a_group_that_ec2_does_not_know_yet_is_looked_up_again(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["RunInstances"] = [refusal("InvalidGroup.NotFound"), refusal("InvalidPlacementGroup.Unknown")]
    for _ in range(2):
        with pytest.raises(errors.TransientError):
            provider.launch(request_of(fabric=True))
    provider.launch(request_of(fabric=True))
    assert len(aws.sent("CreateSecurityGroup")) == len(aws.sent("CreatePlacementGroup")) == 3


def test_the_same_request_sends_the_same_bytes(aws: ScriptedAws, provider: AwsProvider, request_of: Request) -> None:
    request = request_of(setup="x" * 40_000, expires_at=datetime(2026, 12, 1, tzinfo=UTC), fabric=True)
    provider.launch(request)
    AwsProvider(Settings(environment=aws.environment)).launch(request)
    first, second = aws.sent("RunInstances")
    assert first.params == second.params


def test_each_part_has_a_token_of_its_own_within_the_length_limit() -> None:
    assert client_token("tok", 0) == "tok"
    assert client_token("tok", 1) == "tok-1"
    long = {client_token("t" * 64, index) for index in range(3)} | {client_token("t" * 65, 0)}
    assert len(long) == 4 and all(len(token) <= 64 for token in long)
    with pytest.raises(errors.InvalidRequestError):
        client_token("tök", 0)


@pytest.mark.parametrize(
    ("key", "in_metadata"),
    [
        *(("kubernetes.io/role", "disabled"), ("Cost Center", "disabled"), ("_index", "disabled"), (".", "disabled")),
        *(("équipe", "disabled"), ("team", "enabled"), ("a.b:c@d+e=f,g-h_i", "enabled")),
    ],
)
def test_a_tag_that_ec2_refuses_in_metadata_leaves_the_tags_out_of_it(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, key: str, in_metadata: str
) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html: otherwise the launch fails."""
    provider.launch(request_of(tags={key: "x"}))
    (call,) = aws.sent("RunInstances")
    assert call.params["MetadataOptions.InstanceMetadataTags"] == in_metadata
    assert call.params["TagSpecification.1.Tag.1.Key"] == key


@pytest.mark.parametrize(
    ("name", "accelerator", "arch", "parameter"),
    [
        ("p5.48xlarge", "h100", "x86_64", "x86_64/base-oss-nvidia-driver-gpu"),
        ("g5g.xlarge", "t4g", "arm64", "arm64/base-oss-nvidia-driver-gpu"),
        ("trn2.48xlarge", "trainium2", "x86_64", "/neuron/dlami/base/"),
        ("c7i.large", "", "x86_64", "amd64/hvm/ebs-gp3"),
        ("c8g.large", "", "arm64", "arm64/hvm/ebs-gp3"),
    ],
)
def test_each_kind_of_machine_gets_the_image_for_it(name: str, accelerator: str, arch: str, parameter: str) -> None:
    assert parameter in default_parameter(InstanceType("aws", name, accelerator, arch=arch))


@pytest.mark.parametrize(
    ("name", "accelerator"), [("p3.2xlarge", "v100"), ("g6f.large", "l4"), ("f2.6xlarge", "fpga-vu47p")]
)
def test_a_machine_without_a_default_image_needs_one_in_the_request(name: str, accelerator: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match="image="):
        default_parameter(InstanceType("aws", name, accelerator))


def test_a_region_without_the_image_counts_as_one_without_capacity(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["GetParameter"] = json_refusal("ParameterNotFound")
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of())
    assert (caught.value.scope, caught.value.code) == ("region", "ParameterNotFound")


def test_a_named_image_that_is_not_in_the_region_stops_the_request(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request
) -> None:
    aws.answers["DescribeImages"] = refusal("InvalidAMIID.NotFound", "The image id '[ami-x]' does not exist")
    with pytest.raises(errors.InvalidRequestError):
        provider.launch(request_of(image="ami-x"))
    assert not aws.sent("GetParameter") and not aws.sent("RunInstances")
