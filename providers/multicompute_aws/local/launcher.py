"""RunInstances: reads and checks the request as EC2 does, and creates the instances."""

import base64
import binascii
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from multicompute_aws.local.admission import (
    Allocation,
    LaunchDemand,
    allocate,
    check_group,
    check_offered,
    check_quota,
    check_spot_price,
)
from multicompute_aws.local.hardware import InstanceType, instance_types
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.network_rules import Network, read_network
from multicompute_aws.local.state import (
    KEY_IS_UNUSABLE,
    CapacityReservation,
    DiskSpec,
    Instance,
    Interface,
    Launch,
    Region,
    SpotRequest,
    State,
    Volume,
)
from multicompute_aws.local.tag_rules import check_metadata_keys, read_specifications
from multicompute_aws.local.wire import AwsError

_USER_DATA_LIMIT = 16384
_TOKEN_LENGTH = 64
_TAGGED = ("instance", "volume", "network-interface", "spot-instances-request")
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html: requests with the same token may differ in these.
_NOT_COMPARED = frozenset({"ClientToken", "DryRun"})
# RFC 2544: addresses for benchmarks, which no router forwards.
_PUBLIC = int(ipaddress.IPv4Address("198.18.0.1"))


class Launcher:
    """The part of RunInstances that checks a launch and creates its instances, for both stores."""

    def __init__(self, state: State, moto: Moto) -> None:
        """Create instances in the regions of `state`, on the images and networks of `moto`."""
        self._state = state
        self._moto = moto

    def replayed(self, region: Region, params: Mapping[str, Any]) -> Launch | None:
        """Return the launch of an earlier call with the same token, or None.

        Raises:
            AwsError: The earlier call had other parameters, or its instances were terminated.
        """
        token = params.get("ClientToken", "")
        if len(token) > _TOKEN_LENGTH or not token.isascii():
            raise AwsError("InvalidParameterValue", f"Client token is too long or not ASCII: {token!r}")
        known = region.tokens.get(token) if token else None
        if known is None:
            return None
        before, launch = known
        if before != _comparable(params):
            raise AwsError(
                "IdempotentParameterMismatch",
                f"Arguments on this idempotent request are inconsistent with arguments used in previous request: {token}",
            )
        if all(instance.ends_at is not None for instance in launch.instances):
            raise AwsError(
                "IdempotentInstanceTerminated",
                "The request to launch an instance uses the same client token as a previous request for which the"
                " instance has been terminated.",
            )
        return launch

    def prepare(self, region: Region, params: Mapping[str, Any]) -> tuple[Launch, int]:
        """Check a request and choose its zone, without changing anything; return the launch and the number of instances."""
        least, most = _counts(params)
        instance_type = _instance_type(params.get("InstanceType", "m1.small"))
        image = self._image(region.name, params, instance_type)
        network = read_network(self._moto, region.name, params, instance_type)
        self._check_names(region.name, params)
        user_data = _user_data(params)
        spot, block = _market(params)
        tags = read_specifications(params.get("TagSpecifications", []), _TAGGED if spot else _TAGGED[:3])
        if params.get("MetadataOptions", {}).get("InstanceMetadataTags") == "enabled":
            check_metadata_keys(tags.get("instance", {}))
        demand = LaunchDemand(
            instance_type=instance_type,
            zone=network.zone,
            least=least,
            most=most,
            spot=spot,
            reservation=_reservation(region, params, block=block),
            group=_group(region, params),
            tenancy=params.get("Placement", {}).get("Tenancy", "default"),
        )
        check_offered(demand, region.name, self._state)
        check_group(demand, region, self._state)
        if params.get("DryRun"):
            raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        check_quota(demand, region, self._state)
        check_spot_price(demand, region, self._state, params)
        self._check_addresses(region, network, least)
        allocation = allocate(demand, region, self._state, self._moto.default_subnets(region.name))
        return self._launch(region, params, demand, allocation, network, image, user_data, tags), allocation.count

    def _check_addresses(self, region: Region, network: Network, count: int) -> None:
        """Refuse a launch into a subnet with too few free addresses."""
        subnet = self._moto.subnet(region.name, network.specs[0].subnet) if network.specs[0].subnet else None
        if subnet is None or not (self._state.limits_all_subnets or subnet.id in self._state.limited_subnets):
            return
        used = sum(1 for each in region.interfaces.values() if each.address and each.spec.subnet == subnet.id)
        if subnet.available_ip_address_count - used < count:
            raise AwsError(
                "InsufficientFreeAddressesInSubnet",
                f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of instances.",
            )

    def _launch(
        self,
        region: Region,
        params: Mapping[str, Any],
        demand: LaunchDemand,
        allocation: Allocation,
        network: Network,
        image: Any,
        user_data: str,
        tags: dict[str, dict[str, str]],
    ) -> Launch:
        interfaces, is_public = self._complete_interfaces(region.name, network, allocation.zone)
        profile = params.get("IamInstanceProfile", {})
        return Launch(
            id=self._state.new_id("r"),
            region=region.name,
            zone=allocation.zone,
            vpc=network.vpc,
            instance_type=demand.instance_type.name,
            vcpus=demand.instance_type.vcpus,
            cores=demand.instance_type.cores,
            arch=demand.instance_type.arch,
            image=image.id,
            root_device=image.root_device_name,
            key=params.get("KeyName"),
            profile=profile.get("Arn") or profile.get("Name"),
            token=params.get("ClientToken", ""),
            spot=demand.spot,
            capacity_block=demand.reservation is not None and demand.reservation.is_block,
            capacity_reservation=allocation.reservation.id if allocation.reservation else None,
            placement_group=demand.group.name if demand.group else None,
            public_address=is_public,
            user_data=user_data,
            shutdown_behavior=params.get("InstanceInitiatedShutdownBehavior", "stop"),
            metadata=params.get("MetadataOptions", {}),
            monitoring=params.get("Monitoring", {}).get("Enabled", False),
            disks=_disks(params, image),
            interfaces=interfaces,
            tags=tags,
            launched_at=self._state.now(),
        )

    def _complete_interfaces(self, region: str, network: Network, zone: str) -> tuple[tuple[Any, ...], bool]:
        """Return the interfaces, each in a subnet of the zone, and whether the instances get a public address."""
        if all(spec.subnet for spec in network.specs):
            specs = network.specs
        else:
            default = self._moto.default_subnets(region).get(zone)
            if default is None:
                raise AwsError("MissingInput", f"No default subnet for availability zone: '{zone}'.")
            specs = tuple(replace(spec, subnet=spec.subnet or default.id) for spec in network.specs)
        subnet = self._moto.subnet(region, specs[0].subnet)
        assigns = bool(subnet.map_public_ip_on_launch) if network.public_address is None else network.public_address
        # EC2 assigns no public address to an instance with several interfaces.
        return specs, assigns and len(specs) == 1

    def create(self, region: Region, launch: Launch, count: int, params: Mapping[str, Any]) -> Launch:
        """Create the instances of a launch from `prepare`."""
        base = int(self._network_of(region.name, launch).network_address)
        addressed = sum(spec.kind != "efa-only" for spec in launch.interfaces)
        for index in range(count):
            first = self._state.number() * addressed
            self._create_one(region, launch, index, base + 4 + first, params)
        self._remember(region, launch, params)
        if region.name in self._state.unusable_keys and any(disk.encrypted for disk in launch.disks):
            now = self._state.now()
            for instance in launch.instances:
                region.terminate(instance, now, KEY_IS_UNUSABLE, now)
        return launch

    def _network_of(self, region: str, launch: Launch) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self._moto.subnet(region, launch.interfaces[0].subnet).cidr_block)

    def adopt(self, region: Region, launch: Launch, ids: Sequence[str], params: Mapping[str, Any]) -> Launch:
        """Record the instances of a launch that moto created, for quotas, capacity, groups and tokens."""
        for index, identifier in enumerate(ids):
            self._record(region, launch, identifier, index, params)
        self._remember(region, launch, params)
        return launch

    def _remember(self, region: Region, launch: Launch, params: Mapping[str, Any]) -> None:
        if launch.token:
            region.tokens[launch.token] = (_comparable(params), launch)

    def _record(
        self, region: Region, launch: Launch, identifier: str, index: int, params: Mapping[str, Any]
    ) -> Instance:
        now = self._state.now()
        instance = Instance(
            id=identifier,
            launch=launch,
            index=index,
            address="",
            public_address="",
            tags=dict(launch.tags.get("instance", {})),
            listed_from=now + self._state.timing.lag,
            runs_from=now + self._state.timing.boot,
            shutdown_behavior=launch.shutdown_behavior,
            is_protected=params.get("DisableApiTermination", False),
        )
        if launch.spot:
            self._request_spot(region, instance, params)
        region.instances[instance.id] = instance
        launch.instances.append(instance)
        return instance

    def _create_one(self, region: Region, launch: Launch, index: int, address: int, params: Mapping[str, Any]) -> None:
        instance = self._record(region, launch, self._state.new_id("i"), index, params)
        instance.address = str(ipaddress.IPv4Address(address))
        if launch.public_address:
            instance.public_address = str(ipaddress.IPv4Address(_PUBLIC + self._state.number()))
        self._attach_disks(region, instance)
        self._attach_interfaces(region, instance, address)

    def _attach_disks(self, region: Region, instance: Instance) -> None:
        launch = instance.launch
        for spec in launch.disks:
            tags = dict(launch.tags.get("volume", {}))
            volume = Volume(self._state.new_id("vol"), launch.zone, spec, tags, launch.launched_at, instance)
            region.volumes[volume.id] = volume
            instance.volumes.append(volume)

    def _attach_interfaces(self, region: Region, instance: Instance, address: int) -> None:
        launch = instance.launch
        for spec in launch.interfaces:
            number = self._state.number()
            interface = Interface(
                id=f"eni-0{number:016x}",
                spec=spec,
                address="" if spec.kind == "efa-only" else str(ipaddress.IPv4Address(address)),
                mac=":".join(f"{0x02_00_00_00_00_00 + number:012x}"[at : at + 2] for at in range(0, 12, 2)),
                attachment=f"eni-attach-0{number:016x}",
                tags=dict(launch.tags.get("network-interface", {})),
                instance=instance,
            )
            address += spec.kind != "efa-only"
            region.interfaces[interface.id] = interface
            instance.interfaces.append(interface)

    def _request_spot(self, region: Region, instance: Instance, params: Mapping[str, Any]) -> None:
        options = params.get("InstanceMarketOptions", {}).get("SpotOptions", {})
        request = SpotRequest(
            id=f"sir-{self._state.number():08x}",
            instance=instance,
            max_price=options.get("MaxPrice", ""),
            kind=options.get("SpotInstanceType", "one-time"),
            interruption=options.get("InstanceInterruptionBehavior", "terminate"),
            tags=dict(instance.launch.tags.get("spot-instances-request", {})),
            created_at=instance.launch.launched_at,
        )
        region.spot_requests[request.id] = request
        instance.spot_request = request

    def _image(self, region: str, params: Mapping[str, Any], instance_type: InstanceType) -> Any:
        image_id = params.get("ImageId")
        if image_id is None:
            raise AwsError("MissingParameter", "The request must contain the parameter ImageId")
        if image_id.startswith("resolve:ssm:"):
            image_id = self._moto.image_parameter(region, image_id.removeprefix("resolve:ssm:")) or image_id
        if not image_id.startswith("ami-"):
            raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
        image = self._moto.image(region, image_id)
        if image is None:
            raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        if image.architecture != instance_type.arch:
            raise AwsError(
                "InvalidParameterValue",
                f"The architecture '{instance_type.arch}' of the specified instance type does not match the architecture"
                f" '{image.architecture}' of the specified AMI.",
            )
        return image

    def _check_names(self, region: str, params: Mapping[str, Any]) -> None:
        key = params.get("KeyName")
        if key and not self._moto.has_key(region, key):
            raise AwsError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        for field, profile in params.get("IamInstanceProfile", {}).items():
            if not self._moto.has_profile(profile):
                raise AwsError(
                    "InvalidParameterValue",
                    f"Value ({profile}) for parameter iamInstanceProfile.{field.lower()} is invalid. Invalid IAM"
                    f" Instance Profile {field.lower()}",
                )


def _comparable(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in params.items() if name not in _NOT_COMPARED}


def _counts(params: Mapping[str, Any]) -> tuple[int, int]:
    least, most = params["MinCount"], params["MaxCount"]
    if least < 1:
        raise AwsError(
            "InvalidParameterValue", f"Value ({least}) for parameter minCount is invalid. Must be at least 1"
        )
    if most < least:
        raise AwsError(
            "InvalidParameterValue", f"Value ({most}) for parameter maxCount is invalid. It is less than minCount"
        )
    return least, most


def _instance_type(name: str) -> InstanceType:
    instance_type = instance_types().get(name)
    if instance_type is None:
        raise AwsError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    return instance_type


def _user_data(params: Mapping[str, Any]) -> str:
    encoded: str = params.get("UserData", "")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise AwsError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from error
    if len(decoded) > _USER_DATA_LIMIT:
        raise AwsError("InvalidParameterValue", f"User data is limited to {_USER_DATA_LIMIT} bytes")
    return encoded


def _market(params: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether it is a spot launch, and whether it uses a capacity block."""
    market = params.get("InstanceMarketOptions", {}).get("MarketType", "")
    if "InstanceMarketOptions" in params and market not in (
        "spot",
        "capacity-block",
        "interruptible-capacity-reservation",
    ):
        raise AwsError("InvalidParameterValue", f"Invalid value '{market}' for InstanceMarketOptions.MarketType.")
    return market == "spot", market == "capacity-block"


def _reservation(region: Region, params: Mapping[str, Any], *, block: bool) -> CapacityReservation | None:
    target = params.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget", {})
    identifier = target.get("CapacityReservationId")
    if identifier is None:
        if block:
            raise AwsError(
                "InvalidParameterCombination", "The market type capacity-block needs a capacity reservation target."
            )
        return None
    reservation = region.reservations.get(identifier)
    if reservation is None:
        raise AwsError(
            "InvalidCapacityReservationId.NotFound", f"The capacity reservation '{identifier}' does not exist"
        )
    if reservation.is_block != block:
        expected = "capacity-block" if reservation.is_block else "on demand"
        raise AwsError(
            "InvalidParameterCombination", f"The capacity reservation '{identifier}' needs the market type {expected}."
        )
    return reservation


def _group(region: Region, params: Mapping[str, Any]) -> Any:
    placement = params.get("Placement", {})
    name, identifier = placement.get("GroupName"), placement.get("GroupId")
    if not name and not identifier:
        return None
    for group in region.placement_groups.values():
        if (name and group.name == name) or (identifier and group.id == identifier):
            return group
    raise AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name or identifier}' is unknown.")


def _disks(params: Mapping[str, Any], image: Any) -> tuple[DiskSpec, ...]:
    """Return the volumes: the image's root volume with the changes of the request, and the volumes that it adds."""
    image_size: int = image.ebs_snapshot.volume.size
    root = DiskSpec(image.root_device_name, image_size, "gp3", encrypted=False, delete_on_termination=True)
    disks = {root.device: root}
    for mapping in params.get("BlockDeviceMappings", []):
        device = mapping.get("DeviceName")
        if not device:
            raise AwsError("InvalidBlockDeviceMapping", "A block device mapping needs a device name.")
        if "NoDevice" in mapping:
            disks.pop(device, None)
        elif "Ebs" in mapping:
            disks[device] = _disk(mapping["Ebs"], device, disks.get(device))
    if root.device in disks and disks[root.device].size < image_size:
        raise AwsError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {disks[root.device].size}GB is smaller than snapshot '{image.ebs_snapshot.id}', expect size"
            f" >= {image_size}GB",
        )
    return tuple(disks.values())


def _disk(ebs: Mapping[str, Any], device: str, default: DiskSpec | None) -> DiskSpec:
    size = ebs.get("VolumeSize", default.size if default else None)
    if size is None:
        raise AwsError("MissingParameter", "The request must contain the parameter size or snapshotId")
    if not 1 <= size <= 65536:
        raise AwsError("InvalidParameterValue", f"Volume size {size} is not between 1 and 65536")
    return DiskSpec(
        device=device,
        size=size,
        type=ebs.get("VolumeType", default.type if default else "gp3"),
        encrypted=ebs.get("Encrypted", False),
        # By default only the root volume is deleted with the instance (BlockDeviceMapping, EC2 API).
        delete_on_termination=ebs.get("DeleteOnTermination", default.delete_on_termination if default else False),
        iops=ebs.get("Iops"),
        throughput=ebs.get("Throughput"),
    )
