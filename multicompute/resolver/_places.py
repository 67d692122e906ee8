"""Turns the forms in which people name regions into the regions that they mean."""

import functools
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from multicompute.errors import SpecError

if TYPE_CHECKING:
    from multicompute.catalog import Catalog

Place = tuple[str, str]
"""Provider and region."""


def places(patterns: Iterable[str], catalog: "Catalog", *, argument: str) -> frozenset[Place]:
    """The regions that any of `patterns` means.

    Args:
        patterns: globs on region names ("us-*"), residencies ("eu"), or one of these behind a cloud ("aws:us-east-?").
        catalog: knows the regions.
        argument: whose value it is, for the message.

    Raises:
        SpecError: a pattern means no region of any cloud; suggests what is like it.
    """
    found: set[Place] = set()
    for pattern in patterns:
        meant = matching(catalog, pattern.casefold())
        if not meant:
            raise unknown_region(pattern, catalog, argument=argument)
        found |= meant
    return frozenset(found)


@functools.lru_cache(maxsize=256)
def matching(catalog: "Catalog", pattern: str) -> frozenset[Place]:
    """The regions that one pattern means, in lower case; a residency goes before a region's name."""
    provider, colon, name = pattern.rpartition(":")
    regions = [region for region in catalog.regions() if not colon or region.provider == provider]
    if found := {(region.provider, region.name) for region in regions if region.residency == name}:
        return frozenset(found)
    return frozenset((region.provider, region.name) for region in regions if fnmatchcase(region.name.casefold(), name))


def unknown_region(pattern: str, catalog: "Catalog", *, argument: str) -> SpecError:
    """What to raise for a pattern that means nothing."""
    # Only for messages: difflib takes 2 ms to import.
    from difflib import get_close_matches

    provider, _, name = pattern.casefold().rpartition(":")
    providers = sorted({region.provider for region in catalog.regions()})
    if provider and provider not in providers:
        near = get_close_matches(provider, providers, n=1)
        hint = f"did you mean {near[0]}:{name}?" if near else f"known are {', '.join(providers)}"
        return SpecError(f"{argument}={pattern!r}: no cloud is named {provider!r}; {hint}", hint=hint)
    if name in providers:
        return SpecError(f"{argument}={pattern!r}: is a cloud, not a region; write {argument}={name + ':*'!r}")
    names = sorted({region.name for region in catalog.regions() if not provider or region.provider == provider})
    residencies = sorted({region.residency for region in catalog.regions()})
    near = get_close_matches(name, [*names, *residencies], n=3, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else 'write a region, a glob such as "us-*", or a residency such as "eu"'
    )
    return SpecError(f"{argument}={pattern!r}: no such region; {hint}", hint=hint)
