"""Finds the subnet of a launch, and creates the cluster's security group and placement groups."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import Scope
from multicompute.offer import InstanceType
from multicompute.provider import TAG_ID, LaunchRequest
from multicompute.provider_kit.ssh import SshSources
from multicompute.provider_kit.vendor_errors import Place, retryable, unavailable_here
from multicompute_aws._errors import code_of, log, translate_errors
from multicompute_aws._names import group_name
from multicompute_aws._session import Clients
from multicompute_aws._settings import AwsSettings
from multicompute_aws._tags import ec2_tags, plain_tags

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

# AWS's own service for it.
_ADDRESS_SERVICE: Final = "https://checkip.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet that nodes can be launched into.

    Attributes:
        is_public: Whether AWS gives its instances a public address.
        free: How many addresses were free when it was listed.
    """

    id: str
    vpc: str
    zone: str
    is_public: bool
    free: int = 0


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """A network card of an instance type, how many interfaces it takes, and whether they can be EFA interfaces."""

    index: int
    interfaces: int
    has_efa: bool


class Network:
    """The subnets, read once per region and process, and the groups of clusters."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings: AwsSettings = clients.settings
        self._subnets: dict[str, tuple[Subnet, ...]] = {}
        # Client token -> the subnet of its launch: a repeated launch must name the same one.
        self._subnet_of: dict[str, str] = {}
        self._cards: dict[str, tuple[NetworkCard, ...]] = {}
        # Groups that are known to exist with all their rules, so the next zone is tried without a call in between.
        self._groups: dict[tuple[str, str, str], str] = {}
        self._placements: set[tuple[str, str]] = set()
        self._ssh_sources = SshSources(
            self._settings.ssh_from, endpoint=self._settings.endpoint("ec2"), address_service=_ADDRESS_SERVICE
        )

    def subnets(self, place: Place, token: str) -> tuple[Subnet, ...]:
        """Return the subnets for nodes in the zone of `place`, or in the region if the zone is open, in the order to try them.

        The one that an earlier launch with this client token used comes first, then those with the most free addresses. A
        repeated launch of another process that finds another order is refused by EC2, and finds the nodes of the first.

        Raises:
            CapacityError: This zone or region has none.
        """
        if place.region not in self._subnets:
            self._subnets[place.region] = self._list_subnets(place)
        subnets = self._subnets[place.region]
        found = [subnet for subnet in subnets if place.zone in ("", subnet.zone)]
        if not found:
            scope: Scope = "zone" if subnets else "region"
            raise unavailable_here(
                f"no subnet in this {scope} to launch into",
                code="NoSubnet",
                place=place,
                scope=scope,
                hint="`aws ec2 create-default-vpc` or create-default-subnet makes one; [providers.aws] subnets names others",
            )
        if len(found) == 1 or not place.zone:
            return tuple(found)
        # The listing may be hours old.
        fresh = {subnet.id: subnet for subnet in self._list_subnets(place)}
        found = [fresh[subnet.id] for subnet in found if subnet.id in fresh] or found
        used = self._subnet_of.get(token, "")
        return tuple(sorted(found, key=lambda subnet: (subnet.id != used, -subnet.free, subnet.id)))

    def use(self, subnet: Subnet, token: str) -> None:
        """Remember the subnet of the launch with this client token."""
        self._subnet_of[token] = subnet.id

    def _list_subnets(self, place: Place) -> tuple[Subnet, ...]:
        settings = self._settings
        filters: list[FilterTypeDef]
        if settings.subnets:
            filters = [{"Name": "subnet-id", "Values": list(settings.subnets)}]
        elif settings.vpc:
            filters = [{"Name": "vpc-id", "Values": [settings.vpc]}]
        else:
            filters = [{"Name": "default-for-az", "Values": ["true"]}]
        with translate_errors("DescribeSubnets", place):
            pages = self._clients.ec2(place.region).get_paginator("describe_subnets").paginate(Filters=filters)
            found = [item for page in pages for item in page["Subnets"]]
        subnets = [
            Subnet(
                item["SubnetId"],
                item["VpcId"],
                item["AvailabilityZone"],
                item["MapPublicIpOnLaunch"],
                item.get("AvailableIpAddressCount", 0),
            )
            for item in found
        ]
        return tuple(sorted(subnets, key=lambda subnet: (subnet.zone, subnet.id)))

    def security_groups(self, request: LaunchRequest, subnet: Subnet, place: Place) -> tuple[str, ...]:
        """Return the groups of the nodes: the configured ones, else the cluster's own, created if it does not exist yet."""
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
                hint="[providers.aws] security_groups needs one for each VPC that is used; leave it out to have one created",
            )
        return tuple(sorted(group["GroupId"] for group in groups))

    def _cluster_group(self, request: LaunchRequest, subnet: Subnet, place: Place) -> str:
        ec2, name = self._clients.ec2(place.region), group_name(request.cluster_id)
        tags: Any = [{"ResourceType": "security-group", "Tags": ec2_tags(request.tags)}]
        with translate_errors("CreateSecurityGroup", place):
            try:
                created = ec2.create_security_group(
                    GroupName=name,
                    Description=f"multicompute cluster {request.cluster_name}",
                    VpcId=subnet.vpc,
                    TagSpecifications=tags,
                )
                group_id = created["GroupId"]
            except ClientError as error:
                if code_of(error) != "InvalidGroup.Duplicate":
                    raise
                group_id = self._existing_group(request, subnet, place, name)
        # Also for one that existed: the process that created it may have died before it added the rules.
        self._open_group(request, group_id, place)
        return group_id

    def _existing_group(self, request: LaunchRequest, subnet: Subnet, place: Place, name: str) -> str:
        filters: Any = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [subnet.vpc]}]
        groups = self._clients.ec2(place.region).describe_security_groups(Filters=filters)["SecurityGroups"]
        if not groups:
            text = f"the security group {name} exists, but is not listed yet"
            raise retryable(text, code="InvalidGroup.Duplicate", place=place)
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
        """Allow all traffic among the nodes, and SSH from the caller if a key is given; outbound traffic is allowed by EC2's default."""
        ec2 = self._clients.ec2(place.region)
        inside: dict[str, Any] = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}
        ingress = [inside]
        if request.ssh_public_key and not request.private:
            ingress += [_ssh_rule(block) for block in self._ssh_sources.blocks(place)]
        with translate_errors("AuthorizeSecurityGroupIngress", place):
            _authorize(ec2.authorize_security_group_ingress, group_id, ingress)
        if request.fabric:
            # Outbound EFA traffic needs a rule that names the group itself; the rule for all addresses does not allow it:
            # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-start.html
            with translate_errors("AuthorizeSecurityGroupEgress", place):
                _authorize(ec2.authorize_security_group_egress, group_id, [inside])

    def placement_group(self, request: LaunchRequest, place: Place) -> str:
        """Return the cluster's placement group for the zone, created if it does not exist yet.

        One per zone, because a cluster placement group is bound to the zone of its members. It belongs to the cluster, not to the
        attempt, so a node that replaces another is placed next to the rest.
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
        """Forget the groups of a cluster: they are deleted, or not yet visible to every part of EC2."""
        for key in [key for key in self._groups if key[1] == cluster_id]:
            self._groups.pop(key, None)
        for placement in [item for item in self._placements if item[1].startswith(group_name(cluster_id))]:
            self._placements.discard(placement)

    def cards(self, instance: InstanceType, place: Place) -> tuple[NetworkCard, ...]:
        """Return the network cards of an instance type, as EC2 describes them; the offer table only has how many take EFA."""
        if instance.network_cards == 1:
            return (NetworkCard(0, 2, has_efa=True),)
        if instance.name not in self._cards:
            with translate_errors("DescribeInstanceTypes", place):
                ec2 = self._clients.ec2(place.region)
                # The stubs list the names of all types that existed when they were written.
                answer = ec2.describe_instance_types(InstanceTypes=[instance.name])  # type: ignore[list-item]
            described = answer["InstanceTypes"][0]["NetworkInfo"] if answer["InstanceTypes"] else {}
            self._cards[instance.name] = _cards(dict(described), instance)
        return self._cards[instance.name]


def warn_of_no_internet(subnet: Subnet, network: list[dict[str, Any]], *, is_private: bool, place: Place) -> None:
    """Warn about nodes in a public subnet without a public address: they can't reach the internet."""
    if len(network) > 1 and subnet.is_public and not is_private:
        log.warning(
            "%s: EC2 gives nodes with several network interfaces no public address, so in %s they can't reach the internet; "
            "if they need to, set [providers.aws] subnets to subnets with a NAT gateway",
            place,
            subnet.id,
        )


def interfaces(
    subnet: Subnet, groups: tuple[str, ...], cards: tuple[NetworkCard, ...], *, is_private: bool
) -> list[dict[str, Any]]:
    """Return the network interfaces of a node: one plain interface, or an EFA interface on every card that takes it.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-acc-inst-types.html: the primary interface carries IP, the others EFA only,
    which saves 31 addresses per node. EC2 gives no public address to an instance that is launched with several interfaces.
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
    """Read `NetworkInfo`; if it does not describe the cards, use the number in the offer table."""
    listed = described.get("NetworkCards") or [{"NetworkCardIndex": index} for index in range(instance.network_cards)]
    return tuple(
        NetworkCard(
            int(card["NetworkCardIndex"]),
            int(card.get("MaximumNetworkInterfaces", 2)),
            has_efa="efa-only" in card.get("InterfaceTypes", ("efa-only",)),
        )
        for card in sorted(listed, key=lambda card: int(card["NetworkCardIndex"]))
    )


def _ssh_rule(block: str) -> dict[str, Any]:
    ranges = {"Ipv6Ranges": [{"CidrIpv6": block}]} if ":" in block else {"IpRanges": [{"CidrIp": block}]}
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ranges}


def _authorize(call: Any, group_id: str, rules: list[dict[str, Any]]) -> None:
    """Add rules. EC2 refuses all of them if one exists already, so then each is added by itself."""
    try:
        call(GroupId=group_id, IpPermissions=rules)
    except ClientError as error:
        if code_of(error) != "InvalidPermission.Duplicate":
            raise
        for rule in rules if len(rules) > 1 else ():
            _authorize(call, group_id, [rule])
