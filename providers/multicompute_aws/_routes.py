"""Finds the way from a subnet to the internet, by the route tables of its VPC."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from multicompute.errors import AccessDeniedError
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import is_from_moto, log, translate_errors
from multicompute_aws._session import Clients

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

WayOut = Literal["internet", "nat", "none", "unknown"]
"""The default route of a subnet: to an internet gateway, which only nodes with a public address can use; to anything else that leads
out of the VPC (a NAT gateway or instance, a transit gateway, a firewall's endpoint); none; or the account may not read it."""

_ANYWHERE: Final = "0.0.0.0/0"
# The members of a route that name a target other than a gateway: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Route.html. A
# peering connection is none of them: it does not lead to the internet ("edge to edge routing", VPC peering guide).
_TARGETS: Final = ("NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "InstanceId", "CoreNetworkArn")


class Routes:
    """The ways out of subnets, read once per VPC and process."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._ways: dict[tuple[str, str], Mapping[str, WayOut]] = {}

    def way_out(self, subnet: str, vpc: str, place: Place) -> WayOut:
        """Return the way out of a subnet."""
        key = (place.region, vpc)
        if key not in self._ways:
            self._ways[key] = self._read(vpc, place)
        ways = self._ways[key]
        # A subnet without a table of its own has the main one.
        return ways.get(subnet, ways.get("", "none"))

    def forget(self, vpc: str, place: Place) -> None:
        """Read the routes of a VPC again when they are needed next."""
        self._ways.pop((place.region, vpc), None)

    def _read(self, vpc: str, place: Place) -> Mapping[str, WayOut]:
        """Return subnet -> its way out; "" stands for subnets without a route table of their own."""
        filters: list[FilterTypeDef] = [{"Name": "vpc-id", "Values": [vpc]}]
        try:
            with translate_errors("DescribeRouteTables", place):
                pages = self._clients.ec2(place.region).get_paginator("describe_route_tables").paginate(Filters=filters)
                read = list(pages)
        except AccessDeniedError as error:
            log.warning("%s: routes can't be read, so subnets are judged by their settings: %s", place, error.message)
            return {"": "unknown"}
        if any(is_from_moto(page.get("ResponseMetadata", {})) for page in read):
            # moto leaves out the internet gateway of a default VPC.
            return {"": "unknown"}
        ways: dict[str, WayOut] = {}
        tables: list[Mapping[str, Any]] = [dict(item) for page in read for item in page["RouteTables"]]
        for table in tables:
            way = _way(table.get("Routes", ()))
            for association in table.get("Associations", ()):
                if association.get("Main"):
                    ways[""] = way
                if association.get("SubnetId"):
                    ways[association["SubnetId"]] = way
        return ways


def _way(routes: Iterable[Mapping[str, Any]]) -> WayOut:
    """Return where the default route leads; a route whose target is gone is a "blackhole"."""
    for route in routes:
        if route.get("DestinationCidrBlock") != _ANYWHERE or route.get("State") == "blackhole":
            continue
        gateway = str(route.get("GatewayId") or "")
        if gateway.startswith("igw-"):
            return "internet"
        if gateway or any(route.get(target) for target in _TARGETS):
            return "nat"
    return "none"
