"""The table of accelerators, and the names that users write for them."""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from multicompute.errors import CatalogError

# Not importlib.resources: importing it takes 5 ms, longer than everything else in this module.
TABLE = Path(__file__).with_name("data") / "accelerators.csv"
"""The packaged table, written by `tools/build_tables.py`."""

FIGURES = ("bf16_tflops", "fp16_tflops", "fp8_tflops", "tf32_tflops", "fp32_tflops", "mem_bandwidth_gbps", "tdp_w")
"""The columns that may be empty, because the accelerator lacks the mode or the vendor does not publish the figure."""
COLUMNS = ("name", "family", "vendor", "kind", "linked", "memory_gib", *FIGURES, "aliases", "source", "notes")

# Not compiled here: compiling takes 1 ms, and a plain "h100" needs none of these patterns.
_VENDORS = r"(?:nvidia|amd|intel|google|aws|amazon|qualcomm|tesla|cloud|geforce|radeon|instinct)[\s_-]+"
_MEMORY = r"(?P<name>.+?)[\s_-]+(?P<size>\d+)\s*(?:g|gb|gib)"
_COUNT_FIRST = r"(?P<count>\d+)\s*(?P<sign>[x*×])\s*(?P<name>\D.*)"
_COUNT_LAST = r"(?P<name>.*\S)\s*(?P<sign>[:x*×])\s*(?P<count>\d+)"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator model. Figures are per accelerator: one GPU of a dual board, one chip of a TPU.

    Attributes:
        name: The canonical name, such as "a100-80gb".
        family: The name of all variants together: "a100" includes both memory sizes.
        vendor: The manufacturer, such as "nvidia".
        kind: "gpu", "tpu", "trainium", "inferentia", "fpga", ...
        linked: Whether it is built to work with others over a fast link (NVLink, Infinity Fabric, NeuronLink, ICI).
        memory_gib: The nominal memory size.
        bf16_tflops, fp16_tflops, fp8_tflops, tf32_tflops, fp32_tflops: Dense peak rates; None if the accelerator lacks
            the mode or the vendor does not publish the rate.
        mem_bandwidth_gbps: Memory bandwidth in GB per second.
        tdp_w: Thermal design power in watts.
        aliases: Other names of exactly this model.
        source: Where the figures come from.
        notes: Remarks on the figures.

    Example:
        >>> [accelerator.name for accelerator in find("A100")]
        ['a100', 'a100-80gb']
        >>> find("A100 80GB")[0].memory_gib
        80.0
    """

    name: str
    family: str
    vendor: str
    kind: str
    linked: bool
    memory_gib: float
    bf16_tflops: float | None = None
    fp16_tflops: float | None = None
    fp8_tflops: float | None = None
    tf32_tflops: float | None = None
    fp32_tflops: float | None = None
    mem_bandwidth_gbps: float | None = None
    tdp_w: float | None = None
    aliases: tuple[str, ...] = ()
    source: str = ""
    notes: str = ""


def known() -> tuple[Accelerator, ...]:
    """Return all accelerators of the packaged table, ordered by family, older ones first."""
    return tuple(_table().values())


def get(name: str) -> Accelerator | None:
    """Return the accelerator with exactly this canonical name, or None."""
    return _table().get(name)


def find(name: str) -> tuple[Accelerator, ...]:
    """Return the accelerators that `name` means: all variants of a family, or the one with this name or alias.

    Case, spaces, hyphens and underscores are ignored. The vendor may come first ("NVIDIA L4"), and the memory size may
    come last if it is correct ("L40S 48GB").

    Returns:
        The accelerators in the order of the table; () if the name is unknown.
    """
    rest = name.strip().casefold()
    while rest:
        if found := _by_name().get(_normalize(rest)):
            return found
        if sized := re.fullmatch(_MEMORY, rest):
            variants = _by_name().get(_normalize(sized["name"]), ())
            if found := tuple(item for item in variants if item.memory_gib == float(sized["size"])):
                return found
        vendor = re.match(_VENDORS, rest)
        rest = rest[vendor.end() :] if vendor else ""
    return ()


def suggest(name: str, *, among: Iterable[str] = ()) -> tuple[str, ...]:
    """Return up to three known names that resemble `name`, from the accelerators and from `among`."""
    # Imported here: only messages need difflib, and importing it takes 2 ms.
    from difflib import get_close_matches

    targets = {key: found[0].name if len(found) == 1 else found[0].family for key, found in _by_name().items()}
    targets |= {_normalize(other): other for other in among}
    wanted = _normalize(name)
    if not wanted:
        return ()
    prefixed = sorted(
        (key for key in targets if key.startswith(wanted) and len(wanted) >= 2), key=lambda key: (len(key), key)
    )
    close = get_close_matches(wanted, sorted(targets), n=6, cutoff=0.6)
    contained = [key for key in targets if len(key) >= 2 and key in wanted]
    ranked = prefixed + close + sorted(contained, key=lambda key: (-len(key), key))
    return tuple(dict.fromkeys(targets[key] for key in ranked))[:3]


def split_count(name: str) -> tuple[str, int] | None:
    """Split a name that contains a count, such as "A10G:4", "4xH100" or "H100*8"; return None if there is no count.

    Other tools accept these forms. Here the count is a separate argument, and the error message shows how to write it.
    """
    text = name.strip()
    if find(text):
        return None
    match = re.fullmatch(_COUNT_FIRST, text.lower()) or re.fullmatch(_COUNT_LAST, text.lower())
    if match is None:
        return None
    base = text[match.start("name") : match.end("name")].strip()
    # An "x" may belong to an unknown name; a colon or a star never does.
    return (base, int(match["count"])) if match["sign"] != "x" or find(base) else None


def read(path: Path) -> dict[str, Accelerator]:
    """Read a table of accelerators.

    Raises:
        CatalogError: The table is missing or malformed; the message names file and line.
    """
    import csv

    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise CatalogError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}")
            found: dict[str, Accelerator] = {}
            for row in rows:
                accelerator = _parse(row, where=f"{path}, line {rows.line_num}")
                if accelerator.name in found:
                    raise CatalogError(f"{path}, line {rows.line_num}: {accelerator.name} is listed twice")
                found[accelerator.name] = accelerator
            return found
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{path}: can't be read: {error}", hint="install multicompute again") from error


def index_names(accelerators: Iterable[Accelerator]) -> dict[str, tuple[Accelerator, ...]]:
    """Map each normalized name to the accelerators that it means; a family name wins over the name of a variant.

    Raises:
        CatalogError: A name means two accelerators of different families.
    """
    accelerators = tuple(accelerators)
    found: dict[str, tuple[Accelerator, ...]] = {}
    for accelerator in accelerators:
        key = _normalize(accelerator.family)
        found[key] = (*found.get(key, ()), accelerator)
    families = frozenset(found)
    for accelerator in accelerators:
        for key in map(_normalize, (accelerator.name, *accelerator.aliases)):
            other = found.setdefault(key, (accelerator,))
            if accelerator not in other or (key not in families and len(other) > 1):
                raise CatalogError(f"accelerators: {key!r} means both {other[0].name} and {accelerator.name}")
    return found


@functools.cache
def _table() -> Mapping[str, Accelerator]:
    return read(TABLE)


@functools.cache
def _by_name() -> Mapping[str, tuple[Accelerator, ...]]:
    return index_names(_table().values())


def _normalize(name: str) -> str:
    return "".join(name.casefold().split()).replace("-", "").replace("_", "")


def _parse(row: Mapping[str, str | None], *, where: str) -> Accelerator:
    texts = {name: (value or "").strip() for name, value in row.items()}
    if not texts["name"] or not texts["family"] or texts["linked"] not in ("true", "false"):
        raise CatalogError(f"{where}: name and family are required, and linked must be true or false")
    try:
        memory = float(texts["memory_gib"])
        figures = {name: float(texts[name]) if texts[name] else None for name in FIGURES}
    except ValueError as error:
        raise CatalogError(f"{where}: not a number: {error}") from error
    if not 0 < memory < float("inf"):
        raise CatalogError(f"{where}: memory_gib={memory:g}: must be a positive size")
    return Accelerator(
        name=texts["name"],
        family=texts["family"],
        vendor=texts["vendor"],
        kind=texts["kind"],
        linked=texts["linked"] == "true",
        memory_gib=memory,
        aliases=tuple(alias for alias in texts["aliases"].split(";") if alias),
        source=texts["source"],
        notes=texts["notes"],
        **figures,
    )
