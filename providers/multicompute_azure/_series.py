"""Series of VM sizes, from the names of the sizes."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from multicompute import accelerators
from multicompute.offer import InstanceType

# "Azure VM sizes naming conventions": family, subfamily, vCPUs, features in small letters, accelerator, version. N is the family with
# accelerators, FPGAs among them.
_SIZE: Final = re.compile(r"(?:standard_)?(?P<family>[A-Za-z]+?)\d+(?:-\d+)?[a-z]*(?P<rest>(?:_.*)?)", re.IGNORECASE)
_ACCELERATED: Final = "standard_n"


def has_accelerators(size: str) -> bool:
    """Return whether a size is of the family of machines with accelerators."""
    return size.lower().startswith(_ACCELERATED)


def series_of(size: str) -> str:
    """Return the series of a size, without its number of vCPUs and its features: "nc_a100_v4" for "Standard_NC24ads_A100_v4"."""
    found = _SIZE.fullmatch(size.lower())
    return found["family"] + found["rest"] if found else size.lower()


def parts_of(name: str) -> Sequence[str]:
    """Return the parts of a name after family, vCPUs and features, one of which is often the accelerator."""
    return name.split("_")[2:]


def may_have(name: str, accelerator_names: Collection[str], known: Iterable[InstanceType]) -> bool:
    """Return whether a size may have one of these accelerators, by its series or its name.

    "H100" in a name may be either of two models, so only the series tells.

    Args:
        name: The name of the size.
        accelerator_names: The canonical names of the accelerators.
        known: The sizes that are known to have one of them.
    """
    named = (found[0] for part in parts_of(name) if len(found := accelerators.find(part)) == 1)
    is_sibling = any(series_of(each.name) == series_of(name) for each in known)
    return is_sibling or any(found.name in accelerator_names for found in named)
