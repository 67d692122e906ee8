"""What EC2 offers where: instance types, their network cards and zones, as moto's copy of EC2's own answers has them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What the harness has to know of an instance type.

    Attributes:
        cards: for each network card, by its index, how many interfaces it takes.
        efa: how many EFA interfaces it takes; 0 where it has none.
        strategies: the placement group strategies that it takes.
    """

    name: str
    vcpus: int
    cores: int
    arch: str
    cards: tuple[int, ...]
    efa: int
    strategies: frozenset[str]


@functools.cache
def shapes() -> Mapping[str, Shape]:
    """Every instance type by name."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return {name: _shape(name, facts) for name, facts in INSTANCE_TYPES.items()}


def _shape(name: str, facts: Mapping[str, Any]) -> Shape:
    network = facts["NetworkInfo"]
    cards = tuple(card["MaximumNetworkInterfaces"] for card in network.get("NetworkCards", ()))
    architectures = facts["ProcessorInfo"]["SupportedArchitectures"]
    processors = facts["VCpuInfo"]
    return Shape(
        name=name,
        vcpus=processors["DefaultVCpus"],
        cores=processors.get("DefaultCores") or processors["DefaultVCpus"],
        arch="arm64" if "arm64" in architectures else "x86_64",
        cards=cards or (network.get("MaximumNetworkInterfaces", 2),),
        efa=network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
        strategies=frozenset(facts.get("PlacementGroupInfo", {}).get("SupportedStrategies", ())),
    )


@functools.cache
def zones_of(region: str) -> Mapping[str, frozenset[str]]:
    """Instance type -> the zones of `region` that offer it."""
    from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS

    found: dict[str, set[str]] = {}
    for row in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, ()):
        found.setdefault(row["InstanceType"], set()).add(row["Location"])
    return {name: frozenset(zones) for name, zones in found.items()}
