"""The catalog that merges the offer tables of all providers."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from multicompute.catalog.tables import CPU, Tables
from multicompute.errors import CatalogError
from multicompute.offer import InstanceType, Listing, Region

if TYPE_CHECKING:
    from multicompute.catalog.info import ProviderInfo, SourceInfo
    from multicompute.catalog.own import OwnTables
    from multicompute.hosts import OwnOffers
    from multicompute.price_feed import Interruption

_FOLDER_HINT = "set `catalog` in the configuration to a folder with one sub-folder per provider, or remove the setting"


class Catalog:
    """The offer tables of several providers. Files are read when they are first needed, and only once.

    Args:
        tables: Provider -> the folder with its tables; providers without tables (None) are ignored.
        own: Provider -> the offers of the user's own machines.

    Example:
        >>> from multicompute import plugins
        >>> catalog = Catalog({name: plugin.tables for name, plugin in plugins.discover().items()})
        >>> min(catalog.listings("h200"), key=lambda line: line.quote.hourly_cost).purchase
        'spot'

    Every method raises CatalogError if a table that it needs is missing or malformed; the message names file and line.
    """

    def __init__(self, tables: Mapping[str, Path | None], *, own: "Mapping[str, OwnOffers] | None" = None) -> None:
        """Make a catalog of the tables in these folders, by provider; None is a provider without tables."""
        self._tables: dict[str, Tables | OwnTables] = {}
        folders = {name: Tables(name, path) for name, path in tables.items() if path is not None}
        own_tables = _own_tables(own or {})
        for name in sorted({*folders, *own_tables}):
            self._tables[name] = own_tables[name] if name in own_tables else folders[name]
        self._listings: dict[str, tuple[Listing, ...]] = {}
        self._interruptions: dict[str, Mapping[tuple[str, str, str], Interruption]] = {}

    @classmethod
    def at(cls, path: Path, *, own: "Mapping[str, OwnOffers] | None" = None) -> Self:
        """Return the catalog of a folder with one sub-folder per provider, named like the provider; `own` as in the class.

        Raises:
            CatalogError: The folder does not exist, has no sub-folder, or is the folder of a single provider.
        """
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            raise CatalogError(
                f"{path}: can't read the folder of offer tables: {error.strerror or error}", hint=_FOLDER_HINT
            ) from error
        # A sub-folder without tables is kept, so that reading it fails: a missing cloud would go unnoticed in every plan.
        found = {entry.name: entry for entry in entries if entry.is_dir() and entry.name[0] not in "._"}
        if not found or path / "shards.csv" in entries:
            what = "is the folder of a single provider" if found else "has no sub-folder with offer tables"
            raise CatalogError(f"{path}: {what}", hint=_FOLDER_HINT)
        return cls(found, own=own)

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that have tables, sorted by name."""
        return tuple(self._tables)

    @property
    def offer_count(self) -> int:
        """The number of offers in all tables, each zone counted; found without reading the shards."""
        return sum(shard.offers for tables in self._tables.values() for shard in tables.shards.values())

    def listings(self, accelerator: str, *, provider: str | None = None) -> tuple[Listing, ...]:
        """Return all lines for an accelerator, sorted by provider, region, instance type and purchase.

        Args:
            accelerator: The canonical name, such as "h100"; "" for types without accelerators.
            provider: Return only the lines of this provider, and read only its files.

        Returns:
            The lines, () if no provider has the accelerator. Each call returns the same tuple.
        """
        shard = accelerator or CPU
        if provider is not None:
            return self._tables[provider].listings(shard) if provider in self._tables else ()
        if shard not in self._listings:
            parts = [tables.listings(shard) for tables in self._tables.values()]
            self._listings[shard] = tuple(line for part in parts for line in part)
        return self._listings[shard]

    def interruptions(self, accelerator: str) -> "Mapping[tuple[str, str, str], Interruption]":
        """Return how often spot nodes are interrupted, by provider, instance type and region, where the vendors publish it.

        Args:
            accelerator: The canonical name, such as "h100"; "" for types without accelerators.
        """
        shard = accelerator or CPU
        if shard not in self._interruptions:
            self._interruptions[shard] = {
                (name, *key): rate
                for name, tables in self._tables.items()
                if shard in tables.shards
                for key, rate in tables.interruptions(shard).items()
            }
        return self._interruptions[shard]

    def instances(self, name: str) -> tuple[InstanceType, ...]:
        """Return the instance types with exactly this name, ignoring case, including those without a price.

        There can be several: one for each accelerator that can be attached. An unknown name returns ().
        """
        found = self._index.get(name.strip().casefold(), ())
        return tuple(
            instance
            for provider, shard in found
            for instance in self._tables[provider].types(shard).values()
            if instance.name.casefold() == name.strip().casefold()
        )

    def instance_names(self) -> tuple[str, ...]:
        """Return the names of all instance types, sorted."""
        return tuple(sorted({name for tables in self._tables.values() for name, _ in tables.index}))

    def accelerators(self) -> tuple[str, ...]:
        """Return the canonical names of the accelerators that have an offer, sorted."""
        shards = (shard for tables in self._tables.values() for shard in tables.shards.values())
        return tuple(sorted({shard.name for shard in shards if shard.offers and shard.name != CPU}))

    def regions(self) -> tuple[Region, ...]:
        """Return all regions of all providers, sorted by provider and name."""
        return tuple(region for tables in self._tables.values() for _, region in sorted(tables.regions.items()))

    def zones(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """Return the names of the zones by provider and region, without regions that have none."""
        return {
            (name, region): zones for name, tables in self._tables.items() for region, zones in tables.zones.items()
        }

    def region(self, provider: str, name: str) -> Region:
        """Return one region.

        Raises:
            CatalogError: The tables have no such provider or region.
        """
        tables = self._tables.get(provider)
        if tables is None:
            raise CatalogError(
                f"no offer tables of {provider!r}; providers with tables: {', '.join(self._tables) or 'none'}"
            )
        if name not in tables.regions:
            raise CatalogError(f"{tables.path / 'regions.csv'}: no region {name!r}", provider=provider, region=name)
        return tables.regions[name]

    def info(self) -> "tuple[ProviderInfo, ...]":
        """Return a summary of each provider's tables, for `multicompute catalog info`."""
        # Imported here: defining the class takes as long as a query.
        from multicompute.catalog.info import describe

        return tuple(map(describe, self._tables.values()))

    def sources(self) -> "tuple[SourceInfo, ...]":
        """Return a summary of the sources of all prices; reads all tables."""
        from multicompute.catalog.info import describe_sources

        return tuple(found for tables in self._tables.values() for found in describe_sources(tables))

    @cached_property
    def _index(self) -> Mapping[str, list[tuple[str, str]]]:
        names: dict[str, list[tuple[str, str]]] = {}
        for provider, tables in self._tables.items():
            for name, shard in tables.index:
                names.setdefault(name.casefold(), []).append((provider, shard))
        return names


def _own_tables(own: "Mapping[str, OwnOffers]") -> "Mapping[str, OwnTables]":
    if not own:
        return {}
    # Imported here: few users have machines of their own.
    from multicompute.catalog.own import OwnTables

    return {name: OwnTables(name, offers) for name, offers in own.items()}
