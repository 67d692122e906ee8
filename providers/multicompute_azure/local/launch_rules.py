"""The rules for scale sets that are not in the schema, with Azure's messages."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from multicompute_azure.local import hardware, images
from multicompute_azure.local.arm import ArmError, Json, dig, invalid, missing
from multicompute_azure.local.hardware import Size
from multicompute_azure.local.state import SCALE_SET

# https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-orchestration-modes
_MAXIMUM, _MAXIMUM_CLOSE = 1000, 100
_CUSTOM_DATA = 87380
# User names that the service refuses, from its documentation of `adminUsername`.
_FORBIDDEN_USERS = frozenset(
    (
        "administrator", "admin", "user", "user1", "test", "user2", "test1", "user3", "admin1", "1", "123", "a",
        "actuser", "adm", "admin2", "aspnet", "backup", "console", "david", "guest", "john", "owner", "root",
        "server", "sql", "support", "support_388945a0", "sys", "test2", "test3", "user4", "user5",
    )
)  # fmt: skip
_KEY = re.compile(r"^(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/=]+")
_NAME = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9._]{0,62}[A-Za-z0-9_])?")
# The longest name of a Flexible scale set, which becomes part of the names of machines.
_FLEXIBLE_NAME = 44
_PROFILE = "virtualMachineProfile"
# The fault domain counts of a regional and of a zonal scale set ("Orchestration modes": Flexible has one in a zone, and at most three
# elsewhere; "Choosing the right number of fault domains": Uniform has one or five in a zone, and up to five elsewhere).
_MODES = {"Flexible": ((1, 2, 3), (1,)), "Uniform": ((1, 2, 3, 4, 5), (1, 5))}
# The properties of an existing scale set that a PUT must not change.
_FIXED = ("orchestrationMode", "platformFaultDomainCount", "singlePlacementGroup", "proximityPlacementGroup")


def check_size(name: object, region: str, zones: tuple[str, ...], resource: str) -> Size:
    """Return a size; refuse one that the region or its zones do not have."""
    if not isinstance(name, str) or not name:
        raise missing("sku.name")
    size = hardware.size_of(name)
    if size is None:
        raise invalid("vmSize", f"The value {name} provided for the VM size is not valid.")
    if not hardware.is_sold(size, region):
        raise invalid(
            "vmSize",
            f"The requested VM size {name} is not available in the current region. "
            "Find out more on the available VM sizes in each region at https://aka.ms/azure-regions.",
        )
    supported = hardware.zones_of(region)
    wrong = [zone for zone in zones if zone not in supported]
    if wrong:
        raise no_zones(wrong, resource, region, supported)
    return size


def no_zones(wrong: Sequence[str], resource: str, region: str, supported: Sequence[str] = ()) -> ArmError:
    """Return the error for zones that a region or a size does not have."""
    return ArmError(
        "AvailabilityZoneNotSupported",
        f"The zone(s) '{','.join(wrong)}' for resource '{resource}' is not supported. The supported zones for location "
        f"'{region}' are '{','.join(supported)}'",
    )


def check_shape(name: str, document: Json) -> None:
    """Refuse a scale set with an invalid name, mode, fault domain count or capacity."""
    if not _NAME.fullmatch(name) or len(name) > _FLEXIBLE_NAME:
        raise invalid("vmScaleSetName", f"The scale set name '{name}' is invalid.")
    properties = document.get("properties") or {}
    mode = properties.get("orchestrationMode")
    if mode not in _MODES:
        raise invalid(
            "orchestrationMode", f"The local Azure needs an orchestrationMode, {' or '.join(_MODES)}, not {mode!r}."
        )
    if mode == "Uniform" and properties.get("upgradePolicy") is None:
        raise missing("upgradePolicy")
    if properties.get("upgradePolicy") is not None and dig(properties, "upgradePolicy", "mode") not in (None, "Manual"):
        raise ArmError(
            "OperationNotAllowed", "Upgrade policy mode other than Manual is not supported by the local Azure.", 409
        )
    domains = properties.get("platformFaultDomainCount")
    if domains is None:
        raise missing("platformFaultDomainCount")
    if domains not in _MODES[mode][bool(document.get("zones"))]:
        raise invalid(
            "platformFaultDomainCount",
            f"The value '{domains}' of parameter 'platformFaultDomainCount' is out of range.",
        )
    capacity = dig(document, "sku", "capacity")
    if capacity is None or capacity < 0:
        raise (
            missing("sku.capacity")
            if capacity is None
            else invalid("sku.capacity", f"The capacity '{capacity}' is out of range.")
        )
    most = _MAXIMUM_CLOSE if properties.get("singlePlacementGroup") else _MAXIMUM
    if capacity > most:
        raise ArmError(
            "OperationNotAllowed",
            f"The scale set can have at most {most} instances, not {capacity}.",
            409,
            target="sku.capacity",
        )
    if properties.get(_PROFILE) is None:
        raise missing(_PROFILE)
    _check_reservation(mode, properties)


def _check_reservation(mode: str, properties: Json) -> None:
    group = dig(properties, _PROFILE, "capacityReservation", "capacityReservationGroup", "id")
    if mode == "Uniform" and group and properties.get("singlePlacementGroup") is not False:
        # "Associate a Virtual Machine Scale Set with uniform orchestration to a Capacity Reservation group", limitations.
        text = "singlePlacementGroup must be False for a Virtual Machine Scale Set that uses a capacity reservation."
        raise ArmError("OperationNotAllowed", text, 409, target="singlePlacementGroup")


def check_update(document: Json) -> None:
    """Refuse a PATCH of what the local Azure does not change."""
    changed = set(document) - {"tags", "sku", "properties"}
    properties = document.get("properties") or {}
    changed |= {f"properties.{name}" for name in set(properties) - {_PROFILE}}
    profile = properties.get(_PROFILE) or {}
    changed |= {f"{_PROFILE}.{name}" for name in set(profile) - {"userData", "osProfile"}}
    changed |= {f"osProfile.{name}" for name in set(profile.get("osProfile") or {}) - {"customData"}}
    if changed:
        text = f"The local Azure changes tags, capacity and data of a scale set only, not {', '.join(sorted(changed))}."
        raise ArmError("OperationNotAllowed", text, 409)
    _check_custom_data(dig(profile, "osProfile", "customData"))


def check_profile(profile: Mapping[str, Any], size: Size, spot_price: float, *, mode: str) -> None:
    """Refuse a profile from which no machine can be created; `spot_price` is what a spot machine of the size costs there."""
    _check_spot(profile, size, spot_price)
    _check_system(profile)
    _check_storage(profile, size)
    network = profile.get("networkProfile") or {}
    configs = network.get("networkInterfaceConfigurations") or []
    if not configs:
        raise missing(f"{_PROFILE}.networkProfile.networkInterfaceConfigurations")
    if mode == "Uniform":
        _refuse_flexible_only(profile)
    elif not network.get("networkApiVersion"):
        raise missing(f"{_PROFILE}.networkProfile.networkApiVersion")
    if len(configs) > 1 and sum(bool(dig(config, "properties", "primary")) for config in configs) != 1:
        raise invalid("networkProfile", "Exactly one network interface configuration must be primary.")
    for config in configs:
        addresses = dig(config, "properties", "ipConfigurations") or []
        if not addresses:
            raise missing("ipConfigurations")
        for address in addresses:
            if not dig(address, "properties", "subnet", "id"):
                raise missing("ipConfigurations.subnet.id")


def _refuse_flexible_only(profile: Mapping[str, Any]) -> None:
    """Refuse what the SDK's models describe as "VMSS with Flexible OrchestrationMode only"."""
    if dig(profile.get("storageProfile"), "osDisk", "deleteOption") is not None:
        raise invalid("osDisk.deleteOption", "deleteOption is supported for Flexible orchestration mode only.")
    if dig(profile.get("networkProfile"), "networkApiVersion") is not None:
        raise invalid("networkApiVersion", "networkApiVersion is supported for Flexible orchestration mode only.")


def _check_spot(profile: Mapping[str, Any], size: Size, current: float) -> None:
    is_spot = profile.get("priority") in ("Spot", "Low")
    price = dig(profile.get("billingProfile"), "maxPrice")
    if not is_spot:
        if profile.get("evictionPolicy") is not None:
            raise ArmError(
                "OperationNotAllowed", "Eviction policy can be set only on Azure Spot Virtual Machines.", 409
            )
        if price not in (None, -1):
            raise ArmError("OperationNotAllowed", "Max price can be set only on Azure Spot Virtual Machines.", 409)
        return
    if dig(profile.get("capacityReservation"), "capacityReservationGroup", "id"):
        raise ArmError("OperationNotAllowed", "Azure Spot Virtual Machines can't use a capacity reservation.", 409)
    if price is None or price == -1:
        return
    if price <= 0:
        raise invalid("billingProfile.maxPrice", f"The max price '{price}' must be -1 or greater than zero.")
    if price < current:
        raise ArmError(
            "SpotPriceGreaterThanProvidedMaxPrice",
            f"Unable to perform operation 'Create VM' since the provided max price '{price} USD' is lower than the current spot price "
            f"'{current} USD' for Azure Spot VM size '{size.name}'. For more information, see http://aka.ms/AzureSpot/errormessages",
            409,
        )


def _check_system(profile: Mapping[str, Any]) -> None:
    system = profile.get("osProfile")
    if system is None:
        raise missing("osProfile")
    for name in ("computerNamePrefix", "adminUsername"):
        if not system.get(name):
            raise missing(f"osProfile.{name}")
    if system["adminUsername"].lower() in _FORBIDDEN_USERS:
        raise invalid("adminUsername", "The Admin Username specified is not allowed.")
    keys = dig(system, "linuxConfiguration", "ssh", "publicKeys") or []
    if not keys and not system.get("adminPassword"):
        raise invalid(
            "linuxConfiguration",
            "Authentication using either SSH or by user name and password must be enabled in Linux profile.",
        )
    for key in keys:
        if not _KEY.match(key.get("keyData") or ""):
            raise invalid(
                "linuxConfiguration.ssh.publicKeys.keyData",
                "The value of parameter linuxConfiguration.ssh.publicKeys.keyData is invalid.",
            )
        path = f"/home/{system['adminUsername']}/.ssh/authorized_keys"
        if key.get("path") != path:
            raise invalid(
                "linuxConfiguration.ssh.publicKeys.path",
                f"Destination path for SSH public keys is currently limited to its default value {path} due to a known issue in Linux "
                "provisioning agent.",
            )
    _check_custom_data(system.get("customData"))


def _check_custom_data(data: str | None) -> None:
    if data is None:
        return
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        data = "!" * (_CUSTOM_DATA + 1)
    if len(data) > _CUSTOM_DATA:
        raise invalid(
            "customData",
            f"Custom data in OSProfile must be in Base64 encoding and with a maximum length of {_CUSTOM_DATA} characters.",
        )


def _check_storage(profile: Mapping[str, Any], size: Size) -> None:
    storage = profile.get("storageProfile") or {}
    image = storage.get("imageReference")
    if image is None:
        raise missing("storageProfile.imageReference")
    images.check(image, size.arch)
    disk = storage.get("osDisk") or {}
    if dig(disk, "diffDiskSettings") is not None and disk.get("caching") != "ReadOnly":
        raise invalid("osDisk.caching", "Ephemeral OS disks need caching 'ReadOnly'.")
    kind = dig(profile.get("securityProfile"), "securityType")
    if kind is None and dig(profile.get("securityProfile"), "uefiSettings") is not None:
        raise invalid("securityProfile.uefiSettings", "Use of UEFI settings is not supported without a security type.")


def refuse_changes(old: Json, new: Json) -> None:
    """Refuse a PUT that changes a fixed property of a scale set."""
    for name in _FIXED:
        before, after = (document.get("properties", {}).get(name) for document in (old, new))
        if before != after and after is not None:
            raise ArmError("PropertyChangeNotAllowed", f"Changing property '{name}' is not allowed.", 409, target=name)
    before, after = (dig(document.get("properties"), _PROFILE, "priority") for document in (old, new))
    if (before or "Regular") != (after or "Regular"):
        raise ArmError(
            "PropertyChangeNotAllowed", "Changing property 'priority' is not allowed.", 409, target="priority"
        )
    if set(old.get("zones") or ()) - set(new.get("zones") or ()):
        raise ArmError("PropertyChangeNotAllowed", f"The zones of a {SCALE_SET} can't be removed.", 409, target="zones")
