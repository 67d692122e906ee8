"""Builds the packaged offer tables from tables of prices and hardware.

    python tools/build_tables.py FACTS_DIR [--into ROOT]

Reads the CSV files of FACTS_DIR (accelerators, regions, <cloud>_instances, <cloud>_prices, <cloud>_zones, tpu_slices,
tpu_prices) and writes multicompute/data and providers/multicompute_<cloud>/data below ROOT. The same input always gives the
same files. No file is replaced unless every table passes `multicompute.catalog.checks`.
"""

import argparse
import csv
import math
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from multicompute import accelerators
from multicompute.catalog import tables
from multicompute.catalog.checks import problems
from multicompute.clock import SystemClock
from multicompute.errors import CatalogError

CLOUDS = ("aws", "azure", "gcp")
MAIN_PARTITION = {"aws": "aws"}
"""Other partitions (GovCloud, the European sovereign cloud) need a separate account and have no offers here."""
BASES = {"list": "list"} | dict.fromkeys(("us_parity", "derived_ratio", "sibling_ratio", "composed"), "estimate")
PURCHASES = {"on_demand": "on_demand", "spot": "spot", "flex_start": "flex_start", "reservation": "reserved"}
TPU_SOURCE = "AI-Hypercomputer/xpk (TPU topologies); Google Cloud TPU documentation"

Row = Mapping[str, str]
Key = tuple[str, str, str]
"""Instance type and, for attached accelerators, accelerator and count, as written in the source."""


class FactsError(Exception):
    """A table of FACTS_DIR is missing or malformed."""


@dataclass(frozen=True)
class Entry:
    """A line of a shard's `types.csv` or `offers.csv`, with the source in full."""

    shard: str
    cells: Row

    @property
    def key(self) -> tuple[str, str]:
        """The name of the instance type and its number of accelerators, as written in the tables."""
        return self.cells["instance_type"], self.cells["accelerators"]


@dataclass
class Provider:
    """The content of one provider's folder."""

    name: str
    regions: list[Row]
    types: list[Entry] = field(default_factory=list)
    lines: list[Entry] = field(default_factory=list)

    def sells_in(self, row: Row) -> bool:
        """Return whether the region of a price belongs to the main partition; raise FactsError for an unknown region."""
        for region in self.regions:
            if region["region"] == row["region"]:
                return region["partition"] == MAIN_PARTITION.get(self.name, "")
        raise FactsError(f"{row['where']}: region {row['region']!r} is not in regions.csv as one of {self.name}")


class Facts:
    """A folder of source tables. The error for a missing cell names file, line and column."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder of the source tables."""
        self.folder = folder

    def rows(self, name: str, *columns: str) -> Iterator[Row]:
        """Yield the rows of a table, each with its file and line under "where"."""
        path = self.folder / f"{name}.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                    raise FactsError(f"{path}, line 1: no column {', '.join(missing)}")
                for row in reader:
                    where = f"{path}, line {reader.line_num}"
                    if None in row or None in row.values():
                        raise FactsError(f"{where}: wrong number of fields")
                    yield {column: text.strip() for column, text in row.items()} | {"where": where}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise FactsError(f"{path}: can't be read: {error}") from error


def number(row: Row, column: str, *, positive: bool = False) -> str:
    """Return a number in its shortest form; "" stays "" unless the number is required."""
    text = row[column]
    if not text and not positive:
        return ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf or (value == 0 and not positive)):
        raise FactsError(f"{row['where']}: {column}={text!r} must be a {'positive ' if positive else ''}number")
    return plain(value)


def plain(value: float) -> str:
    """Format a number with at most six decimals and without trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def choice(row: Row, column: str, choices: Mapping[str, str]) -> str:
    """Return the meaning of a cell that must have one of several values."""
    if row[column] not in choices:
        raise FactsError(f"{row['where']}: {column}={row[column]!r} must be one of {', '.join(choices)}")
    return choices[row[column]]


def instance_types(facts: Facts, cloud: str) -> Iterator[tuple[Key, Entry]]:
    """Yield the instance types of a cloud."""
    for row in facts.rows(
        f"{cloud}_instances", "instance_type", "accelerator", "accelerator_count", "accelerator_memory_gib",
        "vcpus", "memory_gib", "network_gbps", "fabric", "arch", "status", "source",
    ):  # fmt: skip
        has_any = bool(row["accelerator"])
        purchases = [choice({**row, "purchase_options": word}, "purchase_options", PURCHASES)
                     for word in row.get("purchase_options", "").split(";") if word]  # fmt: skip
        cells = {
            "instance_type": row["instance_type"],
            "accelerators": number(row, "accelerator_count", positive=True) if has_any else "0",
            "accelerator_memory_gib": number(row, "accelerator_memory_gib", positive=True) if has_any else "",
            "vcpus": number(row, "vcpus", positive=True),
            "memory_gib": number(row, "memory_gib"),
            "hosts": "1",
            "network_gbps": number(row, "network_gbps"),
            "fabric": row["fabric"],
            "arch": row["arch"],
            "network_cards": number({"efa_max_interfaces": "", **row}, "efa_max_interfaces"),
            "attached": row.get("attachable", "false"),
            # A size that starts as a confidential VM only needs an image made for that, so it must not be chosen by its price.
            "retired": "true"
            if "confidential" in row.get("notes", "")
            else choice(row, "status", {"current": "false", "legacy": "true"}),
            "purchases": ";".join(sorted(purchases)),
            "source": row["source"],
        }
        # With attached accelerators, the name alone is not unique.
        attached = (row["accelerator"], row["accelerator_count"]) if "attachable" in row else ("", "")
        yield (row["instance_type"], *attached), Entry(row["accelerator"] or tables.CPU, cells)


def offers(facts: Facts, provider: Provider, types: Mapping[Key, Entry]) -> Iterator[Entry]:
    """Yield the offers of a cloud's instance types: one line for each purchase type that has a price and is sold."""
    zones = zones_of(facts, provider.name)
    for row in facts.rows(
        f"{provider.name}_prices", "instance_type", "region", "on_demand_usd_h", "spot_usd_h", "as_of", "spot_as_of",
        "price_basis", "source", "spot_source",
    ):  # fmt: skip
        key = (row["instance_type"], row.get("accelerator", ""), row.get("accelerator_count", ""))
        if key not in types:
            raise FactsError(f"{row['where']}: {' '.join(filter(None, key))} is not in {provider.name}_instances.csv")
        if not provider.sells_in(row):
            continue
        where = ";".join(zones.get((row["instance_type"], row.get("accelerator", ""), row["region"]), ()))
        known = types[key]
        sold = known.cells["purchases"].split(";") if known.cells["purchases"] else list(PURCHASES.values())
        for purchase, price in prices(row):
            if purchase in sold:
                yield line(known, row, purchase, price, where)


def prices(row: Row) -> Iterator[tuple[str, Row]]:
    """Yield the prices of one row of `<cloud>_prices`, each with its date, basis and source."""
    for purchase, column in (("on_demand", "on_demand_usd_h"), ("flex_start", "flex_start_usd_h")):
        if row.get(column):
            cost, basis = number(row, column, positive=True), choice(row, "price_basis", BASES)
            yield purchase, {"hourly_usd": cost, "as_of": row["as_of"], "basis": basis, "source": row["source"]}
    if row["spot_usd_h"]:
        # The spot price comes from another source than the on-demand price, so it is not an estimate if that one is. The
        # exception is a price that is a sum of parts: in composed rows, and where the notes have the sum.
        is_sum = row["price_basis"] == "composed" or "spot =" in row.get("notes", "")
        spot, most = float(number(row, "spot_usd_h", positive=True)), float(row["on_demand_usd_h"] or math.inf)
        # The spot feed rounds to four decimals, so a spot price equal to the on-demand price can look higher.
        cost, basis = plain(most if most < spot < most + 0.0001 else spot), "estimate" if is_sum else "list"
        yield "spot", {"hourly_usd": cost, "as_of": row["spot_as_of"], "basis": basis, "source": row["spot_source"]}


def line(known: Entry, row: Row, purchase: str, price: Row, zones: str) -> Entry:
    """Return a line of `offers.csv`; raise FactsError for a price without a source or date."""
    if not price["source"]:
        raise FactsError(f"{row['where']}: the {purchase} price has no source")
    try:
        date.fromisoformat(price["as_of"])
    except ValueError as error:
        raise FactsError(f"{row['where']}: the {purchase} price has no valid date: {price['as_of']!r}") from error
    name, count = known.key
    place = {"region": row["region"], "purchase": purchase, "zones": zones}
    return Entry(known.shard, {"instance_type": name, "accelerators": count, **place, **price})


def zones_of(facts: Facts, cloud: str) -> dict[tuple[str, str, str], list[str]]:
    """Map instance type, accelerator and region to zones. Azure's zones are numbered per subscription and unknown per size."""
    found: dict[tuple[str, str, str], set[str]] = {}
    if cloud != "azure":
        for row in facts.rows(f"{cloud}_zones", "instance_type", "region", "zone"):
            key = (row["instance_type"], row.get("accelerator", ""), row["region"])
            found.setdefault(key, set()).add(row["zone"])
    return {key: sorted(zones) for key, zones in found.items()}


def slices(facts: Facts) -> Iterator[tuple[str, Entry]]:
    """Yield the TPU slice types with their kind of price. A slice counts as one node, however many hosts it has."""
    for row in facts.rows(
        "tpu_slices", "accelerator_type", "generation", "chips", "hosts", "hbm_gib_total", "host_vcpus", "host_memory_gib",
    ):  # fmt: skip
        chips = number(row, "chips", positive=True)
        cells = {
            "instance_type": row["accelerator_type"],
            "accelerators": chips,
            "accelerator_memory_gib": plain(float(number(row, "hbm_gib_total", positive=True)) / float(chips)),
            "vcpus": number(row, "host_vcpus", positive=True),
            "memory_gib": number(row, "host_memory_gib"),
            "hosts": number(row, "hosts", positive=True),
            "network_gbps": "",
            "fabric": "",
            "arch": "x86_64",
            "network_cards": "",
            "attached": "false",
            "retired": "false",
            "purchases": "",
            "source": TPU_SOURCE,
        }
        yield "device" if row["hosts"] == "1" else "pod", Entry(row["generation"], cells)


def slice_offers(facts: Facts, provider: Provider, types: Sequence[tuple[str, Entry]]) -> Iterator[Entry]:
    """Yield the offers of the TPU slice types, at chips x price per chip."""
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for kind, known in types:
        # Only the first generations have a separate price for slices of one host; for the others, the kind is empty.
        kinds.setdefault((known.shard, kind), []).append(known)
        kinds.setdefault((known.shard, ""), []).append(known)
    for row in facts.rows(
        "tpu_prices", "generation", "slice_kind", "region", "zones", "usd_per_chip_h", "spot_usd_per_chip_h", "as_of",
        "spot_as_of", "source",
    ):  # fmt: skip
        if not provider.sells_in(row):
            continue
        if (row["generation"], row["slice_kind"]) not in kinds:
            raise FactsError(f"{row['where']}: {row['generation']} {row['slice_kind']} is not in tpu_slices.csv")
        zones = ";".join(sorted(filter(None, row["zones"].split(";"))))
        for known in kinds[row["generation"], row["slice_kind"]]:
            chips = float(known.cells["accelerators"])
            for purchase, column, as_of in (
                ("on_demand", "usd_per_chip_h", "as_of"),
                ("spot", "spot_usd_per_chip_h", "spot_as_of"),
            ):
                if row[column]:
                    cost = plain(chips * float(number(row, column, positive=True)))
                    price = {"hourly_usd": cost, "as_of": row[as_of], "basis": "list", "source": row["source"]}
                    yield line(known, row, purchase, price, zones)


def provider_of(facts: Facts, cloud: str) -> Provider:
    """Read the tables of one cloud."""
    columns = ("cloud", "region", "residency", "country", "partition", "zones")
    regions = [row for row in facts.rows("regions", *columns) if row["cloud"] == cloud]
    provider = Provider(cloud, sorted(regions, key=lambda row: row["region"]))
    types = {}
    for key, known in instance_types(facts, cloud):
        if key in types:
            raise FactsError(f"{cloud}_instances.csv: {' '.join(filter(None, key))} is listed twice")
        types[key] = known
    provider.types += types.values()
    provider.lines += offers(facts, provider, types)
    if cloud == "gcp":
        found = list(slices(facts))
        provider.types += (known for _, known in found)
        provider.lines += slice_offers(facts, provider, found)
    return provider


def write_provider(provider: Provider, folder: Path) -> None:
    """Write one provider's folder."""
    keys = source_keys(
        {known.cells["source"] for known in provider.types} | {x.cells["source"] for x in provider.lines}
    )
    write(folder / "sources.csv", tables.SOURCES, ({"key": key, "source": text} for text, key in keys.items()))
    write(folder / "regions.csv", tables.REGIONS, provider.regions)
    write(folder / "zones.csv", tables.ZONES, zone_rows(provider))
    names = sorted({(known.cells["instance_type"], known.shard) for known in provider.types})
    write(folder / "index.csv", tables.INDEX, ({"instance_type": name, "shard": shard} for name, shard in names))
    for shard in sorted({known.shard for known in provider.types}):
        types = sorted((x.cells for x in provider.types if x.shard == shard), key=by_name)
        lines = sorted((x.cells for x in provider.lines if x.shard == shard), key=by_region)
        for file, columns, rows in (("types.csv", tables.TYPES, types), ("offers.csv", tables.OFFERS, lines)):
            write(folder / shard / file, columns, ({**row, "source": keys[row["source"]]} for row in rows))
    write(folder / "shards.csv", tables.SHARDS, shard_rows(provider))


def zone_rows(provider: Provider) -> Iterator[Row]:
    """Yield the lines of `zones.csv`: the zones that the region or an offer in it names."""
    offered: dict[str, set[str]] = {}
    for known in provider.lines:
        offered.setdefault(known.cells["region"], set()).update(filter(None, known.cells["zones"].split(";")))
    for row in provider.regions:
        # Azure numbers the zones of each region from 1; here the region comes first, as in the names that other clouds give.
        listed = (
            zone if zone.startswith(row["region"]) else f"{row['region']}-{zone}"
            for zone in row["zones"].split(";")
            if zone
        )
        if zones := sorted({*listed, *offered.get(row["region"], ())}):
            yield {"region": row["region"], "zones": ";".join(zones)}


def by_name(cells: Row) -> tuple[str, float]:
    """Return the sort key of `types.csv`."""
    return cells["instance_type"], float(cells["accelerators"])


def by_region(cells: Row) -> tuple[str, str, float, str]:
    """Return the sort key of `offers.csv`."""
    return cells["region"], *by_name(cells), cells["purchase"]


def shard_rows(provider: Provider) -> Iterator[Row]:
    """Yield the lines of `shards.csv`."""
    for shard in sorted({known.shard for known in provider.types}):
        lines = [x.cells for x in provider.lines if x.shard == shard]
        dates = [cells["as_of"] for cells in lines]
        yield {
            "shard": shard,
            "types": str(sum(known.shard == shard for known in provider.types)),
            "lines": str(len(lines)),
            "offers": str(sum(len(cells["zones"].split(";")) for cells in lines)),
            "oldest": min(dates, default=""),
            "newest": max(dates, default=""),
        }


def source_keys(texts: Iterable[str]) -> dict[str, str]:
    """Return a short key for each source text: its first words, and a number if those are not unique."""
    found: dict[str, str] = {}
    for text in sorted(texts):
        words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:24].strip("-")
        key, count = words, 1
        while key in found.values():
            key, count = f"{words}-{count + 1}", count + 1
        found[text] = key
    return found


def write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a table, without the cells of other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_accelerators(facts: Facts, path: Path) -> frozenset[str]:
    """Write the table of accelerators, read it back to check it, and return the names."""
    source = [name for name in accelerators.COLUMNS if name != "name"]
    rows = [{**row, "name": row["canonical_name"]} for row in facts.rows("accelerators", "canonical_name", *source)]
    write(path, accelerators.COLUMNS, rows)
    found = accelerators.read(path)
    accelerators.index_names(found.values())
    return frozenset(found)


def build(facts: Facts, root: Path, *, today: date) -> list[str]:
    """Write all tables below `root`, unless a table has a problem; return the problems.

    Raises:
        FactsError: A source table is missing or malformed.
        CatalogError: The table of accelerators is malformed.
    """
    targets = {"": root / "multicompute" / "data"}
    targets |= {cloud: root / "providers" / f"multicompute_{cloud}" / "data" for cloud in CLOUDS}
    fresh = {name: target.with_name("data.new") for name, target in targets.items()}
    try:
        for folder in fresh.values():
            shutil.rmtree(folder, ignore_errors=True)
        known = write_accelerators(facts, fresh[""] / "accelerators.csv")
        # This table is not built: the names are added to it by hand.
        if (names := targets[""] / "aliases.csv").exists():
            shutil.copy2(names, fresh[""])
        found: list[str] = []
        for cloud in CLOUDS:
            write_provider(provider_of(facts, cloud), fresh[cloud])
            found += problems(cloud, fresh[cloud], accelerators=known, today=today)
        if not found:
            for name, target in targets.items():
                shutil.rmtree(target, ignore_errors=True)
                fresh[name].rename(target)
        return found
    finally:
        for folder in fresh.values():
            shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("facts", type=Path, metavar="FACTS_DIR", help="folder with the source tables")
    parser.add_argument(
        "--into", type=Path, default=Path(__file__).parents[1], metavar="ROOT", help="checkout to write to"
    )
    options = parser.parse_args(arguments)
    try:
        found = build(Facts(options.facts), options.into, today=SystemClock().now().date())
    except (FactsError, CatalogError) as error:
        print(f"build_tables: {error}; nothing was changed", file=sys.stderr)
        return 1
    for problem in found:
        print(f"build_tables: {problem}", file=sys.stderr)
    if found:
        print(f"build_tables: {len(found)} problems, nothing was changed", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
