"""The rates of the components by region, of which a machine's price is composed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from multicompute.offer import InstanceType, PriceBasis, Purchase, Quote
from multicompute_gcp.prices._skus import Rate

Part = tuple[str, Decimal]
"""A component, and how many of its units a machine has."""

_WORDS: Final[Mapping[str, str]] = {
    "core": "core",
    "ram": "RAM",
    "gpu": "GPU",
    "slice": "GPU slice",
    "ssd": "local SSD",
    "tpu": "TPU chip",
    "tpu-pod": "TPU chip",
}
_CENTS: Final = Decimal("0.000001")
# https://cloud.google.com/compute/vm-instance-pricing: the shared-core types are billed for a part of the two vCPUs that they report.
_SHARED: Final = {"e2-micro": Decimal("0.25"), "e2-small": Decimal("0.5"), "e2-medium": Decimal(1)}
# The components of machine types whose series does not name them. The edge types have no known SKU.
_SERIES: Final = {"a3-highgpu": "a3", "a3-megagpu": "a3plus", "a3-ultragpu": "a3ultra", "a3-edgegpu": ""}
# These bill their local SSD by SKUs of their own.
_OWN_SSD: Final = frozenset({"c4", "c4a", "c4d"})
OWN_SSDS: Final = frozenset({"ssd", *(f"ssd:{series}" for series in _OWN_SSD)})
"""The components of local SSDs, which the machine types of Compute Engine may turn out to need."""
PARTITION_GIB: Final = 375
OLD_TPUS: Final = frozenset({"tpu-v2", "tpu-v3", "tpu-v4"})
"""The TPUs whose SKUs are in the service Cloud TPU."""


@dataclass(frozen=True, slots=True)
class Composed:
    """The price of a node, the SKUs that it consists of, and how many units of each."""

    quote: Quote
    rates: tuple[Rate, ...]
    counts: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """A price that can't be composed.

    Attributes:
        why: What is missing.
        is_sold: Whether a part of the node has a price, so that the node may be sold all the same.
    """

    why: str
    is_sold: bool


class Rates:
    """The rates that were read, by component, purchase and region."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Purchase, str], list[Rate]] = {}

    def add(self, rate: Rate) -> None:
        """Add a rate. A SKU that a changed list has repeated on the next page counts once."""
        for region in rate.regions:
            known = self._found.setdefault((rate.component, rate.purchase, region), [])
            known[:] = [other for other in known if other.sku != rate.sku]
            known.append(rate)

    def find(self, component: str, purchase: Purchase, region: str) -> Rate | str:
        """Return the rate that holds in a region, or why there is none.

        The SKU of the region itself comes before one that covers several (vantage-sh/ec2instances.info PR #964). Two that differ are no price.
        """
        found = self._found.get((component, purchase, region), ())
        if not found:
            return "no SKU"
        own = [rate for rate in found if len(rate.regions) == 1] or found
        if len({rate.usd for rate in own}) > 1:
            return "SKUs that differ"
        return own[0] if own[0].usd > 0 else "a SKU at $0"

    def compose(self, parts: Sequence[Part], region: str, purchase: Purchase, *, as_of: date) -> Composed | Missing:
        """Return the price of a node with these parts; never the sum of some of them."""
        found = [(self.find(component, purchase, region), component, count) for component, count in parts]
        rates = tuple(rate for rate, _, _ in found if isinstance(rate, Rate))
        missing = [f"{_name(component)}: {why}" for why, component, _ in found if isinstance(why, str)]
        if not parts:
            return Missing("no SKU is known", is_sold=True)
        if missing:
            # Every region has local SSDs, so a price for them says nothing about the machine.
            return Missing(", ".join(missing), is_sold=any(not rate.component.startswith("ssd") for rate in rates))
        usd = sum(((rate.usd * count) for rate, (_, _, count) in zip(rates, found, strict=True)), Decimal(0))
        cost = float(usd.quantize(_CENTS))
        counts = tuple(count for _, count in parts)
        return Composed(Quote(cost, as_of, _source(rates), basis_of(rates)), rates, counts)


def basis_of(rates: Sequence[Rate]) -> PriceBasis:
    """Return "list" if one SKU states the price, by unit, and "estimate" if it was added up."""
    return "list" if len(rates) == 1 else "estimate"


def _source(rates: Sequence[Rate]) -> str:
    """Return the source of a price. There are few texts, because each table lists every one of them."""
    kind = "DWS Defined Duration (flex-start) SKU" if rates[0].purchase == "flex_start" else "SKU"
    names = [_name(rate.component) for rate in rates]
    if len(rates) == 1:
        return f"Cloud Billing Catalog: {kind} per {names[0]}"
    return f"Cloud Billing Catalog: composed of {len(rates)} {kind}s ({', '.join(names)})"


def _name(component: str) -> str:
    return _WORDS[component.partition(":")[0]]


def parts_of(instance: InstanceType, *, partitions: int | None = None) -> tuple[Part, ...]:
    """Return the parts that a node is billed by; () if they are not known.

    Args:
        instance: The machine type or slice type, with its accelerators.
        partitions: How many local SSDs of 375 GiB are built in; None if Compute Engine was not asked.
    """
    if instance.accelerator.startswith("tpu"):
        return _slice_parts(instance)
    if instance.accelerator == "b200":
        return (("slice:b200", Decimal(str(instance.accelerators))),)
    family = "-".join(instance.name.split("-")[:2])
    series = _SERIES.get(family, instance.name.partition("-")[0])
    if not series or instance.vcpus < 1 or instance.memory_gib <= 0:
        return ()
    parts: list[Part] = [
        (f"core:{series}", _SHARED.get(instance.name, Decimal(instance.vcpus))),
        (f"ram:{series}", Decimal(str(instance.memory_gib))),
    ]
    if instance.accelerator:
        gpu = "h100-mega" if family == "a3-megagpu" else instance.accelerator
        parts.append((f"gpu:{gpu}", Decimal(str(instance.accelerators))))
    if partitions is None:
        partitions = bundled_partitions(instance.name, int(instance.accelerators))
    if partitions:
        parts.append((f"ssd:{series}" if series in _OWN_SSD else "ssd", Decimal(partitions * PARTITION_GIB)))
    return tuple(parts)


def is_unknown(accelerator: str, purchase: Purchase) -> bool:
    """Return whether it is not known which SKUs a purchase is billed by: A4 under the Dynamic Workload Scheduler."""
    return accelerator == "b200" and purchase == "flex_start"


def _slice_parts(instance: InstanceType) -> tuple[Part, ...]:
    """Return the chips of a slice. Only v2 and v3 have another price for slices of one host; v4 is always a part of a pod."""
    generation = instance.accelerator.removeprefix("tpu-")
    is_pod = generation == "v4" or (generation in ("v2", "v3") and instance.hosts > 1)
    return ((f"{'tpu-pod' if is_pod else 'tpu'}:{generation}", Decimal(str(instance.accelerators))),)


# Without the machine types of Compute Engine: https://cloud.google.com/compute/docs/disks/local-ssd, "Choose a valid number of Local SSD
# disks", machine types that come with local SSDs.
_PER_GPU: Final = {"a2-ultragpu": 1, "a3-highgpu": 2, "a3-megagpu": 2, "a3-ultragpu": 4}


def bundled_partitions(name: str, gpus: int) -> int:
    """Return how many local SSDs of 375 GiB are built into a machine type with GPUs."""
    return 0 if name.endswith("-nolssd") else gpus * _PER_GPU.get("-".join(name.split("-")[:2]), 0)
