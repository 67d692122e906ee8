"""The accelerators that clouds sell, and how people write their names."""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from multicompute.errors import CatalogError

# Not importlib.resources: it takes 5 ms to import, more than everything else in this module together.
TABLE = Path(__file__).with_name("data") / "accelerators.csv"
"""The packaged table; `tools/build_tables.py` writes it."""

FIGURES = ("bf16_tflops", "fp16_tflops", "fp8_tflops", "tf32_tflops", "fp32_tflops", "mem_bandwidth_gbps", "tdp_w")
"""The columns that may be empty: not every accelerator has every mode, and not every figure is published."""
COLUMNS = ("name", "family", "vendor", "kind", "linked", "memory_gib", *FIGURES, "aliases", "source", "notes")

# Patterns are texts, compiled when they are first used: a plain "h100" needs none, and compiling them takes 1 ms.
_MAKERS = r"(?:nvidia|amd|intel|google|aws|amazon|qualcomm|tesla|cloud|geforce|radeon|instinct)[\s_-]+"
_MEMORY = r"(?P<name>.+?)[\s_-]+(?P<size>\d+)\s*(?:g|gb|gib)"
_COUNT_FIRST = r"(?P<count>\d+)\s*(?P<sign>[x*×])\s*(?P<name>\D.*)"
_COUNT_LAST = r"(?P<name>.*\S)\s*(?P<sign>[:x*×])\s*(?P<count>\d+)"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One model of accelerator; figures are per accelerator (one GPU of a dual board, one chip of a TPU).

    Attributes:
        name: the canonical name, "a100-80gb".
        family: what people mean by one word: "a100" covers both memory sizes.
        vendor: who makes it, "nvidia".
        kind: "gpu", "tpu", "trainium", "inferentia", "fpga", ...
        linked: built to work as one over a fast link (NVLink, Infinity Fabric, NeuronLink, ICI).
        memory_gib: the nominal size.
        bf16_tflops, fp16_tflops, fp8_tflops, tf32_tflops, fp32_tflops: dense peaks; None where it has no such mode or
            none is published.
        mem_bandwidth_gbps: GB per second.
        tdp_w: watts.
        aliases: other names that mean exactly this model.
        source: where the figures are from.
        notes: what to know about the figures.

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
    """Every accelerator of the packaged table, in its order: by family, the older first."""
    return tuple(_table().values())


def get(name: str) -> Accelerator | None:
    """The accelerator of exactly this canonical name, or None."""
    return _table().get(name)


def find(name: str) -> tuple[Accelerator, ...]:
    """What people mean by `name`: every variant for a family's name, one for a variant's own name or alias.

    Case, spaces, hyphens and underscores do not matter, nor does the maker in front ("NVIDIA L4") or the memory behind,
    where it is right ("L40S 48GB").

    Returns:
        The accelerators meant, in the order of the table; () when the name is unknown.
    """
    form = name.strip().casefold()
    while form:
        if found := _meanings().get(_squeeze(form)):
            return found
        if sized := re.fullmatch(_MEMORY, form):
            meant = _meanings().get(_squeeze(sized["name"]), ())
            if found := tuple(item for item in meant if item.memory_gib == float(sized["size"])):
                return found
        maker = re.match(_MAKERS, form)
        form = form[maker.end() :] if maker else ""
    return ()


def suggest(name: str, *, among: Iterable[str] = ()) -> tuple[str, ...]:
    """Up to three names like `name` that are known: canonical names of accelerators, and those of `among`."""
    # Only for messages: difflib takes 2 ms to import.
    from difflib import get_close_matches

    targets = {key: found[0].name if len(found) == 1 else found[0].family for key, found in _meanings().items()}
    targets |= {_squeeze(other): other for other in among}
    wanted = _squeeze(name)
    if not wanted:
        return ()
    begins = sorted(
        (key for key in targets if key.startswith(wanted) and len(wanted) >= 2), key=lambda key: (len(key), key)
    )
    close = get_close_matches(wanted, sorted(targets), n=6, cutoff=0.6)
    inside = [key for key in targets if len(key) >= 2 and key in wanted]
    ranked = begins + close + sorted(inside, key=lambda key: (-len(key), key))
    return tuple(dict.fromkeys(targets[key] for key in ranked))[:3]


def split_count(name: str) -> tuple[str, int] | None:
    """Take apart a name with a count in it: "A10G:4", "4xH100", "H100*8"; None where there is none.

    Other tools read these; here the count is an argument of its own, and a message can say what to write.
    """
    text = name.strip()
    if find(text):
        return None
    match = re.fullmatch(_COUNT_FIRST, text.lower()) or re.fullmatch(_COUNT_LAST, text.lower())
    if match is None:
        return None
    base = text[match.start("name") : match.end("name")].strip()
    # An "x" may be part of a name that is not known here; a colon or a star never is.
    return (base, int(match["count"])) if match["sign"] != "x" or find(base) else None


def read(path: Path) -> dict[str, Accelerator]:
    """Read a table of accelerators.

    Raises:
        CatalogError: it is missing or malformed; names file and line.
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
                    raise CatalogError(f"{path}, line {rows.line_num}: {accelerator.name} stands there twice")
                found[accelerator.name] = accelerator
            return found
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{path}: can't be read: {error}", hint="install multicompute again") from error


def meanings(accelerators: Iterable[Accelerator]) -> dict[str, tuple[Accelerator, ...]]:
    """Name without case and separators -> what it means; a family's name goes before a variant's own.

    Raises:
        CatalogError: one name means two accelerators that are no family.
    """
    accelerators = tuple(accelerators)
    found: dict[str, tuple[Accelerator, ...]] = {}
    for accelerator in accelerators:
        key = _squeeze(accelerator.family)
        found[key] = (*found.get(key, ()), accelerator)
    families = frozenset(found)
    for accelerator in accelerators:
        for key in map(_squeeze, (accelerator.name, *accelerator.aliases)):
            other = found.setdefault(key, (accelerator,))
            if accelerator not in other or (key not in families and len(other) > 1):
                raise CatalogError(f"accelerators: {key!r} means both {other[0].name} and {accelerator.name}")
    return found


@functools.cache
def _table() -> Mapping[str, Accelerator]:
    return read(TABLE)


@functools.cache
def _meanings() -> Mapping[str, tuple[Accelerator, ...]]:
    return meanings(_table().values())


def _squeeze(name: str) -> str:
    return "".join(name.casefold().split()).replace("-", "").replace("_", "")


def _parse(row: Mapping[str, str | None], *, where: str) -> Accelerator:
    texts = {name: (value or "").strip() for name, value in row.items()}
    if not texts["name"] or not texts["family"] or texts["linked"] not in ("true", "false"):
        raise CatalogError(f"{where}: name and family must be given, linked must be true or false")
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
