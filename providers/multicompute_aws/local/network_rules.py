"""EC2's rules for the zone and the network interfaces of a launch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multicompute_aws.local.hardware import InstanceType
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import InterfaceSpec
from multicompute_aws.local.wire import AwsError

_NAMES_ONLY_IN_DEFAULT_VPC = "GroupName is only supported for EC2-Classic and default VPC."
_KINDS = ("interface", "efa", "efa-only")


@dataclass(frozen=True, slots=True)
class Network:
    """The network of a launch.

    Attributes:
        zone: The zone; "" if the request leaves it to EC2.
        specs: The interfaces; their subnet is "" if the zone is not known yet.
        public_address: Whether the request wants a public address; None if it does not specify it.
    """

    zone: str
    vpc: str
    specs: tuple[InterfaceSpec, ...]
    public_address: bool | None


def read_network(moto: Moto, region: str, params: Mapping[str, Any], instance_type: InstanceType) -> Network:
    """Read and check the zone, subnets, interfaces and security groups of a RunInstances request."""
    wanted: list[Mapping[str, Any]] = params.get("NetworkInterfaces", [])
    if wanted:
        _refuse_both(params)
        _check_positions(wanted, instance_type)
    else:
        wanted = [_primary(params)]
    subnets = {nic["SubnetId"]: _subnet(moto, region, nic["SubnetId"]) for nic in wanted if "SubnetId" in nic}
    zone = _zone(moto, region, params, [subnet.availability_zone for subnet in subnets.values()])
    first = subnets.get(wanted[0].get("SubnetId"))
    if first is None and not moto.has_default_vpc(region):
        raise AwsError("VPCIdNotSpecified", f"No default VPC for this user. {_NAMES_ONLY_IN_DEFAULT_VPC}")
    vpc = first.vpc_id if first is not None else moto.ec2(region).default_vpc.id
    specs = tuple(_spec(moto, region, nic, vpc) for nic in wanted)
    return Network(zone, vpc, specs, wanted[0].get("AssociatePublicIpAddress"))


def _refuse_both(params: Mapping[str, Any]) -> None:
    if "SubnetId" in params:
        what = "an instance-level subnet ID"
    elif "SecurityGroupIds" in params or "SecurityGroups" in params:
        what = "instance-level security groups"
    else:
        return
    raise AwsError(
        "InvalidParameterCombination", f"Network interfaces and {what} may not be specified on the same request"
    )


def _primary(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the interface of a request that names no interfaces."""
    nic: dict[str, Any] = {"DeviceIndex": 0, "Groups": params.get("SecurityGroupIds", []), "DeleteOnTermination": True}
    nic["GroupNames"] = params.get("SecurityGroups", [])
    if "SubnetId" in params:
        nic["SubnetId"] = params["SubnetId"]
    return nic


def _check_positions(nics: Sequence[Mapping[str, Any]], instance_type: InstanceType) -> None:
    if any("DeviceIndex" not in nic for nic in nics):
        raise AwsError("InvalidParameterValue", "Each network interface requires a device index.")
    places = Counter((nic.get("NetworkCardIndex", 0), nic["DeviceIndex"]) for nic in nics)
    for (card, device), count in places.items():
        if count > 1:
            raise AwsError(
                "InvalidParameterValue", f"Device index {device} of network card {card} is used by {count} interfaces."
            )
    if (0, 0) not in places:
        raise AwsError("InvalidParameterValue", "A primary network interface (network card 0, device 0) is required.")
    _check_cards(Counter(card for card, _ in places), instance_type)
    _check_kinds(nics, instance_type)
    if len(nics) > 1 and any(nic.get("AssociatePublicIpAddress") for nic in nics):
        raise AwsError(
            "InvalidParameterCombination",
            "The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces.",
        )


def _check_cards(used: Mapping[int, int], instance_type: InstanceType) -> None:
    for card, count in used.items():
        if not 0 <= card < len(instance_type.cards):
            raise AwsError(
                "InvalidParameterValue",
                f"Network card index {card} is not valid: {instance_type.name} has {len(instance_type.cards)} network cards.",
            )
        if count > instance_type.cards[card]:
            raise AwsError(
                "AttachmentLimitExceeded",
                f"Interface count {count} exceeds the limit for {instance_type.name}, card {card}",
            )


def _check_kinds(nics: Sequence[Mapping[str, Any]], instance_type: InstanceType) -> None:
    kinds = [nic.get("InterfaceType", "interface") for nic in nics]
    for nic, kind in zip(nics, kinds, strict=True):
        if kind not in _KINDS:
            raise AwsError("InvalidParameterValue", f"Invalid value '{kind}' for InterfaceType.")
        if kind == "efa-only" and nic.get("NetworkCardIndex", 0) == 0 and nic["DeviceIndex"] == 0:
            raise AwsError(
                "InvalidParameterCombination", "An EFA-only network interface can't be the primary network interface."
            )
    count = sum(kind != "interface" for kind in kinds)
    if count and not instance_type.efa:
        raise AwsError("Unsupported", f"EFA interfaces are not supported on {instance_type.name}")
    for nic, kind in zip(nics, kinds, strict=True):
        # https://github.com/aws/aws-parallelcluster/issues/7143: a P6-B300 does not launch with an EFA interface on its primary card. The
        # cards of each type are those of DescribeInstanceTypes; EC2's message is not public.
        card = nic.get("NetworkCardIndex", 0)
        if kind != "interface" and card in instance_type.plain_cards:
            raise AwsError(
                "InvalidParameterCombination",
                f"Network card {card} of {instance_type.name} does not support interfaces of the type {kind}.",
            )
    if count > instance_type.efa:
        raise AwsError(
            "AttachmentLimitExceeded", f"EFA interface count {count} exceeds the limit for {instance_type.name}"
        )


def _subnet(moto: Moto, region: str, subnet_id: str) -> Any:
    subnet = moto.subnet(region, subnet_id)
    if subnet is None:
        raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
    return subnet


def _zone(moto: Moto, region: str, params: Mapping[str, Any], of_subnets: Sequence[str]) -> str:
    requested: str = params.get("Placement", {}).get("AvailabilityZone", "")
    if requested and requested not in moto.zones(region):
        raise AwsError("InvalidParameterValue", f"Invalid availability zone: [{requested}]")
    zones = {*of_subnets, *([requested] if requested else [])}
    if len(zones) > 1:
        raise AwsError(
            "InvalidParameterValue",
            f"Everything of one instance must be in one Availability Zone, not in {', '.join(sorted(zones))}.",
        )
    return next(iter(zones), "")


def _spec(moto: Moto, region: str, nic: Mapping[str, Any], vpc: str) -> InterfaceSpec:
    return InterfaceSpec(
        card=nic.get("NetworkCardIndex", 0),
        device=nic["DeviceIndex"],
        kind=nic.get("InterfaceType", "interface"),
        subnet=nic.get("SubnetId", ""),
        groups=_groups(moto, region, nic, vpc),
        # By default an interface that the launch creates is deleted with the instance, and an existing one stays.
        delete_on_termination=nic.get("DeleteOnTermination", "NetworkInterfaceId" not in nic),
        description=nic.get("Description", ""),
    )


def _groups(moto: Moto, region: str, nic: Mapping[str, Any], vpc: str) -> tuple[tuple[str, str], ...]:
    found = []
    for group_id in nic.get("Groups", []):
        group = moto.security_group(region, group_id)
        if group is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != vpc:
            raise AwsError(
                "InvalidParameter",
                f"Security group {group_id} and subnet {nic.get('SubnetId', '')} belong to different networks.",
            )
        found.append((group.id, group.name))
    for name in nic.get("GroupNames", []):
        group = moto.ec2(region).get_security_group_from_name(name, vpc)
        if group is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{name}' does not exist in VPC '{vpc}'")
        found.append((group.id, group.name))
    if not found:
        group = moto.default_group(region, vpc)
        found.append((group.id, group.name))
    return tuple(found)
