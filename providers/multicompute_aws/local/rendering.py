"""The XML of instances: one template for each launch, filled in for each instance."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from multicompute_aws.local import wire
from multicompute_aws.local.state import STATE_CODES, Instance, Interface, InterfaceSpec, Launch
from multicompute_aws.local.tag_rules import tag_set

# A character that is not valid in XML, so no text of a user can look like a placeholder.
_PLACEHOLDER = re.compile(r"\x01(\w+)\x01")


def instance_item(instance: Instance, account: str, state: str) -> str:
    """Return the <item> of an instance in an instancesSet, with this state."""
    kind = "gone" if state == "terminated" else "live"
    pieces = instance.launch.templates.get(kind)
    if pieces is None:
        # To write an instance with 32 network interfaces by the model takes 4 ms, to fill in the template 0.05 ms.
        pieces = tuple(_PLACEHOLDER.split(_template(instance.launch, account, kind)))
        instance.launch.templates[kind] = pieces
    values = _values(instance, state)
    filled = list(pieces)
    filled[1::2] = [values.get(name, "") for name in pieces[1::2]]
    return "".join(filled)


def _values(instance: Instance, state: str) -> dict[str, str]:
    values = {
        "id": instance.id,
        "index": str(instance.index),
        "code": str(STATE_CODES[state]),
        "state": state,
        "tags": wire.write_items(wire.shape("TagList"), tag_set(instance.tags)),
        "address": instance.address,
        "dns": _private_name(instance.address, instance.launch.region),
        "public": instance.public_address,
        "spot": instance.spot_request.id if instance.spot_request else "",
        "reason": _reason(instance),
    }
    for number, interface in enumerate(instance.interfaces):
        values[f"eni{number}"] = interface.id
        values[f"mac{number}"] = interface.mac
        values[f"attach{number}"] = interface.attachment
        values[f"ip{number}"] = interface.address
    for number, volume in enumerate(instance.volumes):
        values[f"vol{number}"] = volume.id
    return values


def _reason(instance: Instance) -> str:
    if instance.reason is None:
        return "<reason/>"
    code, message = (wire.text(word) for word in instance.reason)
    when = f" ({instance.reason_at:%Y-%m-%d %H:%M:%S} GMT)" if instance.reason_at else ""
    summary = "User initiated" if code.startswith("Client.User") else code
    return f"<reason>{summary}{when}</reason><stateReason><code>{code}</code><message>{message}</message></stateReason>"


def _private_name(address: str, region: str) -> str:
    name = "ip-" + address.replace(".", "-")
    return f"{name}.ec2.internal" if region == "us-east-1" else f"{name}.{region}.compute.internal"


def _template(launch: Launch, account: str, kind: str) -> str:
    described = _permanent(launch)
    if kind == "live":
        described |= _attached(launch, account)
    written = wire.write_members(wire.shape("Instance"), described)
    return f"<item>{written}<tagSet>\x01tags\x01</tagSet>\x01reason\x01</item>"


def _permanent(launch: Launch) -> dict[str, Any]:
    """Return the members that an instance has as long as it is listed."""
    described: dict[str, Any] = {
        "InstanceId": "\x01id\x01",
        "ImageId": launch.image,
        "State": {"Code": "\x01code\x01", "Name": "\x01state\x01"},
        "AmiLaunchIndex": "\x01index\x01",
        "InstanceType": launch.instance_type,
        "LaunchTime": launch.launched_at,
        "KeyName": launch.key,
        "Placement": {
            "AvailabilityZone": launch.zone,
            "GroupName": launch.placement_group or "",
            "Tenancy": "default",
        },
        "Monitoring": {"State": "enabled" if launch.monitoring else "disabled"},
        "Architecture": launch.arch,
        "RootDeviceType": "ebs",
        "RootDeviceName": launch.root_device,
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "EnaSupport": True,
        "ClientToken": launch.token,
        "CpuOptions": {"CoreCount": launch.cores, "ThreadsPerCore": max(launch.vcpus // launch.cores, 1)},
        "MetadataOptions": _metadata(launch.metadata),
        "PlatformDetails": "Linux/UNIX",
        "CapacityReservationId": launch.capacity_reservation,
        "CapacityReservationSpecification": _capacity(launch),
    }
    if launch.spot:
        described |= {"InstanceLifecycle": "spot", "SpotInstanceRequestId": "\x01spot\x01"}
    if launch.capacity_block:
        described |= {"InstanceLifecycle": "capacity-block", "CapacityBlockId": launch.capacity_reservation}
    return described


def _metadata(options: Mapping[str, object]) -> dict[str, object]:
    return {
        "State": "applied",
        "HttpTokens": options.get("HttpTokens", "optional"),
        "HttpPutResponseHopLimit": options.get("HttpPutResponseHopLimit", 1),
        "HttpEndpoint": options.get("HttpEndpoint", "enabled"),
        "HttpProtocolIpv6": options.get("HttpProtocolIpv6", "disabled"),
        "InstanceMetadataTags": options.get("InstanceMetadataTags", "disabled"),
    }


def _capacity(launch: Launch) -> dict[str, Any]:
    if launch.capacity_reservation is None:
        return {"CapacityReservationPreference": "open"}
    return {"CapacityReservationTarget": {"CapacityReservationId": launch.capacity_reservation}}


def _attached(launch: Launch, account: str) -> dict[str, Any]:
    """Return the members that disappear with termination: addresses, volumes, interfaces."""
    attached: dict[str, Any] = {
        "PrivateIpAddress": "\x01address\x01",
        "PrivateDnsName": "\x01dns\x01",
        "SubnetId": launch.interfaces[0].subnet,
        "VpcId": launch.vpc,
        "SourceDestCheck": True,
        "SecurityGroups": _groups(launch.interfaces[0]),
        "BlockDeviceMappings": [_mapping(launch, number) for number in range(len(launch.disks))],
        "NetworkInterfaces": [_interface(launch, number, account) for number in range(len(launch.interfaces))],
    }
    if launch.public_address:
        attached |= {"PublicIpAddress": "\x01public\x01", "PublicDnsName": "ec2-\x01public\x01.local"}
    if launch.profile:
        arn = launch.profile if launch.profile.startswith("arn:") else _profile_arn(launch.profile, account)
        attached["IamInstanceProfile"] = {"Arn": arn, "Id": "AIPALOCAL"}
    return attached


def _profile_arn(name: str, account: str) -> str:
    return f"arn:aws:iam::{account}:instance-profile/{name}"


def _groups(spec: InterfaceSpec) -> list[dict[str, str]]:
    return [{"GroupId": group, "GroupName": name} for group, name in spec.groups]


def _mapping(launch: Launch, number: int) -> dict[str, Any]:
    disk = launch.disks[number]
    return {
        "DeviceName": disk.device,
        "Ebs": {
            "VolumeId": f"\x01vol{number}\x01",
            "Status": "attached",
            "AttachTime": launch.launched_at,
            "DeleteOnTermination": disk.delete_on_termination,
        },
    }


def _interface(launch: Launch, number: int, account: str) -> dict[str, Any]:
    spec = launch.interfaces[number]
    described: dict[str, Any] = {
        "NetworkInterfaceId": f"\x01eni{number}\x01",
        "MacAddress": f"\x01mac{number}\x01",
        "InterfaceType": spec.kind,
        "Status": "in-use",
        "SubnetId": spec.subnet,
        "VpcId": launch.vpc,
        "OwnerId": account,
        "Description": spec.description,
        "SourceDestCheck": True,
        "Groups": _groups(spec),
        "Attachment": {
            "AttachmentId": f"\x01attach{number}\x01",
            "DeviceIndex": spec.device,
            "NetworkCardIndex": spec.card,
            "Status": "attached",
            "AttachTime": launch.launched_at,
            "DeleteOnTermination": spec.delete_on_termination,
        },
    }
    if spec.kind != "efa-only":
        described["PrivateIpAddress"] = f"\x01ip{number}\x01"
        described["PrivateIpAddresses"] = [{"Primary": True, "PrivateIpAddress": f"\x01ip{number}\x01"}]
    return described


def reservation_items(instances: Iterable[Instance], account: str, now: datetime) -> str:
    """Return the <item>s of a reservationSet: the instances, grouped by launch."""
    by_launch: dict[str, list[Instance]] = {}
    for instance in instances:
        by_launch.setdefault(instance.launch.id, []).append(instance)
    return "".join(
        f"<item>{reservation_members(members[0].launch, members, account, lambda member: member.state(now))}</item>"
        for members in by_launch.values()
    )


def reservation_members(
    launch: Launch, instances: Iterable[Instance], account: str, state_of: Callable[[Instance], str]
) -> str:
    """Return the members of a reservation, which are also the response of RunInstances."""
    items = "".join(instance_item(instance, account, state_of(instance)) for instance in instances)
    return (
        f"<reservationId>{launch.id}</reservationId><ownerId>{account}</ownerId><groupSet/>"
        f"<instancesSet>{items}</instancesSet>"
    )


STATUS_CHECKS: Mapping[str, str] = {
    "system": "systemStatus",
    "instance": "instanceStatus",
    "attached-ebs": "attachedEbsStatus",
}
"""Status check -> the member of a response with its result."""


def status_item(instance: Instance, now: datetime) -> str:
    """Return the <item> of an instance in an instanceStatusSet."""
    state = instance.state(now)
    checks = "".join(
        f"<{member}><status>{instance.status(check, now)}</status>{_details(instance, check)}</{member}>"
        for check, member in STATUS_CHECKS.items()
    )
    return (
        f"<item><instanceId>{instance.id}</instanceId><availabilityZone>{instance.launch.zone}</availabilityZone>"
        f"<instanceState><code>{STATE_CODES[state]}</code><name>{state}</name></instanceState>{checks}</item>"
    )


def _details(instance: Instance, check: str) -> str:
    since = instance.failing.get(check)
    if since is None:
        return "<details><item><name>reachability</name><status>passed</status></item></details>"
    return (
        f"<details><item><impairedSince>{wire.text(since)}</impairedSince><name>reachability</name>"
        "<status>failed</status></item></details>"
    )


def interface_values(interface: Interface, account: str, region: str) -> dict[str, Any]:
    """Return a network interface as DescribeNetworkInterfaces shows it."""
    spec, instance = interface.spec, interface.instance
    described: dict[str, Any] = {
        "NetworkInterfaceId": interface.id,
        "MacAddress": interface.mac,
        "InterfaceType": spec.kind,
        "Status": "in-use" if instance else "available",
        "SubnetId": spec.subnet,
        "OwnerId": account,
        "Description": spec.description,
        "Groups": _groups(spec),
        "RequesterManaged": False,
        "SourceDestCheck": True,
        "TagSet": tag_set(interface.tags),
    }
    if interface.address:
        described["PrivateIpAddress"] = interface.address
        described["PrivateDnsName"] = _private_name(interface.address, region)
    if instance:
        described |= {
            "VpcId": instance.launch.vpc,
            "AvailabilityZone": instance.launch.zone,
            "Attachment": {
                "AttachmentId": interface.attachment,
                "InstanceId": instance.id,
                "InstanceOwnerId": account,
                "DeviceIndex": spec.device,
                "NetworkCardIndex": spec.card,
                "Status": "attached",
                "AttachTime": instance.launch.launched_at,
                "DeleteOnTermination": spec.delete_on_termination,
            },
        }
    return described
