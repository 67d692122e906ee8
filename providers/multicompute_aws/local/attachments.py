"""The actions on volumes and network interfaces, for instances in the local cloud's own store."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from multicompute.testing.local.server import Request
from multicompute_aws.local import rendering, wire
from multicompute_aws.local.filters import Getter, select
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import DiskSpec, Instance, Interface, State, Volume
from multicompute_aws.local.tag_rules import read_specifications, tag_set
from multicompute_aws.local.wire import AwsError

# The default of "Security groups per network interface" (Amazon VPC quotas).
_GROUPS_OF_AN_INTERFACE = 5


class Attachments:
    """Volumes and network interfaces. Interfaces that were created without an instance are in moto."""

    def __init__(self, state: State, moto: Moto) -> None:
        """Answer from the records in `state`, and from `moto` where they are not in `state`."""
        self._state = state
        self._moto = moto

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {
            "CreateVolume": self._create_volume,
            "DescribeVolumes": self._describe_volumes,
            "DeleteVolume": self._delete_volume,
            "DescribeNetworkInterfaces": self._describe_interfaces,
            "DeleteNetworkInterface": self._delete_interface,
            "ModifyNetworkInterfaceAttribute": self._modify_interface,
        }

    def _create_volume(self, call: Call) -> bytes:
        params = call.params
        zone = params.get("AvailabilityZone", "")
        if zone not in self._moto.zones(call.region.name):
            raise AwsError("InvalidZone.NotFound", f"The zone '{zone}' does not exist.")
        tags = read_specifications(params.get("TagSpecifications", []), ("volume",)).get("volume", {})
        if "Size" not in params:
            raise AwsError("MissingParameter", "The request must contain the parameter size or snapshotId")
        spec = DiskSpec(
            device="",
            size=params["Size"],
            type=params.get("VolumeType", "gp2"),
            encrypted=params.get("Encrypted", False),
            delete_on_termination=False,
            iops=params.get("Iops"),
            throughput=params.get("Throughput"),
        )
        volume = Volume(self._state.new_id("vol"), zone, spec, tags, self._state.now())
        call.region.volumes[volume.id] = volume
        return wire.response_body(call.action, _volume_values(volume))

    def _describe_volumes(self, call: Call) -> bytes:
        ids = call.params.get("VolumeIds")
        named = (self._volume(call, identifier) for identifier in ids or ())
        listed = (volume for volume in call.region.volumes.values() if self._is_listed(volume.instance))
        page, more = select(call.params, "VolumeIds", named if ids else listed, _VOLUME_FILTERS)
        values: dict[str, Any] = {"Volumes": [_volume_values(volume) for volume in page], "NextToken": more}
        return wire.response_body(call.action, values)

    def _delete_volume(self, call: Call) -> bytes:
        volume = self._volume(call, call.params["VolumeId"])
        if volume.instance is not None:
            raise AwsError("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.instance.id}")
        del call.region.volumes[volume.id]
        return wire.response_body(call.action, {})

    def _volume(self, call: Call, identifier: str) -> Volume:
        volume = call.region.volumes.get(identifier)
        if volume is None or not self._is_listed(volume.instance):
            raise AwsError("InvalidVolume.NotFound", f"The volume '{identifier}' does not exist.")
        return volume

    def _is_listed(self, instance: Instance | None) -> bool:
        return instance is None or self._state.now() >= instance.listed_from

    def _describe_interfaces(self, call: Call) -> bytes:
        ids: list[str] = call.params.get("NetworkInterfaceIds", [])
        own = call.region.interfaces
        named = [own[identifier] for identifier in ids if identifier in own] if ids else list(own.values())
        visible = [item for item in named if self._is_listed(item.instance)]
        page, more = select(call.params, "NetworkInterfaceIds", visible, _INTERFACE_FILTERS)
        region, account = call.region.name, self._moto.account
        listed = [rendering.interface_values(interface, account, region) for interface in page]
        values: dict[str, Any] = {"NetworkInterfaces": listed, "NextToken": more}
        body = wire.response_body(call.action, values)
        if more or not self._moto.ec2(region).enis or (ids and all(identifier in own for identifier in ids)):
            return body
        return with_moto_items(body, self._moto, call, "NetworkInterfaceId", lambda identifier: identifier in own)

    def _modify_interface(self, call: Call) -> bytes:
        interface = call.region.interfaces.get(call.params["NetworkInterfaceId"])
        if interface is None:
            return self._moto.call_or_refuse(call.request)
        ids = call.params.get("Groups") or [group for group, _ in interface.spec.groups]
        found = [self._moto.security_group(call.region.name, identifier) for identifier in ids]
        for identifier, group in zip(ids, found, strict=True):
            if group is None:
                raise AwsError("InvalidGroup.NotFound", f"The security group '{identifier}' does not exist")
        if len(ids) > _GROUPS_OF_AN_INTERFACE:
            raise AwsError(
                "SecurityGroupsPerInterfaceLimitExceeded",
                "The maximum number of security groups per interface has been reached.",
            )
        interface.spec = replace(interface.spec, groups=tuple((group.id, group.name) for group in found if group))
        return wire.response_body(call.action, {})

    def _delete_interface(self, call: Call) -> bytes:
        interface = call.region.interfaces.get(call.params["NetworkInterfaceId"])
        if interface is None:
            return self._moto.call_or_refuse(call.request)
        if interface.instance is not None:
            raise AwsError("InvalidParameterValue", f"Network interface '{interface.id}' is currently in use.")
        del call.region.interfaces[interface.id]
        return wire.response_body(call.action, {})


def with_moto_items(body: bytes, moto: Moto, call: Call, id_parameter: str, is_own: Callable[[str], bool]) -> bytes:
    """Return a response body with moto's items of the same list appended; `is_own` returns whether an id is of our own and unknown to moto."""
    found = moto.call_or_refuse(without_ids(call, id_parameter, is_own))
    theirs = re.search(rb"<(\w+Set)>(.*)</\1>", found, re.DOTALL)
    if theirs is None or b"<item>" not in theirs[2]:
        return body
    name = theirs[1]
    return body.replace(b"</" + name + b">", theirs[2] + b"</" + name + b">", 1)


def without_ids(call: Call, id_parameter: str, is_own: Callable[[str], bool]) -> Request:
    """Return the request for moto, without the ids that moto does not know."""
    from urllib.parse import parse_qsl

    kept, ids = [], []
    for name, value in parse_qsl(call.request.body.decode(), keep_blank_values=True):
        if name.startswith(id_parameter + "."):
            ids.append(value)
        elif name != "MaxResults":
            kept.append((name, value))
    theirs = [identifier for identifier in ids if not is_own(identifier)]
    kept += [(f"{id_parameter}.{number}", identifier) for number, identifier in enumerate(theirs, start=1)]
    return replace(call.request, body=urlencode(kept).encode())


def _volume_values(volume: Volume) -> dict[str, Any]:
    spec, instance = volume.spec, volume.instance
    attachments = []
    if instance is not None:
        attachments = [
            {
                "VolumeId": volume.id,
                "InstanceId": instance.id,
                "Device": spec.device,
                "State": "attached",
                "AttachTime": volume.created_at,
                "DeleteOnTermination": spec.delete_on_termination,
            }
        ]
    return {
        "VolumeId": volume.id,
        "Size": spec.size,
        "AvailabilityZone": volume.zone,
        "State": "in-use" if instance else "available",
        "CreateTime": volume.created_at,
        "Attachments": attachments,
        "Tags": tag_set(volume.tags),
        "VolumeType": spec.type,
        "Encrypted": spec.encrypted,
        "Iops": spec.iops,
        "Throughput": spec.throughput,
        "MultiAttachEnabled": False,
        "SnapshotId": "",
    }


def _of_instance(item: Volume | Interface) -> tuple[str, ...]:
    return (item.instance.id,) if item.instance else ()


_VOLUME_FILTERS: dict[str, Getter[Volume]] = {
    "volume-id": lambda volume: (volume.id,),
    "status": lambda volume: ("in-use" if volume.instance else "available",),
    "availability-zone": lambda volume: (volume.zone,),
    "attachment.instance-id": _of_instance,
    "attachment.status": lambda volume: ("attached",) if volume.instance else (),
    "attachment.delete-on-termination": lambda volume: (str(volume.spec.delete_on_termination).lower(),),
    "encrypted": lambda volume: (str(volume.spec.encrypted).lower(),),
    "size": lambda volume: (str(volume.spec.size),),
    "volume-type": lambda volume: (volume.spec.type,),
}
_INTERFACE_FILTERS: dict[str, Getter[Interface]] = {
    "network-interface-id": lambda interface: (interface.id,),
    "status": lambda interface: ("in-use" if interface.instance else "available",),
    "attachment.instance-id": _of_instance,
    "attachment.device-index": lambda interface: (str(interface.spec.device),) if interface.instance else (),
    "subnet-id": lambda interface: (interface.spec.subnet,),
    "group-id": lambda interface: tuple(group for group, _ in interface.spec.groups),
    "group-name": lambda interface: tuple(name for _, name in interface.spec.groups),
    "interface-type": lambda interface: (interface.spec.kind,),
    "vpc-id": lambda interface: (interface.instance.launch.vpc,) if interface.instance else (),
    "availability-zone": lambda interface: (interface.instance.launch.zone,) if interface.instance else (),
    "mac-address": lambda interface: (interface.mac,),
    "private-ip-address": lambda interface: (interface.address,),
    "addresses.private-ip-address": lambda interface: (interface.address,),
}
