"""Reads the VM sizes of a region as Azure describes them to the subscription: families, zones, restrictions and capabilities."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from multicompute.errors import AccessDeniedError
from multicompute.provider_kit.vendor_errors import Place, unavailable_here
from multicompute_azure._errors import log, restricted_size
from multicompute_azure._names import zone_number
from multicompute_azure._session import COMPUTE, Clients, path_of

_VIRTUAL_MACHINES: Final = "virtualmachines"


@dataclass(frozen=True, slots=True)
class Size:
    """A VM size in a region.

    Attributes:
        name: Azure's name.
        family: The quota that it counts against, "standardNDSH100v5Family".
        zones: Numbers of the zones that have it; empty where it is sold for the complete region only.
        restriction: Why this subscription can't have it in the region, "" if it can.
        zone_restrictions: The same by zone.
        capabilities: What it can do, by Azure's names.
    """

    name: str
    family: str = ""
    zones: frozenset[str] = frozenset()
    restriction: str = ""
    zone_restrictions: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, str] = field(default_factory=dict)

    def has(self, capability: str) -> bool:
        """Return whether it has a capability, which Azure lists only where it does."""
        return self.capabilities.get(capability, "").lower() == "true"

    @property
    def supports_trusted_launch(self) -> bool:
        """Return whether it is of generation 2, x86, and not excluded by name ("Trusted Launch for Azure virtual machines")."""
        generations = self.capabilities.get("HyperVGenerations", "")
        is_arm = self.capabilities.get("CpuArchitectureType", "").lower() == "arm64"
        return "V2" in generations and not is_arm and not self.has("TrustedLaunchDisabled")

    @property
    def is_confidential(self) -> bool:
        """Return whether it starts as a confidential VM only ("Resource SKUs": SNP or TDX)."""
        return bool(self.capabilities.get("ConfidentialComputingType"))

    def ephemeral_disk(self, gib: float) -> str:
        """Return where an ephemeral boot disk of `gib` GiB fits, "CacheDisk" or "ResourceDisk"; "" if it fits nowhere."""
        if not self.has("EphemeralOSDiskSupported") or self.is_confidential:
            return ""
        if self.supports_trusted_launch:
            # "Ephemeral OS disks for Azure VMs": Trusted Launch keeps 1 GiB of the space for the state of the machine's TPM and firmware.
            gib += 1
        cache = _number(self.capabilities.get("CachedDiskBytes")) / 2**30
        resource = _number(self.capabilities.get("MaxResourceVolumeMB")) / 1024
        placements = self.capabilities.get("SupportedEphemeralOSDiskPlacements", "CacheDisk,ResourceDisk")
        for placement, space in (("CacheDisk", cache), ("ResourceDisk", resource)):
            if placement in placements and space >= gib:
                return placement
        return ""


class Sizes:
    """The sizes of each region, read once: the answer has megabytes, and changes with the subscription's permissions only."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._regions: dict[str, Mapping[str, Size]] = {}
        self._lock = threading.Lock()

    def in_region(self, region: str) -> Mapping[str, Size]:
        """Return the sizes of a region, by name in lower case.

        Raises:
            MulticomputeError: They can't be read.
        """
        with self._lock:
            if region not in self._regions:
                listed = self._clients.list_all(
                    "skus.list",
                    Place("azure", region),
                    path_of(None, f"{COMPUTE}/skus"),
                    _filter=f"location eq '{region}'",
                )
                found = [_size(item, region) for item in listed if _is_size(item)]
                self._regions[region] = {size.name.lower(): size for size in found}
            return self._regions[region]

    def require(self, place: Place) -> Size:
        """Return the size that is to be launched in `place`; if sizes may not be read, one about which nothing is known.

        Raises:
            CapacityError: The place does not sell it.
            AccessDeniedError, QuotaError: This subscription can't have it there.
        """
        try:
            sizes = self.in_region(place.region)
        except AccessDeniedError as error:
            log.warning("%s: what is restricted is not known: %s", place, error.message)
            return Size(place.instance_type)
        size = sizes.get(place.instance_type.lower())
        if size is None:
            raise unavailable_here(
                f"{place.instance_type} is not sold in this region",
                code="SkuNotAvailable",
                place=place,
                scope="region",
                hint="another region may have it",
                is_offered=False,
            )
        if size.restriction:
            raise restricted_size(size.restriction, place)
        _require_zone(size, place)
        return size


def _require_zone(size: Size, place: Place) -> None:
    number = zone_number(place.zone)
    if not size.zones:
        # Sold for the region as a whole, so it is launched without a zone.
        return
    reason = size.zone_restrictions.get(number, "") if number else ""
    if not reason and (not number or number in size.zones):
        return
    raise unavailable_here(
        f"{size.name} is not open to the subscription in this zone: {reason}"
        if reason
        else f"{size.name} is not sold in this zone",
        code=reason or "SkuNotAvailable",
        place=place,
        scope="zone",
        hint=f"it is in {', '.join(sorted(size.zones)) or 'none'} of the region's zones",
        is_offered=False,
    )


def _is_size(item: Any) -> bool:
    return str(item.get("resourceType", "")).lower() == _VIRTUAL_MACHINES


def _size(item: Any, region: str) -> Size:
    zones: set[str] = set()
    for info in item.get("locationInfo") or ():
        if str(info.get("location", "")).lower() == region:
            zones |= set(info.get("zones") or ())
    restriction = ""
    by_zone: dict[str, str] = {}
    for rule in item.get("restrictions") or ():
        reason = str(rule.get("reasonCode", ""))
        if str(rule.get("type", "")) == "Location":
            restriction = reason or "Restricted"
        else:
            by_zone |= dict.fromkeys((rule.get("restrictionInfo") or {}).get("zones") or (), reason or "Restricted")
    capabilities = {str(pair["name"]): str(pair.get("value", "")) for pair in item.get("capabilities") or ()}
    return Size(str(item["name"]), str(item.get("family") or ""), frozenset(zones), restriction, by_zone, capabilities)


def _number(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0
