"""Checks the content of a provider's offer tables, for the tests of a provider and before tables are written."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path

from multicompute.catalog.tables import CPU, TYPES, Shard, Tables, rows
from multicompute.errors import CatalogError
from multicompute.offer import Listing


def problems(provider: str, path: Path, *, accelerators: Collection[str], today: date) -> Iterator[str]:
    """Yield a sentence for each problem in the tables of a folder; nothing if they are correct.

    Args:
        provider: The provider that the tables belong to.
        path: The folder.
        accelerators: The canonical names that may occur.
        today: No price may have a later date.
    """
    tables = Tables(provider, path)
    try:
        yield from _shard_names(tables, accelerators)
        yield from _index(tables)
        every = [line for shard in tables.shards for line in tables.listings(shard)]
        for shard in tables.shards.values():
            yield from _types(tables, shard.name)
            yield from _counts(tables, shard)
            yield from _lines(tables, shard.name, today)
        yield from _zone_names(provider, every)
        yield from _unlisted_zones(tables, every)
    except CatalogError as error:
        yield error.message


def _shard_names(tables: Tables, accelerators: Collection[str]) -> Iterator[str]:
    known = {CPU, *accelerators}
    for name in tables.shards:
        if name not in known:
            yield f"{tables.provider}: shard {name}: no such accelerator"
    folders = {folder.name for folder in tables.path.iterdir() if folder.is_dir()}
    for name in sorted(folders - set(tables.shards)):
        yield f"{tables.provider}: folder {name} is not in shards.csv"


def _index(tables: Tables) -> Iterator[str]:
    indexed = Counter((name.casefold(), shard) for name, shard in tables.index)
    held = {(name.casefold(), shard) for shard in tables.shards for name, _ in tables.types(shard)}
    for name, shard in sorted(indexed.keys() ^ held):
        yield f"{tables.provider}: {name} is in only one of index.csv and {shard}/types.csv"
    for (name, shard), count in sorted(indexed.items()):
        if count > 1:
            yield f"{tables.provider}: {name} in {shard} is listed {count} times in index.csv"


def _types(tables: Tables, shard: str) -> Iterator[str]:
    for instance in tables.types(shard).values():
        where = f"{tables.provider}: {shard}/types.csv: {instance.name}"
        if (instance.accelerators > 0) != (shard != CPU):
            yield f"{where}: {instance.accelerators:g} accelerators"
        if (instance.accelerator_memory_gib > 0) != (shard != CPU):
            yield f"{where}: {instance.accelerator_memory_gib:g} GiB of accelerator memory"
        if instance.vcpus < 1 or instance.hosts < 1:
            yield f"{where}: {instance.vcpus} vCPUs on {instance.hosts} hosts"


def _counts(tables: Tables, shard: Shard) -> Iterator[str]:
    found = count(shard.name, len(tables.types(shard.name)), tables.listings(shard.name))
    if found != shard:
        yield f"{tables.provider}: shards.csv has {shard}, but the shard contains {found}"


def count(name: str, types: int, lines: Iterable[Listing]) -> Shard:
    """Return the line of `shards.csv` that a shard needs."""
    lines = tuple(lines)
    dates = [line.quote.as_of for line in lines]
    offers = sum(len(line.zones) or 1 for line in lines)
    return Shard(name, types, len(lines), offers, min(dates, default=None), max(dates, default=None))


def _lines(tables: Tables, shard: str, today: date) -> Iterator[str]:
    allowed = _purchases(tables, shard)
    on_demand: dict[tuple[object, ...], float] = {}
    seen: set[tuple[object, ...]] = set()
    # Listings have on_demand before spot of the same type and region, because "on_demand" < "spot".
    for line in tables.listings(shard):
        key = (line.instance.name, line.instance.accelerators, line.region.name)
        where = f"{tables.provider}: {shard}/offers.csv: {line.instance.name} in {line.region.name}, {line.purchase}"
        if (*key, line.purchase) in seen:
            yield f"{where}: more than one price"
        seen.add((*key, line.purchase))
        if line.purchase == "on_demand":
            on_demand[key] = line.quote.hourly_cost
        elif line.quote.hourly_cost > on_demand.get(key, line.quote.hourly_cost):
            yield f"{where}: {line.quote.hourly_cost} is more than the on-demand price of {on_demand[key]}"
        purchases = allowed[line.instance.name, line.instance.accelerators]
        if purchases and line.purchase not in purchases:
            yield f"{where}: is sold only as {', '.join(sorted(purchases))}"
        if not line.quote.source.strip():
            yield f"{where}: the price has no source"
        if line.quote.as_of > today:
            yield f"{where}: the price is dated {line.quote.as_of}, which is in the future"
        if list(line.zones) != sorted(set(line.zones)):
            yield f"{where}: zones {';'.join(line.zones)} must be sorted and unique"


def _purchases(tables: Tables, shard: str) -> Mapping[tuple[str, float], frozenset[str]]:
    """Return the purchase types that each instance type is sold with; empty if there is no restriction."""
    name, number, purchases = (TYPES.index(column) for column in ("instance_type", "accelerators", "purchases"))
    return {
        (row[name], float(row[number] or 0)): frozenset(filter(None, row[purchases].split(";")))
        for _, row in rows(tables.path / shard / "types.csv", TYPES)
    }


def _zone_names(provider: str, lines: Iterable[Listing]) -> Iterator[str]:
    """Yield the zones whose names do not start with the region, for clouds whose zone names do."""
    zones = [(zone, line.region.name) for line in lines for zone in line.zones]
    if any(zone.startswith(region) for zone, region in zones):
        for zone, region in sorted(set(zones)):
            if not zone.startswith(region):
                yield f"{provider}: zone {zone} is not in region {region}"


def _unlisted_zones(tables: Tables, lines: Iterable[Listing]) -> Iterator[str]:
    listed = tables.zones
    for region in sorted(listed.keys() - tables.regions.keys()):
        yield f"{tables.provider}: zones.csv: region {region!r} is not in regions.csv"
    offered = {(line.region.name, zone) for line in lines for zone in line.zones}
    for region, zone in sorted(offered):
        if zone not in listed.get(region, ()):
            yield f"{tables.provider}: zone {zone} of {region} has offers, but is not in zones.csv"
