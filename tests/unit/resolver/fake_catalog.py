"""A small catalog that a test builds, with the methods of the real one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from multicompute.offer import InstanceType, Listing, Quote, Region
from multicompute.plan import Plan
from multicompute.resolver import resolve
from multicompute.spec import ClusterSpec

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FRESH = date(2026, 11, 24)
EAST = Region("blue", "east-1", "us", "US")
WEST = Region("blue", "west-1", "eu", "DE")
NORTH = Region("green", "north-1", "eu", "FI")

BIG = InstanceType("blue", "b8", "h100", 8, 80, 192, 2048, fabric="efa")
SMALL = InstanceType("blue", "b1", "h100", 1, 80, 24, 256)
GREEN = InstanceType("green", "g8", "h100", 8, 80, 208, 1800, fabric="roce")
TEA = InstanceType("blue", "t4.one", "t4", 1, 16, 8, 32)
CPU = InstanceType("blue", "c4", vcpus=4, memory_gib=16)


def line(
    instance: InstanceType, price: float, region: Region = EAST, zones: Sequence[str] = ("a", "b"), **changes: Any
) -> Listing:
    """Return a line of an offer table: on demand, at a fresh list price, in zones named after the region."""
    basis, as_of = changes.get("basis", "list"), changes.get("as_of", FRESH)
    names = tuple(f"{region.name}{zone}" for zone in zones)
    return Listing(
        instance, region, changes.get("purchase", "on_demand"), Quote(price, as_of, "a price list", basis), names
    )


class FakeCatalog:
    """The methods of a catalog that the resolver calls; records which accelerators were read."""

    def __init__(self, *lines: Listing, more: Sequence[InstanceType] = ()) -> None:
        self.lines = lines
        self.types = tuple(dict.fromkeys((*(item.instance for item in lines), *more)))
        self.read: list[str] = []

    @property
    def providers(self) -> tuple[str, ...]:
        return ("blue", "green")

    @property
    def offer_count(self) -> int:
        return sum(len(item.offers) for item in self.lines)

    def listings(self, accelerator: str) -> tuple[Listing, ...]:
        self.read.append(accelerator)
        return tuple(item for item in self.lines if item.instance.accelerator == accelerator)

    def instances(self, name: str) -> tuple[InstanceType, ...]:
        return tuple(item for item in self.types if item.name.casefold() == name.casefold())

    def instance_names(self) -> tuple[str, ...]:
        return tuple(sorted({item.name for item in self.types}))

    def accelerators(self) -> tuple[str, ...]:
        return tuple(sorted({item.accelerator for item in self.types} - {""}))

    def zones(self) -> dict[tuple[str, str], tuple[str, ...]]:
        found: dict[tuple[str, str], set[str]] = {}
        for item in self.lines:
            found.setdefault((item.region.provider, item.region.name), set()).update(item.zones)
        return {key: tuple(sorted(zones)) for key, zones in found.items() if zones}

    def regions(self) -> tuple[Region, ...]:
        return (EAST, WEST, NORTH)


def plan(catalog: FakeCatalog, *, known: dict[str, Any] | None = None, **arguments: Any) -> Plan:
    """Return the plan for these arguments of a request; `known` are further arguments of `resolve`."""
    settings: dict[str, Any] = {"now": NOW, "configured": {"blue": "", "green": ""}} | (known or {})
    return resolve(ClusterSpec.of(arguments), catalog, **settings)  # type: ignore[arg-type]


def shown(plan: Plan) -> list[str]:
    """Return the candidates in short form: "8 x b8 east-1a", parts joined by +."""
    return [
        " + ".join(
            f"{part.nodes} x {part.offer.instance.name} {part.offer.zone or part.offer.region}" for part in item.parts
        )
        for item in plan
    ]


def retired(instance: InstanceType) -> InstanceType:
    return replace(instance, name=instance.name + "-old", retired=True)
