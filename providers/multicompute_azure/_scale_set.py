"""The body of the call that creates a scale set: plain data in Resource Manager's form, written without a call."""

import base64
import hashlib
import math
import struct
from typing import Any, Final

from multicompute.offer import Part
from multicompute.provider import LaunchRequest
from multicompute_azure._boot import custom_data
from multicompute_azure._fabric import on_fabric
from multicompute_azure._image import Image
from multicompute_azure._names import interface_name, zone_number
from multicompute_azure._network import NetworkRefs
from multicompute_azure._settings import AzureSettings
from multicompute_azure._sizes import Size
from multicompute_azure._uniform import record

ADMIN: Final = "ubuntu"
# Enough for a framework, a container or two and checkpoints next to the image; Ubuntu-HPC has 64 GB or less.
_DEFAULT_DISK_GIB: Final = 200
_DEFAULT_PLAIN_DISK_GIB: Final = 64
# The version of the network API with which a Flexible scale set creates its interfaces; the newest that Compute accepts.
_NETWORK_API: Final = "2022-11-01"


def scale_set_body(
    request: LaunchRequest,
    part: Part,
    *,
    name: str,
    size: Size,
    image: Image,
    network: NetworkRefs,
    settings: AzureSettings,
) -> dict[str, Any]:
    """Return the body of the PUT that launches a part: all its instances at once, in one zone, tagged at creation (I2).

    Args:
        request: The launch.
        part: The part; its reservation, if it has one, is the full id of a capacity reservation group.
        name: The name of the scale set.
        size: The VM size of the part.
        image: The image of the part.
        network: The resources that the scale set refers to.
        settings: The settings.
    """
    number = zone_number(part.offer.zone)
    is_uniform = on_fabric(request)
    profile = _profile(request, part, name, size, image, network, settings, is_uniform=is_uniform)
    properties: dict[str, Any] = {
        # One fault domain: spread over as many racks as have space, which is the only choice that does not reduce the capacity.
        **(_uniform(part) if is_uniform else {"orchestrationMode": "Flexible", "platformFaultDomainCount": 1}),
        "virtualMachineProfile": profile,
    }
    if part.reservation is not None and not is_uniform:
        # "Associate a Virtual Machine Scale Set with flexible orchestration to a Capacity Reservation group".
        properties["singlePlacementGroup"] = False
    body: dict[str, Any] = {
        "location": part.offer.region,
        "tags": dict(request.tags),
        "sku": {"name": part.offer.instance.name, "tier": "Standard", "capacity": part.nodes},
        "properties": properties,
    }
    if number and size.zones:
        body["zones"] = [number]
    if image.plan:
        body["plan"] = dict(image.plan)
    if settings.identity:
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {settings.identity: {}}}
    return body


def _uniform(part: Part) -> dict[str, Any]:
    """Return what makes a scale set one InfiniBand fabric, without more machines than were asked for, and without changing those that run."""
    return {
        "orchestrationMode": "Uniform",
        "platformFaultDomainCount": 1,
        # "Associate a Virtual Machine Scale Set with uniform orchestration to a Capacity Reservation group": it must be false there.
        "singlePlacementGroup": part.reservation is None,
        "overprovision": False,
        "upgradePolicy": {"mode": "Manual"},
        "scaleInPolicy": {"rules": ["NewestVM"]},
    }


def _profile(
    request: LaunchRequest,
    part: Part,
    name: str,
    size: Size,
    image: Image,
    network: NetworkRefs,
    settings: AzureSettings,
    *,
    is_uniform: bool,
) -> dict[str, Any]:
    profile: dict[str, Any] = {
        "osProfile": _os_profile(request, settings, is_uniform=is_uniform),
        "storageProfile": {"imageReference": image.reference, "osDisk": _disk(request, part, size)},
        "networkProfile": {
            "networkApiVersion": _NETWORK_API,
            "networkInterfaceConfigurations": [_interface(request, size, network, name=name, is_uniform=is_uniform)],
        },
    }
    if is_uniform:
        del profile["networkProfile"]["networkApiVersion"], profile["storageProfile"]["osDisk"]["deleteOption"]
        profile["userData"] = record(request.token, request.expires_at)
    if part.reservation is not None:
        profile["capacityReservation"] = {"capacityReservationGroup": {"id": part.reservation}}
    elif part.offer.purchase == "spot":
        # -1: up to the on-demand price, and never evicted for the price.
        limit = -1 if request.max_price is None else round(request.max_price, 5)
        profile |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": limit}}
    return profile | _security(image, size)


def _security(image: Image, size: Size) -> dict[str, Any]:
    """Return the security profile, as an item of the virtual machine profile; nothing where Azure has no choice of its own.

    Without one, Azure starts machines with Trusted Launch and secure boot if image and size support it (API version 2025-11-01, "Trusted
    Launch as default"). The drivers of NVIDIA and Mellanox are built on the machine and have no signature, so they would not load
    (Azure/azhpc-images#298). The type "Standard" is refused in subscriptions without the feature UseStandardSecurityType.
    """
    firmware = {"secureBootEnabled": image.is_plain or size.is_confidential, "vTpmEnabled": True}
    if size.is_confidential:
        return {"securityProfile": {"securityType": "ConfidentialVM", "uefiSettings": firmware}}
    if image.supports_trusted_launch and size.supports_trusted_launch:
        return {"securityProfile": {"securityType": "TrustedLaunch", "uefiSettings": firmware}}
    return {}


def _os_profile(request: LaunchRequest, settings: AzureSettings, *, is_uniform: bool) -> dict[str, Any]:
    key = (request.ssh_public_key or unusable_key(request.token)).strip()
    return {
        "computerNamePrefix": "mc",
        "adminUsername": ADMIN,
        "customData": custom_data(
            expires_at=request.expires_at, identity=settings.identity, setup=request.setup, is_uniform=is_uniform
        ),
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "ssh": {"publicKeys": [{"path": f"/home/{ADMIN}/.ssh/authorized_keys", "keyData": key}]},
        },
    }


def unusable_key(token: str) -> str:
    """Return a public key to which no private key exists.

    Azure creates no Linux machine without a key or a password. This key is a digest in the form of an Ed25519 key, so there is nothing to
    destroy or to leak. The same token gives the same key, as a repeated launch needs.
    """
    digest = hashlib.sha256(f"multicompute: nobody logs in: {token}".encode()).digest()
    kind = b"ssh-ed25519"
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(digest)) + digest
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} nobody"


def default_disk_gib(accelerator: str) -> int:
    """Return the size of the boot disk of a size with this accelerator."""
    return _DEFAULT_DISK_GIB if accelerator else _DEFAULT_PLAIN_DISK_GIB


def _disk(request: LaunchRequest, part: Part, size: Size) -> dict[str, Any]:
    """Return the boot disk: on the machine's own disk if one of the default size fits there, which costs nothing; else a managed disk."""
    default = default_disk_gib(part.offer.instance.accelerator)
    gib = default if request.disk_gib is None else math.ceil(request.disk_gib)
    disk: dict[str, Any] = {"createOption": "FromImage", "diskSizeGB": gib, "deleteOption": "Delete"}
    placement = size.ephemeral_disk(gib) if request.disk_gib is None else ""
    if placement:
        return disk | {"caching": "ReadOnly", "diffDiskSettings": {"option": "Local", "placement": placement}}
    kind = "Premium_LRS" if size.has("PremiumIO") else "StandardSSD_LRS"
    managed: dict[str, Any] = {"storageAccountType": kind}
    if size.is_confidential:
        managed["securityProfile"] = {"securityEncryptionType": "VMGuestStateOnly"}
    return disk | {"caching": "ReadWrite", "managedDisk": managed}


def _interface(
    request: LaunchRequest, size: Size, network: NetworkRefs, *, name: str, is_uniform: bool
) -> dict[str, Any]:
    """Return the interface of each instance, with a public address unless the nodes are private; both are deleted with the instance.

    Both are named after the scale set, so that they are found without their tags; Azure appends some characters. In a Uniform scale set
    they are parts of the instance: without tags, and always deleted with it ("Orchestration modes").
    """
    tags: dict[str, Any] = {} if is_uniform else {"tags": dict(request.tags)}
    deletion: dict[str, Any] = {} if is_uniform else {"deleteOption": "Delete"}
    address: dict[str, Any] = {"primary": True, "subnet": {"id": network.subnet}}
    if not request.private:
        address["publicIPAddressConfiguration"] = {
            "name": f"{name}-ip",
            "sku": {"name": "Standard", "tier": "Regional"},
            **tags,
            "properties": {**deletion, "publicIPAddressVersion": "IPv4"},
        }
    return {
        "name": interface_name(name),
        **tags,
        "properties": {
            "primary": True,
            **deletion,
            "enableAcceleratedNetworking": size.has("AcceleratedNetworkingEnabled"),
            "networkSecurityGroup": {"id": network.security_group},
            "ipConfigurations": [{"name": "ip", "properties": address}],
        },
    }
