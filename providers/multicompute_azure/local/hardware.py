"""Azure's offer, from the packaged offer tables: sizes, their families, regions and zones."""

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_DATA = Path(__file__).parent.parent / "data"

# The regions in the tables without availability zones, by Microsoft's list of regions in 2026-11; the others have three zones.
_WITHOUT_ZONES = frozenset(
    (
        "australiacentral", "australiacentral2", "australiasoutheast", "brazilsoutheast", "canadaeast", "francesouth",
        "germanynorth", "jioindiacentral", "jioindiawest", "koreasouth", "northcentralus", "norwaywest",
        "southafricawest", "southindia", "swedensouth", "switzerlandwest", "uaecentral", "ukwest", "westcentralus",
        "westindia", "westus",
    )
)  # fmt: skip

# Size without its numbers -> quota name in the usages API, where it does not follow from the size's name.
_FAMILIES = {
    "NCads_H100_v5": "StandardNCadsH100v5Family",
    "NCadis_H100_v5": "StandardNCadsH100v5Family",
    "NCads_A100_v4": "StandardNCADSA100v4Family",
    "NCas_T4_v3": "Standard NCASv3_T4 Family",
    "NDasr_v4": "Standard NDASv4_A100 Family",
    "NDamsr_A100_v4": "standard NDAMSv4_A100Family",
    "NDisr_H100_v5": "standardNDSH100v5Family",
    "NDisr_H200_v5": "standardNDISRH200V5Family",
    "NGads_V620_v1": "StandardNGADSV620v1Family",
    "NGadms_V620_v1": "StandardNGADSV620v1Family",
    "NVads_A10_v5": "StandardNVADSA10v5Family",
    "NVadms_A10_v5": "StandardNVADSA10v5Family",
    "NVads_V710_v5": "StandardNVadsV710v5Family",
    "NVadms_V710_v5": "StandardNVadsV710v5Family",
    "NVas_v4": "standardNVSv4Family",
    "NCrs_v3": "standardNCSv3Family",
    "NCs_v3": "standardNCSv3Family",
    "NVs_v3": "standardNVSv3Family",
    "NDis_MI300X_v5": "standardNDisrMI300Xv5Family",
    "NDrs_v2": "standardNDSv2Family",
}


@dataclass(frozen=True, slots=True)
class Size:
    """A virtual machine size.

    Attributes:
        family: The name of the quota that its cores count against.
        prices: Region -> list price in USD per hour, for the regions that sell it.
        spot_prices: Region -> spot price in USD per hour.
    """

    name: str
    family: str
    vcpus: int
    memory_gib: float
    accelerators: float
    arch: str
    has_rdma: bool
    prices: dict[str, float] = field(default_factory=dict)
    spot_prices: dict[str, float] = field(default_factory=dict)


def zones_of(region: str) -> tuple[str, ...]:
    """Return the availability zones of a region."""
    return () if region in _WITHOUT_ZONES else ("1", "2", "3")


@functools.cache
def regions() -> Mapping[str, str]:
    """Return region -> country."""
    with (_DATA / "regions.csv").open(encoding="utf-8", newline="") as file:
        return {row["region"]: row["country"] for row in csv.DictReader(file)}


@functools.cache
def sizes() -> Mapping[str, Size]:
    """Return every size by its name in lower case."""
    found: dict[str, Size] = {}
    for folder in sorted(path for path in _DATA.iterdir() if path.is_dir()):
        with (folder / "types.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[row["instance_type"].lower()] = _size(row)
        with (folder / "offers.csv").open(encoding="utf-8", newline="") as file:
            for name, _, region, purchase, price, *_ in list(csv.reader(file))[1:]:
                size = found[name.lower()]
                prices = size.spot_prices if purchase == "spot" else size.prices
                prices[region] = float(price or 0)
    return found


def size_of(name: str) -> Size | None:
    """Return the size with a name, whose case does not matter, or None."""
    return sizes().get(name.lower())


def is_sold(size: Size, region: str) -> bool:
    """Return whether a region sells a size."""
    return region in size.prices or region in size.spot_prices


def family_of(name: str) -> str:
    """Return the name of the quota that a size's cores count against."""
    shape = re.sub(r"^Standard_", "", name)
    shape = re.sub(r"^([A-Z]+)\d+", r"\1", shape)
    if shape in _FAMILIES:
        return _FAMILIES[shape]
    return f"standard{shape.replace('_', '')}Family"


def region_of(place: str) -> str:
    """Return the region of a place, which is a region ("eastus") or a zone ("eastus-1").

    Raises:
        ValueError: Azure has no such place.
    """
    region, dash, zone = place.rpartition("-")
    if not dash:
        region, zone = place, ""
    if region not in regions() or (zone and zone not in zones_of(region)):
        raise ValueError(f"{place!r} is neither a region nor a zone, such as 'eastus' or 'eastus-1'")
    return region


def _size(row: Mapping[str, str]) -> Size:
    name = row["instance_type"]
    return Size(
        name=name,
        family=family_of(name),
        vcpus=int(row["vcpus"] or 1),
        memory_gib=float(row["memory_gib"] or 0),
        accelerators=float(row["accelerators"] or 0),
        arch="Arm64" if row["arch"] == "arm64" else "x64",
        has_rdma=row["fabric"] == "infiniband",
    )


def check_sold(size: str, place: str) -> str:
    """Return the name of a size in its own case.

    Raises:
        ValueError: The region or zone does not sell the size.
    """
    region = region_of(place)
    found = size_of(size)
    if found is None or not is_sold(found, region):
        raise ValueError(f"{size} is not sold in {region}")
    return found.name
