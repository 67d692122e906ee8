"""One catalog over the offer tables of all providers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from multicompute.catalog.tables import CPU, Tables
from multicompute.errors import CatalogError
from multicompute.offer import InstanceType, Listing, Region

if TYPE_CHECKING:
    from multicompute.catalog.info import CatalogInfo

_AT_HINT = "let `catalog` in the configuration name a folder that has one folder per provider, or leave it out"


class Catalog:
    """The offer tables of several providers, as one. Making one is cheap: files are read when they are asked for, and once.

    Args:
        tables: provider -> the folder with its tables; providers without tables (None) are left out.

    Example:
        >>> from multicompute import plugins
        >>> catalog = Catalog({name: plugin.tables for name, plugin in plugins.discover().items()})
        >>> min(catalog.listings("h200"), key=lambda line: line.quote.hourly_cost).purchase
        'spot'

    Every method raises CatalogError, which names file and line, when a table that it needs is missing or malformed.
    """

    def __init__(self, tables: Mapping[str, Path | None]) -> None:
        self._tables = {name: Tables(name, path) for name, path in sorted(tables.items()) if path is not None}
        self._listings: dict[str, tuple[Listing, ...]] = {}
        self._names: dict[str, list[tuple[str, str]]] | None = None

    @classmethod
    def at(cls, path: Path) -> Self:
        """The catalog in a folder that has one sub-folder per provider, named like the provider.

        Raises:
            CatalogError: there is no such folder, or it has no sub-folder, or is itself a provider's.
        """
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            raise CatalogError(
                f"{path}: no folder of offer tables: {error.strerror or error}", hint=_AT_HINT
            ) from error
        # A folder without tables is not passed over: a cloud that is missing from every plan would go unnoticed.
        found = {entry.name: entry for entry in entries if entry.is_dir() and entry.name[0] not in "._"}
        if not found or path / "shards.csv" in entries:
            what = "holds one provider's tables itself" if found else "has no folder with offer tables"
            raise CatalogError(f"{path}: {what}", hint=_AT_HINT)
        return cls(found)

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that have tables, in the order of their names."""
        return tuple(self._tables)

    @property
    def offer_count(self) -> int:
        """Offers in all tables, zones counted one by one; the shards are not read for it."""
        return sum(shard.offers for tables in self._tables.values() for shard in tables.shards().values())

    def listings(self, accelerator: str, *, provider: str | None = None) -> tuple[Listing, ...]:
        """Every line for an accelerator, by provider, region, instance type and purchase.

        Args:
            accelerator: canonical name ("h100"), or "" for the types that have none.
            provider: only this provider's lines, and no other provider's files read.

        Returns:
            The lines; () when nobody has it. The same tuple each time.
        """
        shard = accelerator or CPU
        if provider is not None:
            return self._tables[provider].listings(shard) if provider in self._tables else ()
        if shard not in self._listings:
            parts = [tables.listings(shard) for tables in self._tables.values()]
            self._listings[shard] = tuple(line for part in parts for line in part)
        return self._listings[shard]

    def instances(self, name: str) -> tuple[InstanceType, ...]:
        """The instance types of exactly this name, whatever its case; several where accelerators can be attached.

        Types that have no price are among them. Returns () when the name is unknown.
        """
        found = self._index().get(name.strip().casefold(), ())
        return tuple(
            instance
            for provider, shard in found
            for instance in self._tables[provider].types(shard).values()
            if instance.name.casefold() == name.strip().casefold()
        )

    def instance_names(self) -> tuple[str, ...]:
        """The names of all instance types, sorted."""
        return tuple(sorted({name for tables in self._tables.values() for name, _ in tables.index()}))

    def accelerators(self) -> tuple[str, ...]:
        """The canonical names of the accelerators that have an offer, sorted."""
        shards = (shard for tables in self._tables.values() for shard in tables.shards().values())
        return tuple(sorted({shard.name for shard in shards if shard.offers and shard.name != CPU}))

    def regions(self) -> tuple[Region, ...]:
        """Every region of every provider, in the order of provider and name."""
        return tuple(region for tables in self._tables.values() for _, region in sorted(tables.regions().items()))

    def region(self, provider: str, name: str) -> Region:
        """One region.

        Raises:
            CatalogError: the tables have no such provider or region.
        """
        tables = self._tables.get(provider)
        if tables is None:
            raise CatalogError(
                f"no offer tables of {provider!r}; there are those of {', '.join(self._tables) or 'nobody'}"
            )
        if name not in tables.regions():
            raise CatalogError(f"{tables.path / 'regions.csv'}: no region {name!r}", provider=provider, region=name)
        return tables.regions()[name]

    def info(self) -> "CatalogInfo":
        """What the catalog holds, for `multicompute catalog info`."""
        # Only here: defining the two classes takes as long as a query.
        from multicompute.catalog.info import describe

        return describe(self._tables.values())

    def _index(self) -> Mapping[str, list[tuple[str, str]]]:
        if self._names is None:
            names: dict[str, list[tuple[str, str]]] = {}
            for provider, tables in self._tables.items():
                for name, shard in tables.index():
                    names.setdefault(name.casefold(), []).append((provider, shard))
            self._names = names
        return self._names
