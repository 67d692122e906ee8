"""Lists the subnets that nodes can be launched into, and reads how their route tables lead out of the VPC."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from multicompute.errors import AccessDeniedError
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import log, translate_errors
from multicompute_aws._session import Clients

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

NO_SUBNET_HINT: Final = (
    "`aws ec2 create-default-vpc` or create-default-subnet makes one; [providers.aws] subnets names others"
)
_ANYWHERE: Final = "0.0.0.0/0"

Route = Literal["internet", "nat", "other", "none"]
"""The target of a subnet's default route: an internet gateway, a NAT gateway, something else, or nothing."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet that nodes can be launched into.

    Attributes:
        is_public: Whether AWS gives its instances a public address.
        free: How many addresses were free when it was listed.
        route: The target of its default route; None if the route tables were not read.
    """

    id: str
    vpc: str
    zone: str
    is_public: bool
    free: int = 0
    route: Route | None = None


def list_subnets(clients: Clients, place: Place) -> tuple[Subnet, ...]:
    """Return the subnets of a region that the settings allow, by zone.

    Of a configured VPC, subnets on an Outpost and those without IPv4 addresses are left out: the instance types of the zone
    can't be launched on an Outpost, and the nodes and their metadata service are reached over IPv4. Named subnets are kept.
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
    subnets = [_subnet(item) for item in found if settings.subnets or _is_usable(item)]
    if settings.vpc and not settings.subnets:
        subnets = _with_routes(clients, place, settings.vpc, subnets)
    return tuple(sorted(subnets, key=lambda subnet: (subnet.zone, subnet.id)))


def _subnet(item: Mapping[str, Any]) -> Subnet:
    return Subnet(
        item["SubnetId"],
        item["VpcId"],
        item["AvailabilityZone"],
        item["MapPublicIpOnLaunch"],
        item.get("AvailableIpAddressCount", 0),
    )


def _is_usable(item: Mapping[str, Any]) -> bool:
    return not item.get("OutpostArn") and not item.get("Ipv6Native")


def _with_routes(clients: Clients, place: Place, vpc: str, subnets: Iterable[Subnet]) -> list[Subnet]:
    """Return the subnets with their routes, as far as the route tables may be read."""
    subnets = list(subnets)
    try:
        routes = read_routes(clients, place, vpc)
    except AccessDeniedError as error:
        log.warning("%s: the routes of %s are not known: %s", place, vpc, error.message)
        return subnets
    return [replace(subnet, route=routes.get(subnet.id, routes[""])) for subnet in subnets]


def read_routes(clients: Clients, place: Place, vpc: str) -> Mapping[str, Route]:
    """Return subnet -> its default route, for subnets with a route table of their own; those without have that of "".

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html
    """
    found: dict[str, Route] = {"": "none"}
    with translate_errors("DescribeRouteTables", place):
        paginator = clients.ec2(place.region).get_paginator("describe_route_tables")
        for page in paginator.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc]}]):
            for table in page["RouteTables"]:
                route = _default_route(dict(item) for item in table.get("Routes", ()))
                for association in table.get("Associations", ()):
                    found["" if association.get("Main") else association.get("SubnetId", "-")] = route
    return found


def _default_route(routes: Iterable[Mapping[str, Any]]) -> Route:
    for route in routes:
        if route.get("DestinationCidrBlock") == _ANYWHERE and route.get("State", "active") == "active":
            if str(route.get("GatewayId", "")).startswith("igw-"):
                return "internet"
            return "nat" if route.get("NatGatewayId") else "other"
    return "none"


def best_first(subnets: Iterable[Subnet], used: str) -> tuple[Subnet, ...]:
    """Return the subnets of a zone in the order to try them.

    The one that an earlier call of the launch used comes first, then those with a way out, then those with the most free
    addresses.
    """
    return tuple(
        sorted(subnets, key=lambda subnet: (subnet.id != used, subnet.route == "none", -subnet.free, subnet.id))
    )
