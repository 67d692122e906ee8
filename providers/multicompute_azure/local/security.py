"""The rules for the security type of machines and for disks on the machine itself, with Azure's messages."""

from typing import Any, Final

from multicompute_azure.local.arm import ArmError, Json, dig, invalid
from multicompute_azure.local.capabilities import capabilities
from multicompute_azure.local.hardware import Size
from multicompute_azure.local.images import Details

# "Trusted Launch as default": from this version of the API on, machines without a security profile get it.
_DEFAULT_SINCE: Final = "2025-11-01"
# "Ephemeral OS disks for Azure VMs": Trusted Launch keeps 1 GiB for the state of the machine.
_STATE_GIB: Final = 1


def check(profile: Json, size: Size, region: str, version: str, image: Details) -> None:
    """Refuse a security type or a boot disk that the size or the image does not have, and fill in Azure's default.

    Args:
        profile: The virtual machine profile, which gets the security profile that holds.
        size: The size.
        region: The region.
        version: The api-version of the request.
        image: What Azure knows of the image.
    """
    known = capabilities(size, region)
    security: Json = profile.get("securityProfile") or {}
    kind = security.get("securityType")
    _check_kind(kind, size, known, image)
    can_trust = _size_can_trust(known) and image.supports_trusted_launch
    if kind is None and can_trust and version >= _DEFAULT_SINCE:
        kind = "TrustedLaunch"
        profile["securityProfile"] = {
            "securityType": kind,
            "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
        }
    _check_disk(dig(profile, "storageProfile", "osDisk") or {}, size, known, kind)


def _size_can_trust(known: dict[str, str]) -> bool:
    return known.get("TrustedLaunchDisabled") != "True"


def _check_kind(kind: Any, size: Size, known: dict[str, str], image: Details) -> None:
    if kind == "Standard":
        # Reported for subscriptions that have not registered the feature, which is none by default (MicrosoftDocs, "Trusted Launch FAQ").
        raise ArmError(
            "BadRequest",
            "The value 'Standard' is not available for property 'securityType' until the feature "
            "Microsoft.Compute/UseStandardSecurityType OR Microsoft.Compute/StandardSecurityTypeAsFirstClassEnum is registered on "
            "subscription. Please register the feature and retry. https://aka.ms/TrustedLaunch-FAQ",
        )
    is_confidential = "ConfidentialComputingType" in known
    # skyplane-project/skyplane#755 and confidential-containers/cloud-api-adaptor#1742 have these.
    if is_confidential != (kind == "ConfidentialVM") or (kind == "TrustedLaunch" and not _size_can_trust(known)):
        raise ArmError(
            "BadRequest",
            f"The VM size '{size.name}' is not supported for creation of VMs and Virtual Machine Scale Set with '{kind or '<NULL>'}' "
            "security type.",
        )
    if kind == "TrustedLaunch" and not image.supports_trusted_launch:
        raise ArmError(
            "BadRequest",
            "Use of TrustedLaunch setting is not supported for the provided image. Please select Trusted Launch Supported Gen2 OS Image.",
        )


def _check_disk(disk: Json, size: Size, known: dict[str, str], kind: Any) -> None:
    """Refuse an ephemeral disk that does not fit, and a disk without encryption settings for a confidential machine."""
    if kind == "ConfidentialVM" and not dig(disk, "managedDisk", "securityProfile", "securityEncryptionType"):
        raise invalid("osDisk.managedDisk.securityProfile", "A confidential VM needs a securityEncryptionType.")
    settings = disk.get("diffDiskSettings")
    if settings is None:
        return
    placement = settings.get("placement") or "CacheDisk"
    if placement not in known.get("SupportedEphemeralOSDiskPlacements", "").split(","):
        raise invalid(
            "osDisk.diffDiskSettings",
            f"The VM size {size.name} does not support an ephemeral OS disk on the {placement}.",
        )
    cache, temporary = int(known.get("CachedDiskBytes", "0")) >> 30, int(known["MaxResourceVolumeMB"]) // 1024
    room = (cache if placement == "CacheDisk" else temporary) - (_STATE_GIB if kind == "TrustedLaunch" else 0)
    if (disk.get("diskSizeGB") or 30) > room:
        raise invalid(
            "osDisk.diskSizeGB",
            f"OS disk of Ephemeral VM with size greater than {room} GB is not allowed for VM size {size.name} when the DiffDiskPlacement "
            f"is {placement}.",
        )
