"""A summary of a catalog, for people."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from multicompute.catalog.own import OwnTables
from multicompute.catalog.tables import Tables


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A summary of one provider's tables.

    Attributes:
        provider: The name of the provider.
        path: The folder of the tables, or the inventory of own machines.
        offers: The number of offers, each zone counted.
        instance_types: The number of instance types, including those without a price.
        regions: The number of regions, including those without an offer.
        oldest, newest: The dates of the oldest and of the newest price; None if there is no price.
    """

    provider: str
    path: Path
    offers: int
    instance_types: int
    regions: int
    oldest: date | None
    newest: date | None


def describe(tables: Tables | OwnTables) -> ProviderInfo:
    """Summarize the tables of one provider without reading their shards."""
    shards = tables.shards.values()
    return ProviderInfo(
        provider=tables.provider,
        path=tables.path,
        offers=sum(shard.offers for shard in shards),
        instance_types=len({name for name, _ in tables.index}),
        regions=len(tables.regions),
        oldest=min((shard.oldest for shard in shards if shard.oldest), default=None),
        newest=max((shard.newest for shard in shards if shard.newest), default=None),
    )


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A summary of the prices of one source.

    Attributes:
        provider: The name of the provider.
        source: Where the prices come from, in words.
        basis: "list" for published prices, "estimate" for derived ones.
        prices: How many lines of the tables have a price of this source.
        oldest, newest: The dates of the oldest and of the newest of them.
    """

    provider: str
    source: str
    basis: str
    prices: int
    oldest: date
    newest: date


def describe_sources(tables: Tables | OwnTables) -> tuple[SourceInfo, ...]:
    """Summarize the prices of one provider by source, those with the most prices first; reads all shards."""
    found: dict[tuple[str, str], list[date]] = defaultdict(list)
    for shard in tables.shards:
        for line in tables.listings(shard):
            found[line.quote.source, line.quote.basis].append(line.quote.as_of)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        SourceInfo(tables.provider, source, basis, len(dates), min(dates), max(dates))
        for (source, basis), dates in ordered
    )
