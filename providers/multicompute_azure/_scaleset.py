"""Writes the scale set that a part of a gang is: plain data in Resource Manager's words, made without asking anybody."""

import base64
import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Any, Final

from multicompute.offer import Part
from multicompute.provider import LaunchRequest
from multicompute_azure._access import AzureSettings
from multicompute_azure._image import Image
from multicompute_azure._names import zone_number
from multicompute_azure._sizes import Size
from multicompute_azure._userdata import custom_data

ADMIN: Final = "ubuntu"
# https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-placement-groups
SINGLE_GROUP_NODES: Final = 100
# Room for a framework, a container or two and checkpoints beside the image; all of Ubuntu-HPC's is 64 GB or less.
_DEFAULT_DISK_GIB: Final = 200
_DEFAULT_PLAIN_DISK_GIB: Final = 64
# The version of the network API that makes a Flexible scale set's interfaces; the newest that Compute knows.
_NETWORK_API: Final = "2022-11-01"


@dataclass(frozen=True, slots=True)
class NetworkRefs:
    """What a scale set is put into, by resource id; "" for none."""

    subnet: str
    security_group: str
    proximity_group: str = ""


def scale_set(
    request: LaunchRequest, part: Part, *, size: Size, image: Image, around: NetworkRefs, settings: AzureSettings
) -> dict[str, Any]:
    """The body of the PUT that launches a part: `part.nodes` instances, at once, in one zone, all tagged at birth."""
    number = zone_number(part.offer.zone)
    properties: dict[str, Any] = {
        "orchestrationMode": "Flexible",
        # One: spread over as many racks as there is room on, which is the only choice that does not cost capacity.
        "platformFaultDomainCount": 1,
        "virtualMachineProfile": _profile(request, part, size, image, around, settings),
    }
    if part.reservation is None:
        properties |= _closeness(request, around)
    body: dict[str, Any] = {
        "location": part.offer.region,
        "tags": dict(request.tags),
        "sku": {"name": part.offer.instance.name, "tier": "Standard", "capacity": part.nodes},
        "properties": properties,
    }
    if number:
        body["zones"] = [number]
    if settings.identity:
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {settings.identity: {}}}
    return body


def _closeness(request: LaunchRequest, around: NetworkRefs) -> dict[str, Any]:
    """What keeps instances close to each other; a reservation takes neither, and holds what it holds where it is."""
    if around.proximity_group:
        return {"proximityPlacementGroup": {"id": around.proximity_group}}
    return {"singlePlacementGroup": True} if request.fabric else {}


def _profile(
    request: LaunchRequest, part: Part, size: Size, image: Image, around: NetworkRefs, settings: AzureSettings
) -> dict[str, Any]:
    profile: dict[str, Any] = {
        "osProfile": _system(request, settings),
        "storageProfile": {"imageReference": image.reference, "osDisk": _disk(request, part, size)},
        "networkProfile": {
            "networkApiVersion": _NETWORK_API,
            "networkInterfaceConfigurations": [_interface(request, size, around)],
        },
    }
    if part.reservation is not None:
        profile["capacityReservation"] = {"capacityReservationGroup": {"id": part.reservation}}
    elif part.offer.purchase == "spot":
        # -1: up to the on-demand price, and never evicted for the price.
        limit = -1 if request.max_price is None else round(request.max_price, 5)
        profile |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": limit}}
    if image.is_plain and size.takes_trusted_launch:
        profile["securityProfile"] = {
            "securityType": "TrustedLaunch",
            "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
        }
    return profile


def _system(request: LaunchRequest, settings: AzureSettings) -> dict[str, Any]:
    key = (request.ssh_public_key or nobodys_key(request.token)).strip()
    return {
        "computerNamePrefix": "mc",
        "adminUsername": ADMIN,
        "customData": custom_data(expires_at=request.expires_at, identity=settings.identity, setup=request.setup),
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "ssh": {"publicKeys": [{"path": f"/home/{ADMIN}/.ssh/authorized_keys", "keyData": key}]},
        },
    }


def nobodys_key(token: str) -> str:
    """A public key to which no private key exists anywhere.

    Azure makes no Linux machine without a key or a password. This one is a digest in the form of an Ed25519 key: there is nothing to
    throw away or to leak, and the same token gives the same key, so that a repeated PUT is the same PUT.
    """
    digest = hashlib.sha256(f"multicompute: nobody logs in: {token}".encode()).digest()
    kind = b"ssh-ed25519"
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(digest)) + digest
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} nobody"


def _disk(request: LaunchRequest, part: Part, size: Size) -> dict[str, Any]:
    """The boot disk: on the machine's own disk where one of the default size fits there, which costs nothing; else a managed one."""
    default = _DEFAULT_DISK_GIB if part.offer.instance.accelerator else _DEFAULT_PLAIN_DISK_GIB
    gib = default if request.disk_gib is None else math.ceil(request.disk_gib)
    disk: dict[str, Any] = {"createOption": "FromImage", "diskSizeGB": gib, "deleteOption": "Delete"}
    placement = size.ephemeral_disk(gib) if request.disk_gib is None else ""
    if placement:
        return disk | {"caching": "ReadOnly", "diffDiskSettings": {"option": "Local", "placement": placement}}
    kind = "Premium_LRS" if size.can("PremiumIO") else "StandardSSD_LRS"
    return disk | {"caching": "ReadWrite", "managedDisk": {"storageAccountType": kind}}


def _interface(request: LaunchRequest, size: Size, around: NetworkRefs) -> dict[str, Any]:
    """The interface of each instance, and its public address where one is wanted; both tagged, and gone with the instance."""
    address: dict[str, Any] = {"primary": True, "subnet": {"id": around.subnet}}
    if not request.private:
        address["publicIPAddressConfiguration"] = {
            "name": "public",
            "sku": {"name": "Standard", "tier": "Regional"},
            "tags": dict(request.tags),
            "properties": {"deleteOption": "Delete", "publicIPAddressVersion": "IPv4"},
        }
    return {
        "name": "nic",
        "tags": dict(request.tags),
        "properties": {
            "primary": True,
            "deleteOption": "Delete",
            "enableAcceleratedNetworking": size.can("AcceleratedNetworkingEnabled"),
            "networkSecurityGroup": {"id": around.security_group},
            "ipConfigurations": [{"name": "ip", "properties": address}],
        },
    }
