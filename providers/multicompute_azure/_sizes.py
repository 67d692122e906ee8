"""Knows the VM sizes of a region as Azure describes them to this subscription: families, zones, what is restricted, what they can do."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from multicompute.errors import AccessDeniedError, MulticomputeError, QuotaError
from multicompute_azure._errors import Meaning, Place, build, log, unavailable_here
from multicompute_azure._names import zone_number
from multicompute_azure._session import COMPUTE, Clients, within

_VIRTUAL_MACHINES: Final = "virtualmachines"
_SUBSCRIPTION_HINT: Final = "have {size} opened for the subscription in {region}, or leave the region out with exclude="


@dataclass(frozen=True, slots=True)
class Size:
    """A VM size in a region.

    Attributes:
        family: the quota that it counts against, "standardNDSH100v5Family".
        zones: numbers of the zones that have it; empty where it is sold for the region as a whole only.
        restriction: why this subscription can't have it in the region, "" where it can.
        zone_restrictions: the same by zone.
        capabilities: what Azure says that it can, by Azure's names.
    """

    name: str
    family: str = ""
    zones: frozenset[str] = frozenset()
    restriction: str = ""
    zone_restrictions: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, str] = field(default_factory=dict)

    def can(self, capability: str) -> bool:
        """Whether Azure says so; what it does not mention it has not."""
        return self.capabilities.get(capability, "").lower() == "true"

    @property
    def takes_trusted_launch(self) -> bool:
        """Generation 2, x86, and not excluded by name ("Trusted Launch for Azure virtual machines")."""
        generations = self.capabilities.get("HyperVGenerations", "")
        is_arm = self.capabilities.get("CpuArchitectureType", "").lower() == "arm64"
        return "V2" in generations and not is_arm and not self.can("TrustedLaunchDisabled")

    def ephemeral_disk(self, gib: float) -> str:
        """Where an ephemeral boot disk of this size fits, "CacheDisk" or "ResourceDisk"; "" where it fits nowhere."""
        if not self.can("EphemeralOSDiskSupported"):
            return ""
        cache = _number(self.capabilities.get("CachedDiskBytes")) / 2**30
        resource = _number(self.capabilities.get("MaxResourceVolumeMB")) / 1024
        placements = self.capabilities.get("SupportedEphemeralOSDiskPlacements", "CacheDisk,ResourceDisk")
        for placement, room in (("CacheDisk", cache), ("ResourceDisk", resource)):
            if placement in placements and room >= gib:
                return placement
        return ""


class Sizes:
    """Reads each region's sizes once: the answer is megabytes and changes with the subscription's rights, not with the day."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._regions: dict[str, Mapping[str, Size]] = {}
        self._lock = threading.Lock()

    def of(self, region: str) -> Mapping[str, Size]:
        """The sizes of a region, by name in lower case.

        Raises:
            MulticomputeError: they can't be read.
        """
        place = Place(region)
        with self._lock:
            if region not in self._regions:
                wanted = f"location eq '{region}'"
                items = self._clients.pages("list the sizes", place, within(None, f"{COMPUTE}/skus"), _filter=wanted)
                found = [_size(item, region) for item in items if _is_size(item)]
                self._regions[region] = {size.name.lower(): size for size in found}
            return self._regions[region]

    def checked(self, place: Place) -> Size:
        """The size that is about to be launched; what is not known of it is found out by launching.

        Raises:
            CapacityError: the place does not sell it.
            AccessDeniedError, QuotaError: this subscription may not have it there.
        """
        try:
            sizes = self.of(place.region)
        except MulticomputeError as error:
            if not isinstance(error, AccessDeniedError):
                raise
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
        _refuse_restricted(size, place)
        return size


def _refuse_restricted(size: Size, place: Place) -> None:
    number = zone_number(place.zone)
    if size.restriction:
        kind = QuotaError if size.restriction == "QuotaId" else AccessDeniedError
        raise build(
            Meaning(kind, "region"),
            f"{place}: the subscription may not have {size.name} in this region: {size.restriction}",
            code=size.restriction,
            place=place,
            hint=_SUBSCRIPTION_HINT.format(size=size.name, region=place.region),
        )
    why = size.zone_restrictions.get(number, "") if number else ""
    if not why and (not number or number in size.zones):
        return
    raise unavailable_here(
        f"{size.name} is not open to the subscription in this zone: {why}"
        if why
        else f"{size.name} is not sold in this zone",
        code=why or "SkuNotAvailable",
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
    abilities = {str(pair["name"]): str(pair.get("value", "")) for pair in item.get("capabilities") or ()}
    return Size(str(item["name"]), str(item.get("family") or ""), frozenset(zones), restriction, by_zone, abilities)


def _number(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0
