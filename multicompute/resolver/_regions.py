"""Resolves the patterns that users write for regions into regions."""

import functools
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from multicompute.errors import SpecError

if TYPE_CHECKING:
    from multicompute.catalog import Catalog

RegionKey = tuple[str, str]
"""Provider and region."""


def regions_of(patterns: Iterable[str], catalog: "Catalog", *, argument: str) -> frozenset[RegionKey]:
    """Return the regions that match any of `patterns`.

    Args:
        patterns: globs on region names ("us-*") or residencies ("eu"), each optionally after a cloud ("aws:us-east-?").
        catalog: the known regions.
        argument: the name of the argument, for the message.

    Raises:
        SpecError: a pattern matches no region of any cloud; the message suggests similar ones.
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


def unknown_region(pattern: str, catalog: "Catalog", *, argument: str, others: Sequence[str] = ()) -> SpecError:
    """Return the error for a pattern that matches no region; `others` are further names that may be meant."""
    # Imported here: only messages need difflib, and importing it takes 2 ms.
    from difflib import get_close_matches

    provider, _, name = pattern.casefold().rpartition(":")
    providers = sorted({region.provider for region in catalog.regions()})
    if provider and provider not in providers:
        near = get_close_matches(provider, providers, n=1)
        hint = f"did you mean {near[0]}:{name}?" if near else f"known clouds: {', '.join(providers)}"
        return SpecError(f"{argument}={pattern!r}: no cloud is named {provider!r}; {hint}", hint=hint)
    if name in providers:
        return SpecError(f"{argument}={pattern!r}: is a cloud, not a region; write {argument}={name + ':*'!r}")
    names = sorted({region.name for region in catalog.regions() if not provider or region.provider == provider})
    residencies = sorted({region.residency for region in catalog.regions()})
    near = get_close_matches(name, [*names, *(others or residencies)], n=3, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else 'write a region, a glob such as "us-*", or a residency such as "eu"'
    )
    return SpecError(f"{argument}={pattern!r}: no such region; {hint}", hint=hint)
