"""Lists the subnets that the settings allow to launch into."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate_errors
from multicompute_aws._session import Clients

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

NO_SUBNET_HINT: Final = (
    "`aws ec2 create-default-vpc` or create-default-subnet makes one; [providers.aws] subnets names others"
)


def described_subnets(clients: Clients, place: Place) -> list[dict[str, Any]]:
    """Return the subnets of a region to launch into, as EC2 describes them: the named ones, else those of the VPC.

    Of a VPC, those on an Outpost and those without IPv4 addresses are left out: the offers are those of the zone, and nodes
    are reached by IPv4. Subnets that are named in the settings are all kept.
    """
    settings = clients.settings
    filters: list[FilterTypeDef]
    if settings.subnets:
        filters = [{"Name": "subnet-id", "Values": list(settings.subnets)}]
    elif settings.vpc:
        filters = [{"Name": "vpc-id", "Values": [settings.vpc]}]
    else:
        filters = [{"Name": "default-for-az", "Values": ["true"]}]
    with translate_errors("DescribeSubnets", place):
        pages = clients.ec2(place.region).get_paginator("describe_subnets").paginate(Filters=filters)
        found = [dict(item) for page in pages for item in page["Subnets"]]
    return [item for item in found if settings.subnets or _is_usable(item)]


def _is_usable(item: Mapping[str, Any]) -> bool:
    """Return whether nodes of the zone's offers can be launched into a subnet and get an IPv4 address.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Subnet.html, "OutpostArn" and "Ipv6Native".
    """
    return not item.get("OutpostArn") and not item.get("Ipv6Native")
