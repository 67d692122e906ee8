"""The complete content of a provider's offer tables as text, for code that makes or changes tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from multicompute.catalog.tables import (
    CPU,
    INTERRUPTIONS,
    OFFERS,
    REGIONS,
    TYPES,
    Tables,
    instance_of,
    rows,
)
from multicompute.offer import InstanceType
from multicompute.price_feed import PricedType

MISSING = ("shard", "region", "purchase", "since")
"""The columns of `missing.csv`: prices that a vendor has not answered with since that day, and that were kept."""

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a shard's `types.csv`, `offers.csv` or `interruptions.csv`, with the source in full."""

    shard: str
    cells: Row

    @property
    def key(self) -> tuple[str, str]:
        """The name of the instance type and its number of accelerators, as written in the tables."""
        return self.cells["instance_type"], self.cells["accelerators"]


@dataclass
class Content:
    """The content of one provider's folder.

    Attributes:
        name: The name of the provider.
        regions: The lines of `regions.csv`.
        zones: Region -> its known zones. Zones of offers need not be repeated.
        types, lines, interruptions: The lines of the shards.
        missing: The lines of `missing.csv`.
    """

    name: str
    regions: list[Row]
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    types: list[Entry] = field(default_factory=list)
    lines: list[Entry] = field(default_factory=list)
    interruptions: list[Entry] = field(default_factory=list)
    missing: list[Row] = field(default_factory=list)

    @property
    def offer_count(self) -> int:
        """The number of offers, each zone counted."""
        return sum(len(line.cells["zones"].split(";")) for line in self.lines)


def read_content(provider: str, path: Path) -> Content:
    """Read all tables of a folder.

    Raises:
        CatalogError: A table is missing or malformed.
    """
    tables = Tables(provider, path)
    content = Content(provider, _rows(path / "regions.csv", REGIONS), tables.zones)
    for shard in tables.shards:
        # Reads and checks every value, which the text alone does not.
        tables.listings(shard)
        for file, columns, entries in (
            ("types.csv", TYPES, content.types),
            ("offers.csv", OFFERS, content.lines),
            ("interruptions.csv", INTERRUPTIONS, content.interruptions),
        ):
            table = path / shard / file
            if file != "interruptions.csv":
                found = ({**row, "source": tables.sources[row["source"]]} for row in _rows(table, columns))
                entries += (Entry(shard, row) for row in found)
            elif table.exists():
                entries += (Entry(shard, row) for row in _rows(table, columns))
    if (path / "missing.csv").exists():
        content.missing = _rows(path / "missing.csv", MISSING)
    return content


def _rows(path: Path, columns: tuple[str, ...]) -> list[Row]:
    return [dict(zip(columns, row, strict=True)) for _, row in rows(path, columns)]


def with_additions(content: Content, packaged: Content) -> Content:
    """Return refreshed content with what newer packaged tables have in addition: regions, instance types and corrected shapes.

    The shapes that a vendor has reported stay as they are, and so do all prices of known instance types.
    """
    regions = {row["region"]: row for row in (*content.regions, *packaged.regions)}
    zones = {
        name: tuple(sorted({*content.zones.get(name, ()), *packaged.zones.get(name, ())}))
        for name in {*content.zones, *packaged.zones}
    }
    known = {(entry.shard, *entry.key): entry for entry in content.types}
    added = {(entry.shard, *entry.key): entry for entry in packaged.types}
    corrected = {
        key: entry
        for key, entry in added.items()
        if key not in known or known[key].cells["source"] == entry.cells["source"]
    }
    lines = [entry for entry in packaged.lines if (entry.shard, *entry.key) not in known]
    return Content(
        content.name,
        list(regions.values()),
        zones,
        list((known | corrected).values()),
        [*content.lines, *lines],
        content.interruptions,
        content.missing,
    )


def shape_of(provider: str, entry: Entry) -> InstanceType:
    """Return the instance type of a line of `types.csv`."""
    return instance_of([entry.cells[column] for column in TYPES], provider, "" if entry.shard == CPU else entry.shard)


def priced_type(provider: str, entry: Entry) -> PricedType:
    """Return the instance type of a line of `types.csv`, with the ways to buy it."""
    purchases = frozenset(filter(None, entry.cells["purchases"].split(";")))
    return PricedType(shape_of(provider, entry), purchases, entry.cells["source"])


def type_entry(found: PricedType) -> Entry:
    """Return the line of `types.csv` for an instance type."""
    shape = found.instance
    numbers = {
        "accelerator_memory_gib": shape.accelerator_memory_gib,
        "vcpus": shape.vcpus,
        "memory_gib": shape.memory_gib,
        "network_gbps": shape.network_gbps,
        "network_cards": shape.network_cards,
    }
    cells = {
        "instance_type": shape.name,
        "accelerators": plain(shape.accelerators),
        **{name: plain(value) if value else "" for name, value in numbers.items()},
        "hosts": str(shape.hosts),
        "fabric": shape.fabric,
        "arch": shape.arch,
        "attached": str(shape.attached).lower(),
        "retired": str(shape.retired).lower(),
        "purchases": ";".join(sorted(found.purchases)),
        "source": found.source,
    }
    return Entry(shape.accelerator or CPU, cells)


def plain(value: float) -> str:
    """Format a number with at most six decimals and without trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
