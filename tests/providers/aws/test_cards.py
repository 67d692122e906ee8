"""Which network interfaces a node gets on its network cards."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from multicompute.offer import InstanceType, Offer
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import running
from multicompute_aws._cards import _LAYOUTS, described_cards, documented_cards, interfaces
from multicompute_aws._families import is_xen
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.providers.aws.scripted_aws import ScriptedAws

Request = Callable[..., LaunchRequest]


@pytest.fixture
def cloud() -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud()) as cloud:
        yield cloud


def _type(name: str, cards: int = 1) -> InstanceType:
    return InstanceType("aws", name, "h100", 8, fabric="efa", network_cards=cards)


@pytest.mark.parametrize("name", sorted(_LAYOUTS))
def test_the_table_says_of_each_card_what_ec2_says(name: str) -> None:
    """moto has a copy of EC2's answers; P6e-GB200, which is sold with capacity blocks only, is not in it."""
    described = INSTANCE_TYPES.get(name)
    if described is None:
        assert name == "p6e-gb200.36xlarge"
        return
    assert documented_cards(_type(name)) == described_cards(described["NetworkInfo"], _type(name))


@pytest.mark.parametrize(
    ("name", "count", "on_primary_card"),
    [
        ("p4d.24xlarge", 4, True),
        ("p5.48xlarge", 32, True),
        ("p5en.48xlarge", 16, True),
        ("p6-b200.48xlarge", 8, True),
        ("p6-b300.48xlarge", 16, False),
        ("p6e-gb200.36xlarge", 17, True),
        ("trn1.32xlarge", 8, True),
        ("trn1n.32xlarge", 16, True),
        ("trn2.48xlarge", 16, True),
    ],
)
def test_the_primary_interface_carries_ip_and_every_card_with_efa_has_an_efa_only_interface(
    name: str, count: int, on_primary_card: bool
) -> None:
    primary, *others = interfaces(documented_cards(_type(name)), subnet="subnet-1", groups=("sg-1",))
    assert _place(primary) == (0, 0, "interface")
    expected = [(0, 1, "efa-only")] if on_primary_card else []
    expected += [(card, 0, "efa-only") for card in range(1, count + (0 if on_primary_card else 1))]
    assert [_place(each) for each in others] == expected


def _place(interface: dict[str, Any]) -> tuple[int, int, str]:
    return interface["NetworkCardIndex"], interface["DeviceIndex"], interface["InterfaceType"]


def test_a_type_with_one_card_has_one_interface_because_others_get_no_public_address() -> None:
    (only,) = interfaces(documented_cards(_type("g6.48xlarge")), subnet="subnet-1", groups=("sg-1",))
    assert only["InterfaceType"] == "efa" and "NetworkCardIndex" not in only


def test_cards_that_ec2_does_not_describe_are_those_of_the_table(
    aws: ScriptedAws, provider: AwsProvider, request_of: Request, offer: Offer
) -> None:
    aws.answers["DescribeInstanceTypes"] = "<R><instanceTypeSet/></R>"
    b300 = replace(offer, instance=_type("p6-b300.48xlarge", 16))
    provider.launch(request_of(parts=(replace(request_of().parts[0], offer=b300),), fabric=True))
    (call,) = aws.sent("RunInstances")
    kinds = Counter(value for name, value in call.params.items() if name.endswith("InterfaceType"))
    assert kinds == {"interface": 1, "efa-only": 16}


def test_the_local_cloud_refuses_an_efa_interface_on_a_card_that_takes_none(cloud: AwsLocalCloud) -> None:
    ec2: Any = boto3.client(
        "ec2",
        region_name="us-west-2",
        endpoint_url=cloud.endpoint_url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    nic = {"NetworkCardIndex": 0, "DeviceIndex": 0, "InterfaceType": "efa"}
    wanted: dict[str, Any] = {"ImageId": image, "InstanceType": "p6-b300.48xlarge", "MinCount": 1, "MaxCount": 1}
    with pytest.raises(ec2.exceptions.ClientError, match="Network card 0 of p6-b300"):
        ec2.run_instances(**wanted, NetworkInterfaces=[nic], DryRun=True)


def test_types_on_xen_are_those_of_which_ec2_says_so() -> None:
    """moto has a copy of EC2's answers."""
    wrong = [
        name for name, described in INSTANCE_TYPES.items() if (described.get("Hypervisor") == "xen") != is_xen(name)
    ]
    assert wrong == []


def test_a_node_on_xen_reads_a_new_expiry_although_its_metadata_shows_the_tags_of_its_launch(
    cloud: AwsLocalCloud, request_of: Request, offer: Offer
) -> None:
    provider = AwsProvider(Settings({"regions": ["us-east-1"]}, cloud.environment))
    image = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=cloud.endpoint_url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    ).describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    old = replace(offer, instance=InstanceType("aws", "m4.large", "", 0))
    request = request_of(parts=(replace(request_of().parts[0], offer=old, nodes=1),), image=image)
    (node,) = provider.launch(request)
    provider.set_expiry(Selector(region="us-east-1", cluster_id=request.cluster_id), None)
    assert "multicompute-expires-at" not in cloud.metadata_tags(node.id)
    assert [group for group in cloud.group_names(node.id) if group.endswith("-until-never")]
