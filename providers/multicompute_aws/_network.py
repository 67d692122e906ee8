"""Finds the subnet of a launch, and creates the cluster's security group and placement groups."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import Scope
from multicompute.offer import InstanceType
from multicompute.provider import TAG_ID, LaunchRequest
from multicompute.provider_kit.ssh import SshSources
from multicompute.provider_kit.vendor_errors import Place, invalid_request, retryable, unavailable_here
from multicompute_aws._addresses import Addresses
from multicompute_aws._cards import NetworkCard, described_cards
from multicompute_aws._errors import code_of, log, translate_errors
from multicompute_aws._names import group_name
from multicompute_aws._reach import Choice, Subnet, choices, no_addresses, no_way_out
from multicompute_aws._routes import Routes
from multicompute_aws._session import Clients
from multicompute_aws._settings import AwsSettings
from multicompute_aws._subnets import NO_SUBNET_HINT, described_subnets
from multicompute_aws._tags import ec2_tags, plain_tags

# AWS's own service for it.
_ADDRESS_SERVICE: Final = "https://checkip.amazonaws.com"


_SSH: Final = 22


class Network:
    """The subnets, read once per region and process, and the groups of clusters."""

    def __init__(self, clients: Clients, addresses: Addresses) -> None:
        self._clients = clients
        self._addresses = addresses
        self._routes = Routes(clients)
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
                hint=NO_SUBNET_HINT,
            )
        if len(found) == 1 or not place.zone:
            return tuple(found)
        # The listing may be hours old.
        fresh = {subnet.id: subnet for subnet in self._list_subnets(place)}
        found = [fresh[subnet.id] for subnet in found if subnet.id in fresh] or found
        used = self._subnet_of.get(token, "")
        return tuple(sorted(found, key=lambda subnet: (subnet.id != used, -subnet.free, subnet.id)))

    def choices(
        self, request: LaunchRequest, subnets: Sequence[Subnet], *, has_one_interface: bool, place: Place
    ) -> list[Choice]:
        """Return those of the subnets that the nodes can use, all of one VPC, in the order to try them.

        Raises:
            InvalidRequestError: The nodes could not reach the internet from any of them.
        """
        found = choices(
            [(subnet, self._routes.way_out(subnet.id, subnet.vpc, place)) for subnet in subnets],
            is_private=request.private,
            has_one_interface=has_one_interface,
            has_key=request.opens_ssh,
        )
        error = no_way_out(place)
        if any(choice.access == "elastic" for choice in found):
            shortage = self._addresses.shortage(request, place)
            if shortage:
                found = [choice for choice in found if choice.access != "elastic"]
                error = no_addresses(shortage, place)
        if not found:
            # A route that is added meanwhile counts for the next launch of this process.
            for subnet in subnets:
                self._routes.forget(subnet.vpc, place)
            raise error
        # The groups of a launch are in one VPC.
        return [choice for choice in found if choice.subnet.vpc == found[0].subnet.vpc]

    def use(self, subnet: Subnet, token: str) -> None:
        """Remember the subnet of the launch with this client token."""
        self._subnet_of[token] = subnet.id
        log.info("launched into the subnet %s of %s in %s", subnet.id, subnet.vpc, subnet.zone)

    def _list_subnets(self, place: Place) -> tuple[Subnet, ...]:
        subnets = [
            Subnet(
                item["SubnetId"],
                item["VpcId"],
                item["AvailabilityZone"],
                item["MapPublicIpOnLaunch"],
                item.get("AvailableIpAddressCount", 0),
            )
            for item in described_subnets(self._clients, place)
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
        if request.opens_ssh and not any(_allows_ssh(group) for group in groups):
            raise invalid_request(
                f"none of the configured security groups in {subnet.vpc} allows SSH, so the key can't be used",
                code="NoSshRule",
                place=place,
                scope="region",
                hint="allow port 22 in one of [providers.aws] security_groups, or leave out ssh_key",
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
        if request.opens_ssh:
            ingress += [_ssh_rule(block) for block in self._ssh_sources.blocks(place)]
        with translate_errors("AuthorizeSecurityGroupIngress", place):
            _authorize(ec2.authorize_security_group_ingress, group_id, ingress)
        if request.fabric:
            # Outbound EFA traffic needs a rule that names the group itself; the rule for all addresses does not allow it:
            # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-start.html
            with translate_errors("AuthorizeSecurityGroupEgress", place):
                _authorize(ec2.authorize_security_group_egress, group_id, [inside])

    def open_ssh(self, cluster_id: str, place: Place) -> None:
        """Open port 22 of a cluster's own groups to the caller; groups of the user's are never changed."""
        if self._settings.security_groups:
            return
        filters: Any = [{"Name": "group-name", "Values": [group_name(cluster_id)]}]
        rules = [_ssh_rule(block) for block in self._ssh_sources.blocks(place)]
        ec2 = self._clients.ec2(place.region)
        with translate_errors("DescribeSecurityGroups", place):
            groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        for group in groups if rules else ():
            if plain_tags(group.get("Tags")).get(TAG_ID) == cluster_id:
                with translate_errors("AuthorizeSecurityGroupIngress", place):
                    _authorize(ec2.authorize_security_group_ingress, group["GroupId"], rules)

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
                answer = ec2.describe_instance_types(InstanceTypes=[instance.name])  # type: ignore[list-item] # the stubs list the names of today
            described = answer["InstanceTypes"][0]["NetworkInfo"] if answer["InstanceTypes"] else {}
            self._cards[instance.name] = described_cards(dict(described), instance)
        return self._cards[instance.name]


def _allows_ssh(group: Mapping[str, Any]) -> bool:
    """Return whether a rule of a security group lets others than its own members reach port 22."""
    return any(_is_ssh(rule) and _has_source(rule, group["GroupId"]) for rule in group.get("IpPermissions", ()))


def _is_ssh(rule: Mapping[str, Any]) -> bool:
    if rule["IpProtocol"] == "-1":
        return True
    return rule["IpProtocol"] in ("tcp", "6") and rule.get("FromPort", 0) <= _SSH <= rule.get("ToPort", 0)


def _has_source(rule: Mapping[str, Any], own: str) -> bool:
    pairs: Iterable[Mapping[str, Any]] = rule.get("UserIdGroupPairs", ())
    others = any(pair.get("GroupId") != own for pair in pairs)
    return others or any(rule.get(kind) for kind in ("IpRanges", "Ipv6Ranges", "PrefixListIds"))


def _ssh_rule(block: str) -> dict[str, Any]:
    ranges = {"Ipv6Ranges": [{"CidrIpv6": block}]} if ":" in block else {"IpRanges": [{"CidrIp": block}]}
    return {"IpProtocol": "tcp", "FromPort": _SSH, "ToPort": _SSH, **ranges}


def _authorize(call: Any, group_id: str, rules: list[dict[str, Any]]) -> None:
    """Add rules. EC2 refuses all of them if one exists already, so then each is added by itself."""
    try:
        call(GroupId=group_id, IpPermissions=rules)
    except ClientError as error:
        if code_of(error) != "InvalidPermission.Duplicate":
            raise
        for rule in rules if len(rules) > 1 else ():
            _authorize(call, group_id, [rule])
