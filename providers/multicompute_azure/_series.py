"""Series of VM sizes, from the names of the sizes."""

import re
from typing import Final

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
