"""Says what a catalog holds, for people."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from multicompute.catalog.tables import Tables


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What one provider's tables hold.

    Attributes:
        provider: its name.
        path: the folder.
        offers: zones counted one by one.
        instance_types: names, those without a price included.
        regions: regions that the provider has, those without an offer included.
        oldest, newest: the dates of the oldest and of the newest price; None when there is none.
    """

    provider: str
    path: Path
    offers: int
    instance_types: int
    regions: int
    oldest: date | None
    newest: date | None


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """What a catalog holds, in all and provider by provider."""

    providers: tuple[ProviderInfo, ...]

    @property
    def offers(self) -> int:
        return sum(info.offers for info in self.providers)


def describe(tables: Iterable[Tables]) -> CatalogInfo:
    """What these tables hold; no shard is read for it."""
    return CatalogInfo(tuple(_info(each) for each in tables))


def _info(tables: Tables) -> ProviderInfo:
    shards = tables.shards().values()
    return ProviderInfo(
        provider=tables.provider,
        path=tables.path,
        offers=sum(shard.offers for shard in shards),
        instance_types=len({name for name, _ in tables.index()}),
        regions=len(tables.regions()),
        oldest=min((shard.oldest for shard in shards if shard.oldest), default=None),
        newest=max((shard.newest for shard in shards if shard.newest), default=None),
    )
