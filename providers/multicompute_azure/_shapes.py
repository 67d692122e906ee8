"""The shape of a new VM size, from the list of resource SKUs and from sizes of the same series that are known."""

from collections.abc import Sequence
from typing import Final

from multicompute import accelerators
from multicompute.offer import InstanceType
from multicompute.price_feed import PricedType
from multicompute_azure._series import parts_of, series_of
from multicompute_azure._sizes import Size

SOURCE: Final = "Azure Resource SKUs API"
# Two ratios of accelerators to vCPUs that differ by less are the same: 0.1667 is written for a sixth.
_ROUNDING: Final = 0.01
_DIGITS: Final = 4
# The series in which no size has a part of an accelerator.
_WHOLE: Final = "nd"


def shape_of(size: Size, known: Sequence[InstanceType]) -> PricedType | None:
    """Return the shape of a size with accelerators; None if a part of it can only be guessed.

    The list of SKUs does not name the accelerator. It is that of the series, or the one in the size's name. The number of them is the
    capability `GPUs`, which sizes with GB200, GB300 and MI300X do not have, and which is 1 for a sixth of an A10 (dstackai/gpuhunt,
    providers/azure.py).

    Args:
        size: The size, as the list of SKUs has it.
        known: The sizes of the tables.
    """
    series = [each for each in known if each.accelerator and series_of(each.name) == series_of(size.name)]
    model = _accelerator(size.name, series)
    vcpus, memory = _number(size, "vCPUs"), _number(size, "MemoryGB")
    count = _count(size, series, vcpus)
    if model is None or not count or not vcpus or not memory:
        return None
    name, memory_per_accelerator = model
    instance = InstanceType(
        provider="azure",
        name=size.name,
        accelerator=name,
        accelerators=count,
        accelerator_memory_gib=memory_per_accelerator,
        vcpus=int(vcpus),
        memory_gib=memory,
        fabric="infiniband" if size.has("RdmaEnabled") else "",
        arch="arm64" if size.capabilities.get("CpuArchitectureType", "").lower() == "arm64" else "x86_64",
    )
    return PricedType(instance, source=SOURCE)


def _accelerator(name: str, series: Sequence[InstanceType]) -> tuple[str, float] | None:
    """Return the canonical name of the accelerator and the memory of a complete one; None if it is not known."""
    models = {(each.accelerator, each.accelerator_memory_gib) for each in series}
    if series:
        return models.pop() if len(models) == 1 else None
    named = {found[0] for part in parts_of(name) if len(found := accelerators.find(part)) == 1}
    if len(named) != 1:
        return None
    model = named.pop()
    return model.name, model.memory_gib


def _count(size: Size, series: Sequence[InstanceType], vcpus: float) -> float:
    """Return the number of accelerators, 0 if it is not known."""
    listed = _number(size, "GPUs")
    if not listed or listed > 1:
        return listed
    if any(each.accelerators < 1 for each in series):
        # The size may have a part of one: as large a part as the vCPUs say, if the series has a fixed ratio.
        ratios = [each.accelerators / each.vcpus for each in series]
        is_fixed = max(ratios) - min(ratios) <= _ROUNDING * max(ratios)
        largest = max(series, key=lambda each: each.accelerators)
        return round(vcpus * largest.accelerators / largest.vcpus, _DIGITS) if is_fixed else 0
    return listed if series or series_of(size.name).startswith(_WHOLE) else 0


def _number(size: Size, name: str) -> float:
    """Return the value of a capability, 0 if it has none or it is no number."""
    try:
        found = float(size.capabilities.get(name, ""))
    except ValueError:
        return 0
    return found if 0 < found < float("inf") else 0
