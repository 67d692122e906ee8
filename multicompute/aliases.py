"""Translates names that other tools print or accept, such as "NVIDIA H100 80GB HBM3" or "tpu-v6e-8", into the names used here.

The names are in `data/aliases.csv`, each with the tool that prints it and a source. The table is read only for a name that is
neither an accelerator nor an instance type. The rules for all names:

- Case, spaces, hyphens, underscores and dots are ignored.
- "GPU 0:" in front and "(UUID: ...)" at the end, which `nvidia-smi -L` prints, are ignored.
- A name of the table that ends with "-*" stands for every number in that place.
- Parts between colons are a name, a memory size and a count: "A100:80GB:8".
- A part of a GPU (MIG, shared, vGPU) is refused.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from multicompute import accelerators
from multicompute.errors import CatalogError

TABLE: Final = Path(__file__).with_name("data") / "aliases.csv"
COLUMNS: Final = ("name", "means", "instead", "why", "tool", "source")

CORES_PER_CHIP: Final[Mapping[str, int]] = dict.fromkeys(("v2", "v3", "v4", "v5p", "tpu7x"), 2) | dict.fromkeys(
    ("v5litepod", "v6e"), 1
)
"""TensorCores per chip of each kind of slice. The number in a slice's name counts TensorCores, so "v5p-128" has 64 chips and
"v5litepod-16" has 16 (Cloud TPU documentation, "TPU versions"; xpk, `tensorcores_per_chip`)."""

_PARTIAL: Final = (
    (r"^(?P<gpu>.*?)[\s_-]*\b(?:mig[\s_-]*)?\d+g\.\d+gb\b.*$", "is a MIG partition of a GPU"),
    (r"^(?P<gpu>.+?)[\s_-]+shared$", "is a time-shared GPU"),
    (r"^(?:grid[\s_-]+)?(?P<gpu>.*?[a-z]\d+\w*)-\d+[abcq]$", "is a vGPU profile"),
)
"""Patterns of partial GPUs: MIG profiles (NVIDIA MIG user guide), the suffix of GPU feature discovery for shared GPUs, and
profiles of virtual GPUs (NVIDIA vGPU software documentation)."""
_LISTED: Final = r"gpu \d+: *(?P<name>.*?)(?: *\(uuid: .*\))?"
_SLICE: Final = r"(?P<kind>.+?)[\s_-]*-(?P<size>\d+(?:x\d+)*)"
_COUNT: Final = r"(?P<least>\d+)(?P<range>\.\.\d*)?|(?P<upto>\.\.\d+)"


@dataclass(frozen=True, slots=True)
class Alias:
    """The meaning of a name that another tool prints.

    Attributes:
        means: The name used here, of an accelerator, slice type or instance type; "" if the name is refused.
        instead: The names to write instead of a refused one.
        why: Why the name is refused, as the rest of a sentence.
        tool: What prints the name.
        source: Where the name is documented.
    """

    means: str = ""
    instead: tuple[str, ...] = ()
    why: str = ""
    tool: str = ""
    source: str = ""


def find(name: str) -> Alias | None:
    """Return what a name of another tool means, or None if it is unknown.

    The name must be neither an accelerator nor an instance type: the table does not repeat those.
    """
    text = " ".join(name.casefold().split())
    if listed := re.fullmatch(_LISTED, text):
        text = listed["name"]
    for pattern, why in _PARTIAL:
        if match := re.match(pattern, text):
            return Alias(instead=_names_of(match["gpu"]), why=f"{why}, and only complete GPUs can be requested")
    if found := read_table().get(_normalize(text)):
        return found
    if ":" in text:
        has_count = re.fullmatch(_COUNT, text.rpartition(":")[2])
        plain = "" if has_count else _plain(text.replace(":", " "))
        return Alias(plain) if plain else None
    return Alias(_plain(text)) if listed and accelerators.find(text) else _slice(text)


def find_accelerators(name: str) -> tuple[accelerators.Accelerator, ...]:
    """Return the accelerators that a name means, in the words of this project or of another tool; () if none."""
    if found := accelerators.find(name):
        return found
    alias = find(name)
    return accelerators.find(alias.means) if alias is not None and alias.means else ()


def split_count(name: str) -> tuple[str, str] | None:
    """Split a name with a count, such as "H100:8", "A100:80GB:2..4" or "4xH100"; return None if there is no count.

    Returns:
        The name in the words of this project, as far as it is known, and the smallest count.
    """
    text = " ".join(name.casefold().split())
    base, colon, last = text.rpartition(":")
    if colon and base and (count := re.fullmatch(_COUNT, last)):
        return _plain(base.replace(":", " ")) or base, count["least"] or "1"
    counted = accelerators.split_count(name)
    return (_plain(counted[0]) or counted[0].casefold(), str(counted[1])) if counted else None


@functools.cache
def read_table() -> Mapping[str, Alias]:
    """Return the packaged table: normalized name -> what it means."""
    return {_normalize(name): alias for name, alias in read_names()}


def read_names() -> tuple[tuple[str, Alias], ...]:
    """Return the names of the packaged table as the tools print them, each with what it means.

    Raises:
        CatalogError: The table is missing or malformed.
    """
    # Imported here: a plain name needs no table.
    import csv

    try:
        with TABLE.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise CatalogError(f"{TABLE}, line 1: the columns must be {','.join(COLUMNS)}")
            return tuple((row["name"], _parse(row)) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{TABLE}: can't be read: {error}", hint="install multicompute again") from error


def _parse(row: Mapping[str, str]) -> Alias:
    instead = tuple(row["instead"].split(";")) if row["instead"] else ()
    return Alias(row["means"], instead, row["why"], row["tool"], row["source"])


def _slice(text: str) -> Alias | None:
    """Return the slice type of a name such as "tpu-v5e-16", which differs in its prefix, or of a topology ("v5p-2x2x4")."""
    match = re.fullmatch(_SLICE, text)
    if match is None:
        return None
    kind, size = match["kind"].rstrip(" _-"), match["size"]
    prefix = kind if kind in CORES_PER_CHIP else ""
    found = read_table().get(_normalize(f"{kind}-*"))
    if found is not None:
        prefix = found.means.removesuffix("-*")
    if not prefix or ("x" not in size and found is None):
        return None
    if "x" not in size:
        return Alias(f"{prefix}-{size}", tool=found.tool if found else "", source=found.source if found else "")
    cores = CORES_PER_CHIP[prefix]
    for side in size.split("x"):
        cores *= int(side)
    return Alias(instead=(f"{prefix}-{cores}",), why=f"names a topology of {cores // CORES_PER_CHIP[prefix]} chips")


def _plain(text: str) -> str:
    """Return the name used here for an accelerator or slice type, or "" if it is unknown."""
    found = accelerators.find(text)
    if len(found) == 1:
        return exact_name(found[0])
    if found:
        return found[0].family
    alias = find(text)
    return alias.means if alias is not None else ""


def exact_name(accelerator: accelerators.Accelerator) -> str:
    """Return the shortest name that means only this accelerator: "a100-40gb", because "a100" also means the larger variant."""
    names = (accelerator.name, *accelerator.aliases)
    return next((name for name in names if accelerators.find(name) == (accelerator,)), accelerator.name)


def _names_of(gpu: str) -> tuple[str, ...]:
    plain = _plain(gpu) if gpu else ""
    return (plain,) if plain else ()


def _normalize(name: str) -> str:
    return re.sub(r"[\s._-]", "", name.casefold())
