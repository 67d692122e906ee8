"""A summary of a catalog, for people."""

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
