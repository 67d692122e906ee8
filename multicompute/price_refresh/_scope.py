"""Resolves the names that users write to the clouds, regions and accelerators to refresh."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from multicompute import accelerators as known_accelerators
from multicompute.catalog import Catalog
from multicompute.catalog.tables import CPU
from multicompute.errors import SpecError
from multicompute.offer import Region
from multicompute.resolver import matching_regions
from multicompute.validation import did_you_mean


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of one cloud's tables that is refreshed.

    Attributes:
        regions: The names of the regions; None for all.
        accelerators: The canonical names of the accelerators, "" for types without any; None for all.
    """

    regions: frozenset[str] | None = None
    accelerators: frozenset[str] | None = None

    def has_region(self, name: str) -> bool:
        """Return whether prices in a region are refreshed."""
        return self.regions is None or name in self.regions

    def has_shard(self, shard: str) -> bool:
        """Return whether prices in a shard are refreshed."""
        return self.accelerators is None or ("" if shard == CPU else shard) in self.accelerators


def scopes(
    catalog: Catalog,
    *,
    clouds: Sequence[str] | None,
    regions: Sequence[str] | None,
    accelerators: Sequence[str] | None,
) -> Mapping[str, Scope]:
    """Return what is to be refreshed, by cloud.

    Args:
        catalog: The current tables.
        clouds: The names of clouds; None for all that have tables.
        regions: Regions, globs or residencies, each optionally after a cloud ("aws:us-*"); None for all.
        accelerators: Names of accelerators, or "cpu"; None for all.

    Raises:
        SpecError: A name is unknown; the message suggests similar ones.
    """
    names = _clouds(catalog, clouds)
    wanted = _accelerators(accelerators)
    if regions is None:
        return {name: Scope(None, wanted) for name in names}
    found: dict[str, set[str]] = {}
    for name, region in matching_regions(_texts(regions, "regions"), catalog, argument="regions"):
        found.setdefault(name, set()).add(region)
    if missing := [name for name in names if name not in found] if clouds is not None else []:
        near = did_you_mean(regions[0], [each.name for each in catalog.regions() if each.provider in missing], count=3)
        raise SpecError(
            f"regions={regions[0]!r}: {missing[0]} has no such region; {near}".rstrip("; "), hint=near or None
        )
    return {name: Scope(frozenset(found[name]), wanted) for name in names if name in found}


def _clouds(catalog: Catalog, clouds: Sequence[str] | None) -> tuple[str, ...]:
    if clouds is None:
        return catalog.providers
    for name in _texts(clouds, "clouds"):
        if name not in catalog.providers:
            near = did_you_mean(name, catalog.providers)
            hint = near or f"known clouds: {', '.join(catalog.providers)}"
            raise SpecError(f"clouds={name!r}: no cloud with offer tables is named so; {hint}", hint=hint)
    return tuple(dict.fromkeys(clouds))


def _accelerators(names: Sequence[str] | None) -> frozenset[str] | None:
    if names is None:
        return None
    found: set[str] = set()
    for name in _texts(names, "accelerators"):
        meant = {each.name for each in known_accelerators.find(name)} or (
            {""} if name.strip().lower() == CPU else set()
        )
        if not meant:
            near = " or ".join(known_accelerators.suggest(name, among=[CPU]))
            hint = f"did you mean {near}?" if near else "`multicompute offers` lists all"
            raise SpecError(f"accelerators={name!r}: no such accelerator; {hint}", hint=hint)
        found |= meant
    return frozenset(found)


def _texts(values: Sequence[str], argument: str) -> Sequence[str]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values) or not values:
        raise SpecError(f"{argument}={values!r}: must be a list of names, or None for all", argument=argument)
    return values


def regions_sold_in(regions: Iterable[Region], used: Collection[str]) -> list[str]:
    """Return the regions of the partition that the tables have prices of: the others need a separate account.

    Args:
        regions: All regions of a provider.
        used: The names of the regions with prices.
    """
    regions = list(regions)
    partitions = Counter(region.partition for region in regions if not used or region.name in used)
    main = {partition for partition, _ in partitions.most_common(1)} if not used else set(partitions)
    return sorted(region.name for region in regions if region.partition in main)
