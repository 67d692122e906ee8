"""Finds the subnet of a launch, and makes the groups beside the machines: one security group and placement groups per cluster."""

import ipaddress
import threading
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import Scope
from multicompute.offer import InstanceType
from multicompute.provider import TAG_ID, LaunchRequest
from multicompute_aws._access import AwsSettings
from multicompute_aws._errors import Place, code_of, log, retryable, translate_errors, unavailable_here
from multicompute_aws._session import Clients
from multicompute_aws._tags import ec2_tags, plain_tags

# AWS's own service for it; asked only when a key may log in, nothing says from where, and EC2 itself is the one that is talked to.
_WHO_AM_I: Final = "https://checkip.amazonaws.com"
_WHO_AM_I_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet that nodes can be launched into; `is_public` tells whether AWS gives its instances a public address."""

    id: str
    vpc: str
    zone: str
    is_public: bool


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """A network card of an instance type, and whether it takes EFA interfaces."""

    index: int
    interfaces: int
    has_efa: bool


class Network:
    """Looks subnets up, once per region and process, and makes groups."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings: AwsSettings = clients.settings
        self._subnets: dict[str, tuple[Subnet, ...]] = {}
        self._cards: dict[str, tuple[NetworkCard, ...]] = {}
        # Known to be there with all their rules, so that the next zone is asked without a call in between.
        self._groups: dict[tuple[str, str, str], str] = {}
        self._placements: set[tuple[str, str]] = set()
        self._own_address: str | None = None
        self._lock = threading.Lock()

    def subnet(self, place: Place) -> Subnet:
        """The subnet for nodes in the zone of `place`, the first of the region where the zone is open.

        The first by zone and id, and not the emptiest: a repeated launch must ask for the same one.

        Raises:
            CapacityError: there is none in this zone or region.
        """
        if place.region not in self._subnets:
            self._subnets[place.region] = self._listed(place)
        subnets = self._subnets[place.region]
        for subnet in subnets:
            if not place.zone or subnet.zone == place.zone:
                return subnet
        scope: Scope = "zone" if subnets else "region"
        raise unavailable_here(
            f"no subnet in this {scope} to launch into",
            code="NoSubnet",
            place=place,
            scope=scope,
            hint="`aws ec2 create-default-vpc` or create-default-subnet makes one; [providers.aws] subnets names others",
        )

    def _listed(self, place: Place) -> tuple[Subnet, ...]:
        settings = self._settings
        if settings.subnets:
            filters = [{"Name": "subnet-id", "Values": list(settings.subnets)}]
        elif settings.vpc:
            filters = [{"Name": "vpc-id", "Values": [settings.vpc]}]
        else:
            filters = [{"Name": "default-for-az", "Values": ["true"]}]
        found: list[Subnet] = []
        with translate_errors("DescribeSubnets", place):
            pages = self._clients.ec2(place.region).get_paginator("describe_subnets").paginate(Filters=filters)  # type: ignore[arg-type]
            for page in pages:
                for item in page["Subnets"]:
                    found.append(
                        Subnet(item["SubnetId"], item["VpcId"], item["AvailabilityZone"], item["MapPublicIpOnLaunch"])
                    )
        return tuple(sorted(found, key=lambda subnet: (subnet.zone, subnet.id)))

    def security_groups(self, request: LaunchRequest, subnet: Subnet, place: Place) -> tuple[str, ...]:
        """The groups that the nodes get: the configured ones, else the cluster's own, made where it does not exist yet."""
        named = self._settings.security_groups
        if not named:
            key = (place.region, request.cluster_id, subnet.vpc)
            if key not in self._groups:
                self._groups[key] = self._cluster_group(request, subnet, place)
            return (self._groups[key],)
        filters: Any = [{"Name": "group-id", "Values": list(named)}, {"Name": "vpc-id", "Values": [subnet.vpc]}]
        with translate_errors("DescribeSecurityGroups", place):
            groups = self._clients.ec2(place.region).describe_security_groups(Filters=filters)["SecurityGroups"]
        if not groups:
            raise unavailable_here(
                f"none of the configured security groups is in {subnet.vpc}",
                code="NoSecurityGroup",
                place=place,
                scope="region",
                hint="[providers.aws] security_groups needs one for each VPC that is used; leave it out to have one made",
            )
        return tuple(sorted(group["GroupId"] for group in groups))

    def _cluster_group(self, request: LaunchRequest, subnet: Subnet, place: Place) -> str:
        ec2, name = self._clients.ec2(place.region), group_name(request.cluster_id)
        tags: Any = [{"ResourceType": "security-group", "Tags": ec2_tags(request.tags)}]
        with translate_errors("CreateSecurityGroup", place):
            try:
                made = ec2.create_security_group(
                    GroupName=name,
                    Description=f"multicompute cluster {request.cluster_name}",
                    VpcId=subnet.vpc,
                    TagSpecifications=tags,
                )
                group_id = made["GroupId"]
            except ClientError as error:
                if code_of(error) != "InvalidGroup.Duplicate":
                    raise
                group_id = self._existing_group(request, subnet, place, name)
        # Also for one that existed: whoever made it may have died before its rules were in.
        self._open_group(request, group_id, place)
        return group_id

    def _existing_group(self, request: LaunchRequest, subnet: Subnet, place: Place, name: str) -> str:
        filters: Any = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [subnet.vpc]}]
        groups = self._clients.ec2(place.region).describe_security_groups(Filters=filters)["SecurityGroups"]
        if not groups:
            raise retryable(f"the security group {name} exists, but is not listed yet", "InvalidGroup.Duplicate", place)
        if plain_tags(groups[0].get("Tags")).get(TAG_ID) == request.cluster_id:
            return groups[0]["GroupId"]
        raise unavailable_here(
            f"a security group {name} exists in {subnet.vpc} and is not ours",
            code="InvalidGroup.Duplicate",
            place=place,
            scope="region",
            hint="delete it",
        )

    def _open_group(self, request: LaunchRequest, group_id: str, place: Place) -> None:
        """All traffic among the nodes, and SSH from the caller where asked for; out may go everything, as EC2 has it by itself."""
        ec2 = self._clients.ec2(place.region)
        inside: dict[str, Any] = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}
        ingress = [inside]
        if request.ssh_public_key and not request.private:
            ingress += [_ssh_from(block) for block in self._callers(place)]
        with translate_errors("AuthorizeSecurityGroupIngress", place):
            _authorize(ec2.authorize_security_group_ingress, group_id, ingress)
        if request.fabric:
            # EFA's traffic is let out only by a rule that names the group itself, not by the one for everywhere:
            # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-start.html
            with translate_errors("AuthorizeSecurityGroupEgress", place):
                _authorize(ec2.authorize_security_group_egress, group_id, [inside])

    def _callers(self, place: Place) -> tuple[str, ...]:
        """From where port 22 is opened: as configured, else the caller's own address; nothing where that is not known."""
        if self._settings.ssh_from:
            return self._settings.ssh_from
        if self._settings.is_local:
            return ("127.0.0.1/32",)
        with self._lock:
            if self._own_address is None and self._settings.endpoint("ec2") is None:
                self._own_address = _ask_own_address()
        if not self._own_address:
            log.warning("%s: port 22 stays closed: the caller's address is not known; set ssh_from", place)
            return ()
        return (f"{self._own_address}/32",)

    def placement_group(self, request: LaunchRequest, place: Place) -> str:
        """The cluster's placement group for the zone, made where it does not exist yet.

        One per zone, because a cluster placement group keeps to the zone of its members; and of the cluster, not of the attempt, so
        that a node that replaces another comes to lie beside the rest.
        """
        ec2, name = self._clients.ec2(place.region), f"{group_name(request.cluster_id)}-{place.zone or 'any'}"
        if (place.region, name) in self._placements:
            return name
        tags: Any = [{"ResourceType": "placement-group", "Tags": ec2_tags(request.tags)}]
        with translate_errors("CreatePlacementGroup", place):
            try:
                ec2.create_placement_group(GroupName=name, Strategy="cluster", TagSpecifications=tags)
            except ClientError as error:
                if code_of(error) != "InvalidPlacementGroup.Duplicate":
                    raise
        self._placements.add((place.region, name))
        return name

    def forget(self, cluster_id: str) -> None:
        """Forget the groups of a cluster: they are not there any more, or not yet for every part of EC2."""
        for key in [key for key in self._groups if key[1] == cluster_id]:
            self._groups.pop(key, None)
        for placement in [item for item in self._placements if item[1].startswith(group_name(cluster_id))]:
            self._placements.discard(placement)

    def cards(self, instance: InstanceType, place: Place) -> tuple[NetworkCard, ...]:
        """The network cards of an instance type, as EC2 describes them; the offer table only knows how many take EFA."""
        if instance.network_cards == 1:
            return (NetworkCard(0, 2, has_efa=True),)
        if instance.name not in self._cards:
            with translate_errors("DescribeInstanceTypes", place):
                answer = self._clients.ec2(place.region).describe_instance_types(InstanceTypes=[instance.name])  # type: ignore[list-item]
            described = answer["InstanceTypes"][0]["NetworkInfo"] if answer["InstanceTypes"] else {}
            self._cards[instance.name] = _cards(dict(described), instance)
        return self._cards[instance.name]


def warn_of_no_way_out(subnet: Subnet, wanted: list[dict[str, Any]], *, is_private: bool, place: Place) -> None:
    """Say so when nodes come to lie in a public subnet without a public address: from there nothing outside is reachable."""
    if len(wanted) > 1 and subnet.is_public and not is_private:
        log.warning(
            "%s: EC2 gives nodes with several network interfaces no public address, and %s has no other way to the internet; "
            "name subnets behind a NAT gateway in [providers.aws] subnets if the nodes need one",
            place,
            subnet.id,
        )


def group_name(cluster_id: str) -> str:
    """The name of a cluster's groups; security groups may not be named "sg-...", and 255 characters are allowed."""
    return f"multicompute-{cluster_id}"[:200]


def interfaces(
    subnet: Subnet, groups: tuple[str, ...], cards: tuple[NetworkCard, ...], *, is_private: bool
) -> list[dict[str, Any]]:
    """The network interfaces of a node: one plain one, or an EFA one on every card that takes it.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-acc-inst-types.html: the primary interface carries IP, the others EFA only,
    which spares 31 addresses per node. EC2 gives no public address to an instance that is launched with several interfaces.
    """
    plain = {"SubnetId": subnet.id, "Groups": list(groups), "DeleteOnTermination": True}
    primary: dict[str, Any] = {"DeviceIndex": 0, **plain}
    if cards and cards[0].has_efa:
        primary["InterfaceType"] = "efa"
    others = [
        {
            "NetworkCardIndex": card.index,
            "DeviceIndex": 1 if card.interfaces > 1 else 0,
            "InterfaceType": "efa-only",
            **plain,
        }
        for card in cards[1:]
        if card.has_efa
    ]
    if others:
        primary["NetworkCardIndex"] = 0
    else:
        primary["AssociatePublicIpAddress"] = subnet.is_public and not is_private
    return [primary, *others]


def _cards(described: dict[str, Any], instance: InstanceType) -> tuple[NetworkCard, ...]:
    """Read `NetworkInfo`; where it is silent about its cards, believe the offer table."""
    listed = described.get("NetworkCards") or [{"NetworkCardIndex": index} for index in range(instance.network_cards)]
    return tuple(
        sorted(
            (
                NetworkCard(
                    int(card["NetworkCardIndex"]),
                    int(card.get("MaximumNetworkInterfaces", 2)),
                    has_efa="efa-only" in card.get("InterfaceTypes", ("efa-only",)),
                )
                for card in listed
            ),
            key=lambda card: card.index,
        )
    )


def _ssh_from(block: str) -> dict[str, Any]:
    ranges = {"Ipv6Ranges": [{"CidrIpv6": block}]} if ":" in block else {"IpRanges": [{"CidrIp": block}]}
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ranges}


def _authorize(call: Any, group_id: str, rules: list[dict[str, Any]]) -> None:
    """Add rules; one that is there already makes EC2 refuse all of them, so then each is added by itself."""
    try:
        call(GroupId=group_id, IpPermissions=rules)
    except ClientError as error:
        if code_of(error) != "InvalidPermission.Duplicate":
            raise
        for rule in rules if len(rules) > 1 else ():
            _authorize(call, group_id, [rule])


def _ask_own_address() -> str:
    """The address under which this machine is seen from outside, or "" where nobody tells."""
    try:
        with urllib.request.urlopen(_WHO_AM_I, timeout=_WHO_AM_I_SECONDS) as answer:
            return str(ipaddress.IPv4Address(answer.read(64).decode("ascii").strip()))
    except (OSError, ValueError):
        return ""
