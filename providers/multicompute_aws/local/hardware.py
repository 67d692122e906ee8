"""EC2's offer: instance types, their network cards and zones, from moto's copy of EC2's responses."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InstanceType:
    """The properties of an instance type that the local cloud checks.

    Attributes:
        cards: The largest number of interfaces on each network card, by the card's index.
        efa: The largest number of EFA interfaces; 0 for none.
        plain_cards: The indexes of the cards that take no EFA interface.
        is_xen: Whether it runs on the Xen hypervisor.
        strategies: The placement group strategies that it supports.
    """

    name: str
    vcpus: int
    cores: int
    arch: str
    cards: tuple[int, ...]
    efa: int
    strategies: frozenset[str]
    plain_cards: frozenset[int] = frozenset()
    is_xen: bool = False


@functools.cache
def instance_types() -> Mapping[str, InstanceType]:
    """Return every instance type by name."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return {name: _instance_type(name, facts) for name, facts in INSTANCE_TYPES.items()}


def _instance_type(name: str, facts: Mapping[str, Any]) -> InstanceType:
    network = facts["NetworkInfo"]
    cards = tuple(card["MaximumNetworkInterfaces"] for card in network.get("NetworkCards", ()))
    architectures = facts["ProcessorInfo"]["SupportedArchitectures"]
    processors = facts["VCpuInfo"]
    return InstanceType(
        name=name,
        vcpus=processors["DefaultVCpus"],
        cores=processors.get("DefaultCores") or processors["DefaultVCpus"],
        arch="arm64" if "arm64" in architectures else "x86_64",
        cards=cards or (network.get("MaximumNetworkInterfaces", 2),),
        efa=network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
        strategies=frozenset(facts.get("PlacementGroupInfo", {}).get("SupportedStrategies", ())),
        plain_cards=frozenset(
            card["NetworkCardIndex"]
            for card in network.get("NetworkCards", ())
            if "efa" not in card.get("InterfaceTypes", ("efa",))
        ),
        is_xen=facts.get("Hypervisor") == "xen",
    )


@functools.cache
def zones_of(region: str) -> Mapping[str, frozenset[str]]:
    """Return instance type -> the zones of a region that offer it."""
    from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS

    found: dict[str, set[str]] = {}
    for row in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, ()):
        found.setdefault(row["InstanceType"], set()).add(row["Location"])
    return {name: frozenset(zones) for name, zones in found.items()}


@functools.cache
def zone_ids(region: str) -> Mapping[str, str]:
    """Return the name of each zone of a region in moto's listings -> its id, which is the same in every account."""
    from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

    return {zone.name: zone.zone_id for zone in RegionsAndZonesBackend.zones.get(region, ())}
