"""Resolves the patterns that users write for regions into regions."""

import functools
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from multicompute.errors import SpecError
from multicompute.validation import did_you_mean

if TYPE_CHECKING:
    from multicompute.catalog import Catalog

RegionKey = tuple[str, str]
"""Provider and region."""


def regions_of(patterns: Iterable[str], catalog: "Catalog", *, argument: str) -> frozenset[RegionKey]:
    """Return the regions that match any of `patterns`.

    Args:
        patterns: Globs on region names ("us-*") or residencies ("eu"), each optionally after a cloud ("aws:us-east-?").
        catalog: The known regions.
        argument: The name of the argument, for the message.

    Raises:
        SpecError: A pattern matches no region of any cloud; the message suggests similar ones.
    """
    found: set[RegionKey] = set()
    for pattern in patterns:
        matches = regions_matching(catalog, pattern.casefold())
        if not matches:
            raise unknown_region(pattern, catalog, argument=argument)
        found |= matches
    return frozenset(found)


@functools.lru_cache(maxsize=256)
def regions_matching(catalog: "Catalog", pattern: str) -> frozenset[RegionKey]:
    """Return the regions that match one pattern in lower case. A residency takes precedence over a region name."""
    provider, colon, name = pattern.rpartition(":")
    regions = [region for region in catalog.regions() if not colon or region.provider == provider]
    if found := {(region.provider, region.name) for region in regions if region.residency == name}:
        return frozenset(found)
    return frozenset((region.provider, region.name) for region in regions if fnmatchcase(region.name.casefold(), name))


def unknown_region(pattern: str, catalog: "Catalog", *, argument: str) -> SpecError:
    """Return the error for a pattern that matches no region."""
    provider, _, name = pattern.casefold().rpartition(":")
    providers = sorted({region.provider for region in catalog.regions()})
    if provider and provider not in providers:
        near = did_you_mean(provider, providers).removesuffix("?")
        hint = f"{near}:{name}?" if near else f"known clouds: {', '.join(providers)}"
        return SpecError(f"{argument}={pattern!r}: no cloud is named {provider!r}; {hint}", hint=hint)
    if name in providers:
        return SpecError(f"{argument}={pattern!r}: is a cloud, not a region; write {argument}={name + ':*'!r}")
    names = sorted({region.name for region in catalog.regions() if not provider or region.provider == provider})
    residencies = sorted({region.residency for region in catalog.regions()})
    otherwise = 'write a region, a glob such as "us-*", or a residency such as "eu"'
    hint = did_you_mean(name, [*names, *residencies], count=3) or otherwise
    return SpecError(f"{argument}={pattern!r}: no such region; {hint}", hint=hint)
