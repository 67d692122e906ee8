"""Reads the zones of machine types and slice types from Compute Engine and Cloud TPU, else from the packaged tables."""

import csv
import functools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._gang import AT_ONCE
from multicompute_gcp._names import last_segment, region_of
from multicompute_gcp._session import PAGE, Clients
from multicompute_gcp.tpu import _zones as tpu_zones

_EVERYWHERE: Final = Place("gcp")
_FIELDS: Final = (
    "items/*/machineTypes(name,zone,guestCpus,memoryMb,accelerators,bundledLocalSsds/partitionCount,architecture,deprecated/state),"
    "items/*/warning/code,nextPageToken,unreachables"
)
# https://cloud.google.com/compute/docs/reference/rest/v1/machineTypes: a DEPRECATED type can still be used.
_GONE: Final = ("OBSOLETE", "DELETED")
_GIB: Final = 1024


@dataclass(slots=True)
class Machine:
    """A machine type as Compute Engine lists it.

    Attributes:
        gpu: The accelerator type that is built in ("nvidia-l4"), "" for none.
        partitions: Its local SSDs of 375 GiB.
        zones: Region -> the zones that have it.
    """

    name: str
    vcpus: int
    memory_gib: float
    gpu: str
    gpus: int
    partitions: int
    arch: str
    zones: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def machines(clients: Clients, series: Collection[str], calls: Counter[str]) -> dict[str, Machine]:
    """Return the machine types of some series in all zones, by one listing; `calls` counts its pages."""
    found: dict[str, Machine] = {}
    url, operation = clients.compute_url("aggregated", "machineTypes"), "machineTypes.aggregatedList"
    pattern = f'name eq "({"|".join(sorted(series))})-.*"'
    for page in clients.pages(url, operation, _EVERYWHERE, maxResults=PAGE, filter=pattern, fields=_FIELDS):
        calls[operation] += 1
        for scope in (page.get("items") or {}).values():
            for item in scope.get("machineTypes") or ():
                _add(found, item)
    return found


def _add(found: dict[str, Machine], item: Mapping[str, Any]) -> None:
    if (item.get("deprecated") or {}).get("state") in _GONE:
        return
    name, zone = str(item["name"]), last_segment(str(item["zone"]))
    if name not in found:
        built_in = (item.get("accelerators") or [{}])[0]
        found[name] = Machine(
            name,
            int(item.get("guestCpus") or 0),
            int(item.get("memoryMb") or 0) / _GIB,
            str(built_in.get("guestAcceleratorType") or ""),
            int(built_in.get("guestAcceleratorCount") or 0),
            int((item.get("bundledLocalSsds") or {}).get("partitionCount") or 0),
            "arm64" if item.get("architecture") == "ARM64" else "x86_64",
        )
    found[name].zones[region_of(zone)].add(zone)


def slice_zones(
    clients: Clients, regions: Collection[str], calls: Counter[str]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return slice type and region -> the zones that sell it to this project, by one call for each zone with TPUs in the regions."""
    pages: list[str] = []
    everywhere = tpu_zones.zones(clients, _EVERYWHERE, on_page=lambda: pages.append("tpu.locations.list"))
    zones = [zone for zone in everywhere if region_of(zone) in regions]

    def types_of(zone: str) -> frozenset[str]:
        place = Place("gcp", region_of(zone), zone)
        return tpu_zones.slice_types(clients, zone, place, on_page=lambda: pages.append("tpu.acceleratorTypes.list"))

    types = in_parallel(types_of, zones, at_once=AT_ONCE)
    calls.update(pages)
    return _grouped((name, zone) for zone, names in zip(zones, types, strict=True) for name in names)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, zone in pairs:
        found[name, region_of(zone)].add(zone)
    return {key: tuple(sorted(zones)) for key, zones in found.items()}


@dataclass(slots=True)
class Packaged:
    """The offers of the packaged tables.

    Attributes:
        types: Instance type, accelerator and accelerators of each type, with and without a price.
        zones: Instance type, accelerator, accelerators and region -> the zones; () where the tables name none.
        prices: The key of each price.
    """

    types: set[tuple[str, str, float]] = field(default_factory=set)
    zones: dict[tuple[str, str, float, str], tuple[str, ...]] = field(default_factory=dict)
    prices: set[tuple[str, str, float, str, str]] = field(default_factory=set)


@functools.cache
def packaged() -> Packaged:
    """Return what the packaged tables offer, which each process reads once."""
    found = Packaged()
    for folder in resources.files("multicompute_gcp").joinpath("data").iterdir():
        if folder.is_dir():
            shard = "" if folder.name == "cpu" else folder.name
            attached = set()
            for row in _rows(folder, "types.csv"):
                key = row["instance_type"], shard, float(row["accelerators"])
                found.types.add(key)
                attached |= {key} if row["attached"] == "true" else set()
            for row in _rows(folder, "offers.csv"):
                key = row["instance_type"], shard, float(row["accelerators"])
                place = (*key, row["region"])
                zones = filter(None, row["zones"].split(";"))
                found.zones[place] = tuple(sorted({*found.zones.get(place, ()), *zones}))
                name = shard if key in attached else ""
                found.prices.add((key[0], name, key[2], row["region"], row["purchase"]))
    return found


def _rows(folder: Traversable, file: str) -> list[dict[str, str]]:
    return list(csv.DictReader(folder.joinpath(file).read_text(encoding="utf-8").splitlines()))
