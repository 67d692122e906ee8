"""Google's offer by zone, from the packaged offer tables: machine types, accelerators and TPU slices."""

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

CPU = "cpu"
"""The shard of the machine types without accelerators."""
_TPU = "tpu"
# Shard of the tables -> name of the accelerator type in the API (https://cloud.google.com/compute/docs/gpus).
GPU_NAMES: Mapping[str, str] = {
    "t4": "nvidia-tesla-t4",
    "p4": "nvidia-tesla-p4",
    "p100": "nvidia-tesla-p100",
    "v100": "nvidia-tesla-v100",
    "a100": "nvidia-tesla-a100",
    "a100-80gb": "nvidia-a100-80gb",
    "l4": "nvidia-l4",
    "h100": "nvidia-h100-80gb",
    "h200": "nvidia-h200-141gb",
    "b200": "nvidia-b200",
    "gb200": "nvidia-gb200",
    "gb300": "nvidia-gb300",
    "rtx-pro-6000": "nvidia-rtx-pro-6000",
}
_MEGA = "nvidia-h100-mega-80gb"


@dataclass(frozen=True, slots=True)
class MachineType:
    """A machine type.

    Attributes:
        gpu: The built-in accelerator type, "" for none.
        gpus: How many of them; can be a fraction.
        purchases: How it is sold ("on_demand", "spot", "flex_start", "reserved"); empty if unknown.
    """

    name: str
    vcpus: int
    memory_gib: float
    arch: str
    gpu: str
    gpus: float
    purchases: frozenset[str]
    zones: frozenset[str]

    @property
    def family(self) -> str:
        """The machine series: "a3", "n1"."""
        return self.name.split("-", 1)[0]

    @property
    def has_gpu(self) -> bool:
        """Return whether accelerators are built in."""
        return bool(self.gpu)


@dataclass(frozen=True, slots=True)
class SliceType:
    """A TPU slice type; `generation` is the name of the shard, "tpu-v5p"."""

    name: str
    generation: str
    chips: int
    hosts: int
    zones: frozenset[str]


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine types, accelerators and zones that Google offers.

    Attributes:
        zones: Zone -> region.
        machine_types: Machine types by name.
        slices: TPU slice types by name.
        attachable: (accelerator type, zone) -> the largest number that one machine can have attached.
    """

    zones: Mapping[str, str]
    machine_types: Mapping[str, MachineType]
    slices: Mapping[str, SliceType]
    attachable: Mapping[tuple[str, str], int]

    def regions(self) -> Mapping[str, list[str]]:
        """Return region -> its zones, sorted."""
        found: dict[str, list[str]] = {}
        for zone, region in sorted(self.zones.items()):
            found.setdefault(region, []).append(zone)
        return found

    def gpus_in(self, zone: str) -> Mapping[str, int]:
        """Return accelerator type -> the largest number that one machine in the zone can have."""
        found = {name: most for (name, place), most in self.attachable.items() if place == zone}
        for machine in self.machine_types.values():
            if machine.gpu and zone in machine.zones:
                found[machine.gpu] = max(found.get(machine.gpu, 1), int(machine.gpus))
        return found


@functools.cache
def hardware() -> Hardware:
    """Return the contents of the tables, which each process reads once."""
    shards = [row["shard"] for row in rows("shards.csv")]
    zones = _zones(shards)
    machines: dict[str, MachineType] = {}
    slices: dict[str, SliceType] = {}
    attachable: dict[tuple[str, str], int] = {}
    for shard in shards:
        offered = _offered(shard, zones)
        for row in rows(f"{shard}/types.csv"):
            name, places = row["instance_type"], offered.get(row["instance_type"], frozenset())
            if shard.startswith(_TPU):
                slices[name] = SliceType(name, shard, int(float(row["accelerators"])), int(row["hosts"]), places)
            elif row["attached"] == "true":
                count = int(float(row["accelerators"]))
                for zone in places:
                    key = GPU_NAMES[shard], zone
                    attachable[key] = max(count, attachable.get(key, 0))
            else:
                machines[name] = _machine(row, shard, places)
    return Hardware(zones, machines, slices, attachable)


def _machine(row: Mapping[str, str], shard: str, places: frozenset[str]) -> MachineType:
    name = row["instance_type"]
    gpu = "" if shard == CPU else GPU_NAMES[shard]
    return MachineType(
        name=name,
        vcpus=int(float(row["vcpus"])),
        memory_gib=float(row["memory_gib"]),
        arch=row["arch"],
        gpu=_MEGA if name.startswith("a3-megagpu") else gpu,
        gpus=float(row["accelerators"]),
        purchases=frozenset(row["purchases"].split(";")) - {""},
        zones=places,
    )


def _zones(shards: list[str]) -> Mapping[str, str]:
    """Return zone -> region. A region whose zones the tables do not name gets the usual three."""
    found: dict[str, str] = {}
    regions: set[str] = set()
    for shard in shards:
        for row in rows(f"{shard}/offers.csv"):
            regions.add(row["region"])
            found |= dict.fromkeys(_split(row["zones"]), row["region"])
    for region in regions - set(found.values()):
        found |= {f"{region}-{letter}": region for letter in "abc"}
    return found


def _offered(shard: str, zones: Mapping[str, str]) -> Mapping[str, frozenset[str]]:
    """Return instance type -> the zones that offer it; if the tables name no zones, all zones of the region."""
    found: dict[str, set[str]] = {}
    for row in rows(f"{shard}/offers.csv"):
        places = _split(row["zones"]) or [zone for zone, region in zones.items() if region == row["region"]]
        found.setdefault(row["instance_type"], set()).update(places)
    return {name: frozenset(places) for name, places in found.items()}


def _split(zones: str) -> list[str]:
    return [zone for zone in zones.split(";") if zone]


def rows(path: str) -> Iterator[dict[str, str]]:
    """Return the lines of a packaged table."""
    text = files("multicompute_gcp").joinpath("data", path).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())
