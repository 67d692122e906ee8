"""Shapes of instance types, from the answers of DescribeInstanceTypes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from multicompute import accelerators
from multicompute.offer import InstanceType

# EC2's names that are neither names nor aliases of accelerators. FPGAs and media accelerators are named without their board
# (DescribeInstanceTypes, FpgaInfo and MediaAcceleratorInfo).
_NAMES: Final[Mapping[str, str]] = {
    "virtex ultrascale (vu9p)": "fpga-vu9p",
    "virtex ultrascale+ (vu9p)": "fpga-vu9p",
    "virtex ultrascale+ (vu47p)": "fpga-vu47p",
    "vu9p": "fpga-vu9p",
    "vu47p": "fpga-vu47p",
    "u30": "alveo-u30",
    "qualcomm ai100": "cloud-ai-100",
    "ai100": "cloud-ai-100",
    "gaudi hl-205": "gaudi",
    "rtx pro server 4500": "rtx-pro-4500",
    "rtx pro server 6000": "rtx-pro-6000",
}
# The structures of an answer that describe accelerators, and their lists. Inferentia is in two of them, with the same count; the order
# decides which one is read.
_LISTS: Final = (
    ("GpuInfo", "Gpus"),
    ("NeuronInfo", "NeuronDevices"),
    ("InferenceAcceleratorInfo", "Accelerators"),
    ("FpgaInfo", "Fpgas"),
    ("MediaAcceleratorInfo", "Accelerators"),
)
# How far the reported memory may be from the nominal size. L4 and A10G report 22,888 MiB of 24 GB; the variants of an accelerator are a
# factor of two apart.
_TOLERANCE: Final = 0.25
# Below this the tables have the nominal size where EC2 rounds it down (16,000 MiB of 16 GiB on dl2q).
_SAME_MEMORY: Final = 0.05
# The values of UsageClassType. Both on-demand instances and capacity blocks can be reserved.
_PURCHASES: Final[Mapping[str, str]] = {"on-demand": "on_demand", "spot": "spot", "capacity-block": "reserved"}
_RATE: Final = re.compile(r"(?:(\d+)x )?(\d+(?:\.\d+)?) Gigabit")


class UnknownShapeError(ValueError):
    """An instance type whose answer does not say what it is; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class _Accelerators:
    name: str
    count: float
    memory_gib: float


def shape_of(item: Mapping[str, Any]) -> InstanceType:
    """Return the instance type that an item of DescribeInstanceTypes describes.

    Raises:
        UnknownShapeError: It has accelerators that are not known, or lacks its vCPUs or its memory.
    """
    name = item["InstanceType"]
    attached = _accelerators(item)
    try:
        vcpus = int(item["VCpuInfo"]["DefaultVCpus"])
        memory = int(item["MemoryInfo"]["SizeInMiB"]) / 1024
    except (KeyError, TypeError) as error:
        raise UnknownShapeError("it has no vCPUs or no memory") from error
    network = item.get("NetworkInfo") or {}
    cards = _fabric_cards(network)
    return InstanceType(
        "aws",
        name,
        accelerator=attached.name,
        accelerators=attached.count,
        accelerator_memory_gib=attached.memory_gib,
        vcpus=vcpus,
        memory_gib=round(memory, 2),
        network_gbps=_network_gbps(network),
        fabric="efa" if cards else "",
        arch=_arch(item),
        network_cards=cards,
    )


def purchases_of(item: Mapping[str, Any]) -> frozenset[str]:
    """Return the ways in which a type is sold, empty if both on demand and as spot.

    A type that has only "capacity-block" in `SupportedUsageClasses` is sold through reservations alone.
    """
    found = {_PURCHASES[name] for name in item.get("SupportedUsageClasses") or () if name in _PURCHASES}
    return frozenset() if {"on_demand", "spot"} <= found else frozenset(found)


def changed(known: InstanceType, found: InstanceType) -> InstanceType | None:
    """Return `known` with what EC2 says otherwise, None if there is nothing.

    What the tables know and EC2 does not say stays: the accelerators of trn2u, the exact memory of some accelerators, and whether
    the type is retired.
    """
    memory = found.accelerator_memory_gib
    if (found.accelerator, found.accelerators) != (known.accelerator, known.accelerators):
        return None
    if not known.accelerator_memory_gib or abs(memory / known.accelerator_memory_gib - 1) < _SAME_MEMORY:
        memory = known.accelerator_memory_gib
    said = replace(
        known,
        accelerator_memory_gib=memory,
        vcpus=found.vcpus,
        memory_gib=found.memory_gib,
        network_gbps=found.network_gbps or known.network_gbps,
        fabric=found.fabric,
        arch=found.arch,
        network_cards=found.network_cards,
    )
    return said if said != known else None


def _accelerators(item: Mapping[str, Any]) -> _Accelerators:
    for structure, member in _LISTS:
        entries = (item.get(structure) or {}).get(member) or ()
        if len(entries) > 1:
            raise UnknownShapeError("it has several kinds of accelerators")
        if entries:
            return _identified(entries[0])
    return _Accelerators("", 0.0, 0.0)


def _identified(entry: Mapping[str, Any]) -> _Accelerators:
    """Return the accelerators of an entry.

    A fraction of a GPU (g6f, gr6f) has the count 0, a `GpuPartitionSize` and its part of the memory; older models of EC2 lack the size,
    so the memory tells the fraction.
    """
    said = str(entry.get("Name") or "")
    count = float(entry.get("Count") or 0)
    memory = float((entry.get("MemoryInfo") or {}).get("SizeInMiB") or 0) / 1024
    named = _NAMES.get(" ".join(said.casefold().split()), said)
    variants = accelerators.find(named)
    if not variants:
        raise UnknownShapeError(f"the accelerator {said or 'without a name'} is not known")
    fraction = float(entry.get("GpuPartitionSize") or 0)
    if count >= 1:
        fraction = 1.0
    elif not 0 < fraction < 1:
        fraction = _fraction(memory, variants)
    fitting = [item for item in variants if _fits(memory / fraction, item.memory_gib)]
    # Variants with the same memory differ in the board: the plain name means the one that carries the name of the family.
    fitting = [item for item in fitting if item.name == item.family] or fitting
    if len(fitting) == 1:
        found = fitting[0]
        reported = round(memory, 2)
    elif len(variants) == 1:
        # EC2 has reported the memory of a complete UltraServer for trn2.3xlarge, and none for others.
        found = variants[0]
        reported = round(found.memory_gib * fraction, 2)
    else:
        raise UnknownShapeError(f"{memory:g} GiB is the memory of no {said}")
    return _Accelerators(found.name, count if count >= 1 else fraction, reported)


def _fits(memory: float, nominal: float) -> bool:
    return abs(memory / nominal - 1) <= _TOLERANCE


def _fraction(memory: float, variants: tuple[accelerators.Accelerator, ...]) -> float:
    for variant in variants:
        for parts in (2, 4, 8):
            if _fits(memory * parts, variant.memory_gib):
                return 1 / parts
    raise UnknownShapeError("the fraction of the accelerator is not known")


def _fabric_cards(network: Mapping[str, Any]) -> int:
    if not network.get("EfaSupported"):
        return 0
    return int((network.get("EfaInfo") or {}).get("MaximumEfaInterfaces") or 1)


def _network_gbps(network: Mapping[str, Any]) -> float:
    """Return the sustained rate: what EC2 calls the performance, unless that is "Up to"; then the baseline of the cards."""
    match = _RATE.fullmatch(str(network.get("NetworkPerformance", "")))
    if match:
        return float(match[2]) * int(match[1] or 1)
    cards = network.get("NetworkCards") or ()
    return round(sum(float(card.get("BaselineBandwidthInGbps") or 0) for card in cards), 3)


def _arch(item: Mapping[str, Any]) -> str:
    supported = (item.get("ProcessorInfo") or {}).get("SupportedArchitectures") or ()
    return "arm64" if any(name.startswith("arm64") for name in supported) else "x86_64"
