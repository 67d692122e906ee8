"""Finds the machine types and slice types on sale, with their zones, in Compute Engine and Cloud TPU or in the packaged tables."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.offer import InstanceType
from multicompute.price_feed import PricedType, PriceQuery
from multicompute_gcp._session import Clients
from multicompute_gcp.prices._places import Machine, machines, packaged, slice_zones
from multicompute_gcp.prices._rates import Part, parts_of

_SOURCE: Final = "Compute Engine machineTypes.aggregatedList"
# https://cloud.google.com/compute/docs/gpus: the accelerator types that are built into machine types.
_GPUS: Final[Mapping[str, str]] = {
    "nvidia-tesla-a100": "a100",
    "nvidia-a100-80gb": "a100-80gb",
    "nvidia-l4": "l4",
    "nvidia-h100-80gb": "h100",
    "nvidia-h100-mega-80gb": "h100",
    "nvidia-h200-141gb": "h200",
    "nvidia-b200": "b200",
    "nvidia-rtx-pro-6000": "rtx-pro-6000",
}
# "g2-standard-8": another name may be of another kind of machine ("-lssd", "-metal", "-nolssd").
_WORDS: Final = 3
_NO_CREDENTIALS: Final = "Compute Engine was not asked: an API key only reads prices. Machine types, zones and built-in local SSDs are those of the packaged tables."

Retried = Callable[[Callable[[], Any]], Any]


@dataclass(slots=True)
class Sold:
    """The machine types and slice types on sale, with their zones.

    Attributes:
        known: The wanted types, with their current shapes and with new ones.
        machines: The machine types of Compute Engine by name; None if it was not asked.
        slices: Slice type and region -> zones; None if Cloud TPU was not asked.
        changed: The new types, and those whose shape has changed.
        calls: Operation -> the number of requests.
    """

    known: list[PricedType]
    machines: Mapping[str, Machine] | None = None
    slices: Mapping[tuple[str, str], tuple[str, ...]] | None = None
    changed: list[PricedType] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def parts(self, instance: InstanceType) -> tuple[Part, ...]:
        """Return the parts that a type is billed by."""
        listed = (self.machines or {}).get(instance.name)
        return parts_of(instance, partitions=listed.partitions if listed else None)

    def zones(self, instance: InstanceType, region: str) -> tuple[str, ...] | None:
        """Return the zones of a region that sell a type, () if they are unknown, and None if no zone is known to sell it.

        The list of prices is not the list of offers. So where the cloud can't be asked, the packaged tables say where a type is sold.
        """
        key = instance.name, instance.accelerator, instance.accelerators
        known = packaged().zones.get((*key, region))
        if known is None and key not in packaged().types:
            known = ()
        if is_slice(instance):
            # The zones that sell a slice to this project; that others do not says little, since zones are hidden from many.
            return (self.slices or {}).get((instance.name, region), known)
        if self.machines is None:
            return known
        listed = self.machines.get(instance.name)
        if listed is None or region not in listed.zones:
            return None
        # Compute Engine does not say here which zones can attach accelerators.
        return known if instance.attached else tuple(sorted(listed.zones[region]))

    def excludes(self, instance: InstanceType, region: str) -> bool:
        """Return whether Compute Engine does not list a type in a region, so it is not sold there."""
        if self.machines is None or is_slice(instance):
            return False
        listed = self.machines.get(instance.name)
        return listed is None or region not in listed.zones

    def lists(self, instance: InstanceType, region: str) -> bool:
        """Return whether Compute Engine itself lists a type in a region."""
        listed = (self.machines or {}).get(instance.name)
        return listed is not None and region in listed.zones and not instance.attached


def is_slice(instance: InstanceType) -> bool:
    """Return whether a type is a TPU slice."""
    return instance.accelerator.startswith("tpu")


def read_sold(clients: Clients | None, wanted: Sequence[PricedType], query: PriceQuery, retried: Retried) -> Sold:
    """Return what is sold where. What can't be read is in a note, and the packaged tables have it instead.

    Args:
        clients: The clients; None if Compute Engine can't be asked.
        wanted: The types to price.
        query: The query.
        retried: Calls, and repeats after faults that pass.
    """
    sold = Sold(list(wanted))
    if clients is None:
        sold.notes.append(_NO_CREDENTIALS)
        return sold
    if series := {one.instance.name.partition("-")[0] for one in wanted if not is_slice(one.instance)}:
        found = _read(sold, "machine types", lambda: retried(lambda: machines(clients, series, sold.calls)))
        if found:
            sold.machines = found
            _compare(sold, query)
    if any(is_slice(one.instance) for one in wanted):
        regions = frozenset(query.regions)
        read = lambda: retried(lambda: slice_zones(clients, regions, sold.calls))
        sold.slices = _read(sold, "the zones of TPU slices", read)
    return sold


def _read(sold: Sold, what: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except MulticomputeError as error:
        sold.notes.append(f"{what} could not be read, so those of the packaged tables are used: {error.message}")
        return None


def _compare(sold: Sold, query: PriceQuery) -> None:
    """Take over new shapes, and new types of the families that are known."""
    listed = sold.machines or {}
    families: dict[str, list[PricedType]] = {}
    for index, one in enumerate(sold.known):
        families.setdefault(_family(one.instance.name), []).append(one)
        found = listed.get(one.instance.name)
        if found is None or not _differs(one.instance, found):
            continue
        shape = replace(one.instance, vcpus=found.vcpus, memory_gib=found.memory_gib)
        sold.known[index] = replace(one, instance=shape, source=_SOURCE)
        sold.changed.append(sold.known[index])
    names = {one.instance.name for one in query.types}
    for name, found in listed.items():
        siblings = families.get(_family(name), [])
        if name not in names and len(name.split("-")) == _WORDS and (new := _new_type(found, siblings, query)):
            sold.known.append(new)
            sold.changed.append(new)


def _family(name: str) -> str:
    """Return the family of a machine type: "a3-highgpu" of "a3-highgpu-8g"."""
    return "-".join(name.split("-")[:2])


def _differs(known: InstanceType, found: Machine) -> bool:
    if known.attached or found.vcpus < 1 or found.memory_gib <= 0:
        return False
    # The tables have whole GiB where the API has a fraction, for some of the smallest types.
    return known.vcpus != found.vcpus or abs(known.memory_gib - found.memory_gib) >= 1


def _new_type(found: Machine, siblings: Sequence[PricedType], query: PriceQuery) -> PricedType | None:
    """Return a machine type that the tables do not have; None if it is not wanted, or the family does not tell how it is sold.

    There are SKUs for what is not sold: the small A3 types have prices on demand. How types are sold follows from their family.
    """
    accelerator = _GPUS.get(found.gpu, "") if found.gpu else ""
    siblings = [one for one in siblings if one.instance.accelerator == accelerator and not one.instance.attached]
    purchases = {one.purchases for one in siblings}
    is_wanted = query.accelerators is None or accelerator in query.accelerators
    if len(purchases) != 1 or not is_wanted or bool(found.gpu) != bool(accelerator) or found.vcpus < 1:
        return None
    like = siblings[0].instance
    if accelerator and found.gpus < 1:
        return None
    shape = replace(
        like,
        name=found.name,
        accelerators=float(found.gpus if accelerator else 0),
        vcpus=found.vcpus,
        memory_gib=found.memory_gib,
        network_gbps=0.0,
        fabric="",
        network_cards=0,
        arch=found.arch,
        retired=False,
    )
    return PricedType(shape, purchases.pop(), _SOURCE)
